#include <QDir>
#include <QFile>
#include <QtTest>

#include <algorithm>

#include "coding.h"
#include "core/formats/microscaling.h"

using namespace qs;
using namespace qs::test;

/// The microscaling formats: against the reference bytes of golden/more of the shared data where they are, and against
/// their definition worked out in double precision.
class TestMicroscaling : public QObject {
    Q_OBJECT

private slots:
    void goldenMx_data();
    void goldenMx();
    void goldenNvfp4_data() { golden_inputs(); }
    void goldenNvfp4();
    void goldenModelOptMxfp4_data() { golden_inputs(); }
    void goldenModelOptMxfp4();
    void goldenTables();
    void goldenConversions();
    void goldenE8m0();

    void scaleRules_data();
    void scaleRules();
    void definition_data();
    void definition();
    void packing();
    void saturation();
    void ties();
    void signsOfZero();
    void shortRows_data() { all_specs(); }
    void shortRows();
    void extremes_data() { all_specs(); }
    void extremes();
    void nonfinite_data() { all_specs(); }
    void nonfinite();
    void partitions_data() { all_specs(); }
    void partitions();
    void nvfp4Definition();
    void nvfp4Scales();
    void nvfp4Zeros();

private:
    QDir folder_{QStringLiteral(QUANTOSCOPE_SHARED_DATA "/golden/more")};

    template <class T>
    std::vector<T> read(const QString& name) const {
        QFile file(folder_.filePath(name));
        const QByteArray raw = file.open(QIODevice::ReadOnly) ? file.readAll() : QByteArray();
        std::vector<T> out(static_cast<std::size_t>(raw.size()) / sizeof(T));
        if (!out.empty())
            std::memcpy(out.data(), raw.constData(), out.size() * sizeof(T));
        return out;
    }
    std::vector<float> input(const QString& id) const {
        const QStringList found = folder_.entryList({"in_" + id + "_*.f32"});
        return found.isEmpty() ? std::vector<float>() : read<float>(found.front());
    }
    bool has_golden() const { return folder_.exists("MANIFEST.json"); }

    /// The two inputs of the reference runs, in rows of 1024.
    static void golden_inputs() {
        QTest::addColumn<QString>("in");
        QTest::newRow("a") << "a";
        QTest::newRow("c") << "c";
    }
    static void all_specs() {
        QTest::addColumn<QString>("unused");
        for (const char* id : {"mxfp8_e4m3", "mxfp8_e5m2", "mxfp6_e3m2", "mxfp6_e2m3", "mxfp4", "mxint8", "nvfp4"})
            QTest::newRow(id) << "";
        for (const char* rule : {"ceil", "even", "rceil"})
            QTest::addRow("mxfp4:scale=%s", rule) << "";
    }
    static FormatSpec spec() { return parse_spec(QTest::currentDataTag()); }
};

#define SKIP_WITHOUT_GOLDEN()                                                                                          \
    if (!has_golden())                                                                                                 \
    QSKIP("no reference bytes in " QUANTOSCOPE_SHARED_DATA "/golden/more")

/// What the definition says of the elements of a format.
struct Element {
    int bits, exponent, mantissa_bits;
    double largest;
    int smallest; ///< the exponent from which on downward the steps are all alike

    /// The nearest element, halves to even.
    double nearest(double x) const {
        const int power = x == 0 ? smallest : std::max(std::ilogb(x), smallest);
        const double step = std::ldexp(1.0, power - mantissa_bits);
        return std::clamp(std::nearbyint(x / step) * step, -largest, largest);
    }
};

Element element_of(const FormatSpec& spec) {
    static const std::map<std::string, Element> elements{
        {"mxfp8_e4m3", {8, 8, 3, 448, -6}}, {"mxfp8_e5m2", {8, 15, 2, 57344, -14}},
        {"mxfp6_e3m2", {6, 4, 2, 28, -2}},  {"mxfp6_e2m3", {6, 2, 3, 7.5, 0}},
        {"mxfp4", {4, 2, 1, 6, 0}},         {"mxint8", {8, 0, 6, 127 / 64.0, 0}}};
    return elements.at(spec.id);
}

