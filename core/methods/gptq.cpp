#include <numeric>

#include "core/base/error.h"
#include "core/formats/registry.h"
#include "core/formats/scoped_codec.h"
#include "core/formats/stored_arrays.h"
#include "core/methods/codecs.h"
#include "core/methods/matrix.h"
#include "core/methods/rounding.h"

// GPTQ: Frantar et al. (2022), after gptq.py of IST-DASLab/gptq at 2d65066e. Columns are rounded one after the other;
// what each loses is made good, as far as the inputs correlate, in the columns that are still to come. Rows do not
// depend on each other.

namespace qs {

namespace {

// --- the Hessian -----------------------------------------------------------------------------------------------

/// The columns with the largest diagonal first; equal ones stay in order.
std::vector<std::uint32_t> by_activity(const std::vector<double>& hessian, std::size_t columns) {
    std::vector<std::uint32_t> order(columns);
    std::iota(order.begin(), order.end(), 0U);
    std::ranges::stable_sort(order, [&](std::uint32_t a, std::uint32_t b) {
        return hessian[a * (columns + 1)] > hessian[b * (columns + 1)];
    });
    return order;
}

/// The reference's Cholesky factor U of the inverse, H⁻¹ = Uᵀ·U, H in the order of the columns and damped. With rows
/// and columns reversed H = L·Lᵀ, so L⁻¹ reversed is U: the inverse itself is never made.
class InverseFactor {
public:
    InverseFactor(std::vector<double> hessian, const std::vector<std::uint32_t>& order, double damping)
        : columns_(order.size()) {
        Eigen::MatrixXd reversed(size(), size());
        for (std::size_t i = 0; i < columns_; ++i)
            for (std::size_t j = 0; j < columns_; ++j)
                reversed(at(last(i)), at(last(j))) = hessian[order[i] * columns_ + order[j]] + (i == j ? damping : 0);
        std::vector<double>().swap(hessian); // of wide layers it is large
        const Eigen::LLT<Eigen::Ref<Eigen::MatrixXd>> cholesky(reversed);
        if (cholesky.info() != Eigen::Success)
            throw Error("method gptq", "the inputs' Hessian is not positive definite", "raise damp");
        factor_ = RowMatrix<double>::Zero(size(), size());
        tbb::parallel_for(std::size_t{0}, (columns_ + at_once - 1) / at_once,
                          [&](std::size_t part) { invert_columns(reversed, part * at_once); });
    }

    RowMatrix<double> take() { return std::move(factor_); }

private:
    static constexpr std::size_t at_once = 64;

    static Eigen::Index at(std::size_t i) { return static_cast<Eigen::Index>(i); }
    Eigen::Index size() const { return at(columns_); }
    std::size_t last(std::size_t i) const { return columns_ - 1 - i; }

    void invert_columns(const Eigen::MatrixXd& lower, std::size_t first) {
        const std::size_t width = std::min(at_once, columns_ - first), height = columns_ - first;
        Eigen::MatrixXd inverse = Eigen::MatrixXd::Identity(at(height), at(width));
        lower.bottomRightCorner(at(height), at(height)).triangularView<Eigen::Lower>().solveInPlace(inverse);
        for (std::size_t column = 0; column < width; ++column)
            for (std::size_t row = column; row < height; ++row)
                factor_(at(last(first + row)), at(last(first + column))) = inverse(at(row), at(column));
    }

    std::size_t columns_;
    RowMatrix<double> factor_;
};

// --- scales ----------------------------------------------------------------------------------------------------

/// A group of zeros has the range ±1 in the reference (quant.py, find_params).
MinMax widened(const MinMax& extent) {
    MinMax wide = extent;
    if (extent.min == 0 && extent.max == 0) {
        wide.add(-1);
        wide.add(1);
    }
    return wide;
}

/// Integers with the reference's scales. Symmetric: over the range ±absmax, or from 0 where no weight is negative.
struct ReferenceSymmetricCodec : SymmetricIntCodec {
    using Extent = MinMax;
    void extend(Extent& extent, float w) const { extent.add(w); }
    Scale fit(const Extent& extent) const {
        const MinMax range = widened(extent);
        const float absmax = std::max(-range.min, range.max);
        return {stored_scale((range.min < 0 ? absmax + absmax : absmax) / (2 * half_range() - 1), half_scales)};
    }
};
struct ReferenceAffineCodec : AffineIntCodec {
    Scale fit(const Extent& extent) const { return AffineIntCodec::fit(widened(extent)); }
};

template <class Codec, class T>
typename Codec::Scale fit_scale(const Codec& codec, const T* weights, std::size_t count) {
    typename Codec::Extent extent;
    for (std::size_t i = 0; i < count; ++i)
        codec.extend(extent, static_cast<float>(weights[i]));
    return codec.fit(extent);
}

// --- the solver ------------------------------------------------------------------------------------------------

template <class Codec>
class Solver {
public:
    using Scale = typename Codec::Scale;

