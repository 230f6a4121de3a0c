// Before Qt, whose macro `emit` is a name in it.
#include <tbb/parallel_for.h>

#include <QTest>

#include <hwy/targets.h>

#include <array>
#include <bit>
#include <cmath>
#include <cstring>
#include <functional>
#include <limits>
#include <map>
#include <optional>
#include <random>

#include "coding.h"
#include "core/base/error.h"
#include "core/formats/codec_dispatch.h"

using namespace qs;
using namespace qs::test;

namespace {

constexpr std::uint64_t columns = 4096;
using Row = std::array<float, columns>;

/// The scalar codec of a format, row by row.
struct Reference {
    std::uint32_t block, bytes;
    std::function<void(const float* row, const float* importance, std::uint8_t* out)> encode;
    std::function<void(const std::uint8_t* in, float* out)> decode;
    std::function<void(const std::uint8_t* in, std::uint16_t* out)> codes;

    std::size_t row_bytes() const { return columns / block * bytes; }
};

template <class Codec>
Reference packed_reference() {
    const auto each_block = [](auto work) {
        for (std::size_t i = 0; i < columns / Codec::block; ++i)
            work(i * Codec::block, i * Codec::bytes);
    };
    return {Codec::block, Codec::bytes,
            [each_block](const float* row, const float* importance, std::uint8_t* out) {
                Row clean;
                std::transform(row, row + columns, clean.begin(), finite_or_zero);
                float square = 0;
                for (const float w : clean)
                    square += w * w;
                each_block([&](std::size_t weight, std::size_t byte) {
                    BlockContext context;
                    if (importance != nullptr)
                        context = {importance + weight, square / static_cast<float>(columns)};
                    Codec::encode(clean.data() + weight, context, out + byte);
                });
            },
            [each_block](const std::uint8_t* in, float* out) {
                each_block([&](std::size_t weight, std::size_t byte) { Codec::decode(in + byte, out + weight); });
            },
            [each_block](const std::uint8_t* in, std::uint16_t* out) {
                each_block([&](std::size_t weight, std::size_t byte) { Codec::codes(in + byte, out + weight); });
            }};
}

template <class Codec>
Reference element_reference() {
    const auto words = [](const std::uint8_t* in, std::uint16_t* out) {
        std::memcpy(out, in, columns * sizeof(std::uint16_t));
    };
    return {1, sizeof(std::uint16_t),
            [](const float* row, const float*, std::uint8_t* out) {
                for (std::size_t i = 0; i < columns; ++i) {
                    const auto word = static_cast<std::uint16_t>(Codec{}.encode(row[i], {}));
                    std::memcpy(out + i * sizeof word, &word, sizeof word);
                }
            },
            [words](const std::uint8_t* in, float* out) {
                std::array<std::uint16_t, columns> codes;
                words(in, codes.data());
                std::transform(codes.begin(), codes.end(), out, [](auto code) { return Codec{}.decode(code, {}); });
            },
            words};
}

std::optional<Reference> reference_of(const FormatSpec& spec) {
    if (spec.id == "fp16")
        return element_reference<Fp16Codec>();
    if (spec.id == "bf16")
        return element_reference<Bf16Codec>();
    if (!is_packed(spec))
        return std::nullopt;
    return with_ggml_packed_codec(spec, []<class Codec>(const Codec&) { return packed_reference<Codec>(); });
}

// --- weights ---------------------------------------------------------------------------------------------------

using Random = std::mt19937_64;

float normal(Random& random) {
    return std::normal_distribution<float>()(random);
}
float uniform(Random& random, float low, float high) {
    return std::uniform_real_distribution<float>(low, high)(random);
}
float sign(Random& random) {
    return random() % 2 == 0 ? 1.0F : -1.0F;
}

/// Calls fill(part of the row) for parts of `length` weights.
template <class Fill>
void by_parts(Row& row, std::size_t length, Fill fill) {
    for (std::size_t begin = 0; begin < columns; begin += length)
        fill(std::span(row).subspan(begin, length));
}

template <class Draw>
void draw_each(std::span<float> part, Draw draw) {
    std::generate(part.begin(), part.end(), draw);
}

/// Magnitudes spread evenly over the binades of [low, high], which differ by up to a block's worth inside 256 weights.
void log_uniform(Row& row, Random& random, float low, float high) {
    by_parts(row, 256, [&](std::span<float> part) {
        const float middle = uniform(random, std::log2(low) + 4, std::log2(high) - 4);
        draw_each(part, [&] { return sign(random) * std::exp2(uniform(random, middle - 4, middle + 4)); });
    });
}

/// Small multiples of a power of two and their halves, where a quotient by a scale lies halfway between codes, and the
/// floats next to them.
void halfway(Row& row, Random& random) {
    by_parts(row, 32, [&](std::span<float> part) {
        const int exponent = static_cast<int>(random() % 24) - 16;
        const std::uint64_t most = std::uint64_t{2} << random() % 7;
        draw_each(part, [&] {
            const auto halves = static_cast<float>(random() % (most + 1));
            const float w = sign(random) * std::ldexp(halves, exponent - 1);
            const float beside = random() % 2 == 0 ? INFINITY : -INFINITY;
            return random() % 8 == 0 ? std::nextafter(w, beside) : w;
        });
    });
}

struct Kind {
    const char* name;
    void (*fill)(Row& row, Random& random);
};

const std::vector<Kind> kinds{
    {"normal", [](Row& row, Random& random) { draw_each(row, [&] { return 0.02F * normal(random); }); }},
    {"heavy tails",
     [](Row& row, Random& random) { draw_each(row, [&] { return 0.01F * std::pow(normal(random), 5.0F); }); }},
    {"sparse",
     [](Row& row, Random& random) {
         const std::uint64_t one_in = std::uint64_t{1} << random() % 12;
         draw_each(row, [&] { return random() % one_in == 0 ? normal(random) : 0.0F * sign(random); });
     }},
    {"constant blocks",
     [](Row& row, Random& random) {
         by_parts(row, std::size_t{16} << random() % 5, [&](std::span<float> part) {
             const float value = random() % 8 == 0 ? 0.0F : normal(random);
             const bool both_signs = random() % 4 == 0;
             draw_each(part, [&] { return both_signs ? value * sign(random) : value; });
         });
     }},
    {"uneven sub-blocks",
     [](Row& row, Random& random) {
         by_parts(row, 16, [&](std::span<float> part) {
             const float size = std::exp2(uniform(random, -20, 10));
             draw_each(part, [&] { return size * normal(random); });
         });
     }},
    {"powers of two and halfway", halfway},
    {"tiny", [](Row& row, Random& random) { log_uniform(row, random, 1e-40F, 1e-30F); }},
    {"huge", [](Row& row, Random& random) { log_uniform(row, random, 1e20F, 3e38F); }},
    {"NaN and Inf among them",
     [](Row& row, Random& random) {
         const std::uint64_t one_in = std::uint64_t{2} << random() % 10;
         draw_each(row, [&] {
             const auto bits = static_cast<std::uint32_t>(random()) | 0x7F800000U;
             return random() % one_in == 0 ? bits_float(bits) : 0.02F * normal(random);
         });
     }},
    {"of one sign",
     [](Row& row, Random& random) {
         by_parts(row, 64, [&](std::span<float> part) {
             const float side = sign(random), offset = uniform(random, 0, 2);
             draw_each(part, [&] { return side * (offset + std::abs(normal(random))); });
         });
     }},
    {"any bits",
     [](Row& row, Random& random) {
         draw_each(row, [&] { return bits_float(static_cast<std::uint32_t>(random())); });
     }},
};

// --- comparing -------------------------------------------------------------------------------------------------

/// Rows of 1 Mi weights; of formats whose scalar codec is slow, fewer.
constexpr std::size_t most_rows = 256, least_rows = 16;

struct Data {
    std::vector<Row> rows;
    std::vector<float> importance;   ///< or empty
    std::vector<std::uint8_t> bytes; ///< by the scalar codec

