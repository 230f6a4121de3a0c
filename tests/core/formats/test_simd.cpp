#include <QTest>

#include <bit>
#include <cmath>
#include <hwy/targets.h>
#include <random>

#include "core/base/half.h"
#include "core/formats/load.h"
#include "core/formats/registry.h"
#include "core/formats/simd/blocks.h"

using namespace qs;

namespace {

using Words = std::vector<std::uint16_t>;

constexpr std::uint64_t columns = 4096;

enum class Kind { normal, heavy_tails, any_bits, tiny, few_values };

std::uint16_t word(Kind kind, std::mt19937_64& engine) {
    std::normal_distribution<float> normal(0, 1);
    switch (kind) {
    case Kind::normal:
        return float_to_bf16(0.02F * normal(engine));
    case Kind::heavy_tails:
        return float_to_bf16(std::pow(normal(engine), 5.0F));
    case Kind::any_bits: // NaN and Inf among them: one of 256 exponents
        return static_cast<std::uint16_t>(engine());
    case Kind::tiny: // subnormal scales and zeros
        return static_cast<std::uint16_t>(engine() & 0x81FF);
    case Kind::few_values: // blocks of zeros, of one value, and the largest float
        return std::array<std::uint16_t, 4>{0, 0x8000, 0x3F80, 0xFF7F}[(engine() >> 9) % 64 == 0 ? engine() % 4 : 0];
    }
    return 0;
}

Words make(Kind kind, std::size_t count) {
    std::mt19937_64 engine(static_cast<std::uint64_t>(kind) + 1);
    Words words(count);
    for (auto& w : words)
        w = word(kind, engine);
    return words;
}

struct Result {
    ErrorSums sums;
    std::vector<std::uint64_t> usage;
};

/// As the CPU device does it: what the fast form leaves goes through evaluate(), and all of it where the sums cannot be
/// completed.
Result measure(const TensorCodec& codec, const Words& words, bool fast) {
    Result result{{}, std::vector<std::uint64_t>(codec.code_count())};
    std::vector<float> buffer;
    for (std::uint64_t at = 0; at < words.size();) {
        if (fast)
            at += codec.evaluate_bf16(words.data() + at, at, words.size() - at, result.sums, result.usage.data());
        if (at >= words.size())
            break;
        const std::uint64_t next = fast ? codec.next_cut(at + 1) : words.size();
        buffer.resize(next - at);
        load_weights(DType::bf16, false, reinterpret_cast<const std::byte*>(words.data()), at, buffer.size(),
                     buffer.data());
        codec.evaluate(buffer.data(), at, buffer.size(), result.sums, result.usage.data());
        at = next;
    }
    double w2 = 0;
    std::uint64_t nonfinite = 0;
    for (const std::uint16_t w : words)
        if (const double value = bf16_to_float(w); std::isfinite(value))
            w2 += value * value;
        else
            ++nonfinite;
    if (fast && codec.leaves_w2() && !result.sums.complete(w2, nonfinite))
        return measure(codec, words, false);
    return result;
}

/// Limits the instruction sets, or lifts the limit.
void limit(bool without_avx512) {
    // Better targets have lower bits; 0 lifts the limit.
    hwy::SetSupportedTargetsForTest(0);
    if (without_avx512)
        hwy::SetSupportedTargetsForTest(hwy::SupportedTargets() & ~(HWY_AVX2 - 1));
    hwy::GetChosenTarget().DeInit();
}

bool close(double a, double b, double scale, double tolerance) {
    return a == b || std::abs(a - b) <= tolerance * scale;
}

} // namespace

/// The SIMD forms against the scalar codecs, on every instruction set that this CPU has: the same codes and the same
/// largest error, the same sums but for their rounding.
class SimdTest : public QObject {
    Q_OBJECT

private slots:
    void equals_the_scalar_codec_data() {
        QTest::addColumn<QString>("spec");
        QTest::addColumn<int>("kind");
        QTest::addColumn<bool>("without_avx512");
        const char* kinds[] = {"normal", "heavy tails", "any bits", "tiny", "few values"};
        for (const char* spec : {"nf4", "fp4", "nf4:dq", "nf4:block=32", "fp4:block=4096,dq", "q4_0", "q5_0", "q8_0",
                                 "int8", "int4", "int8:group=64,scales=fp32"})
            for (int kind = 0; kind < 5; ++kind)
                for (const bool narrow : {false, true})
                    QTest::addRow("%s %s%s", spec, kinds[kind], narrow ? " avx2" : "")
                        << QString(spec) << kind << narrow;
    }

