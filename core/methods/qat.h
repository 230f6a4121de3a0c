#pragma once

#include <functional>
#include <map>
#include <string>
#include <vector>

#include "core/base/job.h"
#include "core/device/device.h"
#include "core/methods/adamw.h"
#include "core/model/decoder.h"
#include "core/model/scores.h"

namespace qs {

/// What the quantized model learns.
enum class QatLoss : std::uint8_t {
    text,   ///< to predict the text: −ln p of its tokens
    teacher ///< to predict what the unquantized model predicts: Kullback-Leibler divergence (Hinton et al. 2015)
};

/// What quantization-aware training does. The linear layers of the decoder's layers are quantized and trained, as every
/// other method of core/methods quantizes them; the rest of the model stays as it is.
struct QatRequest {
    FormatSpec format;                        ///< or a recipe
    std::vector<std::vector<int>> training;   ///< windows of tokens, all but the first of each of which are predicted
    std::vector<std::vector<int>> validation; ///< of another part of the text, to choose the best weights by
    QatLoss loss = QatLoss::teacher;
    bool learned_steps = false; ///< train step sizes too (make_learned_quantizer())
    int steps = 100;            ///< updates of the weights
    int batch = 16;             ///< windows of a step
    /// The highest; 0 takes a 64th of the root mean square of what rounding does to the weights, so that over some ten
    /// to hundred steps, each of which moves a weight about that far at most, they can go as far as rounding took them.
    double learning_rate = 0;
    double warm_up = 0.1;        ///< share of the steps over which it climbs there
    double last_rate = 0.05;     ///< the share of it that is left at the end
    AdamW adamw;                 ///< without decay: weights are to stay near those that were trained
    double longest_gradient = 1; ///< gradients are shortened to this norm
    int validate_every = 25;     ///< steps
    std::uint64_t seed = 1;      ///< of the order of the windows
    int threads = 0;             ///< 0: all
};

/// How far the training has come. NaN is what was not measured at this step.
struct QatPoint {
    int step = 0;               ///< 0: rounding to nearest, before any training
    double loss = 0;            ///< mean a token over the step's windows
    double validation_loss = 0; ///< the same over the validation windows
    double validation_perplexity = 0;
    double learning_rate = 0;
    double seconds = 0; ///< since the start
};

/// The best weights on the way, by validation loss.
struct QatResult {
    std::vector<QatPoint> curve;
    int best_step = 0;
    double best_loss = 0;
    double learning_rate = 0;   ///< the highest of the schedule
    bool stopped = false;       ///< before all steps were done
    double bits_per_weight = 0; ///< over the quantized matrices
    /// By LinearTensor::tensor: what was trained, and what the format made of it.
    std::map<std::size_t, Matrix> master, quantized;

    /// Puts the quantized weights, or the master weights, in place of the checkpoint's. The result must outlive it.
    WeightHook hook() const;
    WeightHook master_hook() const;
};

/// Trains the weights of a decoder for a format: each step quantizes them, runs windows of the text through the
/// quantized model forward and backward, and lets AdamW move the unquantized weights by the gradient that went past the
/// rounding (FakeQuantizer). When `job` is cancelled the training stops and the best weights so far are the result. The
/// passes forward and backward run on the device where it has the steps of a decoder (Device::layer_math()); what fails
/// there is done again on the CPU, as is all that follows. The result does not depend on the number of threads.
/// `on_progress` is called after each step. All weights, their gradients and moments are in memory: six times the size
/// of the layers in float32. Throws Error.
QatResult train_qat(const Decoder& decoder, const QatRequest& request, Device& device, JobControl& job,
                    const std::function<void(const QatPoint&)>& on_progress = {});

/// Why a format cannot be trained for, as the end of a sentence about it; empty where it can.
std::string why_not_trained(const FormatSpec& format);

/// Every n-th window is for validation, as long as they are few enough to be measured often.
inline constexpr std::size_t validate_every_window = 10, most_validation_tokens = 8192;

/// Divides windows into those that are trained on and every n-th, at least one and at most `most_tokens` tokens, to
/// validate on. Throws Error where there are fewer than two.
void split_windows(std::vector<std::vector<int>> windows, std::size_t n, std::size_t most_tokens, QatRequest& request);

/// Scores of a model, whose weights a hook changes, beside the unquantized one, as evaluate() gives them for formats.
ScoreSummary score_weights(const Decoder& decoder, const WeightHook& hook, const std::vector<std::vector<int>>& windows,
                           Device& device, JobControl& job, int threads = 0);

} // namespace qs