    Solver(const Codec& codec, const MethodInput& input)
        : codec_(codec), input_(input), bound_(bind_codec(input.format, input.shape)),
          rows_(static_cast<std::size_t>(input.shape.rows)), columns_(static_cast<std::size_t>(input.shape.columns)),
          flat_(codec.scope().kind == Scope::Kind::flat), nested_(flat_ && input.format.flag("dq")),
          act_order_(input.method.flag("act_order")),
          // Blocks of the flattened tensor lie where they lie, so their scales cannot follow the order of the columns;
          // the absmax of double quantization are stored together.
          fixed_(input.method.flag("static_groups") || nested_ || (flat_ && act_order_)) {
        std::vector<double> hessian = input.calibration.hessian();
        weights_.assign(input.weights, input.weights + rows_ * columns_);
        drop_dead_columns(hessian);
        order_.resize(columns_);
        std::iota(order_.begin(), order_.end(), 0U);
        if (act_order_)
            order_ = by_activity(hessian, columns_);
        fit_all();
        const double damping = damping_of(hessian);
        factor_ = InverseFactor(std::move(hessian), order_, damping).take();
        codes_.resize(weights_.size());
    }

    void solve(MethodResult& result) {
        result.weight.resize(weights_.size());
        for_row_chunks(rows_, input_.job,
                       [&](std::size_t first, std::size_t count) { solve_rows(first, count, result.weight); });
        result.bits_per_weight = bound_->stored_bits() / static_cast<double>(weights_.size());
        result.stored = stored();
        if (act_order_)
            result.order = order_;
        if (act_order_ && !fixed_ && bound_->level_block(0).end < columns_)
            store_group_index(result);
    }

private:
    /// Inputs that are always 0: as in the reference their weights become 0.
    void drop_dead_columns(std::vector<double>& hessian) {
        std::size_t dead = 0;
        for (std::size_t column = 0; column < columns_; ++column) {
            double& diagonal = hessian[column * (columns_ + 1)];
            if (diagonal != 0)
                continue;
            ++dead;
            diagonal = 1;
            for (std::size_t row = 0; row < rows_; ++row)
                weights_[row * columns_ + column] = 0;
        }
        if (dead == columns_)
            throw Error("method gptq", "all inputs of the calibration are 0", "give another calibration text");
    }

    double damping_of(const std::vector<double>& hessian) const {
        double sum = 0;
        for (std::size_t column = 0; column < columns_; ++column)
            sum += hessian[column * (columns_ + 1)];
        return input_.method.real("damp") * sum / static_cast<double>(columns_);
    }

    /// The scales of the weights as they are; groups that lie in one row get others when they are entered.
    void fit_all() {
        for (std::uint64_t at = 0; at < weights_.size();) {
            const LevelBlock block = bound_->level_block(at);
            scales_.push_back(fit_scale(codec_, weights_.data() + block.begin, block.count()));
            at = block.end;
        }
        if constexpr (std::is_same_v<Scale, AbsmaxScale>)
            if (nested_)
                nest_scales();
    }

    void nest_scales() {
        std::vector<float> absmax;
        for (const AbsmaxScale& scale : scales_)
            absmax.push_back(scale.decode);
        nested_absmax_ = quantize_nested(absmax);
        for (std::size_t i = 0; i < scales_.size(); ++i)
            scales_[i].decode = nested_absmax_.decoded[i];
    }

    /// Columns between two updates of the rest. Blocks of the flattened tensor are no longer, so that each is fitted to
    /// weights that are up to date; the reference fits groups shorter than this to weights that are not.
    std::size_t columns_at_once() const {
        const auto asked = static_cast<std::size_t>(input_.method.integer("columns"));
        return flat_ ? std::min<std::size_t>(asked, codec_.scope().size) : asked;
    }