/// The codes of a little-endian stream of bits.
std::vector<std::uint8_t> unpacked(const std::vector<std::byte>& bytes, int bits) {
    std::vector<std::uint8_t> codes;
    for (std::size_t at = 0; at + static_cast<std::size_t>(bits) <= bytes.size() * 8; at += bits) {
        unsigned code = 0;
        for (std::size_t bit = 0; bit < static_cast<std::size_t>(bits); ++bit)
            code |= (std::to_integer<unsigned>(bytes[(at + bit) / 8]) >> (at + bit) % 8 & 1U) << bit;
        codes.push_back(static_cast<std::uint8_t>(code));
    }
    return codes;
}

std::vector<std::uint8_t> bytes_of(const Coded& coded, const char* name) {
    return values_of<std::uint8_t>(coded.array(name)->bytes);
}

/// The exponent that a rule gives for an absmax, by its definition.
int rule_exponent(const std::string& rule, const Element& element, double absmax) {
    int exponent = std::ilogb(absmax) - element.exponent;
    if (rule == "even") {
        const double step = std::ldexp(1.0, std::ilogb(absmax) - element.mantissa_bits);
        exponent = std::ilogb(std::nearbyint(absmax / step) * step) - element.exponent;
    }
    // The least power of two that is enough.
    const double top = rule == "ceil" ? std::ldexp(1.0, element.exponent) : element.largest;
    if (rule == "ceil" || rule == "rceil")
        for (exponent = -300; std::ldexp(top, exponent) < absmax; ++exponent) {
        }
    return std::clamp(exponent, -127, 127);
}

// --- against reference bytes -----------------------------------------------------------------------------------

void TestMicroscaling::goldenMx_data() {
    QTest::addColumn<QString>("in");
    QTest::addColumn<QString>("name");
    const std::pair<const char*, const char*> formats[] = {{"mxfp8_e4m3", "fp8_e4m3"}, {"mxfp8_e5m2", "fp8_e5m2"},
                                                           {"mxfp6_e3m2", "fp6_e3m2"}, {"mxfp6_e2m3", "fp6_e2m3"},
                                                           {"mxfp4", "fp4_e2m1"},      {"mxint8", "int8"}};
    for (const auto& [id, name] : formats)
        for (const char* in : {"a", "c"})
            QTest::addRow("%s %s", id, in) << in << name;
}

void TestMicroscaling::goldenMx() {
    SKIP_WITHOUT_GOLDEN();
    QFETCH(QString, in);
    QFETCH(QString, name);
    const FormatSpec format = parse_spec(QString(QTest::currentDataTag()).section(' ', 0, 0).toStdString());
    const std::vector<float> weights = input(in);
    QVERIFY(!weights.empty());
    const Coded coded = code_matrix(format, weights, {weights.size() / 1024, 1024});
    const QString file = "mx_" + name + "_" + in;
    QCOMPARE(bytes_of(coded, "scales.u8"), read<std::uint8_t>(file + ".scales.e8m0.bin"));
    const auto elements = unpacked(coded.array("elements.u8")->bytes, element_of(format).bits);
    QVERIFY(std::equal(elements.begin(), elements.end(), coded.codes.begin(), coded.codes.end()));
    if (format.id != "mxint8") // whose codes the reference does not give
        QCOMPARE(elements, read<std::uint8_t>(file + ".codes_u8.bin"));
    QCOMPARE(coded.decoded, read<float>(file + ".deq.f32"));
}

void TestMicroscaling::goldenNvfp4() {
    SKIP_WITHOUT_GOLDEN();
    QFETCH(QString, in);
    const std::vector<float> weights = input(in);
    QVERIFY(!weights.empty());
    const Coded coded = code_matrix(parse_spec("nvfp4"), weights, {weights.size() / 1024, 1024});
    const QString file = "nvfp4_modelopt_" + in;
    QCOMPARE(bytes_of(coded, "elements.u8"), read<std::uint8_t>(file + ".codes.bin"));
    QCOMPARE(bytes_of(coded, "scales.u8"), read<std::uint8_t>(file + ".scale_e4m3.bin"));
    QCOMPARE(values_of<float>(coded.array("global.f32")->bytes), read<float>(file + ".scale2.f32"));
    QCOMPARE(coded.decoded, read<float>(file + ".deq.f32"));
}

