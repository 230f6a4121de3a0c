#include <QtTest>

#include <cmath>
#include <cstring>
#include <functional>

#include "core/base/half.h"
#include "core/formats/block_codec.h"
#include "core/formats/ggml_basic.h"

using namespace qs;

/// The narrow floats of core/base/half.h against their definition, worked out here with ldexp: every code's value, and
/// rounding at, just below and just above every midpoint.
class TestConversions : public QObject {
    Q_OBJECT

private slots:
    void fp16();
    void bf16();
    void tf32();
    void fp8();
    void fp6AndFp4();
    void e8m0();
    void nearestEven();
    void halvesAwayFromZero();
};

/// The value of a float with `exponent_bits` and `mantissa_bits`, sign bit on top. No code is special.
double value_of(unsigned code, int exponent_bits, int mantissa_bits, int bias) {
    const auto mantissa = static_cast<int>(code & ((1U << mantissa_bits) - 1));
    const auto exponent = static_cast<int>(code >> mantissa_bits & ((1U << exponent_bits) - 1));
    const bool negative = (code >> (exponent_bits + mantissa_bits) & 1) != 0;
    const double magnitude = exponent == 0
                                 ? std::ldexp(mantissa, 1 - bias - mantissa_bits)
                                 : std::ldexp(mantissa + (1 << mantissa_bits), exponent - bias - mantissa_bits);
    return negative ? -magnitude : magnitude;
}

/// Checks rounding to nearest even between all neighbours among the magnitudes 0 … last, given as codes.
void check_rounding(unsigned last, unsigned sign, const std::function<double(unsigned)>& value,
                    const std::function<unsigned(float)>& convert) {
    for (unsigned code = 0; code <= last; ++code) {
        const auto exact = static_cast<float>(value(code));
        QCOMPARE(convert(exact), code);
        QCOMPARE(convert(-exact), code | sign);
        if (code == last)
            break;
        const double middle = (value(code) + value(code + 1)) / 2;
        const auto tie = static_cast<float>(middle);
        if (static_cast<double>(tie) != middle)
            continue; // too fine for a float32
        QCOMPARE(convert(tie), code + (code & 1));
        QCOMPARE(convert(-tie), (code + (code & 1)) | sign);
        QCOMPARE(convert(std::nextafter(tie, 0.0F)), code);
        QCOMPARE(convert(std::nextafter(tie, INFINITY)), code + 1);
    }
}

void TestConversions::fp16() {
    const auto value = [](unsigned code) { return value_of(code, 5, 10, 15); };
    for (unsigned code = 0; code < 0x10000; ++code) {
        const float decoded = fp16_to_float(static_cast<std::uint16_t>(code));
        if ((code & 0x7FFF) > 0x7C00)
            QVERIFY(std::isnan(decoded));
        else if ((code & 0x7FFF) == 0x7C00)
            QCOMPARE(decoded, code == 0x7C00 ? INFINITY : -INFINITY);
        else
            QVERIFY(decoded == value(code) && std::signbit(decoded) == std::signbit(value(code)));
    }
    check_rounding(0x7BFF, 0x8000, value, float_to_fp16);
    QCOMPARE(float_to_fp16(std::nextafter(65520.0F, 0.0F)), std::uint16_t{0x7BFF});
    QCOMPARE(float_to_fp16(65520.0F), std::uint16_t{0x7C00});
    QCOMPARE(float_to_fp16(-INFINITY), std::uint16_t{0xFC00});
    QVERIFY(std::isnan(fp16_to_float(float_to_fp16(NAN))));
    QVERIFY(std::isnan(fp16_to_float(float_to_fp16(bits_float(0x7F800001)))));
}

void TestConversions::bf16() {
    const auto value = [](unsigned code) { return value_of(code, 8, 7, 127); };
    for (unsigned code = 0; code < 0x10000; ++code) {
        const float decoded = bf16_to_float(static_cast<std::uint16_t>(code));
        if ((code & 0x7FFF) < 0x7F80)
            QVERIFY(decoded == value(code) && std::signbit(decoded) == std::signbit(value(code)));
    }
    check_rounding(0x7F7F, 0x8000, value, float_to_bf16);
    QCOMPARE(float_to_bf16(3.4e38F), std::uint16_t{0x7F80});
    QCOMPARE(float_to_bf16(-INFINITY), std::uint16_t{0xFF80});
    QVERIFY(std::isnan(bf16_to_float(float_to_bf16(bits_float(0x7F800001)))));
}

