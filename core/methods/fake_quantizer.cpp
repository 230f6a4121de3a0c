#include "core/methods/fake_quantizer.h"

#include <tbb/parallel_for.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <vector>

#include "core/base/error.h"
#include "core/formats/registry.h"
#include "core/methods/codecs.h"
#include "core/methods/rounding.h"

namespace qs {

namespace {

TensorShape shape_of(const Matrix& weight) {
    return {static_cast<std::uint64_t>(weight.rows()), static_cast<std::uint64_t>(weight.cols())};
}

/// Positions on the axis of a codebook beyond which a weight saturates: it is further from the last level than rounding
/// takes any weight between the last two, and than a scale or zero point that is itself rounded can take it.
struct Reach {
    double low, high;
};
Reach reach_of(const Codebook& codebook) {
    constexpr double share_of_step = 0.55;
    const auto& levels = codebook.levels;
    const double first = levels.front().value, last = levels.back().value;
    return {first - share_of_step * (levels[1].value - first),
            last + share_of_step * (last - levels[levels.size() - 2].value)};
}

class FittingQuantizer : public FakeQuantizer {
public:
    FittingQuantizer(const FormatSpec& format, const TensorShape& shape, Device& device)
        : format_(format), shape_(shape), device_(device) {}

    void quantize(const Matrix& weight, Matrix& quantized, JobControl& job) override {
        quantized.resize(weight.rows(), weight.cols());
        stored_bits_ = device_.quantize(weight.data(), shape_, format_, nullptr, nullptr, quantized.data(), job);
    }

    void backward(const Matrix& weight, Matrix& gradient, JobControl& job) override {
        const auto codec = scanned_codec(format_, weight.data(), shape_, nullptr, job);
        const auto codebook = codec->codebook();
        if (!codebook || codebook->levels.size() < 2)
            return;
        const Reach reach = reach_of(*codebook);
        for_each_part(*codec, weight.data(), shape_.count(), job,
                      [&](const float* part, std::uint64_t begin, std::size_t count) {
                          std::vector<float> positions(count);
                          codec->normalise(part, begin, count, positions.data());
                          for (std::size_t i = 0; i < count; ++i)
                              if (positions[i] < reach.low || positions[i] > reach.high)
                                  gradient.data()[begin + i] = 0;
                      });
    }

    double stored_bits() const override { return stored_bits_; }

private:
    FormatSpec format_;
    TensorShape shape_;
    Device& device_;
    double stored_bits_ = 0;
};

/// Weights [begin, begin + count) share a step.
struct StepGroup {
    Index begin, count;
};

std::vector<StepGroup> step_groups(const Scope& scope, const Matrix& weight) {
    if (scope.kind == Scope::Kind::tensor)
        return {{0, weight.size()}};
    const Index columns = weight.cols(), size = scope.size == 0 ? columns : static_cast<Index>(scope.size);
    std::vector<StepGroup> groups;
    for (Index row = 0; row < weight.rows(); ++row)
        for (Index column = 0; column < columns; column += size)
            groups.push_back({row * columns + column, std::min(size, columns - column)});
    return groups;
}

class LearnedQuantizer : public FakeQuantizer {
public:
    LearnedQuantizer(const FormatSpec& format, const SymmetricIntCodec& codec, const Matrix& weight)
        : codec_(codec), stored_bits_(bind_codec(format, shape_of(weight))->stored_bits()),
          groups_(step_groups(codec.scope(), weight)), steps_(groups_.size()), gradients_(groups_.size()) {
        for_groups([&](std::size_t i) { steps_[i] = first_step(weight.data() + groups_[i].begin, groups_[i].count); });
    }

    void quantize(const Matrix& weight, Matrix& quantized, JobControl& job) override {
        quantized.resize(weight.rows(), weight.cols());
        for_groups([&](std::size_t i) {
            job.check();
            const auto scale = scale_of(steps_[i]);
            for (Index j = groups_[i].begin; j < groups_[i].begin + groups_[i].count; ++j)
                quantized.data()[j] = codec_.decode(codec_.encode(weight.data()[j], scale), scale);
        });
    }

