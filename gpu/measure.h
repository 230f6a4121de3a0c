#pragma once

#include <cstddef>
#include <cstdint>

#include <cuda_runtime_api.h>

namespace qs::cuda {

/// Enqueues a read of every byte of [data, data + bytes), a multiple of 16; `sink` is one word that is never written.
void read_all(const void* data, std::size_t bytes, std::uint32_t* sink, cudaStream_t stream);

} // namespace qs::cuda
