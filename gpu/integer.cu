#include "core/formats/integer.h"

#include "gpu/families.h"
#include "gpu/kernels.cuh"

namespace qs::cuda {

template <class Codec>
std::unique_ptr<FormatRun> make_codec_run(const Codec& codec, std::unique_ptr<TensorCodec> host_codec,
                                          const RunContext& context) {
    return run_by_scope(on_device(codec), std::move(host_codec), context);
}

template std::unique_ptr<FormatRun> make_codec_run(const SymmetricIntCodec&, std::unique_ptr<TensorCodec>, const RunContext&);
template std::unique_ptr<FormatRun> make_codec_run(const AffineIntCodec&, std::unique_ptr<TensorCodec>, const RunContext&);
template std::unique_ptr<FormatRun> make_codec_run(const LlmInt8Codec&, std::unique_ptr<TensorCodec>, const RunContext&);

} // namespace qs::cuda
