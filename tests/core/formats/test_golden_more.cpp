#include <QDir>
#include <QFile>
#include <QtTest>

#include <functional>

#include "coding.h"
#include "core/formats/bitsandbytes.h"
#include "core/formats/dynamic_map.h"

using namespace qs;
using namespace qs::test;

/// The larger set of reference bytes outside the tree (golden/more of the shared data): partial blocks, double
/// quantization, 8-bit dynamic blocks, LLM.int8() and the conversions of ml_dtypes. `bnbcuda_*` files are the CUDA
/// functions, which decide; where there is none it equals the `bnb_*` file.
class TestGoldenMore : public QObject {
    Q_OBJECT

private slots:
    void initTestCase();
    void fourBit_data();
    void fourBit();
    void dynamic8_data();
    void dynamic8();
    void dynamic8OfCuda_data();
    void dynamic8OfCuda();
    void doubleQuant_data();
    void doubleQuant();
    void llmInt8();
    void llmInt8Outliers();
    void fp8Conversions();

private:
    QDir folder_{QStringLiteral(QUANTOSCOPE_SHARED_DATA "/golden/more")};

    bool has(const QString& file) const { return folder_.exists(file); }
    template <class T>
    std::vector<T> read(const QString& name) const {
        QFile file(folder_.filePath(name));
        const QByteArray raw = file.open(QIODevice::ReadOnly) ? file.readAll() : QByteArray();
        std::vector<T> out(static_cast<std::size_t>(raw.size()) / sizeof(T));
        std::memcpy(out.data(), raw.constData(), out.size() * sizeof(T));
        return out;
    }
    QString cuda_or_cpu(const QString& name) const {
        const QString cuda = "bnbcuda_" + name;
        return has(cuda) ? cuda : "bnb_" + name;
    }
    std::vector<float> input(const QString& id) const {
        const QStringList found = folder_.entryList({"in_" + id + "_*.f32"});
        return found.isEmpty() ? std::vector<float>() : read<float>(found.front());
    }
};

void TestGoldenMore::initTestCase() {
    if (!folder_.exists("MANIFEST.json"))
        QSKIP("no reference bytes in " QUANTOSCOPE_SHARED_DATA "/golden/more");
}

/// The 4-bit codes of packed bytes, the first in the high nibble.
std::vector<std::uint16_t> unpacked(const std::vector<std::uint8_t>& bytes, std::size_t count) {
    std::vector<std::uint16_t> codes;
    for (std::size_t i = 0; i < count; ++i)
        codes.push_back(i % 2 == 0 ? bytes[i / 2] >> 4 : bytes[i / 2] & 15);
    return codes;
}

void four_bit_rows(const std::function<bool(const QString& name)>& exists) {
    QTest::addColumn<QString>("type");
    QTest::addColumn<int>("block");
    QTest::addColumn<QString>("in");
    for (const char* type : {"nf4", "fp4"})
        for (const int block : {64, 128, 256})
            for (const char* in : {"a", "c", "f"})
                if (exists(QStringLiteral("bnb_%1_bs%2_%3").arg(type).arg(block).arg(in)))
                    QTest::addRow("%s %d %s", type, block, in) << QString(type) << block << QString(in);
}

/// Below this a block's 1/absmax may be infinite, and the definition is ours: everything decodes to 0.
constexpr float scalable = 1e-38F;

void TestGoldenMore::fourBit_data() {
    four_bit_rows([this](const QString& name) { return has(name + ".codes.bin"); });
}

