#include <cmath>

#include "core/formats/registry.h"
#include "core/formats/scoped_codec.h"
#include "core/formats/stored_arrays.h"
#include "core/methods/codecs.h"
#include "core/methods/matrix.h"
#include "core/methods/rounding.h"

// AWQ: Lin et al. (2023), after auto_scale.py and auto_clip.py of mit-han-lab/llm-awq at d6e797a4. The reference
// measures the outputs of calibration rows; here their error is tr(D·H·Dᵀ), the same over all tokens of the calibration
// and with no more work for more of them. It looks at the outputs of a whole attention or MLP block, this at those of
// the layers themselves.

namespace qs {

namespace {

// --- the reference's quantizer ---------------------------------------------------------------------------------

/// Affine integers with the reference's scale and zero point (quantizer.py, pseudo_quantize_tensor), whose range need
/// not hold 0.
struct ReferenceAffineCodec : AffineIntCodec {
    Scale fit(const Extent& extent) const {
        constexpr float narrowest = 1e-5F;
        const float scale = stored_scale(std::max(extent.max - extent.min, narrowest) / last(), half_scales);
        return {scale, clamp(-nearest_even(extent.min / scale), 0.0F, last())};
    }
};

class ReferenceAffineTensorCodec final : public ScopedCodec<ReferenceAffineCodec> {
public:
    ReferenceAffineTensorCodec(const ReferenceAffineCodec& codec, const FormatSpec& format, const TensorShape& shape)
        : ScopedCodec(codec, shape), stored_bits_(bind_codec(format, shape)->stored_bits()) {}