    void equals_the_scalar_codec() {
        QFETCH(QString, spec);
        QFETCH(int, kind);
        QFETCH(bool, without_avx512);
        limit(without_avx512);
        // Ten million weights a format and instruction set in all; of flattened blocks the last is a short one.
        const FormatSpec parsed = parse_spec(spec.toStdString());
        const bool flat = format(parsed.id).family == "bitsandbytes";
        const Words words = make(static_cast<Kind>(kind), (std::size_t{1} << 21) + (flat ? 17 : 0));
        const TensorShape shape = flat ? TensorShape{1, words.size()} : TensorShape{words.size() / columns, columns};
        const auto codec = bind_codec(parsed, shape);
        if (codec->needs_scan()) {
            std::vector<float> weights(words.size());
            load_weights(DType::bf16, false, reinterpret_cast<const std::byte*>(words.data()), 0, weights.size(),
                         weights.data());
            codec->scan(weights.data(), 0, weights.size());
            codec->finish_scan();
        }
        const Result fast = measure(*codec, words, true), exact = measure(*codec, words, false);
        QCOMPARE(fast.usage, exact.usage);
        QCOMPARE(fast.sums.count, exact.sums.count);
        QCOMPARE(fast.sums.nonfinite, exact.sums.nonfinite);
        QCOMPARE(fast.sums.max_abs, exact.sums.max_abs);
        QCOMPARE(fast.sums.max_index, exact.sums.max_index);
        // Where values span many binades a few of them are the whole sum, with the rounding of a single float.
        const double tolerance = kind == 0 ? 2e-9 : 2e-7;
        QVERIFY2(close(fast.sums.sum_d2, exact.sums.sum_d2, exact.sums.sum_d2, tolerance),
                 qPrintable(QString::number(fast.sums.sum_d2 / exact.sums.sum_d2 - 1)));
        QVERIFY2(close(fast.sums.sum_v2, exact.sums.sum_v2, exact.sums.sum_v2, tolerance),
                 qPrintable(QString::number(fast.sums.sum_v2 / exact.sums.sum_v2 - 1)));
        QVERIFY(close(fast.sums.sum_w2, exact.sums.sum_w2, exact.sums.sum_w2, tolerance));
        const double n = static_cast<double>(exact.sums.count);
        QVERIFY(close(fast.sums.sum_d, exact.sums.sum_d, std::sqrt(n * exact.sums.sum_d2), tolerance));
    }

    void floats_equal_the_scalar_codec_data() {
        QTest::addColumn<bool>("without_avx512");
        QTest::newRow("best") << false;
        QTest::newRow("avx2") << true;
    }

    /// Any bits, NaN and Inf among them, at any alignment.
    void floats_equal_the_scalar_codec() {
        QFETCH(bool, without_avx512);
        limit(without_avx512);
        std::mt19937_64 engine(7);
        constexpr std::size_t run = 100'003;
        std::vector<float> weights(run);
        std::vector<std::uint16_t> halves(run + 64), brains(run + 64);
        for (std::size_t round = 0; round < 100; ++round) {
            for (float& w : weights)
                w = std::bit_cast<float>(static_cast<std::uint32_t>(engine()));
            const std::size_t offset = round % 64;
            simd::to_fp16(weights.data(), run, halves.data() + offset);
            simd::to_bf16(weights.data(), run, brains.data() + offset);
            std::size_t wrong = 0;
            for (std::size_t i = 0; i < run; ++i)
                wrong +=
                    halves[offset + i] != float_to_fp16(weights[i]) || brains[offset + i] != float_to_bf16(weights[i]);
            QCOMPARE(wrong, std::size_t{0});
        }
    }

    void cleanupTestCase() { limit(false); }
};

QTEST_GUILESS_MAIN(SimdTest)
#include "test_simd.moc"
