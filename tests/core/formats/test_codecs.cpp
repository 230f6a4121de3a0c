#include <QtTest>

#include <algorithm>
#include <map>
#include <numeric>
#include <set>

#include "coding.h"
#include "core/formats/dynamic_map.h"
#include "core/formats/scoped_codec.h"

using namespace qs;
using namespace qs::test;

/// What holds for every format bound to a tensor, and the formats of our own definition against an independent
/// computation in double precision. The rows of a data-driven test are named by their specs.
class TestCodecs : public QObject {
    Q_OBJECT

private slots:
    void partitions_data() { all_specs(); }
    void partitions();
    void shapes_data() { all_specs(); }
    void shapes();
    void errorSums_data() { all_specs(); }
    void errorSums();
    void nonfinite_data() { all_specs(); }
    void nonfinite();
    void extremes_data() { all_specs(); }
    void extremes();
    void storedBits_data() { all_specs(); }
    void storedBits();
    void codebook_data() { all_specs(); }
    void codebook();
    void longRows_data();
    void longRows();
    void symmetric_data();
    void symmetric();
    void affine_data();
    void affine();
    void fp8_data();
    void fp8();
    void halfOverflow();
    void outlierColumns();
    void doubleQuantization();
    void dynamicNearest();
    void dynamicZeros();

private:
    static void spec_rows(const std::vector<const char*>& texts) {
        QTest::addColumn<int>("unused");
        for (const char* text : texts)
            QTest::newRow(text) << 0;
    }
    /// Every format as it is, and with its parameters changed.
    static void all_specs() {
        spec_rows({"int8:scope=tensor", "int8:group=64", "int8:affine", "int8:affine,scope=tensor,scales=fp32",
                   "int4:group=32,affine", "int4:scope=channel,scales=fp32", "int4:scope=tensor,affine",
                   "fp8_e4m3:scale=channel", "fp8_e5m2:scale=channel", "llm_int8:threshold=0.3", "nf4:block=32",
                   "nf4:block=4096", "nf4:dq", "fp4:dq", "fp4:block=128,dq", "int3:group=32,affine",
                   "int2:scope=channel,scales=fp32", "dynamic8:block=64", "mxfp4:scale=rceil"});
        for (const Format& format : formats())
            QTest::newRow(format.id.c_str()) << 0;
    }
    /// The spec that the row is named by.
    static FormatSpec spec() { return parse_spec(QTest::currentDataTag()); }
    static bool is_float() { return format(spec().id).family == "float"; }
    /// Whether levels are chosen together, as points of a grid: the nearest of one weight may not be among them.
    static bool chooses_points() {
        const std::string id = spec().id;
        return id.starts_with("iq1") || id.starts_with("iq2") || id.starts_with("iq3");
    }
    /// The shape with rows of whole blocks, where the format needs that.
    static TensorShape fitted(TensorShape shape) {
        while (effective_spec(spec(), shape) != spec())
            ++shape.columns;
        return shape;
    }
};

void TestCodecs::partitions() {
    std::mt19937 random(2);
    for (const TensorShape& any : {TensorShape{37, 96}, TensorShape{5, 4128}, TensorShape{1, 8192}}) {
        const TensorShape shape = fitted(any);
        const std::vector<float> weights = random_weights(shape, random);
        const Coded whole = code_matrix(spec(), weights, shape);
        for (int turn = 0; turn < 8; ++turn) {
            const Coded parts = code_matrix(spec(), weights, shape, &random);
            QCOMPARE(parts.codes, whole.codes);
            QCOMPARE(parts.decoded, whole.decoded);
            QCOMPARE(parts.usage, whole.usage);
            QCOMPARE(parts.stored_bits, whole.stored_bits);
            QCOMPARE(parts.arrays.size(), whole.arrays.size());
            for (std::size_t i = 0; i < parts.arrays.size(); ++i)
                QVERIFY(parts.arrays[i].bytes == whole.arrays[i].bytes);
            QCOMPARE(parts.sums.count, whole.sums.count);
            QCOMPARE(parts.sums.max_abs, whole.sums.max_abs);
            QCOMPARE(parts.sums.max_index, whole.sums.max_index);
            QVERIFY(std::abs(parts.sums.sum_d2 - whole.sums.sum_d2) <= 1e-13 * whole.sums.sum_d2);
            QVERIFY(std::abs(parts.sums.sum_w2 - whole.sums.sum_w2) <= 1e-13 * whole.sums.sum_w2);
        }
    }
}

