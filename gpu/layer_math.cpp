#include "gpu/layer_math.h"

#include <initializer_list>
#include <mutex>
#include <numeric>

#include "gpu/cuda.h"
#include "gpu/decoder_kernels.h"
#include "gpu/piece.h"

namespace qs::cuda {

namespace {

std::uint64_t count_of(const DeviceMatrix& matrix) {
    return std::uint64_t{matrix.rows()} * matrix.columns();
}

unsigned columns_of(const DeviceMatrix& matrix) {
    return static_cast<unsigned>(matrix.columns());
}

void require(bool fits) {
    if (!fits)
        throw Error("the steps of a decoder", "are given matrices that do not fit each other");
}

/// All of the first one's shape.
void require_like(const DeviceMatrix& first, std::initializer_list<const DeviceMatrix*> others) {
    for (const DeviceMatrix* other : others)
        require(other == nullptr || (other->rows() == first.rows() && other->columns() == first.columns()));
}

void require_row(const DeviceMatrix& row, std::size_t columns) {
    require(row.rows() == 1 && row.columns() == columns);
}

class CudaLayerMath final : public LayerMath {
public:
    CudaLayerMath(int ordinal, QueuedAlgebra& algebra)
        : ordinal_(ordinal), algebra_(algebra), stream_(algebra.queue()) {}

    ~CudaLayerMath() override {
        int before = 0;
        static_cast<void>(cudaGetDevice(&before));
        static_cast<void>(cudaSetDevice(ordinal_));
        for (DeviceBuffer* buffer : {&statistics_, &partials_, &targets_, &rows_})
            buffer->clear();
        static_cast<void>(cudaSetDevice(before));
    }
    CudaLayerMath(const CudaLayerMath&) = delete;
    CudaLayerMath& operator=(const CudaLayerMath&) = delete;

    Algebra& algebra() override { return algebra_; }

    void normalise(const Normalisation& how, const DeviceMatrix& in, const DeviceMatrix& weight,
                   const DeviceMatrix* bias, const DeviceMatrix& out) override {
        const Call call(*this);
        require_like(in, {&out});
        const std::uint64_t groups = groups_of(how, in, weight, bias);
        cuda::normalise(how.centred, how.epsilon, groups, static_cast<unsigned>(how.size), at(in), at(weight), at(bias),
                        at(out), *stream_);
    }

    void backward_normalise(const Normalisation& how, const DeviceMatrix& in, const DeviceMatrix& weight,
                            const DeviceMatrix& d_out, const DeviceMatrix& d_weight, const DeviceMatrix* d_bias,
                            const DeviceMatrix& d_in, bool replace) override {
        const Call call(*this);
        require_like(in, {&d_out, &d_in});
        require_like(weight, {&d_weight, d_bias});
        const std::uint64_t groups = groups_of(how, in, weight, nullptr);
        const auto size = static_cast<unsigned>(how.size);
        GroupStatistics* const statistics = statistics_.reserve_for<GroupStatistics>(groups);
        double* const partials = partials_.reserve_for<double>(partial_sums(groups, size));
        group_statistics(how.centred, how.epsilon, groups, size, at(in), statistics, *stream_);
        add_weight_sums(at(in), statistics, at(d_out), groups, size, partials, at(d_weight), *stream_);
        if (d_bias != nullptr)
            add_column_sums(at(d_out), groups, size, partials, at(*d_bias), *stream_);
        cuda::backward_normalise(how.centred, groups, size, at(in), at(weight), statistics, at(d_out), at(d_in),
                                 replace, *stream_);
    }

    void turn(std::span<const Sequence> sequences, std::size_t first, std::size_t head_size,
              const DeviceMatrix& cosines, const DeviceMatrix& sines, bool back, const DeviceMatrix& heads) override {
        const Call call(*this);
        require_like(cosines, {&sines});
        require(head_size > 0 && heads.columns() % head_size == 0 && 2 * cosines.columns() <= head_size);
        for (const Sequence& sequence : sequences)
            require(rows_within(sequence, heads) && first + size_of(sequence) <= cosines.rows());
        cuda::turn(sequences, static_cast<unsigned>(first), static_cast<unsigned>(head_size), at(cosines), at(sines),
                   columns_of(cosines), back ? -1.0f : 1.0f, at(heads), columns_of(heads), *stream_);
    }

