#include <QFile>
#include <QJsonArray>
#include <QJsonDocument>
#include <QJsonObject>
#include <QtTest>

#include <algorithm>
#include <set>

#include "coding.h"
#include "core/base/error.h"
#include "core/checkpoint/checkpoint.h"
#include "core/formats/codec_dispatch.h"
#include "core/formats/load.h"

using namespace qs;
using namespace qs::test;

namespace {

const QString shared = QStringLiteral(QUANTOSCOPE_SHARED_DATA);

/// By bits per weight.
const std::vector<std::string> ids{"iq1_s", "iq1_m", "iq2_xxs", "iq2_xs", "iq2_s", "iq3_xxs", "iq3_s"};

void id_rows() {
    QTest::addColumn<int>("unused");
    for (const std::string& id : ids)
        QTest::newRow(id.c_str()) << 0;
}

template <class T>
std::vector<T> read_values(const QString& path) {
    QFile file(path);
    const QByteArray raw = file.open(QIODevice::ReadOnly) ? file.readAll() : QByteArray();
    std::vector<T> values(static_cast<std::size_t>(raw.size()) / sizeof(T));
    std::memcpy(values.data(), raw.constData(), values.size() * sizeof(T));
    return values;
}

struct Encoded {
    std::vector<std::byte> bytes;
    std::vector<std::uint16_t> codes;
    std::vector<float> decoded;

    double relative_error(const std::vector<float>& weights) const {
        double d2 = 0, w2 = 0;
        for (std::size_t i = 0; i < weights.size(); ++i) {
            const double w = weights[i], d = w - decoded[i];
            d2 += d * d;
            w2 += w * w;
        }
        return std::sqrt(d2 / w2);
    }
};

/// A matrix through a format, whole or in random ranges.
Encoded encoded(const std::string& id, const std::vector<float>& weights, const TensorShape& shape,
                const std::vector<float>& importance, std::mt19937* random = nullptr) {
    const auto codec = bind_codec(parse_spec(id), shape, importance.empty() ? nullptr : importance.data());
    Encoded result{{}, std::vector<std::uint16_t>(weights.size()), std::vector<float>(weights.size())};
    for (const auto& [begin, end] : ranges_of(*codec, shape.count(), random)) {
        const auto count = static_cast<std::size_t>(end - begin);
        std::vector<std::byte> part(codec->encoded_bytes(begin, count));
        codec->encode(weights.data() + begin, begin, count, part.data());
        result.bytes.insert(result.bytes.end(), part.begin(), part.end());
        codec->quantize(weights.data() + begin, begin, count, result.codes.data() + begin,
                        result.decoded.data() + begin);
    }
    return result;
}

bool all_zero(const std::vector<std::byte>& bytes) {
    return std::all_of(bytes.begin(), bytes.end(), [](std::byte b) { return b == std::byte{0}; });
}

std::vector<float> normal_weights(const TensorShape& shape, std::mt19937& random) {
    std::normal_distribution<float> normal(0, 0.02F);
    std::vector<float> weights(static_cast<std::size_t>(shape.count()));
    std::generate(weights.begin(), weights.end(), [&] { return normal(random); });
    return weights;
}

/// Importances of columns, some of them 0.
std::vector<float> random_importance(const TensorShape& shape, std::mt19937& random) {
    std::exponential_distribution<float> exponential;
    std::vector<float> importance(static_cast<std::size_t>(shape.columns));
    std::generate(importance.begin(), importance.end(), [&] { return random() % 8 == 0 ? 0.0F : exponential(random); });
    return importance;
}

} // namespace

/// ggml's codebook formats. The rows of a data-driven test are named by the formats.
class TestIq : public QObject {
    Q_OBJECT

private slots:
    void golden_data();
    void golden();
    void allTypes_data() { id_rows(); }
    void allTypes();
    void errors();
    void requiredImportance_data() { id_rows(); }
    void requiredImportance();
    void importanceCounts_data() { id_rows(); }
    void importanceCounts();
    void zeros_data() { id_rows(); }
    void zeros();
    void nonfinite_data() { id_rows(); }
    void nonfinite();
    void hostile_data() { id_rows(); }
    void hostile();
    void outOfRange_data() { id_rows(); }
    void outOfRange();
    void partitions_data() { id_rows(); }
    void partitions();
    void levels_data() { id_rows(); }
    void levels();
    void bigEndian_data();
    void bigEndian();
    void neighbours();
};

