#pragma once

#include <cstdint>

#include "core/base/half.h"
#include "core/base/hd.h"

// What all block codecs share. A codec is a small struct of plain functions, compiled for the host and for CUDA:
//
// - Extent: what a scale is fitted to; a monoid over the weights of a scope
// - Scale: what is stored of a scope, and what encoding needs besides
// - scope(): which weights share a scale
// - extend(extent, w): takes one more weight, in order; what is not finite is left out
// - fit(extent): the scale
// - encode(w, scale): the code, below code_count
// - decode(code, scale): the reconstruction
// - position(w, scale): where w falls on the axis of the codebook
//
// Only plain arithmetic is used, each operation rounded once (no contraction), so both compilers give the same bits.

namespace qs {

/// Which weights share a scale.
struct Scope {
    enum class Kind : std::uint8_t {
        element, ///< there is no scale
        flat,    ///< `size` weights of the flattened tensor; the last block may be short
        row,     ///< `size` weights along a row, the last group of a row may be short; 0: the whole row
        tensor   ///< all weights
    };
    Kind kind = Kind::element;
    std::uint64_t size = 1;
};

/// The weight that is encoded: NaN and Inf count as 0.
QS_HD inline float finite_or_zero(float w) {
    return bits_float(is_finite(w) ? float_bits(w) : 0U);
}

/// The largest magnitude.
struct AbsMax {
    static constexpr bool any_order = true; ///< parts may be merged in any order
    float value = 0;

    QS_HD void add(float w) {
        const float magnitude = fabsf(finite_or_zero(w));
        value = magnitude > value ? magnitude : value;
    }
    QS_HD void merge(const AbsMax& later) { value = later.value > value ? later.value : value; }
};

/// The range of the values.
struct MinMax {
    static constexpr bool any_order = true;
    float min = INFINITY;
    float max = -INFINITY;

    QS_HD void add(float w) {
        // A NaN is neither less nor greater.
        const float finite = bits_float(is_finite(w) ? float_bits(w) : 0x7FC00000U);
        min = finite < min ? finite : min;
        max = finite > max ? finite : max;
    }
    QS_HD void merge(const MinMax& later) {
        min = later.min < min ? later.min : min;
        max = later.max > max ? later.max : max;
    }
    QS_HD bool empty() const { return min > max; }
};

/// The value of the largest magnitude, with its sign; of equal ones the first.
struct SignedMax {
    static constexpr bool any_order = false;
    float value = 0;

    QS_HD void add(float w) {
        if (fabsf(w) > fabsf(value) && is_finite(w))
            value = w;
    }
    QS_HD void merge(const SignedMax& later) { value = fabsf(later.value) > fabsf(value) ? later.value : value; }
};

/// No scale to fit.
struct NoExtent {
    static constexpr bool any_order = false;
    QS_HD void add(float) {}
    QS_HD void merge(const NoExtent&) {}
};

/// Round half to even, for |value| < 2²²: from there on floats have no halves, and the sum keeps whole numbers.
QS_HD inline float nearest_even(float value) {
    return value + 12582912.0F - 12582912.0F;
}

QS_HD inline float clamp(float value, float low, float high) {
    return value < low ? low : value > high ? high : value;
}

} // namespace qs