/// Thin, short and odd matrices; ggml's types fall back where their block does not divide the row.
void TestCodecs::shapes() {
    std::mt19937 random(3);
    for (const TensorShape& shape :
         {TensorShape{1, 1}, TensorShape{1, 1000}, TensorShape{1000, 1}, TensorShape{3, 37}, TensorShape{7, 130},
          TensorShape{4, 32}, TensorShape{3, 512}, TensorShape{0, 64}, TensorShape{0, 0}}) {
        const std::vector<float> weights = random_weights(shape, random);
        const FormatSpec effective = effective_spec(spec(), shape);
        QVERIFY(effective == spec() || shape.columns % format(spec().id).block(spec()) != 0);
        const Coded whole = code_matrix(effective, weights, shape),
                    parts = code_matrix(effective, weights, shape, &random);
        QCOMPARE(parts.codes, whole.codes);
        QCOMPARE(parts.decoded, whole.decoded);
        QCOMPARE(whole.sums.count, shape.count());
        QVERIFY(std::isfinite(whole.stored_bits));
        QVERIFY(whole.sums.sum_d2 <= whole.sums.sum_w2);
    }
}

void TestCodecs::errorSums() {
    std::mt19937 random(4);
    const TensorShape shape = fitted({33, 160});
    const std::vector<float> weights = random_weights(shape, random);
    const Coded coded = code_matrix(spec(), weights, shape);
    long double w2 = 0, v2 = 0, d2 = 0, d = 0, largest = 0;
    std::size_t at = 0;
    for (std::size_t i = 0; i < weights.size(); ++i) {
        const long double w = weights[i], v = coded.decoded[i];
        w2 += w * w;
        v2 += v * v;
        d2 += (w - v) * (w - v);
        d += v - w;
        if (std::abs(w - v) > largest) {
            largest = std::abs(w - v);
            at = i;
        }
    }
    const auto close = [](double a, long double b, long double scale) { return std::abs(a - b) <= 1e-12L * scale; };
    QVERIFY(close(coded.sums.sum_w2, w2, w2));
    QVERIFY(close(coded.sums.sum_v2, v2, v2));
    QVERIFY(close(coded.sums.sum_d2, d2, d2));
    QVERIFY(close(coded.sums.sum_d, d, std::sqrt(d2 * static_cast<long double>(weights.size()))));
    QCOMPARE(coded.sums.max_abs, static_cast<double>(largest));
    QCOMPARE(coded.sums.max_index, static_cast<std::uint64_t>(at));
    QCOMPARE(coded.sums.count, static_cast<std::uint64_t>(weights.size()));

    std::vector<std::uint64_t> usage(coded.usage.size());
    for (std::size_t i = 0; !usage.empty() && i < weights.size(); ++i)
        ++usage[coded.codes[i]];
    QCOMPARE(coded.usage, usage);
}

/// NaN and Inf are counted, left out of scales and sums, and coded as 0 (which the floats need not).
void TestCodecs::nonfinite() {
    std::mt19937 random(5);
    const TensorShape shape{8, 256};
    std::vector<float> clean = random_weights(shape, random), dirty = clean;
    const std::set<std::size_t> places{0, 31, 32, 100, 1000, 2047};
    const std::vector<float> bad{NAN, INFINITY, -INFINITY, bits_float(0x7F800001)};
    for (std::size_t turn = 0; const std::size_t place : places) {
        // A neighbour's value fits every scale that the neighbour fits.
        clean[place] = clean[place % 32 == 31 ? place - 1 : place + 1];
        dirty[place] = bad[turn++ % bad.size()];
    }
    const Coded with = code_matrix(spec(), dirty, shape), without = code_matrix(spec(), clean, shape);
    QCOMPARE(with.sums.nonfinite, static_cast<std::uint64_t>(places.size()));
    QCOMPARE(with.sums.count, shape.count() - places.size());
    QVERIFY(std::isfinite(with.sums.sum_d2) && std::isfinite(with.sums.sum_v2));
    for (std::size_t i = 0; i < dirty.size(); ++i) {
        if (!places.contains(i) && is_packed(spec())) {
            QVERIFY(std::isfinite(with.decoded[i]));
        } else if (!places.contains(i)) {
            QCOMPARE(with.codes[i], without.codes[i]);
            QVERIFY(with.decoded[i] == without.decoded[i]);
        } else if (!is_float()) {
            QVERIFY(std::isfinite(with.decoded[i]));
        } else if (std::isnan(dirty[i])) {
            QVERIFY(std::isnan(with.decoded[i]));
        }
    }
    std::vector<float> zeroed = dirty;
    for (const std::size_t place : places)
        zeroed[place] = 0;
    const bool range_needs_no_zero = spec().id != "q4_1" && spec().id != "q5_1";
    if (!is_float() && range_needs_no_zero)
        QCOMPARE(with.codes, code_matrix(spec(), zeroed, shape).codes);
}