/// ModelOpt's MXFP4 has the scales of rceil; halves it rounds towards zero, and to zeros it gives code 8.
void TestMicroscaling::goldenModelOptMxfp4() {
    SKIP_WITHOUT_GOLDEN();
    QFETCH(QString, in);
    const std::vector<float> weights = input(in);
    QVERIFY(!weights.empty());
    const Coded coded = code_matrix(parse_spec("mxfp4:scale=rceil"), weights, {weights.size() / 1024, 1024});
    const QString file = "mxfp4_modelopt_" + in;
    const auto scales = read<std::uint8_t>(file + ".scales.e8m0.bin");
    QCOMPARE(bytes_of(coded, "scales.u8"), scales);
    const auto decoded = read<float>(file + ".deq.f32");
    QCOMPARE(decoded.size(), weights.size());
    for (std::size_t i = 0; i < weights.size(); ++i) {
        const double x = std::abs(std::ldexp(weights[i], 127 - scales[i / 32]));
        const bool half = x == 0.75 || x == 1.75 || x == 3.5;
        QVERIFY(coded.decoded[i] == decoded[i] || half);
    }
}

template <class Kind>
void compare_table(const std::vector<float>& values) {
    QCOMPARE(values.size(), std::size_t{1} << Kind::bits);
    for (std::uint32_t code = 0; code < values.size(); ++code) {
        const float value = FloatElement<Kind>::decode(code);
        QVERIFY(std::isnan(value) ? std::isnan(values[code]) : float_bits(value) == float_bits(values[code]));
    }
}

void TestMicroscaling::goldenTables() {
    SKIP_WITHOUT_GOLDEN();
    for (const char* pattern : {"table_%1.f32", "../tables/%1.f32"}) {
        const auto table = [&](const char* name) { return read<float>(QString(pattern).arg(name)); };
        compare_table<E4M3>(table("e4m3fn"));
        compare_table<E5M2>(table("e5m2"));
        compare_table<E3M2>(table("e3m2"));
        compare_table<E2M3>(table("e2m3"));
        compare_table<E2M1>(table("e2m1"));
        const std::vector<float> powers = table("e8m0");
        QCOMPARE(powers.size(), std::size_t{256});
        for (std::size_t code = 0; code < 256; ++code)
            QVERIFY(same_value(e8m0_to_float(static_cast<std::uint8_t>(code)), powers[code]));
    }
}

/// 3008 scalars through CUDA's conversions, which saturate and make a NaN the largest number, and through ml_dtypes.
void TestMicroscaling::goldenConversions() {
    SKIP_WITHOUT_GOLDEN();
    const std::vector<float> values = input("e");
    const auto compare = [&](const QString& name, std::uint8_t (*convert)(float)) {
        const auto cuda = read<std::uint8_t>("cuda_" + name + "_e.bin");
        const auto other = read<std::uint8_t>("mldtypes_" + name + "_e.bin");
        QCOMPARE(cuda.size(), values.size());
        for (std::size_t i = 0; i < values.size(); ++i) {
            QCOMPARE(convert(values[i]), cuda[i]);
            if (!std::isnan(values[i]) && !other.empty())
                QCOMPARE(convert(values[i]), other[i]);
        }
    };
    compare("e3m2", float_to_minifloat<E3M2>);
    compare("e2m3", float_to_minifloat<E2M3>);
    compare("e2m1", float_to_minifloat<E2M1>);
    compare("e4m3_satfinite", float_to_fp8<E4M3>);
    compare("e5m2_satfinite", float_to_fp8<E5M2>);
}

/// The rules `floor` and `ceil` are CUDA's two roundings to E8M0, where the largest element is below 2.
void TestMicroscaling::goldenE8m0() {
    SKIP_WITHOUT_GOLDEN();
    const std::vector<float> values = input("e");
    const auto down = read<std::uint8_t>("cuda_e8m0_rz_e.bin"), up = read<std::uint8_t>("cuda_e8m0_posinf_e.bin");
    QCOMPARE(down.size(), values.size());
    QCOMPARE(up.size(), values.size());
    for (std::size_t i = 0; i < values.size(); ++i) {
        const AbsMax absmax{std::abs(values[i])};
        if (!std::isfinite(values[i]) || values[i] == 0)
            continue;
        QCOMPARE(MxCodec<IntElement>{MxScaleRule::floor}.fit(absmax).e8m0, down[i]);
        QCOMPARE(MxCodec<IntElement>{MxScaleRule::ceil}.fit(absmax).e8m0, up[i]);
    }
}

// --- against the definition ------------------------------------------------------------------------------------