void TestIq::golden_data() {
    QTest::addColumn<QJsonObject>("blocks");
    QTest::addColumn<int>("columns");
    QTest::addColumn<QString>("decoded");
    QFile file(shared + "/golden/MANIFEST.ggml.json");
    if (!file.open(QIODevice::ReadOnly))
        return;
    // Python writes a relative error that JSON has no number for.
    const QByteArray text = file.readAll().replace(": Infinity", ": null").replace(": NaN", ": null");
    const QJsonArray files = QJsonDocument::fromJson(text).object()["files"].toArray();
    std::map<QString, int> columns;
    std::map<QString, QString> decoded;
    for (const QJsonValue& entry : files) {
        columns[entry["file"].toString()] = entry["cols"].toInt();
        decoded[entry["of"].toString()] = entry["file"].toString();
    }
    for (const QJsonValue& entry : files)
        if (std::find(ids.begin(), ids.end(), entry["format"].toString().toStdString()) != ids.end())
            QTest::newRow(qPrintable(entry["file"].toString()))
                << entry.toObject() << columns[entry["input"].toString()] << decoded[entry["file"].toString()];
}

/// ggml's bytes, with and without importance, of normal and of extreme rows.
void TestIq::golden() {
    if (!QFile::exists(shared + "/golden/MANIFEST.ggml.json"))
        QSKIP("no reference bytes in " QUANTOSCOPE_SHARED_DATA "/golden");
    QFETCH(QJsonObject, blocks);
    QFETCH(int, columns);
    QFETCH(QString, decoded);
    const QString folder = shared + "/golden/";
    const auto input = read_values<float>(folder + blocks["input"].toString());
    std::vector<float> weights;
    for (const QJsonValue& row : blocks["input_rows"].toArray()) {
        const auto begin = input.begin() + static_cast<std::ptrdiff_t>(row.toInt()) * columns;
        weights.insert(weights.end(), begin, begin + columns);
    }
    const TensorShape shape{weights.size() / static_cast<std::size_t>(columns), static_cast<std::uint64_t>(columns)};
    QVERIFY(shape.count() > 0);
    std::vector<float> importance;
    if (blocks["importance"].isString())
        importance = read_values<float>(folder + blocks["importance"].toString());
    const Encoded made = encoded(blocks["format"].toString().toStdString(), weights, shape, importance);
    QVERIFY(made.bytes == read_values<std::byte>(folder + blocks["file"].toString()));
    if (decoded.isEmpty())
        return;
    const auto expected = read_values<float>(folder + decoded);
    QVERIFY(std::equal(expected.begin(), expected.end(), made.decoded.begin(), made.decoded.end(), same_value));
}

/// Tensors that llama.cpp's tools wrote, whole and in odd parts.
void TestIq::allTypes() {
    const QString folder = shared + "/containers/gguf/ggml-ref/";
    if (!QFile::exists(folder + "all-types.gguf"))
        QSKIP("no checkpoint of all ggml types in " QUANTOSCOPE_SHARED_DATA);
    const std::string name = QTest::currentDataTag();
    const auto stored = open_checkpoint((folder + "all-types.gguf").toStdString());
    const auto reference = open_checkpoint((folder + "all-types.expected.safetensors").toStdString());
    const TensorInfo& tensor = stored->tensors.at(stored->find("q." + name).value());
    const TensorInfo& floats = reference->tensors.at(reference->find(name).value());
    QCOMPARE(std::string(to_string(tensor.dtype)), name);
    QCOMPARE(tensor.elements(), floats.elements());
    std::vector<float> expected(static_cast<std::size_t>(floats.elements()));
    load_weights(floats.dtype, false, reference->data(floats).data(), 0, expected.size(), expected.data());
    QVERIFY(std::any_of(expected.begin(), expected.end(), [](float w) { return w != 0; }));
    for (const std::size_t length : {expected.size(), std::size_t{333}})
        for (std::size_t begin = 0; begin < expected.size(); begin += length) {
            std::vector<float> part(std::min(length, expected.size() - begin));
            load_weights(tensor.dtype, false, stored->data(tensor).data(), begin, part.size(), part.data());
            QVERIFY(std::equal(part.begin(), part.end(), expected.begin() + static_cast<std::ptrdiff_t>(begin)));
        }
}