    const float* weights() const { return rows.data()->data(); }
    const float* importances() const { return importance.empty() ? nullptr : importance.data(); }
};

/// Equal bits, or both NaN, whose bits have no meaning.
bool same_bits(float a, float b) {
    return float_bits(a) == float_bits(b) || (std::isnan(a) && std::isnan(b));
}

/// The first place where two arrays differ, in words, or nothing.
template <class T, class Same>
std::string difference(const char* what, std::span<const T> made, const T* expected, Same same) {
    for (std::size_t i = 0; i < made.size(); ++i)
        if (!same(made[i], expected[i]))
            return std::string(what) + " " + std::to_string(i) + " of a row is " + std::to_string(made[i]) +
                   ", by the scalar codec " + std::to_string(expected[i]);
    return {};
}

/// One row through the fast codec in ranges of random length, against the scalar one.
std::string compare_row(const TensorCodec& codec, const Reference& reference, const Data& data, std::size_t index) {
    const float* row = data.weights() + index * columns;
    const std::uint64_t first = index * columns;
    const std::uint8_t* expected = data.bytes.data() + index * reference.row_bytes();
    Random random(index);
    std::vector<std::uint8_t> bytes(reference.row_bytes());
    std::vector<float> values(columns), decoded(columns);
    std::vector<std::uint16_t> codes(columns);
    for (std::uint64_t at = 0; at < columns;) {
        const std::uint64_t longest = std::min(columns - at, std::uint64_t{1} << (5 + random() % 8));
        const std::uint64_t next = codec.next_cut(first + at + 1 + random() % longest) - first;
        const auto count = static_cast<std::size_t>(next - at);
        const std::size_t offset = at / reference.block * reference.bytes;
        auto* out = reinterpret_cast<std::byte*>(bytes.data() + offset);
        codec.encode(row + at, first + at, count, out);
        codec.decode(reinterpret_cast<const std::byte*>(expected + offset), first + at, count, values.data() + at);
        codec.quantize(row + at, first + at, count, codes.data() + at, decoded.data() + at);
        at = next;
    }
    Row expected_values;
    std::array<std::uint16_t, columns> expected_codes;
    reference.decode(expected, expected_values.data());
    reference.codes(expected, expected_codes.data());
    const auto equal = [](auto a, auto b) { return a == b; };
    for (const std::string& found : {difference<std::uint8_t>("byte", bytes, expected, equal),
                                     difference<float>("value", values, expected_values.data(), same_bits),
                                     difference<std::uint16_t>("code", codes, expected_codes.data(), equal),
                                     difference<float>("quantized value", decoded, expected_values.data(), same_bits)})
        if (!found.empty())
            return "row " + std::to_string(index) + ": " + found;
    return {};
}

} // namespace