/// Blocks of zeros stay zeros; subnormal and enormous weights give no wild reconstruction.
void TestCodecs::extremes() {
    std::mt19937 random(6);
    const TensorShape shape = fitted({6, 128});
    const std::vector<float> unit = random_weights(shape, random);
    const double largest = std::abs(
        *std::max_element(unit.begin(), unit.end(), [](float a, float b) { return std::abs(a) < std::abs(b); }));

    const Coded zero = code_matrix(spec(), std::vector<float>(unit.size()), shape);
    QVERIFY(std::all_of(zero.decoded.begin(), zero.decoded.end(), [](float v) { return v == 0; }));
    QCOMPARE(zero.sums.sum_d2, 0.0);

    for (const double scale : {1e-44, 1e-41, 5e-39, 1e-38, 1e-30, 1e-8, 1e4, 1e30, 3e38 / largest}) {
        std::vector<float> weights;
        for (const float w : unit)
            weights.push_back(static_cast<float>(w * scale));
        const Coded coded = code_matrix(spec(), weights, shape);
        QVERIFY(coded.sums.max_abs <= largest * scale * 1.001 + 1e-44);
        QCOMPARE(coded.sums.count + coded.sums.nonfinite, shape.count());
        // Only what stores its scale, or each weight, in float16 may overflow, and bfloat16 by rounding up.
        if (coded.sums.nonfinite > 0)
            QVERIFY(scale > 1e4);
    }
}

/// The bits of an integer format's codes.
int int_bits(const FormatSpec& spec) {
    return spec.id.back() - '0';
}

void TestCodecs::storedBits() {
    std::mt19937 random(7);
    const TensorShape shape = fitted({9, 160});
    const Coded coded = code_matrix(spec(), random_weights(shape, random), shape);
    const FormatSpec made = spec();
    const bool integer = format(made.id).family == "integer";
    double bits = 0;
    for (const StoredArray& array : coded.arrays) {
        const auto bytes = static_cast<double>(array.bytes.size());
        if (!integer)
            bits += array.name == "outlier_columns.i64" ? 0 : 8 * bytes;
        else if (array.name == "scales.f32")
            bits += bytes / 4 * (made.choice("scales") == "fp16" ? 16 : 32);
        else
            bits += (array.name == "zeros.f32" ? bytes / 4 : bytes) * int_bits(made);
    }
    QCOMPARE(coded.stored_bits, bits);
}

/// Whether all codes stand for the same value, because the weight's part of a block has the scale 0.
bool has_one_level(const TensorCodec& codec, const std::vector<float>& weights, std::size_t element) {
    const auto levels = codec.levels_at(weights.data(), 0, weights.size(), element);
    return std::ranges::all_of(levels, [&](const Level& level) { return level.value == levels[0].value; });
}

/// How far from 0 the position of a weight can be.
float reach_of(const FormatSpec& spec) {
    const std::string& family = format(spec.id).family;
    if (family == "integer") // a rounded zero point shifts the range by up to half a step
        return 1.005F + 1.0F / static_cast<float>((1 << int_bits(spec)) - 1);
    if (family == "microscaling") // E2M1 blocks reach up to 8, their levels to 6
        return 1.34F;
    return spec.id == "llm_int8" ? INFINITY : 1.005F;
}