    void attend(const AttentionShape& shape, std::span<const Sequence> sequences, std::size_t first,
                const DeviceMatrix& q, const DeviceMatrix& keys, const DeviceMatrix& values, const DeviceMatrix& out,
                const DeviceMatrix& log_sums) override {
        const Call call(*this);
        check_attention(shape, q, keys, values, log_sums);
        require_like(q, {&out});
        for (const Sequence& sequence : sequences)
            require(rows_within(sequence, q) &&
                    rows_within({sequence.begin, sequence.length + static_cast<std::ptrdiff_t>(first)}, keys));
        AttentionMatrices matrices{};
        matrices.q = at(q);
        matrices.keys = at(keys);
        matrices.values = at(values);
        matrices.out = at(out);
        matrices.log_sums = at(log_sums);
        cuda::attend(layout_of(shape, first), sequences, matrices, *stream_);
    }

    void backward_attend(const AttentionShape& shape, std::span<const Sequence> sequences, const DeviceMatrix& q,
                         const DeviceMatrix& keys, const DeviceMatrix& values, const DeviceMatrix& out,
                         const DeviceMatrix& log_sums, const DeviceMatrix& d_out, const DeviceMatrix& d_q,
                         const DeviceMatrix& d_k, const DeviceMatrix& d_v) override {
        const Call call(*this);
        check_attention(shape, q, keys, values, log_sums);
        require_like(q, {&out, &d_out, &d_q});
        require_like(keys, {&d_k, &d_v});
        for (const Sequence& sequence : sequences)
            require(rows_within(sequence, q) && rows_within(sequence, keys));
        float* const delta = partials_.reserve_for<float>(q.rows() * shape.heads);
        attention_delta(at(out), at(d_out), q.rows() * shape.heads, static_cast<unsigned>(shape.head_size), delta,
                        *stream_);
        const AttentionMatrices matrices{at(q),     at(keys), at(values), at(out), at(log_sums),
                                         at(d_out), delta,    at(d_q),    at(d_k), at(d_v)};
        cuda::backward_attend(layout_of(shape, 0), sequences, matrices, *stream_);
    }

    void activate(Activation activation, const DeviceMatrix* gate, const DeviceMatrix& up,
                  const DeviceMatrix& out) override {
        const Call call(*this);
        require_like(up, {gate, &out});
        cuda::activate(activation, at(gate), at(up), at(out), count_of(up), *stream_);
    }

    void backward_activate(Activation activation, const DeviceMatrix* gate, const DeviceMatrix& up,
                           const DeviceMatrix& d_out, const DeviceMatrix* d_gate, const DeviceMatrix& d_up) override {
        const Call call(*this);
        require((gate == nullptr) == (d_gate == nullptr));
        require_like(up, {gate, &d_out, d_gate, &d_up});
        cuda::backward_activate(activation, at(gate), at(up), at(d_out), at(d_gate), at(d_up), count_of(up), *stream_);
    }

    void clear(const DeviceMatrix& matrix) override {
        const Call call(*this);
        if (!matrix.empty())
            QS_CUDA_CHECK(cudaMemsetAsync(at(matrix), 0, count_of(matrix) * sizeof(float), *stream_));
    }

    void add(const DeviceMatrix& from, const DeviceMatrix& to) override {
        const Call call(*this);
        require_like(to, {&from});
        cuda::add(at(from), at(to), count_of(to), *stream_);
    }

    void add_row(const DeviceMatrix& row, const DeviceMatrix& to) override {
        const Call call(*this);
        require_row(row, to.columns());
        cuda::add_row(at(row), to.columns(), at(to), count_of(to), *stream_);
    }

    void add_sum_of_rows(const DeviceMatrix& rows, const DeviceMatrix& row) override {
        const Call call(*this);
        require_row(row, rows.columns());
        double* const partials = partials_.reserve_for<double>(partial_sums(rows.rows(), rows.columns()));
        add_column_sums(at(rows), rows.rows(), columns_of(rows), partials, at(row), *stream_);
    }

    void soft_cap(double cap, const DeviceMatrix& values) override {
        const Call call(*this);
        cuda::soft_cap(static_cast<float>(cap), at(values), count_of(values), *stream_);
    }

    void backward_soft_cap(double cap, const DeviceMatrix& capped, const DeviceMatrix& d) override {
        const Call call(*this);
        require_like(d, {&capped});
        cuda::backward_soft_cap(static_cast<float>(cap), at(capped), at(d), count_of(d), *stream_);
    }

    double squared_norm(const DeviceMatrix& a, const DeviceMatrix* less) override {
        const Call call(*this);
        require_like(a, {less});
        std::vector<double> sums(units_in(count_of(a)));
        double* const partials = partials_.reserve_for<double>(sums.size());
        squares(at(a), at(less), count_of(a), partials, *stream_);
        download(partials, sums);
        return std::accumulate(sums.begin(), sums.end(), 0.0);
    }

