#include "gpu/fused_kernel.cuh"

namespace qs::cuda {

template void launch_fused<NativeType::f16>(const Piece&, const FusedWork&, cudaStream_t);

} // namespace qs::cuda