/// The fast forms of packed codecs against the scalar ones, on every instruction set that this CPU has: the same bytes,
/// codes and values to the last bit.
class SimdBlocksTest : public QObject {
    Q_OBJECT

private slots:
    void initTestCase() { targets_ = hwy::SupportedAndGeneratedTargets(); }

    void equals_the_scalar_codec_data();
    void equals_the_scalar_codec();
    void decodes_any_bytes_data();
    void decodes_any_bytes();

    void cleanup() { hwy::SetSupportedTargetsForTest(0); }

private:
    static std::size_t fitting_rows(const Reference& reference, const float* importance);
    static Data make(const Reference& reference, const Kind& kind, bool weighted);
    /// Calls compare(codec, row) for all rows on every target, and fails with what the first one to differ says.
    template <class Compare>
    void compare_on_all_targets(const FormatSpec& spec, std::size_t rows, const float* importance, Compare compare);

    std::vector<std::int64_t> targets_;
};

/// The codebook formats are encoded by their scalar codecs only.
bool has_no_fast_form(const std::string& id) {
    return id.starts_with("iq1") || id.starts_with("iq2") || id.starts_with("iq3");
}

void SimdBlocksTest::equals_the_scalar_codec_data() {
    QTest::addColumn<QString>("id");
    QTest::addColumn<int>("kind");
    QTest::addColumn<bool>("weighted");
    for (const Format& format : formats()) {
        if (!reference_of(parse_spec(format.id)) || has_no_fast_form(format.id))
            continue;
        const QString id = QString::fromStdString(format.id);
        const bool required = format.importance == Importance::required;
        for (std::size_t kind = 0; kind < kinds.size(); ++kind)
            QTest::addRow("%s, %s", qPrintable(id), kinds[kind].name) << id << static_cast<int>(kind) << required;
        if (format.importance == Importance::optional)
            QTest::addRow("%s, normal, weighted", qPrintable(id)) << id << 0 << true;
    }
}