void TestMicroscaling::scaleRules_data() {
    QTest::addColumn<QString>("unused");
    for (const char* id : {"mxfp8_e4m3", "mxfp8_e5m2", "mxfp6_e3m2", "mxfp6_e2m3", "mxfp4", "mxint8"})
        for (const char* rule : {"floor", "ceil", "even", "rceil"})
            QTest::addRow("%s:scale=%s", id, rule) << "";
}

/// At, just below and just above every place where a rule may change its mind, over all of float32.
void TestMicroscaling::scaleRules() {
    const Element element = element_of(spec());
    std::vector<float> absmaxes;
    for (int power = -149; power < 128; ++power)
        for (const double mantissa : {1.0, 1.25, 1.5, 1.75, 1.875, 1.9375, 127 / 64.0, 1.96875, 1.9921875, 1.998}) {
            const auto at = static_cast<float>(std::ldexp(mantissa, power));
            for (const float absmax : {std::nextafter(at, 0.0F), at, std::nextafter(at, INFINITY)})
                if (absmax > 0 && std::isfinite(absmax))
                    absmaxes.push_back(absmax);
        }
    absmaxes.push_back(std::numeric_limits<float>::max());
    std::vector<float> weights(absmaxes.size() * 32);
    for (std::size_t i = 0; i < absmaxes.size(); ++i)
        weights[i * 32 + i % 32] = i % 2 == 0 ? absmaxes[i] : -absmaxes[i];
    const auto scales = bytes_of(code_matrix(spec(), weights, {absmaxes.size(), 32}), "scales.u8");
    for (std::size_t i = 0; i < absmaxes.size(); ++i)
        QCOMPARE(static_cast<int>(scales[i]) - 127, rule_exponent(spec().choice("scale"), element, absmaxes[i]));
}

void TestMicroscaling::definition_data() {
    scaleRules_data();
}

void TestMicroscaling::definition() {
    std::mt19937 random(1);
    const TensorShape shape{30, 100};
    std::vector<float> weights = random_weights(shape, random);
    for (std::size_t i = 0; i < weights.size(); ++i) // rows of any size, and some with coarse values, full of ties
        weights[i] = std::ldexp(i / 100 % 4 == 3 ? std::nearbyint(weights[i] * 400) / 8 : weights[i],
                                static_cast<int>(i / 100 * 7 % 200) - 100);
    const Coded coded = code_matrix(spec(), weights, shape);
    const Element element = element_of(spec());
    std::size_t block = 0;
    for (std::size_t row = 0; row < shape.rows; ++row)
        for (std::size_t column = 0; column < 100; column += 32, ++block) {
            const std::size_t begin = row * 100 + column, end = row * 100 + std::min<std::size_t>(column + 32, 100);
            double absmax = 0;
            for (std::size_t i = begin; i < end; ++i)
                absmax = std::max(absmax, std::abs(static_cast<double>(weights[i])));
            const int exponent = rule_exponent(spec().choice("scale"), element, absmax);
            QCOMPARE(static_cast<int>(bytes_of(coded, "scales.u8")[block]), exponent + 127);
            for (std::size_t i = begin; i < end; ++i) {
                const double value = std::ldexp(element.nearest(std::ldexp(weights[i], -exponent)), exponent);
                QVERIFY(coded.decoded[i] == value);
            }
        }
    QCOMPARE(coded.stored_bits, static_cast<double>(block) * (element.bits * 32 + 8));
}