/// A weight's code is that of the level which the boundaries give its position; on a boundary, either neighbour's.
void TestCodecs::codebook() {
    std::mt19937 random(8);
    const TensorShape shape{16, 512};
    const std::vector<float> weights = random_weights(shape, random);
    const auto codec = scanned_codec(spec(), weights, shape);
    const std::optional<Codebook> book = codec->codebook();
    QCOMPARE(book.has_value(), codec->code_count() > 0 && codec->code_count() <= 256);
    if (!book)
        return;
    const auto& levels = book->levels;
    const auto& boundaries = book->boundaries;
    QCOMPARE(boundaries.size() + 1, levels.size());
    QVERIFY(std::is_sorted(levels.begin(), levels.end(), [](auto& a, auto& b) { return a.value < b.value; }));
    QVERIFY(std::is_sorted(boundaries.begin(), boundaries.end()));
    std::map<std::uint32_t, double> value_of_code;
    for (std::size_t i = 0; i < levels.size(); ++i) {
        QVERIFY(value_of_code.emplace(levels[i].code, levels[i].value).second);
        QVERIFY(levels[i].code < codec->code_count());
        if (i > 0)
            QVERIFY(levels[i - 1].value <= boundaries[i - 1] && boundaries[i - 1] <= levels[i].value);
    }

    std::vector<float> position(weights.size());
    codec->normalise(weights.data(), 0, weights.size(), position.data());
    std::vector<std::uint16_t> coded(weights.size());
    codec->quantize(weights.data(), 0, weights.size(), coded.data(), nullptr);
    // These choose codes with their scale before it is rounded.
    const std::set<std::string> unrounded{"q4_0", "q4_1", "q5_0", "q5_1", "q8_0", "iq4_xs"};
    const double tolerance = unrounded.contains(spec().id) ? 2e-3 : 2e-6;
    std::size_t ties = 0;
    for (std::size_t i = 0; i < weights.size(); ++i) {
        // A searched scale may cut the ends off.
        QVERIFY(std::abs(position[i]) <= reach_of(spec()) || is_packed(spec()));
        const auto above = std::lower_bound(boundaries.begin(), boundaries.end(), static_cast<double>(position[i]));
        const auto level = static_cast<std::size_t>(above - boundaries.begin());
        // ggml codes what it rounds to −0 as +0.
        const bool same = levels[level].code == coded[i] ||
                          (is_packed(spec()) && levels[level].value == 0 && value_of_code.at(coded[i]) == 0);
        if (same || (spec().id == "llm_int8" && coded[i] == 128))
            continue;
        const auto is_near = [&](std::size_t boundary) {
            return boundary < boundaries.size() && std::abs(boundaries[boundary] - position[i]) < tolerance;
        };
        if (position[i] == 0 && has_one_level(*codec, weights, i))
            continue;
        if (chooses_points())
            continue;
        QVERIFY((is_near(level) && levels[level + 1].code == coded[i]) ||
                (level > 0 && is_near(level - 1) && levels[level - 1].code == coded[i]));
        ++ties;
    }
    QVERIFY(ties < weights.size() / 100);
}

void TestCodecs::longRows_data() {
    spec_rows({"int8", "int4:affine,scope=channel", "fp8_e4m3:scale=channel", "llm_int8", "llm_int8:threshold=0.5"});
}

/// A row longer than what one range should hold gets its scale in the scan: the same codes as if it were shorter.
void TestCodecs::longRows() {
    std::mt19937 random(9);
    const TensorShape shape{2, longest_row_at_once + 40};
    std::vector<float> weights = random_weights({2, 4096}, random);
    weights.resize(static_cast<std::size_t>(shape.count()), 0.0125F);
    const auto codec = bind_codec(spec(), shape);
    QVERIFY(codec->needs_scan());
    QCOMPARE(codec->next_cut(17), std::uint64_t{17});
    const Coded parts = code_matrix(spec(), weights, shape, &random);
    // The first row, cut to where it differs from the rest, has the same absmax and range.
    const TensorShape head{1, 8200};
    const Coded short_row = code_matrix(spec(), std::vector<float>(weights.begin(), weights.begin() + 8200), head);
    QVERIFY(std::equal(short_row.codes.begin(), short_row.codes.end(), parts.codes.begin()));
    QVERIFY(std::equal(short_row.decoded.begin(), short_row.decoded.end(), parts.decoded.begin()));
}