    void solve_rows(std::size_t first, std::size_t count, std::vector<float>& reconstruction) {
        RowMatrix<double> weights(static_cast<Eigen::Index>(count), static_cast<Eigen::Index>(columns_));
        for (std::size_t row = 0; row < count; ++row)
            for (std::size_t i = 0; i < columns_; ++i)
                weights(static_cast<Eigen::Index>(row), static_cast<Eigen::Index>(i)) =
                    weights_[(first + row) * columns_ + order_[i]];
        const auto columns = static_cast<Eigen::Index>(columns_);
        const auto at_once = static_cast<Eigen::Index>(std::min(columns_at_once(), columns_));
        RowMatrix<double> errors(weights.rows(), at_once);
        for (Eigen::Index begin = 0; begin < columns; begin += at_once) {
            input_.job.check();
            const Eigen::Index width = std::min(at_once, columns - begin), rest = columns - begin - width;
            for (Eigen::Index row = 0; row < weights.rows(); ++row)
                solve_part(first + static_cast<std::size_t>(row), begin, width, weights.row(row).data(),
                           errors.row(row).data(), reconstruction);
            weights.rightCols(rest).noalias() -=
                errors.leftCols(width) * factor_.block(begin, begin + width, width, rest);
        }
    }

    /// Rounds columns [begin, begin + width) of a row. The errors are made good in a copy: scales are fitted to `row`.
    void solve_part(std::size_t row_index, Eigen::Index begin, Eigen::Index width, const double* row, double* errors,
                    std::vector<float>& reconstruction) {
        std::vector<double> current(row + begin, row + begin + width);
        for (Eigen::Index i = 0; i < width; ++i) {
            const auto column = static_cast<std::size_t>(begin + i);
            const Scale& scale = scale_at(row_index, column, row);
            const std::size_t target = row_index * columns_ + order_[column];
            const std::uint32_t code = codec_.encode(static_cast<float>(current[static_cast<std::size_t>(i)]), scale);
            codes_[target] = static_cast<std::uint16_t>(code);
            reconstruction[target] = codec_.decode(code, scale);
            const double* factor = factor_.row(begin + i).data() + begin;
            const double error = (current[static_cast<std::size_t>(i)] - reconstruction[target]) / factor[i];
            for (Eigen::Index j = i + 1; j < width; ++j)
                current[static_cast<std::size_t>(j)] -= error * factor[j];
            errors[i] = error;
        }
    }

    /// The scale of the weight that is taken as number `column`; fitted now if its group begins with it.
    const Scale& scale_at(std::size_t row_index, std::size_t column, const double* row) {
        const std::uint64_t start = row_index * columns_;
        const std::uint64_t element = start + (fixed_ ? order_[column] : column);
        const LevelBlock block = bound_->level_block(element);
        Scale& scale = scales_[static_cast<std::size_t>(block.index)];
        if (!fixed_ && element == block.begin && block.end <= start + columns_)
            scale = fit_scale(codec_, row + column, block.count());
        return scale;
    }

    std::vector<StoredArray> stored() const {
        if constexpr (std::is_same_v<Scale, AbsmaxScale>)
            return nested_ ? stored_arrays(codes_, nested_absmax_) : stored_arrays(codes_, scales_);
        else
            return stored_arrays(codec_, codes_, scales_);
    }

    /// The group of each column, where groups are of columns in the order in which they were taken.
    void store_group_index(MethodResult& result) const {
        std::vector<std::int32_t> groups(columns_);
        for (std::size_t column = 0; column < columns_; ++column)
            groups[order_[column]] = static_cast<std::int32_t>(bound_->level_block(column).index);
        result.stored.push_back(stored_array("g_idx.i32", groups));
        result.bits_per_weight += 32.0 * static_cast<double>(columns_) / static_cast<double>(weights_.size());
    }

    Codec codec_;
    const MethodInput& input_;
    std::unique_ptr<TensorCodec> bound_;
    std::size_t rows_, columns_;
    bool flat_, nested_, act_order_, fixed_;
    std::vector<float> weights_;
    std::vector<std::uint32_t> order_;
    std::vector<Scale> scales_;
    NestedAbsmax nested_absmax_;
    RowMatrix<double> factor_;
    std::vector<std::uint16_t> codes_;
};

} // namespace

void apply_gptq(const MethodInput& input, MethodResult& result) {
    const bool as_reference = input.method.choice("fit") == "gptq";
    with_weight_codec(input.format, [&]<class Codec>(const Codec& codec) {
        if constexpr (std::is_same_v<Codec, SymmetricIntCodec>)
            if (as_reference)
                return Solver(ReferenceSymmetricCodec{codec}, input).solve(result);
        if constexpr (std::is_same_v<Codec, AffineIntCodec>)
            if (as_reference)
                return Solver(ReferenceAffineCodec{codec}, input).solve(result);
        Solver(codec, input).solve(result);
    });
}

} // namespace qs
