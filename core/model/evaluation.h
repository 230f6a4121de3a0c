#pragma once

#include <filesystem>
#include <functional>
#include <map>
#include <string>
#include <vector>

#include "core/base/job.h"
#include "core/checkpoint/imatrix.h"
#include "core/device/device.h"
#include "core/model/decoder.h"
#include "core/model/scores.h"
#include "core/model/variant.h"

namespace qs {

/// What to evaluate and how.
struct EvaluationRequest {
    std::vector<std::vector<int>> windows; ///< of at least two tokens; all but the first of each are scored
    std::vector<Variant> variants;
    /// What methods that look at the inputs of layers are calibrated on: texts of at most the context.
    std::vector<std::vector<int>> calibration;
    /// Quantizes the token embedding and the head too, to nearest whatever the method; else only the linear layers of
    /// the decoder's layers.
    bool all_matrices = false;
    bool layer_errors = true;                  ///< measure the output error of every linear layer
    const ImportanceMatrix* imatrix = nullptr; ///< or null
    std::filesystem::path state;               ///< file in which results are kept to go on from; empty for none
    std::size_t group_tokens = 16384;          ///< that go through the layers between two savings, or fewer
    int threads = 0;                           ///< 0: all
};

/// What a variant did to one linear layer.
struct LinearResult {
    double stored_bits = 0, weights = 0;
    double error2 = 0;        ///< Σ (ŷ − y)² over the text, both of the unquantized model's inputs
    double output2 = 0;       ///< Σ y²
    double weight_error2 = 0; ///< Σ (W − V)²
    double weight2 = 0;       ///< Σ W²

    double relative_error() const;        ///< ‖ŷ − y‖ / ‖y‖; 0 where nothing was measured
    double relative_weight_error() const; ///< ‖W − V‖ / ‖W‖; 0 where nothing was measured
};

/// A variant over the whole text, as far as it has come.
struct VariantResult {
    Variant variant;
    ScoreSummary scores;
    double bits_per_weight = 0;                  ///< over the quantized matrices
    std::map<std::string, LinearResult> linears; ///< by the tensor's name
    double seconds = 0; ///< that quantizing the layers has taken, with all that calibrates; not running the text
};

struct Evaluation {
    ScoreSummary reference; ///< the unquantized model
    std::vector<VariantResult> variants;
    std::size_t windows_done = 0;
};

/// Runs the text through the unquantized model and every variant, and compares what they predict.
///
/// All variants go through the layers together with the reference: a layer is read once, quantized into each, and every
/// model's hidden states are advanced; the logits of a few tokens of all models are compared and forgotten. So the
/// checkpoint is read once for all variants, the reference runs once, the inputs of its linear layers are at hand to
/// measure their output errors, and memory holds one layer and one set of hidden states a model, never
/// log-probabilities of a whole text. Long texts are run in groups of windows, which bound the hidden states and after
/// which results are saved: an interrupted run goes on from there, and variants can be added to a finished one.
///
/// The models run on the device where it has the steps of a decoder (Device::layer_math()); a group that fails there is
/// run again on the CPU, as are all later ones.
///
/// What methods make of the layers, which takes them long, is kept from group to group if it fits in memory; where it
/// does not, groups are as large as memory allows.
///
/// `job` counts tokens times layers, and the work of methods in the same measure (CalibratedLayers::work()).
/// `on_progress` is given the results after each group. Throws Cancelled.
Evaluation evaluate(const Decoder& decoder, const EvaluationRequest& request, Device& device, JobControl& job,
                    const std::function<void(const Evaluation&)>& on_progress = {});

} // namespace qs