void TestGoldenMore::fourBit() {
    QFETCH(QString, type);
    QFETCH(int, block);
    QFETCH(QString, in);
    const QString name = QStringLiteral("%1_bs%2_%3").arg(type).arg(block).arg(in);
    const std::vector<float> weights = input(in);
    QVERIFY(!weights.empty());
    const Coded coded = code_matrix(parse_spec(QStringLiteral("%1:block=%2").arg(type).arg(block).toStdString()),
                                    weights, {1, weights.size()});

    const auto absmax = read<float>("bnb_" + name + ".absmax.f32");
    QCOMPARE(values_of<float>(coded.array("absmax.f32")->bytes), absmax);
    const auto codes = unpacked(read<std::uint8_t>(cuda_or_cpu(name + ".codes.bin")), weights.size());
    const auto decoded = read<float>(cuda_or_cpu(name + ".deq.f32"));
    QCOMPARE(decoded.size(), weights.size());
    for (std::size_t i = 0; i < weights.size(); ++i) {
        if (absmax[i / static_cast<std::size_t>(block)] < scalable) {
            QVERIFY(coded.decoded[i] == 0);
            continue;
        }
        QCOMPARE(coded.codes[i], codes[i]);
        QVERIFY(coded.decoded[i] == decoded[i]);
    }
    QCOMPARE(unpacked(values_of<std::uint8_t>(coded.array("weight.u8")->bytes), weights.size()), coded.codes);
}

void TestGoldenMore::dynamic8_data() {
    QTest::addColumn<int>("block");
    QTest::addColumn<QString>("in");
    for (const int block : {64, 256, 4096})
        for (const char* in : {"a", "c", "f"})
            QTest::addRow("%d %s", block, in) << block << QString(in);
}

void TestGoldenMore::dynamic8() {
    QFETCH(int, block);
    QFETCH(QString, in);
    const QString name = QStringLiteral("dyn8_bs%1_%2").arg(block).arg(in);
    const std::vector<float> weights = input(in);
    QVERIFY(!weights.empty());
    const Coded coded = code_matrix(parse_spec(QStringLiteral("dynamic8:block=%1").arg(block).toStdString()), weights,
                                    {1, weights.size()});
    const auto absmax = read<float>("bnb_" + name + ".absmax.f32");
    QCOMPARE(values_of<float>(coded.array("absmax.f32")->bytes), absmax);
    const auto codes = read<std::uint8_t>(cuda_or_cpu(name + ".codes.bin"));
    const auto decoded = read<float>(cuda_or_cpu(name + ".deq.f32"));
    QCOMPARE(codes.size(), weights.size());
    const auto made = values_of<std::uint8_t>(coded.array("weight.u8")->bytes);
    for (std::size_t i = 0; i < weights.size(); ++i) {
        if (absmax[i / static_cast<std::size_t>(block)] < scalable) {
            QVERIFY(std::abs(coded.decoded[i]) <= std::abs(weights[i]));
            continue;
        }
        QCOMPARE(made[i], codes[i]);
        QVERIFY(coded.decoded[i] == decoded[i]);
    }
}

void TestGoldenMore::dynamic8OfCuda_data() {
    QTest::addColumn<QString>("in");
    QTest::addColumn<int>("block");
    for (const char* in : {"normal", "heavy", "outlier"})
        for (const int block : {256, 4096})
            QTest::addRow("%s %d", in, block) << QString(in) << block;
}

void TestGoldenMore::dynamic8OfCuda() {
    QFETCH(QString, in);
    QFETCH(int, block);
    const auto weights = read<float>("../input/" + in + ".f32");
    const QString name = QStringLiteral("../bitsandbytes/%1.dynamic8.b%2").arg(in).arg(block);
    QVERIFY(!weights.empty());
    const Coded coded = code_matrix(parse_spec(QStringLiteral("dynamic8:block=%1").arg(block).toStdString()), weights,
                                    {1, weights.size()});
    QCOMPARE(values_of<std::uint8_t>(coded.array("weight.u8")->bytes), read<std::uint8_t>(name + ".weight.u8"));
    QCOMPARE(values_of<float>(coded.array("absmax.f32")->bytes), read<float>(name + ".absmax.f32"));
}

void TestGoldenMore::doubleQuant_data() {
    four_bit_rows([this](const QString& name) { return has(name + ".dq.qabsmax.bin"); });
}