void TestConversions::tf32() {
    for (const float exponent : {1.0F, 0x1p-100F, 0x1p-130F, 0x1p100F}) {
        const float step = exponent < 0x1p-126F ? 0x1p-136F : exponent * 0x1p-10F;
        for (int i = 0; i < 1024; ++i) {
            const float low = exponent + static_cast<float>(i) * step, high = low + step, tie = low + step / 2;
            QCOMPARE(round_to_tf32(low), low);
            QCOMPARE(round_to_tf32(tie), (float_bits(low) >> 13 & 1) == 0 ? low : high);
            QCOMPARE(round_to_tf32(std::nextafter(tie, low)), low);
            QCOMPARE(round_to_tf32(-std::nextafter(tie, high)), -high);
        }
    }
    QVERIFY(std::isnan(round_to_tf32(NAN)));
    QCOMPARE(round_to_tf32(-INFINITY), -INFINITY);
    QVERIFY(std::isinf(round_to_tf32(3.402823e38F)));
}

void TestConversions::fp8() {
    check_rounding(
        0x7E, 0x80, [](unsigned code) { return value_of(code, 4, 3, 7); }, float_to_fp8<E4M3>);
    check_rounding(
        0x7B, 0x80, [](unsigned code) { return value_of(code, 5, 2, 15); }, float_to_fp8<E5M2>);
    for (const float large : {449.0F, 1e5F, INFINITY}) {
        QCOMPARE(float_to_fp8<E4M3>(large), std::uint8_t{0x7E});
        QCOMPARE(float_to_fp8<E4M3>(-large), std::uint8_t{0xFE});
    }
    QCOMPARE(float_to_fp8<E5M2>(INFINITY), std::uint8_t{0x7B});
    QVERIFY(std::isnan(fp8_to_float<E4M3>(float_to_fp8<E4M3>(-NAN))));
    QVERIFY(std::isnan(fp8_to_float<E5M2>(float_to_fp8<E5M2>(NAN))));
}

template <class Kind>
void check_minifloat(int exponent_bits, float largest) {
    constexpr unsigned sign = 1U << (Kind::bits - 1);
    const auto value = [&](unsigned code) { return value_of(code, exponent_bits, Kind::mantissa_bits, Kind::bias); };
    for (unsigned code = 0; code < 2 * sign; ++code) {
        const float decoded = minifloat_to_float<Kind>(static_cast<std::uint8_t>(code));
        QVERIFY(decoded == value(code) && std::signbit(decoded) == ((code & sign) != 0));
    }
    QCOMPARE(static_cast<float>(value(sign - 1)), largest);
    check_rounding(sign - 1, sign, value, float_to_minifloat<Kind>);
    for (const float large : {std::nextafter(largest, INFINITY), largest * 1.5F, 1e38F, INFINITY}) {
        QCOMPARE(unsigned{float_to_minifloat<Kind>(large)}, sign - 1);
        QCOMPARE(unsigned{float_to_minifloat<Kind>(-large)}, 2 * sign - 1);
    }
    QCOMPARE(unsigned{float_to_minifloat<Kind>(NAN)}, sign - 1);
    QCOMPARE(unsigned{float_to_minifloat<Kind>(-1e-45F)}, sign);
}

void TestConversions::fp6AndFp4() {
    check_minifloat<E3M2>(3, 28);
    check_minifloat<E2M3>(2, 7.5F);
    check_minifloat<E2M1>(2, 6);
}

void TestConversions::e8m0() {
    for (int code = 0; code < 255; ++code)
        QCOMPARE(e8m0_to_float(static_cast<std::uint8_t>(code)), static_cast<float>(std::ldexp(1.0, code - 127)));
    QVERIFY(std::isnan(e8m0_to_float(255)));
}

void TestConversions::nearestEven() {
    for (float x = -300; x <= 300; x += 0.125F)
        QCOMPARE(nearest_even(x), std::nearbyint(x));
    for (const float tie : {0.5F, 1.5F, 2.5F, 126.5F, 1023.5F, 4194302.5F})
        for (const float x : {tie, std::nextafter(tie, 0.0F), std::nextafter(tie, 1e9F), -tie})
            QCOMPARE(nearest_even(x), std::nearbyint(x));
}

/// q8_0's rounding is C's round().
void TestConversions::halvesAwayFromZero() {
    const Q8_0Codec codec;
    const GgmlScale unit = ggml_scale(1.0F);
    const auto rounded = [&](float x) { return static_cast<int>(codec.encode(x, unit)) - 128; };
    for (int half = -253; half <= 253; ++half) {
        const float x = static_cast<float>(half) / 2;
        for (const float y : {x, std::nextafter(x, -1e3F), std::nextafter(x, 1e3F)})
            QCOMPARE(rounded(y), static_cast<int>(std::round(y)));
    }
}

QTEST_GUILESS_MAIN(TestConversions)
#include "test_conversions.moc"