/// The bytes of blocks worked out by hand.
void TestMicroscaling::packing() {
    const auto elements_of = [](const char* format, std::vector<float> weights) {
        weights.resize(32);
        const auto bytes = bytes_of(code_matrix(parse_spec(format), weights, {1, 32}), "elements.u8");
        const Element element = element_of(parse_spec(format));
        return bytes.size() == static_cast<std::size_t>(element.bits) * 4
                   ? std::vector<std::uint8_t>(bytes.begin(), bytes.begin() + 3)
                   : std::vector<std::uint8_t>();
    };
    using Bytes = std::vector<std::uint8_t>;
    // 0111 0001 | 1011 0000 | 0000 1101: 6 .5 | −1.5 0 | 0 −3, in each byte the second one first.
    QCOMPARE(elements_of("mxfp4", {6, 0.5F, -1.5F, 0, 0, -3}), (Bytes{0x17, 0x0B, 0xD0}));
    // E3M2: 28 = 011111, 1/16 = 000001, −1 = 101100, 1.25 = 001101: the stream 001101 101100 000001 011111.
    QCOMPARE(elements_of("mxfp6_e3m2", {28, 0.0625F, -1, 1.25F}), (Bytes{0x5F, 0xC0, 0x36}));
    // E2M3: 7.5 = 011111, 1/8 = 000001, −1 = 101000, 1.125 = 001001: 001001 101000 000001 011111.
    QCOMPARE(elements_of("mxfp6_e2m3", {7.5F, 0.125F, -1, 1.125F}), (Bytes{0x5F, 0x80, 0x26}));
    QCOMPARE(elements_of("mxfp8_e4m3", {448, -1, 0x1p-9F}), (Bytes{0x7E, 0xB8, 0x01}));
    QCOMPARE(elements_of("mxfp8_e5m2", {57344, -1, 0x1p-16F}), (Bytes{0x7B, 0xBC, 0x01}));
    QCOMPARE(elements_of("mxint8", {1, -1, 1 / 64.0F}), (Bytes{0x40, 0xC0, 0x01}));
}

/// With OCP's scale what lies above the largest element is clipped to it; with rceil nothing is.
void TestMicroscaling::saturation() {
    std::vector<float> weights(32);
    weights[0] = 7.99F;
    weights[1] = -7.01F;
    weights[2] = 6.5F;
    weights[3] = -1;
    const Coded floor = code_matrix(parse_spec("mxfp4"), weights, {1, 32}),
                rceil = code_matrix(parse_spec("mxfp4:scale=rceil"), weights, {1, 32});
    QCOMPARE(std::vector<float>(floor.decoded.begin(), floor.decoded.begin() + 4), (std::vector<float>{6, -6, 6, -1}));
    QCOMPARE(std::vector<float>(rceil.decoded.begin(), rceil.decoded.begin() + 4), (std::vector<float>{8, -8, 6, -1}));
    weights[1] = -weights[0];
    const Coded integer = code_matrix(parse_spec("mxint8"), weights, {1, 32});
    QCOMPARE(integer.decoded[0], 127 / 16.0F);
    QCOMPARE(integer.decoded[1], -127 / 16.0F);
    QCOMPARE(integer.codes[1], std::uint16_t{0x81});
}

/// Halfway values go to the even mantissa, at any scale.
void TestMicroscaling::ties() {
    const std::vector<float> halves{0.25F, 0.75F, 1.25F, 1.75F, 2.5F, 3.5F, 5.0F, 6.0F};
    const std::vector<float> even{0, 1, 1, 2, 2, 4, 4, 6};
    for (const char* format : {"mxfp4", "nvfp4"})
        for (const int power : {-20, 0, 30})
            for (const float sign : {1.0F, -1.0F}) {
                std::vector<float> weights(32);
                for (std::size_t i = 0; i < halves.size(); ++i)
                    weights[i] = weights[i + 16] = sign * std::ldexp(halves[i], power);
                // NVFP4's scales multiply to a power of two here: 448 and 2^power / 448.
                const Coded coded = code_matrix(parse_spec(format), weights, {1, 32});
                for (std::size_t i = 0; i < halves.size(); ++i)
                    QVERIFY(coded.decoded[i] == sign * std::ldexp(even[i], power));
            }
}

/// A zero has no sign; what is rounded to zero keeps it.
void TestMicroscaling::signsOfZero() {
    for (const char* format : {"mxfp8_e4m3", "mxfp4", "nvfp4"}) {
        std::vector<float> weights(32);
        weights[0] = 6;
        weights[1] = -0.0F;
        weights[2] = -1e-9F;
        weights[3] = 1e-9F;
        const Coded coded = code_matrix(parse_spec(format), weights, {1, 32});
        const std::uint16_t negative_zero = std::string(format) == "mxfp8_e4m3" ? 0x80 : 8;
        QCOMPARE(coded.codes[1], std::uint16_t{0});
        QCOMPARE(coded.codes[2], negative_zero);
        QCOMPARE(coded.codes[3], std::uint16_t{0});
    }
}

