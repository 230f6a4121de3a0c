#pragma once

#include <map>
#include <nlohmann/json.hpp>
#include <string>

#include "core/model/evaluation.h"

// Inside core/model: what an evaluation has found so far, and the file it is kept in.

namespace qs {

/// The results of one model (a variant or the reference) by window.
struct ModelState {
    std::map<std::size_t, TokenScores> windows;
    std::map<std::string, LinearResult> linears;
    double seconds = 0;
};

class EvaluationState {
public:
    /// Goes on from the request's file if there is one. Throws Error where it is of another model, text or choice of
    /// tensors, or is damaged.
    EvaluationState(const Checkpoint& checkpoint, const EvaluationRequest& request);

    ModelState& reference() { return reference_; }
    ModelState& of(const Variant& variant) { return variants_[name_of(variant)]; }
    bool has_reference(std::size_t window) const { return reference_.windows.contains(window); }
    bool has(const Variant& variant, std::size_t window) const;

    Evaluation result(const std::vector<Variant>& variants) const;
    /// Writes the file, if there is to be one.
    void save() const;

private:
    /// Results of one calibration text are not those of another.
    std::string name_of(const Variant& variant) const;

    std::filesystem::path path_;
    nlohmann::json key_; ///< what the results are of
    ModelState reference_;
    std::string calibration_;
    std::map<std::string, ModelState> variants_;
};

} // namespace qs
