#pragma once

#include <cstddef>
#include <cstdint>

/// Fast forms of the encoders of packed codecs (core/formats/packed_codec.h), without importance: the same bytes, many
/// blocks at once, with the best instructions of the machine. `weights` are finite.
namespace qs::simd {

void encode_q4_0(const float* weights, std::size_t blocks, std::uint8_t* out);
void encode_q4_1(const float* weights, std::size_t blocks, std::uint8_t* out);
void encode_q5_0(const float* weights, std::size_t blocks, std::uint8_t* out);
void encode_q5_1(const float* weights, std::size_t blocks, std::uint8_t* out);
void encode_q8_0(const float* weights, std::size_t blocks, std::uint8_t* out);

void encode_q2_K(const float* weights, std::size_t blocks, std::uint8_t* out);
void encode_q3_K(const float* weights, std::size_t blocks, std::uint8_t* out);
void encode_q4_K(const float* weights, std::size_t blocks, std::uint8_t* out);
void encode_q5_K(const float* weights, std::size_t blocks, std::uint8_t* out);
void encode_q6_K(const float* weights, std::size_t blocks, std::uint8_t* out);

void encode_iq4_nl(const float* weights, std::size_t blocks, std::uint8_t* out);
void encode_iq4_xs(const float* weights, std::size_t blocks, std::uint8_t* out);
void encode_mxfp4_ggml(const float* weights, std::size_t blocks, std::uint8_t* out);
void encode_nvfp4_ggml(const float* weights, std::size_t blocks, std::uint8_t* out);

/// Fp16Codec::encode and Bf16Codec::encode of each weight, finite or not.
void to_fp16(const float* weights, std::size_t count, std::uint16_t* out);
void to_bf16(const float* weights, std::size_t count, std::uint16_t* out);

} // namespace qs::simd