/// Rows that do not divide are those of a matrix filled up with zeros.
void TestMicroscaling::shortRows() {
    std::mt19937 random(2);
    const std::uint64_t block = spec().id == "nvfp4" ? 16 : 32;
    for (const std::uint64_t columns : {1, 2, 15, 16, 17, 31, 33, 63, 100}) {
        const TensorShape shape{7, columns}, filled{7, (columns + block - 1) / block * block};
        const std::vector<float> weights = random_weights(shape, random);
        std::vector<float> wide(static_cast<std::size_t>(filled.count()));
        for (std::size_t i = 0; i < weights.size(); ++i)
            wide[i / columns * filled.columns + i % columns] = weights[i];
        const Coded coded = code_matrix(spec(), weights, shape), other = code_matrix(spec(), wide, filled);
        QCOMPARE(coded.arrays.size(), other.arrays.size());
        double stored = 0;
        for (std::size_t i = 0; i < coded.arrays.size(); ++i) {
            QVERIFY(coded.arrays[i].bytes == other.arrays[i].bytes);
            stored += 8.0 * static_cast<double>(coded.arrays[i].bytes.size());
        }
        QCOMPARE(coded.stored_bits, stored);
        for (std::size_t i = 0; i < weights.size(); ++i)
            QVERIFY(coded.decoded[i] == other.decoded[i / columns * filled.columns + i % columns]);
    }
}

/// Zeros, subnormals and the largest numbers: never wild, and infinite only where the nearest element stands for 2¹²⁸,
/// or for NVFP4's rounded product.
void TestMicroscaling::extremes() {
    const TensorShape shape{8, 64};
    std::vector<float> weights(static_cast<std::size_t>(shape.count()));
    const bool may_overflow = spec().id == "nvfp4" || spec().text() != spec().id;
    const float sizes[8] = {0, 1e-45F, 1e-41F, 0x1p-126F, 1, 1e38F, 3.4028235e38F, 1};
    for (std::size_t i = 0; i < weights.size(); ++i)
        weights[i] = sizes[i / 64] * (i % 3 == 0 ? 1.0F : i % 3 == 1 ? -0.75F : 0.125F);
    for (std::size_t row = 0; row < shape.rows; ++row) {
        const std::vector<float> alone(weights.begin() + static_cast<std::ptrdiff_t>(row * 64),
                                       weights.begin() + static_cast<std::ptrdiff_t>(row * 64 + 64));
        for (const Coded& coded : {code_matrix(spec(), alone, {1, 64}), code_matrix(spec(), alone, {64, 1})})
            for (std::size_t i = 0; i < 64; ++i) {
                QVERIFY(std::isfinite(coded.decoded[i]) || (row == 6 && may_overflow));
                if (std::isfinite(coded.decoded[i]))
                    QVERIFY(std::abs(coded.decoded[i] - alone[i]) <= std::max(std::abs(alone[i]), sizes[row] / 3));
            }
    }
    const Coded all = code_matrix(spec(), weights, shape);
    QVERIFY(std::all_of(all.decoded.begin(), all.decoded.begin() + 64, [](float v) { return v == 0; }));
}

void TestMicroscaling::nonfinite() {
    std::mt19937 random(3);
    const TensorShape shape{6, 96};
    std::vector<float> dirty = random_weights(shape, random), clean = dirty;
    const float bad[] = {NAN, INFINITY, -INFINITY, bits_float(0xFFC00001U)};
    for (std::size_t i = 5; i < dirty.size(); i += 23) {
        dirty[i] = bad[i % 4];
        clean[i] = 0;
    }
    const Coded with = code_matrix(spec(), dirty, shape), without = code_matrix(spec(), clean, shape);
    QCOMPARE(with.codes, without.codes);
    QCOMPARE(with.decoded, without.decoded);
    QCOMPARE(with.sums.nonfinite, std::uint64_t{(dirty.size() - 5 + 22) / 23});
}

void TestMicroscaling::partitions() {
    std::mt19937 random(4);
    for (const TensorShape& shape : {TensorShape{37, 96}, TensorShape{29, 70}, TensorShape{1, 5000}}) {
        const std::vector<float> weights = random_weights(shape, random);
        const Coded whole = code_matrix(spec(), weights, shape);
        const auto codec = scanned_codec(spec(), weights, shape);
        for (int turn = 0; turn < 10; ++turn) {
            const Coded parts = code_matrix(spec(), weights, shape, &random);
            QCOMPARE(parts.codes, whole.codes);
            QCOMPARE(parts.decoded, whole.decoded);
            QCOMPARE(parts.usage, whole.usage);
            for (std::size_t i = 0; i < parts.arrays.size(); ++i)
                QVERIFY(parts.arrays[i].bytes == whole.arrays[i].bytes);
            for (const auto& [begin, end] : ranges_of(*codec, shape.count(), &random)) {
                const auto count = static_cast<std::size_t>(end - begin);
                std::vector<std::byte> encoded(codec->encoded_bytes(begin, count));
                std::vector<float> decoded(count);
                codec->encode(weights.data() + begin, begin, count, encoded.data());
                codec->decode(encoded.data(), begin, count, decoded.data());
                QVERIFY(std::equal(decoded.begin(), decoded.end(), whole.decoded.begin() + std::ptrdiff_t(begin)));
            }
        }
    }
}