/// A scale stored in half precision, by the definition of binary16.
double as_half(double scale) {
    int exponent = 0;
    std::frexp(scale, &exponent);
    const double step = std::ldexp(1.0, std::max(exponent - 11, -24));
    return std::min(std::nearbyint(scale / step) * step, 65504.0);
}

/// Groups of a matrix: `width` weights along a row, the last may be short; 0 for the whole matrix.
template <class Visit>
void for_each_group(const TensorShape& shape, std::size_t width, Visit visit) {
    const std::size_t rows = width == 0 ? 1 : shape.rows, columns = width == 0 ? shape.count() : shape.columns;
    const std::size_t step = width == 0 ? columns : width;
    for (std::size_t row = 0; row < rows; ++row)
        for (std::size_t column = 0; column < columns; column += step)
            visit(row * columns + column, row * columns + std::min(column + step, columns));
}

std::size_t group_width(const FormatSpec& spec, const TensorShape& shape) {
    const std::string& scope = spec.choice("scope");
    return scope == "tensor" ? 0 : scope == "channel" ? shape.columns : static_cast<std::size_t>(spec.integer("group"));
}

/// Whether a quotient is so near to a tie that float32 may round it the other way.
bool near_tie(double quotient) {
    return std::abs(quotient - std::floor(quotient) - 0.5) < 1e-4;
}

void TestCodecs::symmetric_data() {
    spec_rows({"int8", "int8:scope=tensor", "int8:group=50", "int8:scales=fp32", "int4", "int4:group=32",
               "int4:scope=channel,scales=fp32", "int4:scope=tensor", "int3", "int3:scope=channel", "int2",
               "int2:group=50,scales=fp32"});
}

void TestCodecs::symmetric() {
    std::mt19937 random(10);
    const TensorShape shape{21, 200};
    const std::vector<float> weights = random_weights(shape, random);
    const Coded coded = code_matrix(spec(), weights, shape);
    const auto codes = values_of<std::int8_t>(coded.array("codes.i8")->bytes);
    const auto scales = values_of<float>(coded.array("scales.f32")->bytes);
    const double top = (1 << (int_bits(spec()) - 1)) - 1;
    std::size_t group = 0;
    for_each_group(shape, group_width(spec(), shape), [&](std::size_t begin, std::size_t end) {
        double absmax = 0;
        for (std::size_t i = begin; i < end; ++i)
            absmax = std::max(absmax, std::abs(static_cast<double>(weights[i])));
        double scale = static_cast<float>(absmax) / static_cast<float>(top);
        scale = spec().choice("scales") == "fp16" ? as_half(scale) : scale;
        QCOMPARE(static_cast<double>(scales[group++]), scale);
        for (std::size_t i = begin; i < end; ++i) {
            const double quotient = weights[i] / scale;
            const double code = std::clamp(std::nearbyint(quotient), -top - 1, top);
            QVERIFY(codes[i] == code || (near_tie(quotient) && std::abs(codes[i] - quotient) < 0.51));
            QCOMPARE(coded.decoded[i], static_cast<float>(codes[i] * scale));
        }
    });
    QCOMPARE(group, scales.size());
}

void TestCodecs::affine_data() {
    spec_rows({"int8:affine", "int8:affine,scope=tensor", "int8:affine,group=50", "int4:affine", "int4:affine,group=32",
               "int4:affine,scope=channel,scales=fp32", "int3:affine", "int2:affine", "int2:affine,group=50"});
}

