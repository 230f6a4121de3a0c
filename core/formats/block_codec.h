#pragma once

#include <cstdint>

#include "core/base/half.h"
#include "core/base/hd.h"

/// What all block codecs share. A codec is a small struct of plain functions, compiled for the host and for CUDA:
///
///     using Extent = …;                                   what a scale is fitted to; a monoid over the weights of a scope
///     struct Scale { … };                                 what is stored, and what encoding needs besides
///     Scope scope() const;                                which weights share a scale
///     void extend(Extent&, float w) const;                takes one more weight, in order; what is not finite is left out
///     Scale fit(const Extent&) const;
///     std::uint32_t encode(float w, const Scale&) const;  below code_count
///     float decode(std::uint32_t code, const Scale&) const;
///     float position(float w, const Scale&) const;        where w falls on the axis of the codebook
///
/// Only plain arithmetic is used, each operation rounded once (no contraction), so both compilers give the same bits.
namespace qs {

/// Which weights share a scale.
struct Scope {
    enum class Kind : std::uint8_t {
        element,  ///< there is no scale
        flat,     ///< `size` weights of the flattened tensor; the last block may be short
        row,      ///< `size` weights along a row, the last group of a row may be short; 0: the whole row
        tensor    ///< all weights
    };
    Kind kind = Kind::element;
    std::uint64_t size = 1;
};

/// The largest magnitude.
struct AbsMax {
    float value = 0;

    QS_HD void add(float w) {
        const float magnitude = fabsf(w);
        if (magnitude > value && is_finite(w))
            value = magnitude;
    }
    QS_HD void merge(const AbsMax& later) { value = later.value > value ? later.value : value; }
};

/// The range of the values.
struct MinMax {
    float min = INFINITY;
    float max = -INFINITY;

    QS_HD void add(float w) {
        if (!is_finite(w))
            return;
        min = w < min ? w : min;
        max = w > max ? w : max;
    }
    QS_HD void merge(const MinMax& later) {
        min = later.min < min ? later.min : min;
        max = later.max > max ? later.max : max;
    }
    QS_HD bool empty() const { return min > max; }
};

/// The value of the largest magnitude, with its sign; of equal ones the first.
struct SignedMax {
    float value = 0;

    QS_HD void add(float w) {
        if (fabsf(w) > fabsf(value) && is_finite(w))
            value = w;
    }
    QS_HD void merge(const SignedMax& later) { value = fabsf(later.value) > fabsf(value) ? later.value : value; }
};

/// No scale to fit.
struct NoExtent {
    QS_HD void add(float) {}
    QS_HD void merge(const NoExtent&) {}
};

QS_HD inline float clamp(float value, float low, float high) {
    return value < low ? low : value > high ? high : value;
}

} // namespace qs
