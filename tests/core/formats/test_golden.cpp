#include <QCryptographicHash>
#include <QFile>
#include <QJsonArray>
#include <QJsonDocument>
#include <QJsonObject>
#include <QtTest>

#include <algorithm>

#include "coding.h"
#include "core/formats/bitsandbytes.h"
#include "core/formats/dynamic_map.h"

using namespace qs;
using namespace qs::test;

/// The bytes of the reference implementations in tests/golden, which MANIFEST.json describes.
class TestGolden : public QObject {
    Q_OBJECT

private slots:
    void initTestCase();
    void files();
    void cases_data();
    void cases();
    void nestedAbsmax();
    void codebooks();
    void dynamicMap();
    void fp8Values();
    void fp8Conversions();

private:
    QByteArray bytes(const QJsonObject& entry) const;
    QJsonObject table(const QString& name) const;
    template <class T>
    std::vector<T> values(const QJsonObject& entry) const {
        const QByteArray raw = bytes(entry);
        std::vector<T> out(static_cast<std::size_t>(raw.size()) / sizeof(T));
        std::memcpy(out.data(), raw.constData(), out.size() * sizeof(T));
        return out;
    }
    std::vector<float> input(const QJsonObject& golden, TensorShape& shape) const;
    std::vector<float> importance(const QJsonObject& golden) const;

    QJsonObject manifest_;
};

void TestGolden::initTestCase() {
    QFile file(QStringLiteral(QUANTOSCOPE_GOLDEN "/MANIFEST.json"));
    QVERIFY2(file.open(QIODevice::ReadOnly), qPrintable(file.fileName()));
    manifest_ = QJsonDocument::fromJson(file.readAll()).object();
    QVERIFY(!manifest_.isEmpty());
}

QByteArray TestGolden::bytes(const QJsonObject& entry) const {
    QFile file(QStringLiteral(QUANTOSCOPE_GOLDEN "/") + entry["file"].toString());
    return file.open(QIODevice::ReadOnly) ? file.readAll() : QByteArray();
}

QJsonObject TestGolden::table(const QString& name) const {
    for (const QJsonValue& entry : manifest_["tables"].toArray())
        if (entry["name"].toString() == name)
            return entry.toObject();
    return {};
}

QByteArray sha256(const QByteArray& data) {
    return QCryptographicHash::hash(data, QCryptographicHash::Sha256).toHex();
}

/// The rows of the input that a case encodes.
std::vector<float> TestGolden::input(const QJsonObject& golden, TensorShape& shape) const {
    for (const QJsonValue& entry : manifest_["inputs"].toArray()) {
        if (entry["name"] != golden["input"])
            continue;
        const std::vector<float> all = values<float>(entry.toObject());
        shape = {static_cast<std::uint64_t>(entry["rows"].toInt()),
                 static_cast<std::uint64_t>(entry["columns"].toInt())};
        if (!golden["rows"].isArray())
            return all;
        std::vector<float> chosen;
        for (const QJsonValue& row : golden["rows"].toArray()) {
            const auto begin = all.begin() + static_cast<std::ptrdiff_t>(row.toInt()) * static_cast<int>(shape.columns);
            chosen.insert(chosen.end(), begin, begin + static_cast<std::ptrdiff_t>(shape.columns));
        }
        shape.rows = static_cast<std::uint64_t>(golden["rows"].toArray().size());
        return chosen;
    }
    return {};
}

/// The importance of each column that a case names, or nothing.
std::vector<float> TestGolden::importance(const QJsonObject& golden) const {
    for (const QJsonValue& entry : manifest_["inputs"].toArray())
        if (golden.contains("importance") && entry["name"] == golden["importance"])
            return values<float>(entry.toObject());
    return {};
}

void TestGolden::files() {
    const auto check = [this](const QJsonObject& entry) {
        if (entry.contains("file"))
            QCOMPARE(QString::fromLatin1(sha256(bytes(entry))), entry["sha256"].toString());
    };
    for (const QJsonValue& entry : manifest_["inputs"].toArray())
        check(entry.toObject());
    for (const QJsonValue& entry : manifest_["tables"].toArray())
        check(entry.toObject());
    for (const QJsonValue& golden : manifest_["cases"].toArray())
        for (const QJsonValue& entry : golden["arrays"].toObject())
            check(entry.toObject());
}