void TestCodecs::affine() {
    std::mt19937 random(11);
    const TensorShape shape{21, 200};
    std::vector<float> weights = random_weights(shape, random);
    // Rows of one sign, where the range is stretched to hold 0.
    for (std::size_t i = 0; i < 400; ++i)
        weights[i] = (i < 200 ? 1.0F : -1.0F) * (std::abs(weights[i]) + 0.01F);
    const Coded coded = code_matrix(spec(), weights, shape);
    const auto codes = values_of<std::uint8_t>(coded.array("codes.i8")->bytes);
    const auto scales = values_of<float>(coded.array("scales.f32")->bytes);
    const auto zeros = values_of<float>(coded.array("zeros.f32")->bytes);
    const double last = (1 << int_bits(spec())) - 1;
    std::size_t group = 0;
    for_each_group(shape, group_width(spec(), shape), [&](std::size_t begin, std::size_t end) {
        float low = 0, high = 0;
        for (std::size_t i = begin; i < end; ++i) {
            low = std::min(low, weights[i]);
            high = std::max(high, weights[i]);
        }
        double scale = (high - low) / static_cast<float>(last);
        scale = spec().choice("scales") == "fp16" ? as_half(scale) : scale;
        const double zero = std::clamp(std::nearbyint(-low / scale), 0.0, last);
        QCOMPARE(static_cast<double>(scales[group]), scale);
        QVERIFY(zeros[group] == zero || near_tie(-low / scale));
        for (std::size_t i = begin; i < end; ++i) {
            const double quotient = weights[i] / scale;
            const double code = std::clamp(std::nearbyint(quotient) + zeros[group], 0.0, last);
            QVERIFY(codes[i] == code || near_tie(quotient));
            QCOMPARE(coded.decoded[i], static_cast<float>((codes[i] - zeros[group]) * scale));
        }
        ++group;
    });
    QCOMPARE(group, scales.size());
}

void TestCodecs::fp8_data() {
    spec_rows({"fp8_e4m3", "fp8_e5m2", "fp8_e4m3:scale=channel", "fp8_e5m2:scale=channel"});
}

void TestCodecs::fp8() {
    std::mt19937 random(12);
    const TensorShape shape{21, 200};
    const std::vector<float> weights = random_weights(shape, random);
    const Coded coded = code_matrix(spec(), weights, shape);
    const auto scales = values_of<float>(coded.array("scales.f32")->bytes);
    const bool e4m3 = spec().id == "fp8_e4m3";
    const float largest = e4m3 ? 448 : 57344;
    const int mantissa = e4m3 ? 3 : 2, smallest = e4m3 ? -6 : -14;
    std::size_t group = 0;
    for_each_group(shape, spec().choice("scale") == "tensor" ? 0 : shape.columns,
                   [&](std::size_t begin, std::size_t end) {
                       float absmax = 0;
                       for (std::size_t i = begin; i < end; ++i)
                           absmax = std::max(absmax, std::abs(weights[i]));
                       const float scale = absmax / largest;
                       QCOMPARE(scales[group++], scale);
                       for (std::size_t i = begin; i < end; ++i) {
                           const double quotient = static_cast<double>(weights[i]) / scale;
                           const int exponent = quotient == 0 ? smallest : std::max(std::ilogb(quotient), smallest);
                           const double step = std::ldexp(1.0, exponent - mantissa);
                           const double value =
                               std::clamp<double>(std::nearbyint(quotient / step) * step, -largest, largest) * scale;
                           QVERIFY(near_tie(quotient / step) || coded.decoded[i] == static_cast<float>(value));
                       }
                   });
    QCOMPARE(group, scales.size());
}

/// float16 cannot hold what lies beyond 65504: infinite, counted, and out of the sums.
void TestCodecs::halfOverflow() {
    const std::vector<float> weights{1.0F, 65504.0F, 65520.0F, -1e6F};
    const Coded coded = code_matrix(parse_spec("fp16"), weights, {1, 4});
    QCOMPARE(coded.sums.nonfinite, std::uint64_t{2});
    QCOMPARE(coded.sums.count, std::uint64_t{2});
    QCOMPARE(coded.sums.sum_d2, 0.0);
    QCOMPARE(coded.decoded[2], INFINITY);
    QCOMPARE(coded.decoded[3], -INFINITY);
}

