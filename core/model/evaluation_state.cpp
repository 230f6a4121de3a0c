#include "core/model/evaluation_state.h"

#include <fmt/format.h>

#include <fstream>
#include <sstream>

#include "core/base/atomic_file.h"
#include "core/base/error.h"

namespace qs {

namespace {

using nlohmann::json;

/// FNV-1a of the windows' ids.
std::string hash_of(const std::vector<std::vector<int>>& windows) {
    std::uint64_t hash = 0xcbf29ce484222325;
    const auto add = [&](std::uint64_t value) { hash = (hash ^ value) * 0x100000001b3; };
    for (const auto& window : windows) {
        add(window.size());
        for (const int id : window)
            add(static_cast<std::uint64_t>(id));
    }
    return fmt::format("{:016x}", hash);
}

json key_of(const Checkpoint& checkpoint, const EvaluationRequest& request) {
    return {{"checkpoint", checkpoint.path.filename().string()},
            {"bytes", checkpoint.bytes()},
            {"text", hash_of(request.windows)},
            {"windows", request.windows.size()},
            {"all_matrices", request.all_matrices},
            {"layer_errors", request.layer_errors},
            {"imatrix", request.imatrix != nullptr ? request.imatrix->path.string() : ""}};
}

json to_json(const ModelState& state) {
    json windows = json::object(), linears = json::object();
    for (const auto& [window, scores] : state.windows)
        windows[std::to_string(window)] = {{"nll", scores.nll}, {"kld", scores.kld}, {"same_top", scores.same_top}};
    for (const auto& [name, linear] : state.linears)
        linears[name] = {linear.stored_bits, linear.weights,       linear.error2,
                         linear.output2,     linear.weight_error2, linear.weight2};
    return {{"windows", std::move(windows)}, {"linears", std::move(linears)}, {"seconds", state.seconds}};
}

ModelState state_of(const json& document) {
    ModelState state;
    for (const auto& [window, scores] : document.at("windows").items()) {
        const TokenScores read{scores.at("nll"), scores.at("kld"), scores.at("same_top")};
        if (read.kld.size() != read.count() || read.same_top.size() != read.count())
            throw Error("window " + window, "has lists of different lengths");
        state.windows.emplace(std::stoul(window), read);
    }
    for (const auto& [name, linear] : document.at("linears").items())
        state.linears[name] = {linear.at(0), linear.at(1), linear.at(2), linear.at(3), linear.at(4), linear.at(5)};
    state.seconds = document.value("seconds", 0.0);
    return state;
}

std::string read_text(const std::filesystem::path& path) {
    std::ifstream file(path, std::ios::binary);
    std::ostringstream text;
    text << file.rdbuf();
    return text.str();
}

TokenScores all_windows(const ModelState& state) {
    TokenScores scores;
    for (const auto& [window, part] : state.windows)
        scores.append(part);
    return scores;
}

} // namespace

EvaluationState::EvaluationState(const Checkpoint& checkpoint, const EvaluationRequest& request)
    : path_(request.state), key_(key_of(checkpoint, request)), calibration_(hash_of(request.calibration)) {
    if (path_.empty() || !std::filesystem::exists(path_))
        return;
    try {
        const json document = json::parse(read_text(path_));
        if (document.at("evaluation") != key_)
            throw Error(path_.string(), "holds results of another model, text or choice of tensors",
                        "name another file, or remove it");
        reference_ = state_of(document.at("reference"));
        for (const auto& [name, state] : document.at("variants").items())
            variants_[name] = state_of(state);
    } catch (const Error&) {
        throw;
    } catch (const std::exception&) {
        throw Error(path_.string(), "is not a file of evaluation results", "name another file, or remove it");
    }
}

std::string EvaluationState::name_of(const Variant& variant) const {
    const bool calibrates = method(variant.method.id).calibrates;
    return variant.text() + (calibrates ? " · calibrated on " + calibration_ : "");
}

bool EvaluationState::has(const Variant& variant, std::size_t window) const {
    const auto found = variants_.find(name_of(variant));
    return found != variants_.end() && found->second.windows.contains(window);
}

Evaluation EvaluationState::result(const std::vector<Variant>& variants) const {
    Evaluation evaluation;
    evaluation.reference = summarise(all_windows(reference_));
    evaluation.windows_done = reference_.windows.size();
    for (const Variant& variant : variants) {
        VariantResult& result = evaluation.variants.emplace_back();
        result.variant = variant;
        const auto found = variants_.find(name_of(variant));
        if (found == variants_.end())
            continue;
        result.scores = summarise(all_windows(found->second));
        result.linears = found->second.linears;
        result.seconds = found->second.seconds;
        double bits = 0, weights = 0;
        for (const auto& [name, linear] : result.linears) {
            bits += linear.stored_bits;
            weights += linear.weights;
        }
        result.bits_per_weight = weights > 0 ? bits / weights : 0;
    }
    return evaluation;
}

void EvaluationState::save() const {
    if (path_.empty())
        return;
    json variants = json::object();
    for (const auto& [name, state] : variants_)
        variants[name] = to_json(state);
    AtomicFile file(path_);
    file.write(
        json{{"evaluation", key_}, {"reference", to_json(reference_)}, {"variants", std::move(variants)}}.dump());
    file.commit();
}

} // namespace qs
