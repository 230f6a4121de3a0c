#include "core/formats/integer.h"

#include "gpu/families.h"
#include "gpu/kernels.cuh"

namespace qs::cuda {

namespace {

/// Marks the columns that have an outlier in the piece.
__global__ void __launch_bounds__(block_threads)
    outliers_kernel(Piece piece, LlmInt8Codec codec, std::uint64_t columns, std::uint8_t* is_outlier) {
    const Unit unit = unit_of(piece, blockIdx.x);
    for_each_weight(piece, unit, [&](unsigned position, float w) {
        if (codec.is_outlier(w))
            is_outlier[(piece.begin + unit.offset + position) % columns] = 1;
    });
}

/// LLM.int8() whose outlier columns are kept in float16.
__global__ void __launch_bounds__(block_threads)
    llm_int8_kernel(Piece piece, LlmInt8Codec codec, std::uint64_t columns, const LlmInt8Codec::Scale* scales,
                    const std::uint8_t* is_outlier, Sink sink) {
    const Unit unit = unit_of(piece, blockIdx.x);
    SinkBlock out(sink, unit);
    for_each_weight(piece, unit, [&](unsigned position, float w) {
        const std::uint64_t element = piece.begin + unit.offset + position;
        const LlmInt8Codec::Scale scale = scales[element / columns];
        const std::uint32_t code = codec.encode(w, scale);
        if (is_outlier[element % columns] != 0)
            out.add(position, w, LlmInt8Codec::outlier_code, LlmInt8Codec::half(w));
        else
            out.add(position, w, code, codec.decode(code, scale));
    });
    out.finish();
}

class LlmInt8Run final : public ScopedRun<LlmInt8Codec> {
public:
    LlmInt8Run(const LlmInt8Codec& codec, std::unique_ptr<TensorCodec> host_codec, const RunContext& context)
        : ScopedRun(codec, std::move(host_codec), map_of(codec.scope(), context.shape), context), shape_(context.shape),
          is_outlier_(context.scratch.take_for<std::uint8_t>(shape_.columns)) {
        QS_CUDA_CHECK(cudaMemsetAsync(is_outlier_, 0, shape_.columns, stream()));
    }

    void scan(const Piece& piece) override {
        ScopedRun::scan(piece);
        launch({blocks_for(piece), stream()}, outliers_kernel, piece, codec(), shape_.columns, is_outlier_);
    }

    void finish_scan() override {
        ScopedRun::finish_scan();
        std::vector<std::uint8_t> marks(shape_.columns);
        QS_CUDA_CHECK(cudaMemcpyAsync(marks.data(), is_outlier_, marks.size(), cudaMemcpyDeviceToHost, stream()));
        QS_CUDA_CHECK(cudaStreamSynchronize(stream()));
        outlier_columns_ = static_cast<std::uint64_t>(std::count(marks.begin(), marks.end(), 1));
    }

    bool repeats() const override { return false; }

    /// The fused kernels know no columns.
    std::optional<FusedFormat> fused() const override { return std::nullopt; }

    double stored_bits() const override {
        return LlmInt8Codec::stored_bits(shape_.rows, shape_.columns, outlier_columns_);
    }

protected:
    void enqueue(const Piece& piece, const Sink& sink, Scale*) const override {
        launch({blocks_for(piece), stream(), shared_words(sink) * 4}, llm_int8_kernel, piece, codec(), shape_.columns,
               fitted(), is_outlier_, sink);
    }

private:
    TensorShape shape_;
    std::uint8_t* is_outlier_;
    std::uint64_t outlier_columns_ = 0;
};

} // namespace

template <class Codec>
std::unique_ptr<FormatRun> make_codec_run(const Codec& codec, std::unique_ptr<TensorCodec> host_codec,
                                          const RunContext& context) {
    if constexpr (std::is_same_v<Codec, LlmInt8Codec>)
        if (codec.has_threshold())
            return std::make_unique<LlmInt8Run>(codec, std::move(host_codec), context);
    return run_by_scope(on_device(codec), std::move(host_codec), context);
}

template std::unique_ptr<FormatRun> make_codec_run(const SymmetricIntCodec&, std::unique_ptr<TensorCodec>,
                                                   const RunContext&);
template std::unique_ptr<FormatRun> make_codec_run(const AffineIntCodec&, std::unique_ptr<TensorCodec>,
                                                   const RunContext&);
template std::unique_ptr<FormatRun> make_codec_run(const LlmInt8Codec&, std::unique_ptr<TensorCodec>,
                                                   const RunContext&);

} // namespace qs::cuda
