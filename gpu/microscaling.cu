#include "core/formats/microscaling.h"

#include "gpu/families.h"
#include "gpu/kernels.cuh"

namespace qs::cuda {

template <class Codec>
std::unique_ptr<FormatRun> make_codec_run(const Codec& codec, std::unique_ptr<TensorCodec> host_codec,
                                          const RunContext& context) {
    return run_by_scope(on_device(codec), std::move(host_codec), context);
}

namespace {

/// NVFP4's scale of the tensor, which its blocks are scaled by: a look at the whole tensor before theirs.
template <class Run>
class Nvfp4Run final : public Run {
public:
    Nvfp4Run(std::unique_ptr<TensorCodec> host_codec, const ScopeMap& map, const RunContext& context)
        : Run(Nvfp4Codec{}, std::move(host_codec), map, context), runs_(ScopeMap{map.count, map.count, map.count}),
          extents_(context.scratch.take_for<AbsMax>(runs_.runs())) {}

    bool needs_scan() const override { return true; }

    void scan(const Piece& piece) override {
        scan_extents(piece, runs_, this->codec(), extents_, this->stream());
        Run::scan(piece);
    }

    void finish_scan() override {
        std::vector<AbsMax> extents(runs_.runs());
        QS_CUDA_CHECK(cudaMemcpyAsync(extents.data(), extents_, extents.size() * sizeof(AbsMax), cudaMemcpyDeviceToHost,
                                      this->stream()));
        QS_CUDA_CHECK(cudaStreamSynchronize(this->stream()));
        AbsMax tensor;
        for (const AbsMax& extent : extents)
            tensor.merge(extent);
        this->set_codec(Nvfp4Codec{Nvfp4Codec::global_of(tensor)});
        Run::finish_scan();
    }

    bool repeats() const override { return false; }

private:
    RunMap runs_;
    AbsMax* extents_;
};

} // namespace

std::unique_ptr<FormatRun> make_nvfp4_run(std::unique_ptr<TensorCodec> host_codec, const RunContext& context) {
    const ScopeMap map = map_of(Nvfp4Codec{}.scope(), context.shape);
    if (are_blocks(map))
        return std::make_unique<Nvfp4Run<BlockRun<Nvfp4Codec>>>(std::move(host_codec), map, context);
    return std::make_unique<Nvfp4Run<ScopedRun<Nvfp4Codec>>>(std::move(host_codec), map, context);
}

template std::unique_ptr<FormatRun> make_codec_run(const MxCodec<FloatElement<E4M3>>&, std::unique_ptr<TensorCodec>,
                                                   const RunContext&);
template std::unique_ptr<FormatRun> make_codec_run(const MxCodec<FloatElement<E5M2>>&, std::unique_ptr<TensorCodec>,
                                                   const RunContext&);
template std::unique_ptr<FormatRun> make_codec_run(const MxCodec<FloatElement<E3M2>>&, std::unique_ptr<TensorCodec>,
                                                   const RunContext&);
template std::unique_ptr<FormatRun> make_codec_run(const MxCodec<FloatElement<E2M3>>&, std::unique_ptr<TensorCodec>,
                                                   const RunContext&);
template std::unique_ptr<FormatRun> make_codec_run(const MxCodec<FloatElement<E2M1>>&, std::unique_ptr<TensorCodec>,
                                                   const RunContext&);
template std::unique_ptr<FormatRun> make_codec_run(const MxCodec<IntElement>&, std::unique_ptr<TensorCodec>,
                                                   const RunContext&);

} // namespace qs::cuda