/// More bits, less error.
void TestIq::errors() {
    std::mt19937 random(31);
    const TensorShape shape{16, 1024};
    const std::vector<float> weights = normal_weights(shape, random), even(1024, 1.0F);
    double above = 0.6;
    for (const std::string& id : ids) {
        const double error = encoded(id, weights, shape, even).relative_error(weights);
        QVERIFY2(error < above, id.c_str());
        above = error;
    }
    QVERIFY(above < 0.16);
}

void TestIq::requiredImportance() {
    const std::string id = QTest::currentDataTag();
    const std::vector<float> weights(256, 0.5F);
    const bool required = id == "iq1_s" || id == "iq2_xxs" || id == "iq2_xs";
    QCOMPARE(format(id).importance, required ? Importance::required : Importance::optional);
    // Bits per weight and levels can be shown nevertheless.
    QVERIFY(format(id).nominal_bits(parse_spec(id)) < 3.5);
    QVERIFY(bind_codec(parse_spec(id), {1, 256})->codebook().has_value());
    try {
        const Encoded made = encoded(id, weights, {1, 256}, {});
        QVERIFY(!required && !all_zero(made.bytes));
    } catch (const Error& error) {
        QVERIFY2(required && QString(error.what()).contains("importance matrix"), error.what());
    }
}

/// Columns that count more are nearer afterwards.
void TestIq::importanceCounts() {
    std::mt19937 random(32);
    const TensorShape shape{32, 512};
    const std::vector<float> weights = normal_weights(shape, random), even(512, 1.0F);
    std::vector<float> importance(512);
    for (std::size_t column = 0; column < importance.size(); ++column)
        importance[column] = column % 3 == 0 ? 100.0F : 1.0F;
    const auto error = [&](const Encoded& made) {
        double sum = 0;
        for (std::size_t i = 0; i < weights.size(); ++i)
            if (importance[i % shape.columns] > 1)
                sum += std::pow(static_cast<double>(weights[i]) - made.decoded[i], 2);
        return sum;
    };
    const std::string id = QTest::currentDataTag();
    QVERIFY(error(encoded(id, weights, shape, importance)) < 0.9 * error(encoded(id, weights, shape, even)));
}

void TestIq::zeros() {
    const TensorShape shape{2, 512};
    const std::vector<float> importance(512, 1.0F);
    const Encoded made = encoded(QTest::currentDataTag(), std::vector<float>(1024), shape, importance);
    QVERIFY(all_zero(made.bytes));
    QVERIFY(std::all_of(made.decoded.begin(), made.decoded.end(), [](float v) { return v == 0; }));
}

/// NaN and Inf are encoded as 0.
void TestIq::nonfinite() {
    std::mt19937 random(33);
    const TensorShape shape{3, 512};
    const std::vector<float> importance = random_importance(shape, random), bad{NAN, INFINITY, -INFINITY};
    std::vector<float> dirty = normal_weights(shape, random), clean = dirty;
    for (std::size_t i = 0; i < dirty.size(); i += 1 + random() % 100) {
        dirty[i] = bad[random() % bad.size()];
        clean[i] = 0;
    }
    const std::string id = QTest::currentDataTag();
    const Encoded made = encoded(id, dirty, shape, importance);
    QVERIFY(made.bytes == encoded(id, clean, shape, importance).bytes);
    QVERIFY(std::all_of(made.decoded.begin(), made.decoded.end(), [](float v) { return std::isfinite(v); }));
}