/// As many rows as the scalar codec encodes in a fraction of a second.
std::size_t SimdBlocksTest::fitting_rows(const Reference& reference, const float* importance) {
    Row row;
    Random random(1);
    kinds[0].fill(row, random);
    std::vector<std::uint8_t> bytes(reference.row_bytes());
    QElapsedTimer timer;
    timer.start();
    reference.encode(row.data(), importance, bytes.data());
    const auto nanoseconds = static_cast<double>(timer.nsecsElapsed());
    return std::clamp(static_cast<std::size_t>(2e8 / nanoseconds), least_rows, most_rows);
}

Data SimdBlocksTest::make(const Reference& reference, const Kind& kind, bool weighted) {
    Data data;
    Random random(7);
    if (weighted)
        for (std::size_t i = 0; i < columns; ++i)
            data.importance.push_back(std::exp(normal(random)));
    data.rows.resize(fitting_rows(reference, data.importances()));
    data.bytes.resize(data.rows.size() * reference.row_bytes());
    tbb::parallel_for(std::size_t{0}, data.rows.size(), [&](std::size_t i) {
        Random of_row(1000 * (static_cast<std::size_t>(&kind - kinds.data()) + 1) + i);
        kind.fill(data.rows[i], of_row);
        reference.encode(data.rows[i].data(), data.importances(), data.bytes.data() + i * reference.row_bytes());
    });
    return data;
}

template <class Compare>
void SimdBlocksTest::compare_on_all_targets(const FormatSpec& spec, std::size_t rows, const float* importance,
                                            Compare compare) {
    for (const std::int64_t target : targets_) {
        hwy::SetSupportedTargetsForTest(target);
        const auto codec = bind_codec(spec, {rows, columns}, importance);
        std::vector<std::string> differences(rows);
        tbb::parallel_for(std::size_t{0}, rows, [&](std::size_t i) { differences[i] = compare(*codec, i); });
        for (const std::string& found : differences)
            QVERIFY2(found.empty(), (std::string(hwy::TargetName(target)) + ": " + found).c_str());
    }
}

void SimdBlocksTest::equals_the_scalar_codec() {
    QFETCH(QString, id);
    QFETCH(int, kind);
    QFETCH(bool, weighted);
    const FormatSpec spec = parse_spec(id.toStdString());
    const Reference reference = reference_of(spec).value();
    const Data data = make(reference, kinds[static_cast<std::size_t>(kind)], weighted);
    compare_on_all_targets(spec, data.rows.size(), data.importances(), [&](const TensorCodec& codec, std::size_t row) {
        return compare_row(codec, reference, data, row);
    });
}

void SimdBlocksTest::decodes_any_bytes_data() {
    QTest::addColumn<QString>("id");
    for (const Format& format : formats())
        if (reference_of(parse_spec(format.id)))
            QTest::newRow(format.id.c_str()) << QString::fromStdString(format.id);
}

/// Files may hold blocks that no encoder makes.
void SimdBlocksTest::decodes_any_bytes() {
    QFETCH(QString, id);
    const FormatSpec spec = parse_spec(id.toStdString());
    const Reference reference = reference_of(spec).value();
    compare_on_all_targets(spec, most_rows, nullptr, [&](const TensorCodec& codec, std::size_t row) {
        Random random(row);
        std::vector<std::uint8_t> bytes(reference.row_bytes());
        std::generate(bytes.begin(), bytes.end(), [&] { return static_cast<std::uint8_t>(random()); });
        Row expected;
        std::vector<float> made(columns);
        reference.decode(bytes.data(), expected.data());
        codec.decode(reinterpret_cast<const std::byte*>(bytes.data()), row * columns, columns, made.data());
        return difference<float>("value", made, expected.data(), same_bits);
    });
}

QTEST_GUILESS_MAIN(SimdBlocksTest)
#include "test_simd_blocks.moc"