    double stored_bits() const override { return stored_bits_; }
    std::vector<StoredArray> store(const float* weights) const override {
        const auto all = encode_all(weights);
        return stored_arrays(codec(), all.codes, all.scales);
    }

private:
    double stored_bits_; ///< the same as the format's
};

/// Calls use(codec) for the codec by which the method rounds.
template <class Use>
void with_awq_codec(const MethodSpec& method, const FormatSpec& format, const Use& use) {
    with_weight_codec(format, [&]<class Codec>(const Codec& codec) {
        if constexpr (std::is_same_v<Codec, AffineIntCodec>)
            if (method.choice("fit") == "awq")
                return use(ReferenceAffineCodec{codec});
        use(codec);
    });
}

/// That codec bound to a matrix.
std::unique_ptr<TensorCodec> awq_codec(const MethodSpec& method, const FormatSpec& format, const float* weights,
                                       const TensorShape& shape, const JobControl& job) {
    std::unique_ptr<TensorCodec> bound;
    with_awq_codec(method, format, [&]<class Codec>(const Codec& codec) {
        if constexpr (std::is_same_v<Codec, ReferenceAffineCodec>) {
            bound = std::make_unique<ReferenceAffineTensorCodec>(codec, format, shape);
            scan(*bound, weights, shape.count(), job);
        } else {
            bound = scanned_codec(format, weights, shape, nullptr, job);
        }
    });
    return bound;
}

std::size_t group_width(const Scope& scope, std::size_t columns) {
    return scope.size == 0 ? columns : std::min(static_cast<std::size_t>(scope.size), columns);
}

// --- scales ----------------------------------------------------------------------------------------------------

/// For each column the mean of its weights' magnitudes, each as a part of the largest of its group; over all rows of
/// all layers (AutoAWQ at 88e4c76b, _search_best_scale).
std::vector<double> relative_magnitudes(const MethodSpec& method, const FormatSpec& format,
                                        std::span<const LayerWeight> layers) {
    constexpr double least = 1e-6;
    const auto columns = static_cast<std::size_t>(layers.front().shape.columns);
    std::vector<double> sums(columns);
    double rows = 0;
    for (const LayerWeight& layer : layers) {
        std::size_t width = columns;
        with_awq_codec(method, format, [&](const auto& codec) { width = group_width(codec.scope(), columns); });
        const auto weights = view(layer.values, static_cast<std::size_t>(layer.shape.rows), columns);
        for (Eigen::Index row = 0; row < weights.rows(); ++row)
            for (std::size_t begin = 0; begin < columns; begin += width) {
                const auto at = static_cast<Eigen::Index>(begin);
                const auto size = static_cast<Eigen::Index>(std::min(width, columns - begin));
                const auto group = weights.row(row).segment(at, size).cwiseAbs().template cast<double>().eval();
                const double largest = group.maxCoeff() + least;
                for (Eigen::Index i = 0; i < size; ++i)
                    sums[begin + static_cast<std::size_t>(i)] += group[i] / largest;
            }
        rows += static_cast<double>(layer.shape.rows);
    }
    for (double& sum : sums)
        sum /= rows;
    return sums;
}

/// Powers of the inputs' mean magnitude, with the geometric mean of the largest and the smallest at 1. `magnitudes` are
/// those of the weights, empty without duo scaling.
std::vector<float> scales_of(const std::vector<double>& mean_abs, const std::vector<double>& magnitudes, double ratio) {
    constexpr double least = 1e-4;
    std::vector<double> scales(mean_abs.size());
    for (std::size_t i = 0; i < scales.size(); ++i) {
        const double power = std::pow(mean_abs[i], ratio);
        scales[i] = std::max(magnitudes.empty() ? power : power / (std::pow(magnitudes[i], 1 - ratio) + least), least);
    }
    const auto [low, high] = std::ranges::minmax(scales);
    std::vector<float> normalised(scales.size());
    std::ranges::transform(scales, normalised.begin(),
                           [&](double scale) { return static_cast<float>(scale / std::sqrt(low * high)); });
    return normalised;
}

/// The error of the outputs with a layer's columns scaled before they are rounded.
double scaled_error(const MethodSpec& method, const FormatSpec& format, const LayerWeight& layer,
                    const std::vector<float>& scales, const ConstMatrixView<float>& hessian, const JobControl& job) {
    const auto count = static_cast<std::size_t>(layer.shape.count()),
               columns = static_cast<std::size_t>(layer.shape.columns);
    std::vector<float> scaled(layer.values, layer.values + count);
    scale_columns(scaled, scales);
    const auto codec = awq_codec(method, format, scaled.data(), layer.shape, job);
    std::vector<float> rounded = reconstruct(*codec, scaled.data(), count, job);
    unscale_columns(rounded, scales);
    return sum_over_row_chunks(count / columns, job, [&](std::size_t first, std::size_t rows) {
        const RowMatrix<float> difference =
            view(layer.values + first * columns, rows, columns) - view(rounded.data() + first * columns, rows, columns);
        return quadratic_form(difference, hessian);
    });
}

// --- clipping --------------------------------------------------------------------------------------------------

/// What the search tries: shares of the largest magnitude, from all down.
constexpr int clip_steps = 20, clip_trials = 10;

/// Clips each group of a matrix at the share of its largest magnitude that costs the outputs least.
template <class Codec>
class Clipper {
public:
    Clipper(const Codec& codec, std::vector<float>& weights, std::size_t columns, const RowMatrix<float>& hessian,
            const JobControl& job)
        : codec_(codec), weights_(weights), columns_(columns), group_(group_width(codec.scope(), columns)),
          hessian_(hessian), job_(job) {}

    void run() {
        for_row_chunks(weights_.size() / columns_, job_, [&](std::size_t first, std::size_t rows) {
            for (std::size_t begin = 0; begin < columns_; begin += group_) {
                job_.check();
                clip(first, rows, begin, std::min(group_, columns_ - begin));
            }
        });
    }

private:
    /// A group of some rows.
    void clip(std::size_t first, std::size_t rows, std::size_t begin, std::size_t width) {
        const auto at = static_cast<Eigen::Index>(begin), size = static_cast<Eigen::Index>(width);
        auto group = view(weights_.data() + first * columns_, rows, columns_).middleCols(at, size);
        const RowMatrix<float> original = group;
        const Eigen::VectorXf largest = original.cwiseAbs().rowwise().maxCoeff();
        Eigen::VectorXf best = largest, least = Eigen::VectorXf::Constant(group.rows(), INFINITY);
        RowMatrix<float> difference(group.rows(), size), product;
        for (int trial = 0; trial < clip_trials; ++trial) {
            const float share = 1 - static_cast<float>(trial) / clip_steps;
            for (Eigen::Index row = 0; row < group.rows(); ++row)
                round_clipped(original.row(row).data(), difference.row(row).data(), width, largest(row) * share);
            difference -= original;
            product.noalias() = difference * hessian_.block(at, at, size, size);
            for (Eigen::Index row = 0; row < group.rows(); ++row) {
                const float error = product.row(row).dot(difference.row(row));
                if (error < least(row)) {
                    least(row) = error;
                    best(row) = largest(row) * share;
                }
            }
        }
        for (Eigen::Index row = 0; row < group.rows(); ++row)
            group.row(row) = original.row(row).cwiseMin(best(row)).cwiseMax(-best(row));
    }