/// Whatever the magnitudes and importances: bytes that can be decoded, the same each time, and as good as the others in
/// super-blocks that have nothing of it.
void TestIq::hostile() {
    std::mt19937 random(34);
    const std::string id = QTest::currentDataTag();
    const TensorShape shape{4, 768};
    const std::vector<float> unit = normal_weights(shape, random), plain = random_importance(shape, random);
    const Encoded without = encoded(id, unit, shape, plain);
    for (const float scale : {1e-43F, 1e-38F, 1e-20F, 1e-9F, 1e4F, 1e9F, 1e17F, 1e25F, 3e38F}) {
        std::vector<float> weights = unit;
        std::vector<float> importance = plain;
        for (std::size_t i = 256; i < 512; ++i) {
            importance[i] *= random() % 4 == 0 ? scale : 1.0F;
            for (std::size_t row = 0; row < shape.rows; ++row)
                weights[row * shape.columns + i] *= scale * (random() % 5 == 0 ? 1e-6F : 1.0F);
        }
        const Encoded made = encoded(id, weights, shape, importance);
        QVERIFY(encoded(id, weights, shape, importance).bytes == made.bytes);
        QVERIFY(std::all_of(made.codes.begin(), made.codes.end(), [](std::uint16_t code) { return code < 16; }));
        for (std::size_t i = 0; i < weights.size(); ++i)
            if (i % shape.columns / 256 != 1)
                QVERIFY(made.decoded[i] == without.decoded[i]);
            else if (scale < 1e5F)
                QVERIFY(std::isfinite(made.decoded[i]));
    }
}

/// Where ggml ends the process, zeros.
void TestIq::outOfRange() {
    std::mt19937 random(35);
    const std::string id = QTest::currentDataTag();
    const TensorShape shape{1, 256};
    std::vector<float> weights = normal_weights(shape, random), importance(256, 1.0F);
    const auto is_zero = [&] { return all_zero(encoded(id, weights, shape, importance).bytes); };
    QVERIFY(!is_zero());
    importance.assign(256, INFINITY);
    QVERIFY(is_zero());
    importance.assign(256, NAN);
    QVERIFY(is_zero());
    importance.assign(256, 3e38F);
    for (float& w : weights)
        w *= 1e20F;
    QVERIFY(is_zero());
}

void TestIq::partitions() {
    std::mt19937 random(36);
    const std::string id = QTest::currentDataTag();
    for (const TensorShape& shape : {TensorShape{5, 768}, TensorShape{1, 4352}}) {
        const std::vector<float> weights = random_weights(shape, random), importance = random_importance(shape, random);
        const Encoded whole = encoded(id, weights, shape, importance);
        for (int turn = 0; turn < 4; ++turn) {
            const Encoded parts = encoded(id, weights, shape, importance, &random);
            QVERIFY(parts.bytes == whole.bytes);
            QCOMPARE(parts.codes, whole.codes);
            QCOMPARE(parts.decoded, whole.decoded);
        }
    }
}

/// Any bytes decode to levels of the codebook, those of the codes.
void TestIq::levels() {
    std::mt19937 random(37);
    const std::string id = QTest::currentDataTag();
    with_ggml_packed_codec(parse_spec(id), [&]<class Codec>(const Codec&) {
        for (std::uint32_t rank = 1; rank < Codec::code_count; ++rank)
            QVERIFY(Codec::unit_level(Codec::code_at(rank - 1)) < Codec::unit_level(Codec::code_at(rank)));
        std::set<std::uint16_t> used;
        for (int turn = 0; turn < 200; ++turn) {
            std::uint8_t bytes[Codec::bytes];
            for (std::uint8_t& byte : bytes)
                byte = static_cast<std::uint8_t>(random());
            float decoded[Codec::block];
            std::uint16_t codes[Codec::block];
            Codec::decode(bytes, decoded);
            Codec::codes(bytes, codes);
            for (std::uint32_t j = 0; j < Codec::block; ++j) {
                QVERIFY(codes[j] < Codec::code_count);
                QVERIFY(same_value(Codec::level(bytes, j, codes[j]), decoded[j]));
                used.insert(codes[j]);
            }
        }
        QCOMPARE(used.size(), std::size_t{Codec::code_count});
    });
}

