#pragma once

#include <cmath>
#include <cstring>
#include <map>
#include <string>
#include <vector>

#include <nlohmann/json.hpp>

#include "core/base/half.h"
#include "core/checkpoint/checkpoint.h"
#include "core/model/matrix.h"

// Readers of the layouts, written from FORMATS.md rather than from the writers.

namespace qs::test {

template <class T>
std::vector<T> raw(const Checkpoint& checkpoint, const std::string& name) {
    const auto index = checkpoint.find(name);
    if (!index)
        return {};
    const auto bytes = checkpoint.data(checkpoint.tensors[*index]);
    std::vector<T> values(bytes.size() / sizeof(T));
    std::memcpy(values.data(), bytes.data(), values.size() * sizeof(T));
    return values;
}

inline std::string raw_text(const Checkpoint& checkpoint, const std::string& name) {
    const auto bytes = raw<char>(checkpoint, name);
    return {bytes.begin(), bytes.end()};
}

inline std::vector<float> halves(const Checkpoint& checkpoint, const std::string& name) {
    std::vector<float> values;
    for (const auto word : raw<std::uint16_t>(checkpoint, name))
        values.push_back(fp16_to_float(word));
    return values;
}

/// bitsandbytes 4-bit: FORMATS II.2.
inline Matrix read_four_bits(const Checkpoint& checkpoint, const std::string& module, const std::string& type) {
    const std::string weight = module + ".weight";
    const auto state = nlohmann::json::parse(raw_text(checkpoint, weight + ".quant_state.bitsandbytes__" + type));
    const auto packed = raw<std::uint8_t>(checkpoint, weight);
    const auto map = raw<float>(checkpoint, weight + ".quant_map");
    auto absmax = raw<float>(checkpoint, weight + ".absmax");
    if (state.contains("nested_offset")) {
        const auto codes = raw<std::uint8_t>(checkpoint, weight + ".absmax");
        const auto nested = raw<float>(checkpoint, weight + ".nested_absmax"),
                   nested_map = raw<float>(checkpoint, weight + ".nested_quant_map");
        absmax.clear();
        for (std::size_t i = 0; i < codes.size(); ++i)
            absmax.push_back(nested_map[codes[i]] * nested[i / state["nested_blocksize"].get<std::size_t>()] +
                             state["nested_offset"].get<float>());
    }
    Matrix result(state["shape"][0].get<Index>(), state["shape"][1].get<Index>());
    for (std::size_t i = 0; i < static_cast<std::size_t>(result.size()); ++i)
        result.data()[i] = map[i % 2 == 0 ? packed[i / 2] >> 4 : packed[i / 2] & 15] *
                           absmax[i / state["blocksize"].get<std::size_t>()];
    return result;
}

/// bitsandbytes' LLM.int8().
inline Matrix read_int8(const Checkpoint& checkpoint, const std::string& module) {
    const auto codes = raw<std::int8_t>(checkpoint, module + ".weight");
    const auto scb = raw<float>(checkpoint, module + ".SCB");
    Matrix result(static_cast<Index>(scb.size()), static_cast<Index>(codes.size() / scb.size()));
    for (Index i = 0; i < result.size(); ++i)
        result.data()[i] = static_cast<float>(codes[static_cast<std::size_t>(i)]) *
                           scb[static_cast<std::size_t>(i / result.cols())] * 7.874015718698502e-3F;
    return result;
}

/// Code `index` of a little-endian stream of bits in words `stride` apart.
inline std::uint32_t stream_code(const std::uint32_t* words, std::size_t stride, std::size_t index, unsigned bits) {
    std::uint32_t code = 0;
    for (unsigned bit = 0; bit < bits; ++bit) {
        const std::size_t at = index * bits + bit;
        code |= (words[at / 32 * stride] >> at % 32 & 1U) << bit;
    }
    return code;
}

/// GPTQ: FORMATS II.4. `stored_less` is 1 in the first version and 0 in the second.
inline Matrix read_gptq(const Checkpoint& checkpoint, const std::string& module, unsigned bits,
                        std::uint32_t stored_less) {
    const auto weight = raw<std::uint32_t>(checkpoint, module + ".qweight"),
               zeros = raw<std::uint32_t>(checkpoint, module + ".qzeros");
    const auto groups = raw<std::int32_t>(checkpoint, module + ".g_idx");
    const auto scales = halves(checkpoint, module + ".scales");
    const std::size_t inputs = groups.size(), outputs = weight.size() * 32 / bits / inputs;
    Matrix result(static_cast<Index>(outputs), static_cast<Index>(inputs));
    for (std::size_t o = 0; o < outputs; ++o)
        for (std::size_t i = 0; i < inputs; ++i) {
            const auto group = static_cast<std::size_t>(groups[i]);
            const std::uint32_t zero =
                (stream_code(zeros.data() + group * outputs * bits / 32, 1, o, bits) + stored_less) &
                ((1U << bits) - 1);
            const std::uint32_t code = stream_code(weight.data() + o, outputs, i, bits);
            result(static_cast<Index>(o), static_cast<Index>(i)) =
                (static_cast<float>(code) - static_cast<float>(zero)) * scales[group * outputs + o];
        }
    return result;
}

/// AWQ's "gemm": FORMATS II.5.
inline Matrix read_awq(const Checkpoint& checkpoint, const std::string& module, std::size_t inputs) {
    constexpr unsigned nibble_of[8] = {0, 4, 1, 5, 2, 6, 3, 7};
    const auto weight = raw<std::uint32_t>(checkpoint, module + ".qweight"),
               zeros = raw<std::uint32_t>(checkpoint, module + ".qzeros");
    const auto scales = halves(checkpoint, module + ".scales");
    const std::size_t outputs = weight.size() * 8 / inputs, group = inputs / (scales.size() / outputs);
    Matrix result(static_cast<Index>(outputs), static_cast<Index>(inputs));
    for (std::size_t o = 0; o < outputs; ++o)
        for (std::size_t i = 0; i < inputs; ++i) {
            const auto nibble = [&](const std::vector<std::uint32_t>& words, std::size_t row) {
                return static_cast<float>(words[row * (outputs / 8) + o / 8] >> (4 * nibble_of[o % 8]) & 15U);
            };
            result(static_cast<Index>(o), static_cast<Index>(i)) =
                (nibble(weight, i) - nibble(zeros, i / group)) * scales[i / group * outputs + o];
        }
    return result;
}

/// HQQ: FORMATS II.6, and what its state_dict() adds.
inline Matrix read_hqq(const Checkpoint& checkpoint, const std::string& module) {
    const auto shape = raw<std::int64_t>(checkpoint, module + ".shape");
    const auto group = static_cast<std::size_t>(raw<std::int32_t>(checkpoint, module + ".group_size").at(0));
    const auto bits = static_cast<unsigned>(raw<std::int32_t>(checkpoint, module + ".nbits").at(0));
    const auto scales = halves(checkpoint, module + ".scale"), zeros = halves(checkpoint, module + ".zero");
    const bool in_words = raw_text(checkpoint, module + ".packing") == "3bit_32";
    std::vector<std::uint32_t> packed;
    if (in_words)
        packed = raw<std::uint32_t>(checkpoint, module + ".W_q");
    else
        for (const auto byte : raw<std::uint8_t>(checkpoint, module + ".W_q"))
            packed.push_back(byte);
    const unsigned parts = in_words ? 10 : 8 / bits;
    const std::size_t rows = packed.size() / group;
    Matrix result(shape[0], shape[1]);
    for (std::size_t i = 0; i < static_cast<std::size_t>(result.size()); ++i) {
        const std::size_t row = i / group, part = row / rows;
        const std::uint32_t word = packed[row % rows * group + i % group];
        const std::uint32_t code = word >> (bits * (parts - 1 - part)) & ((1U << bits) - 1);
        result.data()[i] = (static_cast<float>(code) - zeros[row]) * scales[row];
    }
    return result;
}

/// compressed-tensors' FP8.
inline Matrix read_fp8(const Checkpoint& checkpoint, const std::string& module, std::size_t inputs) {
    const auto codes = raw<std::uint8_t>(checkpoint, module + ".weight");
    const auto scales = raw<float>(checkpoint, module + ".weight_scale");
    Matrix result(static_cast<Index>(codes.size() / inputs), static_cast<Index>(inputs));
    for (std::size_t i = 0; i < codes.size(); ++i)
        result.data()[i] = fp8_to_float<E4M3>(codes[i]) * scales[scales.size() == 1 ? 0 : i / inputs];
    return result;
}

/// compressed-tensors' NVFP4 (FORMATS II.3: the tensor's scale is divided by) and MX formats, whose scales are powers
/// of two.
inline Matrix read_blocks(const Checkpoint& checkpoint, const std::string& module, std::size_t inputs) {
    constexpr float magnitudes[8] = {0, 0.5F, 1, 1.5F, 2, 3, 4, 6};
    const auto packed = raw<std::uint8_t>(checkpoint, module + ".weight_packed"),
               bytes = raw<std::uint8_t>(checkpoint, module + ".weight"),
               scales = raw<std::uint8_t>(checkpoint, module + ".weight_scale");
    const auto global = raw<float>(checkpoint, module + ".weight_global_scale");
    const std::size_t count = packed.empty() ? bytes.size() : 2 * packed.size(), block = count / scales.size();
    Matrix result(static_cast<Index>(count / inputs), static_cast<Index>(inputs));
    for (std::size_t i = 0; i < count; ++i) {
        const unsigned code = packed.empty() ? bytes[i] : packed[i / 2] >> (i % 2 == 0 ? 0 : 4) & 15U;
        const float element = packed.empty() ? fp8_to_float<E4M3>(static_cast<std::uint8_t>(code))
                                             : (code < 8 ? 1.0F : -1.0F) * magnitudes[code % 8];
        const std::uint8_t scale = scales[i / block];
        result.data()[i] =
            element * (global.empty() ? std::ldexp(1.0F, scale - 127) : fp8_to_float<E4M3>(scale) / global.front());
    }
    return result;
}

} // namespace qs::test
