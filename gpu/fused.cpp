#include "gpu/fused.h"

namespace qs::cuda {

template <NativeType type>
void launch_fused(const Piece& piece, const FusedWork& work, cudaStream_t stream);
extern template void launch_fused<NativeType::f32>(const Piece&, const FusedWork&, cudaStream_t);
extern template void launch_fused<NativeType::bf16>(const Piece&, const FusedWork&, cudaStream_t);
extern template void launch_fused<NativeType::f16>(const Piece&, const FusedWork&, cudaStream_t);

void run_fused(const Piece& piece, const FusedWork& work, cudaStream_t stream) {
    switch (piece.type) {
    case NativeType::f32:
        return launch_fused<NativeType::f32>(piece, work, stream);
    case NativeType::bf16:
        return launch_fused<NativeType::bf16>(piece, work, stream);
    case NativeType::f16:
        return launch_fused<NativeType::f16>(piece, work, stream);
    }
}

} // namespace qs::cuda