    void round_clipped(const float* weights, float* rounded, std::size_t count, float limit) const {
        typename Codec::Extent extent;
        for (std::size_t i = 0; i < count; ++i)
            codec_.extend(extent, clamp(weights[i], -limit, limit));
        const auto scale = codec_.fit(extent);
        for (std::size_t i = 0; i < count; ++i)
            rounded[i] = codec_.decode(codec_.encode(clamp(weights[i], -limit, limit), scale), scale);
    }

    Codec codec_;
    std::vector<float>& weights_;
    std::size_t columns_, group_;
    const RowMatrix<float>& hessian_;
    const JobControl& job_;
};

/// The Hessian of inputs that are divided by the scales.
RowMatrix<float> scaled_hessian(const std::vector<double>& hessian, const std::vector<float>& scales) {
    const auto size = static_cast<Eigen::Index>(scales.size());
    const Eigen::VectorXd reciprocal =
        Eigen::Map<const Eigen::VectorXf>(scales.data(), size).cast<double>().cwiseInverse();
    return (reciprocal.asDiagonal() * view(hessian.data(), scales.size(), scales.size()) * reciprocal.asDiagonal())
        .cast<float>();
}

void clip_groups(const MethodInput& input, const std::vector<float>& scales, std::vector<float>& weights) {
    const auto columns = static_cast<std::size_t>(input.shape.columns);
    const RowMatrix<float> hessian = scaled_hessian(input.calibration.hessian(), scales);
    with_awq_codec(input.method, input.format, [&](const auto& codec) {
        // Blocks of the flattened tensor that reach over the end of a row are not clipped, nor are those beside them.
        if (codec.scope().kind == Scope::Kind::flat && columns % codec.scope().size != 0)
            return;
        Clipper(codec, weights, columns, hessian, input.job).run();
    });
}

} // namespace

AwqScales awq_scales(const MethodSpec& method, const FormatSpec& format, std::span<const LayerWeight> layers,
                     const Calibration& calibration, const JobControl& job) {
    const std::vector<double> mean_abs = calibration.mean_abs(), hessian = calibration.hessian();
    const std::vector<float> single(hessian.begin(), hessian.end());
    const auto h = view(single.data(), mean_abs.size(), mean_abs.size());
    const std::vector<double> magnitudes =
        method.flag("duo") ? relative_magnitudes(method, format, layers) : std::vector<double>();
    const int steps = method.integer("steps");
    AwqScales best;
    double least = std::numeric_limits<double>::infinity();
    for (int step = 0; step < steps; ++step) {
        const double ratio = static_cast<double>(step) / steps;
        std::vector<float> scales = scales_of(mean_abs, magnitudes, ratio);
        double error = 0;
        for (const LayerWeight& layer : layers)
            error += scaled_error(method, format, layer, scales, h, job);
        if (error < least || best.scales.empty()) {
            least = error;
            best = {std::move(scales), ratio};
        }
    }
    return best;
}

void apply_awq(const MethodInput& input, MethodResult& result) {
    if (input.smoothing.empty()) {
        const LayerWeight layer{input.weights, input.shape};
        auto [scales, ratio] =
            awq_scales(input.method, input.format, std::span(&layer, 1), input.calibration, input.job);
        result.smoothing = std::move(scales);
        result.ratio = ratio;
    } else {
        result.smoothing.assign(input.smoothing.begin(), input.smoothing.end());
    }
    std::vector<float> scaled(input.weights, input.weights + input.shape.count());
    scale_columns(scaled, result.smoothing);
    if (input.method.flag("clip"))
        clip_groups(input, result.smoothing, scaled);
    round_smoothed(*awq_codec(input.method, input.format, scaled.data(), input.shape, input.job), scaled, input.job,
                   result);
}

} // namespace qs