void TestGolden::cases_data() {
    QTest::addColumn<QJsonObject>("golden");
    for (const QJsonValue& golden : manifest_["cases"].toArray())
        QTest::addRow("%s %s%s", qPrintable(golden["format"].toString()), qPrintable(golden["input"].toString()),
                      golden["importance"].isString() ? " weighted" : "")
            << golden.toObject();
}

/// The sha256 of decoded floats as the manifest has it: −0 as +0, every NaN the same.
QString decoded_sha256(const std::vector<float>& decoded) {
    QByteArray canonical(static_cast<qsizetype>(decoded.size() * sizeof(float)), Qt::Uninitialized);
    for (std::size_t i = 0; i < decoded.size(); ++i) {
        const std::uint32_t bits = std::isnan(decoded[i]) ? 0x7FC00000U : decoded[i] == 0 ? 0U : float_bits(decoded[i]);
        std::memcpy(canonical.data() + i * sizeof bits, &bits, sizeof bits);
    }
    return QString::fromLatin1(sha256(canonical));
}

/// The kernel gives NF4 blocks of zeros the code of −1 (0·∞ is above no threshold); ours is that of 0.
void put_zero_code(const std::vector<float>& weights, QByteArray& packed) {
    constexpr std::size_t block = 64;
    for (std::size_t begin = 0; begin < weights.size(); begin += block)
        if (std::all_of(weights.begin() + static_cast<std::ptrdiff_t>(begin),
                        weights.begin() + static_cast<std::ptrdiff_t>(begin + block), [](float w) { return w == 0; }))
            packed.replace(static_cast<qsizetype>(begin / 2), block / 2, QByteArray(block / 2, 0x77));
}

void TestGolden::cases() {
    QFETCH(QJsonObject, golden);
    TensorShape shape;
    const std::vector<float> weights = input(golden, shape);
    QCOMPARE(weights.size(), static_cast<std::size_t>(shape.count()));
    const std::vector<float> importance = this->importance(golden);
    QCOMPARE(importance.size(), golden.contains("importance") ? static_cast<std::size_t>(shape.columns) : 0);
    const Coded coded = code_matrix(parse_spec(golden["format"].toString().toStdString()), weights, shape, nullptr,
                                    importance.empty() ? nullptr : importance.data());

    const QJsonObject arrays = golden["arrays"].toObject();
    for (const QString& name : arrays.keys()) {
        const StoredArray* made = coded.array(name.toStdString());
        QVERIFY2(made != nullptr, qPrintable(name));
        if (arrays.contains("offset.f32") && name != "weight.u8")
            continue; // nestedAbsmax()
        const QByteArray stored(reinterpret_cast<const char*>(made->bytes.data()),
                                static_cast<qsizetype>(made->bytes.size()));
        if (!arrays[name].toObject().contains("file")) {
            QCOMPARE(QString::fromLatin1(sha256(stored)), arrays[name]["sha256"].toString());
            continue;
        }
        QByteArray expected = bytes(arrays[name].toObject());
        if (golden["format"].toString().startsWith("nf4") && name == "weight.u8")
            put_zero_code(weights, expected);
        QCOMPARE(first_difference(made->bytes, std::as_bytes(std::span(expected.cbegin(), expected.cend()))), -1);
    }
    if (golden.contains("decoded_sha256"))
        QCOMPARE(decoded_sha256(coded.decoded), golden["decoded_sha256"].toString());
}

