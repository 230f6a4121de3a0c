#include <cmath>

#include "core/formats/registry.h"
#include "core/formats/stored_arrays.h"
#include "core/methods/codecs.h"
#include "core/methods/matrix.h"
#include "core/methods/rounding.h"

// HQQ: Badri and Shaji (2023), after optimize_weights_proximal_legacy in hqq/core/optimize.py and Quantizer.quantize in
// hqq/core/quantize.py of mobiusml/hqq at e0b1d00e, in float32 and with groups along the rows. Only zero points move:
// they become fractions, which minimise an lp norm of the error.

namespace qs {

namespace {

/// Σ|x|^p is minimised by shrinking: what is small becomes 0.
float shrunk(float x, float beta, float p) {
    const float magnitude = std::abs(x);
    const float less = magnitude - std::pow(magnitude, p - 1) / beta;
    return less > 0 ? std::copysign(less, x) : 0.0F;
}

/// What the reference calls scale is how many codes there are to a unit of weight.
struct Grid {
    float density, zero;
};

class Solver {
public:
    explicit Solver(const MethodInput& input)
        : input_(input), bound_(bind_codec(input.format, input.shape)),
          columns_(static_cast<std::size_t>(input.shape.columns)),
          codec_(make_int_codec<AffineIntCodec>(input.format, integer_bits(input.format))),
          p_(static_cast<float>(input.method.real("p"))) {
        for (std::uint64_t at = 0; at < input.shape.count(); at = bound_->level_block(at).end) {
            const LevelBlock group = bound_->level_block(at);
            MinMax range;
            for (std::uint64_t i = group.begin; i < group.end; ++i)
                range.add(input.weights[i]);
            grids_.push_back(first_grid(range));
        }
    }

    void solve(MethodResult& result) {
        const bool stops_early = input_.method.flag("early_stop");
        std::vector<float> next(grids_.size());
        double beta = input_.method.real("beta"), least = std::numeric_limits<double>::infinity();
        for (int i = 0; i < input_.method.integer("iterations"); ++i) {
            const double error = step(static_cast<float>(beta), next);
            // As in the reference zero points move once more before the iterations stop.
            set_zeros(next);
            if (stops_early && !(error < least))
                break;
            least = error;
            beta *= input_.method.real("kappa");
        }
        round(result);
    }

private:
    Grid first_grid(const MinMax& range) const {
        constexpr float narrow = 1e-4F, densest = 2e4F;
        const double width = static_cast<double>(range.max) - range.min;
        const float density = width <= narrow ? 1.0F : std::min(static_cast<float>(codec_.last() / width), densest);
        const float zero = -range.min * density;
        // hqq_base_quant_config does so for 4 bits only.
        return {density, codec_.bits == 4 ? std::rint(zero) : zero};
    }

    void set_zeros(const std::vector<float>& zeros) {
        for (std::size_t i = 0; i < zeros.size(); ++i)
            grids_[i].zero = zeros[i];
    }

    float code(float w, const Grid& grid) const {
        return nearest_even(clamp(w * grid.density + grid.zero, 0.0F, codec_.last()));
    }

    template <class Visit>
    void for_each_group(std::size_t first_row, std::size_t rows, const Visit& visit) const {
        const std::uint64_t end = (first_row + rows) * columns_;
        for (std::uint64_t at = first_row * columns_; at < end; at = bound_->level_block(at).end)
            visit(bound_->level_block(at));
    }

    /// The sum of the errors' magnitudes, and the zero points that follow.
    double step(float beta, std::vector<float>& next) const {
        return sum_over_row_chunks(
            static_cast<std::size_t>(input_.shape.rows), input_.job, [&](std::size_t first, std::size_t rows) {
                double error = 0;
                for_each_group(first, rows, [&](const LevelBlock& group) { error += step_group(group, beta, next); });
                return error;
            });
    }

    double step_group(const LevelBlock& group, float beta, std::vector<float>& next) const {
        const Grid& grid = grids_[group.index];
        double error = 0, zero = 0;
        for (std::uint64_t i = group.begin; i < group.end; ++i) {
            const float w = input_.weights[i], q = code(w, grid);
            const float e = w - (q - grid.zero) / grid.density;
            error += std::abs(e);
            zero += q - (w - shrunk(e, beta, p_)) * grid.density;
        }
        next[group.index] = static_cast<float>(zero / static_cast<double>(group.count()));
        return error;
    }

    /// Codes are those of the numbers that are stored.
    AffineIntCodec::Scale stored(const Grid& grid) const {
        const float scale = stored_scale(1 / grid.density, codec_.half_scales);
        if (!codec_.half_scales)
            return {scale, grid.zero};
        return {scale, clamp(fp16_to_float(float_to_fp16(grid.zero)), -65504.0F, 65504.0F)};
    }

    void round(MethodResult& result) const {
        const auto count = static_cast<std::size_t>(input_.shape.count());
        std::vector<std::uint16_t> codes(count);
        std::vector<AffineIntCodec::Scale> scales(grids_.size());
        result.weight.resize(count);
        for_row_chunks(
            static_cast<std::size_t>(input_.shape.rows), input_.job, [&](std::size_t first, std::size_t rows) {
                for_each_group(first, rows, [&](const LevelBlock& group) {
                    const AffineIntCodec::Scale scale = scales[group.index] = stored(grids_[group.index]);
                    for (std::uint64_t i = group.begin; i < group.end; ++i) {
                        codes[i] = static_cast<std::uint16_t>(code(input_.weights[i], {1 / scale.scale, scale.zero}));
                        result.weight[i] = codec_.decode(codes[i], scale);
                    }
                });
            });
        result.stored = stored_arrays(codec_, codes, scales);
        // A zero point takes as many bits as its scale.
        const double scale_bits = codec_.half_scales ? 16 : 32;
        result.bits_per_weight =
            codec_.bits + 2 * scale_bits * static_cast<double>(grids_.size()) / static_cast<double>(count);
    }

    const MethodInput& input_;
    std::unique_ptr<TensorCodec> bound_;
    std::size_t columns_;
    AffineIntCodec codec_;
    float p_;
    std::vector<Grid> grids_;
};

} // namespace

void apply_hqq(const MethodInput& input, MethodResult& result) {
    Solver(input).solve(result);
}

} // namespace qs