void TestIq::bigEndian_data() {
    QTest::addColumn<int>("bytes");
    QTest::addColumn<QList<int>>("words"); // offset and number of each run of 16-bit fields in ggml's struct
    QTest::newRow("iq1_s") << 50 << QList<int>{0, 1, 34, 8};
    QTest::newRow("iq1_m") << 56 << QList<int>{48, 4};
    QTest::newRow("iq2_xxs") << 66 << QList<int>{0, 33};
    QTest::newRow("iq2_xs") << 74 << QList<int>{0, 33};
    QTest::newRow("iq2_s") << 82 << QList<int>{0, 1};
    QTest::newRow("iq3_xxs") << 98 << QList<int>{0, 1};
    QTest::newRow("iq3_s") << 110 << QList<int>{0, 1};
}

void TestIq::bigEndian() {
    QFETCH(int, bytes);
    QFETCH(QList<int>, words);
    std::mt19937 random(38);
    const std::string id = QTest::currentDataTag();
    const TensorShape shape{3, 512};
    const Encoded made = encoded(id, normal_weights(shape, random), shape, random_importance(shape, random));
    std::vector<std::byte> swapped = made.bytes;
    for (std::size_t block = 0; block < swapped.size(); block += static_cast<std::size_t>(bytes))
        for (qsizetype run = 0; run < words.size(); run += 2)
            for (int word = 0; word < words[run + 1]; ++word) {
                const std::size_t at = block + static_cast<std::size_t>(words[run] + 2 * word);
                std::swap(swapped[at], swapped[at + 1]);
            }
    int dtype = static_cast<int>(DType::q4_0);
    while (to_string(static_cast<DType>(dtype)) != id)
        ++dtype;
    std::vector<float> loaded(made.decoded.size());
    load_weights(static_cast<DType>(dtype), true, swapped.data(), 0, loaded.size(), loaded.data());
    QVERIFY(loaded == made.decoded);
}

template <class Grid>
std::uint32_t distance(std::uint32_t a, std::uint32_t b) {
    std::uint32_t sum = 0;
    for (std::uint32_t i = 0; i < Grid::dims; ++i) {
        const auto difference = static_cast<int>(coordinate<Grid>(a, i)) - static_cast<int>(coordinate<Grid>(b, i));
        sum += static_cast<std::uint32_t>(difference * difference);
    }
    return sum;
}

/// Every point on the grid is found, and every other one has the points at the nearest distances, in order.
template <class Grid>
void check_neighbours() {
    const GridSearch& search = grid_search<Grid>();
    for (std::uint32_t index = 0; index < Grid::size; ++index)
        QCOMPARE(search.places[Grid::point(index)], static_cast<std::int32_t>(index));
    for (std::uint32_t point = 0; point < search.place_count; point += point < 512 ? 1 : 7) {
        bool is_point = true;
        for (std::uint32_t i = 0; i < Grid::dims; ++i)
            is_point = is_point && coordinate<Grid>(point, i) < Grid::levels;
        if (!is_point || search.places[point] >= 0)
            continue;
        std::vector<std::pair<std::uint32_t, std::uint32_t>> sorted;
        for (std::uint32_t index = 0; index < Grid::size; ++index)
            sorted.emplace_back(distance<Grid>(point, Grid::point(index)), index);
        std::sort(sorted.begin(), sorted.end());
        const auto begin = static_cast<std::uint32_t>(-1 - search.places[point]);
        const std::uint32_t count = search.neighbours[begin];
        QVERIFY(count >= 1 && begin + count < search.neighbour_count);
        std::set<std::uint32_t> rings;
        for (std::uint32_t n = 0; n < count; ++n) {
            QCOMPARE(std::uint32_t{search.neighbours[begin + 1 + n]}, Grid::point(sorted[n].second));
            rings.insert(sorted[n].first);
        }
        QCOMPARE(rings.size(), std::size_t{Grid::rings});
        QVERIFY(count == Grid::size || sorted[count].first > sorted[count - 1].first);
    }
}

void TestIq::neighbours() {
    check_neighbours<Iq1Grid>();
    check_neighbours<Iq2XxsGrid>();
    check_neighbours<Iq2XsGrid>();
    check_neighbours<Iq2SGrid>();
    check_neighbours<Iq3XxsGrid>();
    check_neighbours<Iq3SGrid>();
}

QTEST_GUILESS_MAIN(TestIq)
#include "test_iq.moc"