void TestGoldenMore::doubleQuant() {
    QFETCH(QString, type);
    QFETCH(int, block);
    QFETCH(QString, in);
    const QString name = QStringLiteral("%1_bs%2_%3.dq").arg(type).arg(block).arg(in);
    const std::vector<float> weights = input(in);
    const std::string spec = QStringLiteral("%1:block=%2").arg(type).arg(block).toStdString();
    const Coded plain = code_matrix(parse_spec(spec), weights, {1, weights.size()});
    const Coded coded = code_matrix(parse_spec(spec + ",dq"), weights, {1, weights.size()});
    QCOMPARE(coded.codes, plain.codes);

    // The reference's mean is a float32 library reduction: its last bit can differ.
    const float offset = read<float>("bnb_" + name + ".offset.f32")[0];
    const float made = values_of<float>(coded.array("offset.f32")->bytes)[0];
    QVERIFY(made == offset || made == std::nextafter(offset, -INFINITY) || made == std::nextafter(offset, INFINITY));

    const auto absmax = values_of<float>(plain.array("absmax.f32")->bytes);
    const NestedAbsmax nested = quantize_nested(absmax, offset);
    QCOMPARE(nested.codes, read<std::uint8_t>("bnb_" + name + ".qabsmax.bin"));
    QCOMPARE(nested.scales, read<float>("bnb_" + name + ".nested_absmax.f32"));
    const auto decoded = read<float>(cuda_or_cpu(name + ".deq.f32"));
    for (std::size_t i = 0; i < weights.size(); ++i) {
        const std::size_t at = i / static_cast<std::size_t>(block);
        if (absmax[at] < scalable)
            continue;
        const std::uint32_t code = coded.codes[i];
        const float value = (type == "nf4" ? Nf4Codec::level(code) : Fp4Codec::level(code)) * nested.decoded[at];
        QVERIFY(value == decoded[i]);
        if (made == offset)
            QVERIFY(coded.decoded[i] == decoded[i]);
    }
}

void TestGoldenMore::llmInt8() {
    const std::vector<float> weights = input("a");
    const Coded coded = code_matrix(parse_spec("llm_int8"), weights, {16, 1024});
    QCOMPARE(values_of<std::int8_t>(coded.array("CB.i8")->bytes), read<std::int8_t>("bnb_int8_f32_a.cb.bin"));
    QCOMPARE(values_of<float>(coded.array("SCB.f32")->bytes), read<float>("bnb_int8_f32_a.scb.f32"));
    QCOMPARE(coded.decoded, read<float>("bnb_int8_f32_a.deq.f32"));
}

/// The reference's run over activations: inputs that are float16 already, threshold 6.
void TestGoldenMore::llmInt8Outliers() {
    const Coded coded = code_matrix(parse_spec("llm_int8:threshold=6"), input("g"), {64, 1024});
    QCOMPARE(values_of<std::int64_t>(coded.array("outlier_columns.i64")->bytes),
             read<std::int64_t>("bnb_int8_act_g.outlier_cols.i64"));
    QCOMPARE(values_of<float>(coded.array("SCB.f32")->bytes), read<float>("bnb_int8_act_g.sca.f32"));
    QCOMPARE(values_of<std::int8_t>(coded.array("CB.i8")->bytes), read<std::int8_t>("bnb_int8_act_g.ca.bin"));
}

void TestGoldenMore::fp8Conversions() {
    for (const QString in : {"a", "e"}) {
        const std::vector<float> values = input(in);
        const auto e4m3 = read<std::uint8_t>("mldtypes_e4m3fn_" + in + ".bin");
        const auto e5m2 = read<std::uint8_t>("mldtypes_e5m2_" + in + ".bin");
        QCOMPARE(values.size(), e4m3.size());
        for (std::size_t i = 0; i < values.size(); ++i) {
            // ml_dtypes does not saturate.
            if (std::abs(values[i]) <= E4M3::largest)
                QCOMPARE(float_to_fp8<E4M3>(values[i]), e4m3[i]);
            if (std::abs(values[i]) <= E5M2::largest)
                QCOMPARE(float_to_fp8<E5M2>(values[i]), e5m2[i]);
        }
    }
}

QTEST_GUILESS_MAIN(TestGoldenMore)
#include "test_golden_more.moc"