    std::vector<double> losses(double scale, std::span<const int> targets, const DeviceMatrix* teacher,
                               const DeviceMatrix& logits) override {
        const Call call(*this);
        require_like(logits, {teacher});
        std::vector<double> losses(logits.rows());
        double* const rows = rows_.reserve_for<double>(losses.size());
        cuda::losses(scale, upload_targets(targets, logits), at(teacher), at(logits), logits.rows(), columns_of(logits),
                     rows, *stream_);
        download(rows, losses);
        return losses;
    }

    std::vector<RowScore> score(const DeviceMatrix& logits, const DeviceMatrix& reference,
                                std::span<const int> targets) override {
        const Call call(*this);
        require_like(logits, {&reference});
        std::vector<RowScore> scores(logits.rows());
        RowScore* const rows = rows_.reserve_for<RowScore>(scores.size());
        cuda::score(at(logits), at(reference), upload_targets(targets, logits), logits.rows(), columns_of(logits), rows,
                    *stream_);
        download(rows, scores);
        return scores;
    }

private:
    /// One call at a time, with the GPU current.
    struct Call {
        explicit Call(CudaLayerMath& math) : lock(math.mutex_), current(math.ordinal_) {}
        std::lock_guard<std::mutex> lock;
        CurrentDevice current;
    };

    /// The address of a matrix's first element.
    float* at(const DeviceMatrix& matrix) const {
        const bool without_gaps = matrix.stride() == matrix.columns() || matrix.rows() <= 1;
        if (matrix.place() != ordinal_ || matrix.type() != DType::f32 || !without_gaps)
            throw Error("the steps of a decoder", "take matrices of float32 without gaps on the GPU");
        return matrix.as<float>();
    }
    float* at(const DeviceMatrix* matrix) const { return matrix == nullptr ? nullptr : at(*matrix); }

    static std::uint64_t groups_of(const Normalisation& how, const DeviceMatrix& in, const DeviceMatrix& weight,
                                   const DeviceMatrix* bias) {
        require(how.size > 0 && in.columns() % how.size == 0);
        require_row(weight, how.size);
        require_like(weight, {bias});
        return count_of(in) / how.size;
    }

    static std::size_t size_of(const Sequence& sequence) { return static_cast<std::size_t>(sequence.length); }
    static bool rows_within(const Sequence& sequence, const DeviceMatrix& matrix) {
        return sequence.begin >= 0 && sequence.length >= 0 &&
               static_cast<std::size_t>(sequence.begin) + size_of(sequence) <= matrix.rows();
    }

    static void check_attention(const AttentionShape& shape, const DeviceMatrix& q, const DeviceMatrix& keys,
                                const DeviceMatrix& values, const DeviceMatrix& log_sums) {
        if (shape.head_size == 0 || shape.head_size > largest_head)
            throw Error("attention", "has heads of " + std::to_string(shape.head_size) + " dimensions; the GPU takes " +
                                         std::to_string(largest_head));
        require(shape.kv_heads > 0 && shape.heads % shape.kv_heads == 0);
        require(q.columns() == shape.heads * shape.head_size && keys.columns() == shape.kv_heads * shape.head_size);
        require_like(keys, {&values});
        require(log_sums.rows() == q.rows() && log_sums.columns() == shape.heads);
    }

    static AttentionLayout layout_of(const AttentionShape& shape, std::size_t first) {
        return {static_cast<unsigned>(shape.heads),     static_cast<unsigned>(shape.kv_heads),
                static_cast<unsigned>(shape.head_size), static_cast<unsigned>(first),
                static_cast<unsigned>(shape.window),    static_cast<float>(shape.scale),
                static_cast<float>(shape.cap)};
    }

    const int* upload_targets(std::span<const int> targets, const DeviceMatrix& logits) {
        require(targets.size() == logits.rows());
        for (const int target : targets)
            require(target < 0 || static_cast<std::size_t>(target) < logits.columns());
        int* const copy = targets_.reserve_for<int>(targets.size());
        QS_CUDA_CHECK(cudaMemcpyAsync(copy, targets.data(), targets.size_bytes(), cudaMemcpyHostToDevice, *stream_));
        return copy;
    }

    template <class T>
    void download(const T* from, std::vector<T>& to) {
        if (to.empty())
            return;
        QS_CUDA_CHECK(cudaMemcpyAsync(to.data(), from, to.size() * sizeof(T), cudaMemcpyDeviceToHost, *stream_));
        stream_->synchronize();
    }

    int ordinal_;
    QueuedAlgebra& algebra_;
    std::shared_ptr<Stream> stream_;
    std::mutex mutex_;
    DeviceBuffer statistics_, partials_, targets_, rows_; ///< of the call that is under way
};

} // namespace

std::unique_ptr<LayerMath> make_cuda_layer_math(int ordinal, QueuedAlgebra& algebra) {
    return std::make_unique<CudaLayerMath>(ordinal, algebra);
}

} // namespace qs::cuda