/// Double quantization. The reference's mean is a float32 library reduction, so its last bit can differ: the rest is
/// compared with the reference's offset.
void TestGolden::nestedAbsmax() {
    int compared = 0;
    for (const QJsonValue& golden : manifest_["cases"].toArray()) {
        const QJsonObject arrays = golden["arrays"].toObject();
        if (!arrays.contains("offset.f32"))
            continue;
        TensorShape shape;
        const std::vector<float> weights = input(golden.toObject(), shape);
        const FormatSpec spec = parse_spec(golden["format"].toString().toStdString());
        const Coded coded = code_matrix(spec, weights, shape), plain = code_matrix(parse_spec(spec.id), weights, shape);
        const float offset = values<float>(arrays["offset.f32"].toObject())[0];
        const float made = values_of<float>(coded.array("offset.f32")->bytes)[0];
        QVERIFY(made == offset || made == std::nextafter(offset, 0.0F) || made == std::nextafter(offset, 1.0F));

        const auto absmax = values_of<float>(plain.array("absmax.f32")->bytes);
        const NestedAbsmax theirs = quantize_nested(absmax, offset), ours = quantize_nested(absmax, made);
        QCOMPARE(theirs.codes, values<std::uint8_t>(arrays["absmax.u8"].toObject()));
        QCOMPARE(theirs.scales, values<float>(arrays["nested_absmax.f32"].toObject()));
        QCOMPARE(ours.codes, values_of<std::uint8_t>(coded.array("absmax.u8")->bytes));
        QCOMPARE(ours.scales, values_of<float>(coded.array("nested_absmax.f32")->bytes));
        ++compared;
    }
    QVERIFY(compared >= 4);
}

void TestGolden::codebooks() {
    const std::vector<float> nf4 = values<float>(table("nf4")), fp4 = values<float>(table("fp4"));
    QCOMPARE(nf4.size(), std::size_t{16});
    QCOMPARE(fp4.size(), std::size_t{16});
    for (std::uint32_t code = 0; code < 16; ++code) {
        QCOMPARE(float_bits(Nf4Codec::level(code)), float_bits(nf4[code]));
        QVERIFY(Fp4Codec::level(code) == fp4[code]);
        if (code < 15) {
            const float middle = (nf4[code] + nf4[code + 1]) / 2;
            QVERIFY(std::abs(Nf4Codec::threshold(code) - middle) <=
                    std::nextafter(std::abs(middle), 1.0F) - std::abs(middle));
        }
    }
    for (std::uint32_t rank = 0; rank < 8; ++rank)
        QCOMPARE(Fp4Codec::magnitude(rank), fp4[Fp4Codec::code_of_rank(rank)]);
}

void TestGolden::dynamicMap() {
    const std::vector<float> expected = values<float>(table("dynamic8"));
    QCOMPARE(expected.size(), std::size_t{256});
    for (std::uint32_t code = 0; code < expected.size(); ++code) {
        QCOMPARE(float_bits(dynamic_level(code)), float_bits(expected[code]));
        QCOMPARE(std::uint32_t{encode_dynamic(expected[code])}, code);
    }
}

void TestGolden::fp8Values() {
    const std::vector<float> e4m3 = values<float>(table("e4m3")), e5m2 = values<float>(table("e5m2"));
    QCOMPARE(e4m3.size(), std::size_t{256});
    QCOMPARE(e5m2.size(), std::size_t{256});
    for (std::size_t code = 0; code < 256; ++code) {
        QVERIFY(same_value(fp8_to_float<E4M3>(static_cast<std::uint8_t>(code)), e4m3[code]));
        QVERIFY(same_value(fp8_to_float<E5M2>(static_cast<std::uint8_t>(code)), e5m2[code]));
    }
}

void TestGolden::fp8Conversions() {
    const std::vector<float> scalars = values<float>(table("scalars"));
    const auto e4m3 = values<std::uint8_t>(table("scalars_e4m3")), e5m2 = values<std::uint8_t>(table("scalars_e5m2"));
    QCOMPARE(scalars.size(), e4m3.size());
    QCOMPARE(scalars.size(), e5m2.size());
    for (std::size_t i = 0; i < scalars.size(); ++i) {
        // The sign of a NaN has no meaning.
        const std::uint32_t mask = std::isnan(scalars[i]) ? 0x7F : 0xFF;
        QCOMPARE(float_to_fp8<E4M3>(scalars[i]) & mask, e4m3[i] & mask);
        QCOMPARE(float_to_fp8<E5M2>(scalars[i]) & mask, e5m2[i] & mask);
    }
}

QTEST_GUILESS_MAIN(TestGolden)
#include "test_golden.moc"