    void backward(const Matrix& weight, Matrix& gradient, JobControl& job) override {
        for_groups([&](std::size_t i) {
            job.check();
            gradients_[i] = backward_group(weight.data() + groups_[i].begin, gradient.data() + groups_[i].begin,
                                           groups_[i].count, scale_of(steps_[i]));
        });
    }

    double stored_bits() const override { return stored_bits_; }
    std::span<float> steps() override { return steps_; }
    std::span<const float> step_gradients() const override { return gradients_; }

private:
    using Scale = SymmetricIntCodec::Scale;

    template <class Body>
    void for_groups(const Body& body) const {
        tbb::parallel_for(std::size_t{0}, groups_.size(), body);
    }

    /// Steps stay above zero, where training could take them.
    Scale scale_of(float step) const {
        const float smallest = codec_.half_scales ? 0x1p-24F : std::numeric_limits<float>::min();
        return {stored_scale(std::max(step, smallest), codec_.half_scales)};
    }

    double levels() const { return static_cast<double>(codec_.half_range()) - 1; }

    double squared_error(const float* weights, Index count, float step) const {
        const Scale scale = scale_of(step);
        double sum = 0;
        for (Index i = 0; i < count; ++i) {
            const double d = static_cast<double>(weights[i]) -
                             static_cast<double>(codec_.decode(codec_.encode(weights[i], scale), scale));
            sum += d * d;
        }
        return sum;
    }

    float first_step(const float* weights, Index count) const {
        AbsMax extent;
        double magnitudes = 0;
        for (Index i = 0; i < count; ++i) {
            codec_.extend(extent, weights[i]);
            magnitudes += static_cast<double>(std::abs(finite_or_zero(weights[i])));
        }
        const float fitted = codec_.fit(extent).scale;
        const auto papers = static_cast<float>(2 * magnitudes / static_cast<double>(count) / std::sqrt(levels()));
        return squared_error(weights, count, papers) < squared_error(weights, count, fitted) ? papers : fitted;
    }

    /// With q = w / step: d(decoded) / dstep = round(q) − q within the range of the codes, and the code where q lies
    /// beyond it, where in turn the gradient of w is 0.
    float backward_group(const float* weights, float* gradient, Index count, Scale scale) const {
        double sum = 0;
        for (Index i = 0; i < count; ++i) {
            const float q = finite_or_zero(weights[i]) / scale.scale;
            const float code = codec_.decode(codec_.encode(weights[i], scale), {1.0F});
            const bool inside = q >= -codec_.half_range() && q <= codec_.half_range() - 1;
            sum += static_cast<double>(gradient[i]) * static_cast<double>(inside ? code - q : code);
            if (!inside)
                gradient[i] = 0;
        }
        return static_cast<float>(sum / std::sqrt(static_cast<double>(count) * levels()));
    }

    SymmetricIntCodec codec_;
    double stored_bits_;
    std::vector<StepGroup> groups_;
    std::vector<float> steps_, gradients_;
};

} // namespace

std::unique_ptr<FakeQuantizer> make_fitting_quantizer(const FormatSpec& format, const TensorShape& shape,
                                                      Device& device) {
    return std::make_unique<FittingQuantizer>(format, shape, device);
}

bool has_learned_steps(const FormatSpec& format) {
    return format.id.starts_with("int") && !format.flag("affine");
}

std::unique_ptr<FakeQuantizer> make_learned_quantizer(const FormatSpec& format, const Matrix& weight) {
    if (!has_learned_steps(format))
        throw Error("format " + format.text(), "has no step size that could be learned",
                    "choose int8, int4, int3 or int2 without a zero point, or let scales be fitted");
    return std::make_unique<LearnedQuantizer>(format, make_int_codec<SymmetricIntCodec>(format, integer_bits(format)),
                                              weight);
}

} // namespace qs