/// LLM.int8(): a column with an outlier is float16 in every row, its codes are 0, and rows are scaled by the rest.
void TestCodecs::outlierColumns() {
    const TensorShape shape{4, 6};
    std::vector<float> weights(24, 0.5F);
    weights[8] = -7; // row 1, column 2
    weights[14] = 0.2F;
    const Coded coded = code_matrix(parse_spec("llm_int8:threshold=6"), weights, shape);
    QCOMPARE(values_of<std::int64_t>(coded.array("outlier_columns.i64")->bytes), std::vector<std::int64_t>{2});
    QCOMPARE(values_of<float>(coded.array("SCB.f32")->bytes), std::vector<float>(4, 0.5F));
    const auto codes = values_of<std::int8_t>(coded.array("CB.i8")->bytes);
    for (std::size_t i = 0; i < codes.size(); ++i)
        QCOMPARE(static_cast<int>(codes[i]), i % 6 == 2 ? 0 : 127);
    QCOMPARE(coded.decoded[8], -7.0F);
    QCOMPARE(coded.decoded[14], fp16_to_float(float_to_fp16(0.2F)));
    QCOMPARE(coded.stored_bits, 24 * 8.0 + 4 * 32.0 + 4 * 16.0);
}

/// Double quantization keeps the codes and changes the absmax by less than the 8-bit map's coarsest step.
void TestCodecs::doubleQuantization() {
    std::mt19937 random(13);
    const TensorShape shape{300, 256};
    const std::vector<float> weights = random_weights(shape, random);
    const Coded plain = code_matrix(parse_spec("nf4"), weights, shape),
                nested = code_matrix(parse_spec("nf4:dq"), weights, shape);
    QCOMPARE(nested.codes, plain.codes);
    QVERIFY(nested.sums.sum_d2 > plain.sums.sum_d2);
    QVERIFY(nested.sums.sum_d2 < 1.05 * plain.sums.sum_d2);
    QCOMPARE(nested.array("nested_absmax.f32")->bytes.size(), std::size_t{4 * 5});
    QCOMPARE(nested.array("absmax.u8")->bytes.size(), std::size_t{1200});
}

/// bitsandbytes' 8-bit codes: the nearest level for all x, the even code halfway.
void TestCodecs::dynamicNearest() {
    std::mt19937 random(14);
    std::normal_distribution<float> normal(0, 0.3F);
    const auto check = [](float x) {
        const std::uint32_t code = encode_dynamic(x);
        const double error = std::abs(static_cast<double>(x) - dynamic_level(code));
        for (std::uint32_t other = 0; other < 256; ++other)
            QVERIFY(error <= std::abs(static_cast<double>(x) - dynamic_level(other)) * (1 + 1e-6));
    };
    for (int i = 0; i < 20000; ++i)
        check(std::clamp(std::ldexp(normal(random), -static_cast<int>(random() % 24)), -1.0F, 1.0F));
    for (std::uint32_t code = 0; code < 255; ++code) {
        QVERIFY(dynamic_level(code) < dynamic_level(code + 1));
        const float middle = (dynamic_level(code) + dynamic_level(code + 1)) * 0.5F;
        QCOMPARE(std::uint32_t{encode_dynamic(dynamic_level(code))}, code);
        QCOMPARE(std::uint32_t{encode_dynamic(middle)}, code + code % 2);
        QCOMPARE(std::uint32_t{encode_dynamic(std::nextafter(middle, -1.0F))}, code);
        QCOMPARE(std::uint32_t{encode_dynamic(std::nextafter(middle, 1.0F))}, code + 1);
    }
    QCOMPARE(int{encode_dynamic(-1.0F)}, 0);
    QCOMPARE(int{encode_dynamic(1.0F)}, 255);
    QCOMPARE(int{encode_dynamic(-0.0F)}, 127);
}

/// A block of zeros: absmax 0 and the code of level 0.
void TestCodecs::dynamicZeros() {
    std::vector<float> weights(200);
    weights[70] = -2;
    const Coded coded = code_matrix(parse_spec("dynamic8:block=64"), weights, {1, 200});
    QCOMPARE(values_of<float>(coded.array("absmax.f32")->bytes), (std::vector<float>{0, 2, 0, 0}));
    for (std::size_t i = 0; i < weights.size(); ++i)
        QCOMPARE(coded.codes[i], static_cast<std::uint16_t>(i == 70 ? 0 : 127));
    QCOMPARE(coded.stored_bits, 200 * 8.0 + 4 * 32);
}

QTEST_GUILESS_MAIN(TestCodecs)
#include "test_codecs.moc"