void TestMicroscaling::nvfp4Definition() {
    std::mt19937 random(5);
    const TensorShape shape{24, 150};
    std::vector<float> weights = random_weights(shape, random);
    for (std::size_t i = 150; i < 300; ++i) // blocks far below the rest, whose scales are the least
        weights[i] *= 1e-6F;
    const Coded coded = code_matrix(parse_spec("nvfp4"), weights, shape);
    float absmax = 0;
    for (const float w : weights)
        absmax = std::max(absmax, std::abs(w));
    const float global = values_of<float>(coded.array("global.f32")->bytes)[0];
    QVERIFY(global == absmax / 2688);
    const auto scales = bytes_of(coded, "scales.u8");
    QCOMPARE(scales.size(), std::size_t{24 * 10});
    const Element e4m3{8, 8, 3, 448, -6}, e2m1{4, 2, 1, 6, 0};
    for (std::size_t block = 0; block < scales.size(); ++block) {
        const std::size_t begin = block / 10 * 150 + block % 10 * 16;
        const std::size_t end = std::min(begin + 16, (block / 10 + 1) * 150);
        float largest = 0;
        for (std::size_t i = begin; i < end; ++i)
            largest = std::max(largest, std::abs(weights[i]));
        const float quotient = largest / (6 * global);
        const double scale = e4m3.nearest(std::max(quotient, 0x1p-9F));
        QVERIFY(fp8_to_float<E4M3>(scales[block]) == scale);
        const float step = static_cast<float>(scale) * global;
        for (std::size_t i = begin; i < end; ++i)
            QVERIFY(coded.decoded[i] == static_cast<float>(e2m1.nearest(weights[i] / step)) * step);
    }
}

/// A power of two goes into the tensor's scale and changes nothing else.
void TestMicroscaling::nvfp4Scales() {
    std::mt19937 random(6);
    const TensorShape shape{8, 64};
    std::vector<float> weights = random_weights(shape, random);
    const Coded once = code_matrix(parse_spec("nvfp4"), weights, shape);
    for (float& w : weights)
        w *= 0x1p60F;
    const Coded large = code_matrix(parse_spec("nvfp4"), weights, shape);
    QCOMPARE(large.codes, once.codes);
    QCOMPARE(bytes_of(large, "scales.u8"), bytes_of(once, "scales.u8"));
    QVERIFY(values_of<float>(large.array("global.f32")->bytes)[0] ==
            0x1p60F * values_of<float>(once.array("global.f32")->bytes)[0]);
}

/// A block of zeros has scale 1; so have all of a tensor of zeros, whose own scale is 0.
void TestMicroscaling::nvfp4Zeros() {
    std::vector<float> weights(64);
    const Coded zeros = code_matrix(parse_spec("nvfp4"), weights, {2, 32});
    QCOMPARE(values_of<float>(zeros.array("global.f32")->bytes)[0], 0.0F);
    QCOMPARE(bytes_of(zeros, "scales.u8"), std::vector<std::uint8_t>(4, 0x38));
    QCOMPARE(bytes_of(zeros, "elements.u8"), std::vector<std::uint8_t>(32, 0));
    QCOMPARE(zeros.decoded, std::vector<float>(64, 0.0F));
    weights[20] = -3;
    const Coded one = code_matrix(parse_spec("nvfp4"), weights, {2, 32});
    QCOMPARE(bytes_of(one, "scales.u8"), (std::vector<std::uint8_t>{0x38, 0x7E, 0x38, 0x38}));
    QVERIFY(std::abs(one.decoded[20] + 3) < 1e-6F);
}

QTEST_GUILESS_MAIN(TestMicroscaling)
#include "test_microscaling.moc"
