#pragma once

#include <memory>

#include "core/device/algebra.h"
#include "gpu/algebra_libraries.h"
#include "gpu/cuda.h"

namespace qs::cuda {

/// An algebra that others can add work to.
class QueuedAlgebra : public Algebra {
public:
    /// The queue that the GPU's share goes through; null where the CPU does everything.
    virtual std::shared_ptr<Stream> queue() = 0;
};

/// The algebra of the GPU of this ordinal, by cuBLAS and cuSOLVER, which are loaded at the first use. `cpu`, which must
/// outlive it, does what the GPU cannot: everything where a library is missing, single calls where the device has no
/// memory left; description() says so.
std::unique_ptr<QueuedAlgebra> make_cuda_algebra(int ordinal, Algebra& cpu, LibraryPaths paths = toolkit_paths());

} // namespace qs::cuda
