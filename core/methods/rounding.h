#pragma once

#include <tbb/parallel_for.h>

#include <memory>
#include <vector>

#include "core/methods/apply.h"

// Inside core/methods: the methods of the table.

namespace qs {

/// Where a tensor is divided into parts that are worked on at a time: the first and past the last of each.
std::vector<std::uint64_t> cuts_of(const TensorCodec& codec, std::uint64_t count);

/// Calls body(weights, first, count) for the parts, in parallel.
template <class Body>
void for_each_part(const TensorCodec& codec, const float* weights, std::uint64_t count, const JobControl& job,
                   const Body& body) {
    const std::vector<std::uint64_t> cuts = cuts_of(codec, count);
    tbb::parallel_for(std::size_t{1}, cuts.size(), [&](std::size_t i) {
        job.check();
        body(weights + cuts[i - 1], cuts[i - 1], static_cast<std::size_t>(cuts[i] - cuts[i - 1]));
    });
}

/// The format bound to a matrix, after the scan if it needs one.
std::unique_ptr<TensorCodec> scanned_codec(const FormatSpec& format, const float* weights, const TensorShape& shape,
                                           const float* importance, const JobControl& job);
/// The scan itself, if the codec needs one.
void scan(TensorCodec& codec, const float* weights, std::uint64_t count, const JobControl& job);
/// The weights rounded to the nearest codes.
std::vector<float> reconstruct(const TensorCodec& codec, const float* weights, std::uint64_t count,
                               const JobControl& job);

/// Rounds all weights to the format's nearest codes: fills in weight, stored and bits_per_weight. `importance` has one
/// value a column, or is null.
void round_to_nearest(const FormatSpec& format, const float* weights, const TensorShape& shape, const float* importance,
                      const JobControl& job, MethodResult& result);
void round_to_nearest(const TensorCodec& codec, const float* weights, std::uint64_t count, const JobControl& job,
                      MethodResult& result);

/// The same of weights that were multiplied by result.smoothing, by which the reconstruction is divided again.
void round_smoothed(const TensorCodec& codec, const std::vector<float>& smoothed, const JobControl& job,
                    MethodResult& result);

/// Columns of a matrix times, or divided by, factors.
void scale_columns(std::vector<float>& weights, std::span<const float> factors);
void unscale_columns(std::vector<float>& weights, std::span<const float> factors);

void apply_rtn(const MethodInput& input, MethodResult& result);
void apply_imatrix(const MethodInput& input, MethodResult& result);
void apply_gptq(const MethodInput& input, MethodResult& result);
void apply_awq(const MethodInput& input, MethodResult& result);
void apply_hqq(const MethodInput& input, MethodResult& result);
void apply_smoothquant(const MethodInput& input, MethodResult& result);
void apply_llm_int8(const MethodInput& input, MethodResult& result);

/// The scales of AWQ and of SmoothQuant; AWQ's also gives the exponent.
struct AwqScales {
    std::vector<float> scales;
    double ratio = 0;
};
AwqScales awq_scales(const MethodSpec& method, const FormatSpec& format, std::span<const LayerWeight> layers,
                     const Calibration& calibration, const JobControl& job);
std::vector<float> smoothquant_scales(const MethodSpec& method, std::span<const LayerWeight> layers,
                                      const Calibration& calibration);

/// The outputs of LLM.int8().
void llm_int8_outputs(const MethodResult& result, const float* weight, const TensorShape& shape, const float* inputs,
                      std::size_t tokens, float* outputs);

} // namespace qs
