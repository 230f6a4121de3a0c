#pragma once

#include <filesystem>

#include "core/base/atomic_file.h"
#include "core/base/job.h"
#include "core/model/decoder.h"

namespace qs {

/// Writes a safetensors checkpoint like the decoder's with the hook's weights in float32 into the file, which is to be
/// in `folder`, and beside it, where they are not there yet, the config and tokenizer of the original, so that it opens
/// as a model. `job` counts the bytes that are written. Throws Error for GGUF files, which it does not convert;
/// Cancelled.
void write_trained(const Decoder& decoder, const WeightHook& hook, AtomicFile& file,
                   const std::filesystem::path& folder, JobControl& job);
/// Throws the Error of write_trained() where there will be one.
void check_writable(const Decoder& decoder);

} // namespace qs
