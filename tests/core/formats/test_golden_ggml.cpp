#include <QDir>
#include <QFile>
#include <QJsonArray>
#include <QJsonDocument>
#include <QJsonObject>
#include <QtTest>

#include "coding.h"

using namespace qs;
using namespace qs::test;

/// All of ggml's bytes outside the tree (golden of the shared data), with and without an importance matrix.
class TestGoldenGgml : public QObject {
    Q_OBJECT

private slots:
    void initTestCase();
    void blocks_data();
    void blocks();

private:
    QDir folder_{QStringLiteral(QUANTOSCOPE_SHARED_DATA "/golden")};

    QJsonArray entries() const;
    std::vector<std::byte> bytes(const QString& name) const;
    std::vector<float> floats(const QString& name) const { return values_of<float>(bytes(name)); }
};

QJsonArray TestGoldenGgml::entries() const {
    QFile file(folder_.filePath("MANIFEST.ggml.json"));
    // The errors of overflowing formats are written as Infinity and NaN, which JSON has not.
    const QByteArray text = file.open(QIODevice::ReadOnly) ? file.readAll() : QByteArray();
    const QByteArray json = QByteArray(text).replace(": Infinity", ": null").replace(": NaN", ": null");
    return QJsonDocument::fromJson(json).object()["files"].toArray();
}

std::vector<std::byte> TestGoldenGgml::bytes(const QString& name) const {
    QFile file(folder_.filePath(name));
    const QByteArray raw = file.open(QIODevice::ReadOnly) ? file.readAll() : QByteArray();
    const auto span = std::as_bytes(std::span(raw.cbegin(), raw.cend()));
    return {span.begin(), span.end()};
}

void TestGoldenGgml::initTestCase() {
    if (!folder_.exists("MANIFEST.ggml.json"))
        QSKIP("no reference bytes in " QUANTOSCOPE_SHARED_DATA "/golden");
    QVERIFY(!entries().isEmpty());
}

/// Our id of ggml's type.
QString id_of(const QString& type) {
    if (type == "f16")
        return "fp16";
    return type == "mxfp4" || type == "nvfp4" ? type + "_ggml" : type;
}

void TestGoldenGgml::blocks_data() {
    QTest::addColumn<QJsonObject>("golden");
    QTest::addColumn<QString>("decoded");
    QHash<QString, QString> decoded;
    for (const QJsonValue& entry : entries())
        decoded[entry["of"].toString()] = entry["file"].toString();
    for (const QJsonValue& entry : entries())
        if (entry["format"].isString())
            QTest::addRow("%s", qPrintable(entry["file"].toString()))
                << entry.toObject() << decoded[entry["file"].toString()];
}

/// The rows of a matrix that the list names, or all of them.
std::vector<float> rows_of(const std::vector<float>& matrix, std::size_t columns, const QJsonValue& rows) {
    if (!rows.isArray())
        return matrix;
    std::vector<float> chosen;
    for (const QJsonValue& row : rows.toArray()) {
        const auto begin = matrix.begin() + static_cast<std::ptrdiff_t>(row.toInt() * columns);
        chosen.insert(chosen.end(), begin, begin + static_cast<std::ptrdiff_t>(columns));
    }
    return chosen;
}

void TestGoldenGgml::blocks() {
    QFETCH(QJsonObject, golden);
    QFETCH(QString, decoded);
    const std::string id = id_of(golden["format"].toString()).toStdString();
    if (std::none_of(formats().begin(), formats().end(), [&](const Format& format) { return format.id == id; }))
        QSKIP(("the registry has no format " + id).c_str());

    constexpr std::size_t columns = 1024;
    const auto weights = rows_of(floats(golden["input"].toString()), columns, golden["input_rows"]);
    QVERIFY(!weights.empty());
    const auto importance = floats(golden["importance"].toString());
    QCOMPARE(importance.size(), golden["importance"].isString() ? columns : 0);
    const Coded coded = code_matrix(parse_spec(id), weights, {weights.size() / columns, columns}, nullptr,
                                    importance.empty() ? nullptr : importance.data());

    QCOMPARE(coded.arrays.size(), std::size_t{1});
    QCOMPARE(first_difference(coded.arrays[0].bytes, bytes(golden["file"].toString())), -1);
    if (decoded.isEmpty())
        return;
    const auto expected = floats(decoded);
    QCOMPARE(coded.decoded.size(), expected.size());
    for (std::size_t i = 0; i < expected.size(); ++i)
        QVERIFY2(same_value(coded.decoded[i], expected[i]), qPrintable(QString::number(i)));
}

QTEST_GUILESS_MAIN(TestGoldenGgml)
#include "test_golden_ggml.moc"
