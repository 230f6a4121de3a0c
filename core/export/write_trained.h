#pragma once

#include <filesystem>

#include "core/base/atomic_file.h"
#include "core/base/job.h"
#include "core/device/device.h"
#include "core/model/decoder.h"

namespace qs {

/// Writes a checkpoint like the decoder's with the hook's weights in float32 into the file, which is to become `path`:
/// OUT.gguf as GGUF, all matrices in float32; else as safetensors with the rest as it is stored, and beside it, where
/// they are not there yet, the config and tokenizer of the original, so that it opens as a model. `job` counts bytes.
/// Throws the Error of check_writable(); Cancelled.
void write_trained(const Decoder& decoder, const WeightHook& hook, AtomicFile& file, const std::filesystem::path& path,
                   Device& device, JobControl& job);
/// Throws Error where that cannot be done: GGUF files are not converted to safetensors.
void check_writable(const Decoder& decoder, const std::filesystem::path& path);

} // namespace qs
