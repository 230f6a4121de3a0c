#pragma once

#include <memory>

#include "gpu/format_run.h"

namespace qs::cuda {

/// What every codec's run is made from.
struct RunContext {
    TensorShape shape;
    std::unique_ptr<TensorCodec> host_codec; ///< the format on the CPU, for what is not the device's business
    Scratch& scratch;
};

/// The run of a codec of core/formats; each family's .cu defines it for its codecs.
template <class Codec>
std::unique_ptr<FormatRun> make_codec_run(const Codec& codec, RunContext context);

} // namespace qs::cuda
