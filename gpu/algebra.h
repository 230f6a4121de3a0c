#pragma once

#include <memory>

#include "core/device/algebra.h"
#include "gpu/algebra_libraries.h"

namespace qs::cuda {

/// The algebra of the GPU of this ordinal, by cuBLAS and cuSOLVER, which are loaded at the first use. `cpu`, which must
/// outlive it, does what the GPU cannot: everything where a library is missing, single calls where the device has no
/// memory left; description() says so.
std::unique_ptr<Algebra> make_cuda_algebra(int ordinal, Algebra& cpu, LibraryPaths paths = toolkit_paths());

} // namespace qs::cuda
