#include <QCryptographicHash>
#include <QTemporaryDir>
#include <QTest>

#include <cstring>

#include "tests/app/cli_run.h"
#include "tests/core/analysis/test_data.h"

using namespace qs::test;
using nlohmann::json;

namespace {

const QString golden = QStringLiteral(QUANTOSCOPE_GOLDEN "/");

std::vector<float> floats(const QByteArray& bytes) {
    std::vector<float> values(static_cast<std::size_t>(bytes.size()) / 4);
    std::memcpy(values.data(), bytes.data(), values.size() * 4);
    return values;
}

/// The hash of decoded values as the manifest defines it: −0 as +0, one NaN.
std::string decoded_hash(std::vector<float> values) {
    const std::uint32_t quiet_nan = 0x7fc00000;
    for (float& value : values) {
        if (value == 0)
            value = 0;
        if (value != value)
            std::memcpy(&value, &quiet_nan, 4);
    }
    const QByteArray bytes(reinterpret_cast<const char*>(values.data()), static_cast<int>(values.size() * 4));
    return QCryptographicHash::hash(bytes, QCryptographicHash::Sha256).toHex().toStdString();
}

bool write(const QString& path, const std::vector<float>& values) {
    QFile file(path);
    const auto bytes = static_cast<qint64>(values.size() * 4);
    return file.open(QIODevice::WriteOnly) && file.write(reinterpret_cast<const char*>(values.data()), bytes) == bytes;
}

} // namespace

/// `codec` against reference bytes, and `histogram` against counting.
class CliCodec : public QObject {
    Q_OBJECT

private:
    QTemporaryDir folder_;

private slots:
    void dumps_equal_reference_bytes_data() {
        QTest::addColumn<QString>("text");
        if (!QFile::exists(golden + "MANIFEST.json"))
            QSKIP("tests/golden has no manifest");
        const json manifest = json::parse(contents(golden + "MANIFEST.json").toStdString());
        for (const json& one : manifest["cases"]) {
            if (one["rows"] != "all")
                continue;
            json copy = one;
            for (const json& input : manifest["inputs"])
                if (input["name"] == one["input"])
                    copy["matrix"] = input;
            const std::string name = one["format"].get<std::string>() + " of " + one["input"].get<std::string>();
            QTest::newRow(name.c_str()) << QString::fromStdString(copy.dump());
        }
    }

    void dumps_equal_reference_bytes() {
        QFETCH(QString, text);
        const json expected = json::parse(text.toStdString());
        const json& matrix = expected["matrix"];
        const QString input = golden + QString::fromStdString(matrix["file"]);
        if (!QFile::exists(input))
            QSKIP("the input is missing from tests/golden");
        const QString out = folder_.filePath(QString::fromLatin1(QTest::currentDataTag()));
        const int rows = matrix["rows"], columns = matrix["columns"];
        const Outcome outcome =
            run_cli({"codec", "--format", QString::fromStdString(expected["format"]), "--rows", QString::number(rows),
                     "--cols", QString::number(columns), input, "--dump", out, "--device", "cpu", "--json"});
        QVERIFY2(outcome.status == 0 && outcome.error.isEmpty(), outcome.error);
        const json document = outcome.json();
        QVERIFY(document["format"] == expected["format"]);
        QVERIFY(document["rows"] == rows && document["cols"] == columns);
        for (const auto& [name, array] : expected["arrays"].items()) {
            const QString reference = golden + QString::fromStdString(array["file"]);
            if (!QFile::exists(reference))
                QSKIP("a reference file is missing from tests/golden");
            // The reference's mean of absmax depends on its order of additions, and what is nested on that mean;
            // test_golden compares these two within that freedom.
            if (name == "offset.f32" || name == "nested_absmax.f32")
                continue;
            QVERIFY2(contents(out + "/" + QString::fromStdString(name)) == contents(reference), name.c_str());
        }
        if (expected.contains("decoded_sha256") && !expected["arrays"].contains("offset.f32"))
            QCOMPARE(decoded_hash(floats(contents(out + "/decoded.f32"))),
                     expected["decoded_sha256"].get<std::string>());
        check_errors(floats(contents(input)), floats(contents(out + "/decoded.f32")), document);
    }

    void refuses_wrong_sizes() {
        QVERIFY(write(folder_.filePath("a.f32"), std::vector<float>(64, 1)));
        QVERIFY(write(folder_.filePath("im.f32"), std::vector<float>(31, 1)));
        const QString input = folder_.filePath("a.f32");
        const Outcome size = run_cli({"codec", "--format", "nf4", "--rows", "3", "--cols", "32", input});
        QCOMPARE(size.status, 1);
        QVERIFY2(size.error.contains("a.f32: has 256 bytes, but 3 rows of 32 float32 values take 384"), size.error);
        const QStringList base{"codec", "--format", "nf4", "--rows", "2", "--cols", "32", input};
        const Outcome importance = run_cli(base + QStringList{"--imatrix", folder_.filePath("im.f32")});
        QCOMPARE(importance.status, 1);
        QVERIFY2(importance.error.contains("im.f32"), importance.error);
        const Outcome folder = run_cli(base + QStringList{"--dump", "/proc/quantoscope"});
        QCOMPARE(folder.status, 1);
        QVERIFY2(folder.one_error_line() && folder.error.contains("/proc/quantoscope"), folder.error);
    }

    void says_that_importances_are_ignored() {
        QVERIFY(write(folder_.filePath("b.f32"), std::vector<float>(64, 1)));
        QVERIFY(write(folder_.filePath("im32.f32"), std::vector<float>(32, 1)));
        const Outcome outcome = run_cli({"codec", "--format", "nf4", "--rows", "2", "--cols", "32", "--imatrix",
                                         folder_.filePath("im32.f32"), folder_.filePath("b.f32"), "--json"});
        QCOMPARE(outcome.status, 0);
        QVERIFY(outcome.json()["imatrix"] == "ignored");
    }

    void falls_back_where_blocks_do_not_divide() {
        QVERIFY(write(folder_.filePath("c.f32"), std::vector<float>(2 * 33, 0.3F)));
        const json document =
            run_cli({"codec", "--format", "q4_0", "--rows", "2", "--cols", "33", folder_.filePath("c.f32"), "--json"})
                .json();
        QVERIFY(document["format"] == "q4_0" && document["fallback"] == "fp16");
        QCOMPARE(document["bytes"].get<int>(), 2 * 33 * 2);
    }

    void histogram_counts() {
        std::vector<float> weights;
        for (int i = 0; i < 1024; ++i)
            weights.push_back(static_cast<float>(i * i % 997) / 500 - 1);
        const QString model = write_safetensors(folder_, "h.safetensors", {stored("w", "F32", {16, 64}, weights)});
        const Outcome outcome =
            run_cli({"histogram", model, "--tensor", "w", "--format", "int4", "--bins", "10", "--json"});
        QVERIFY2(outcome.status == 0, outcome.error);
        const json document = outcome.json();
        const auto [low, high] = std::minmax_element(weights.begin(), weights.end());
        std::vector<std::uint64_t> counts(10);
        for (const float w : weights)
            ++counts[std::min<std::size_t>(
                9, static_cast<std::size_t>((double{w} - *low) * (10 / (double{*high} - *low))))];
        QVERIFY(document["counts"] == json(counts));
        QCOMPARE(document["edges"].size(), std::size_t{11});
        QCOMPARE(document["edges"][0].get<double>(), double{*low});
        QCOMPARE(document["edges"][10].get<double>(), double{*high});
        const json& reconstruction = document["reconstruction"];
        std::uint64_t total =
            reconstruction["below"].get<std::uint64_t>() + reconstruction["above"].get<std::uint64_t>();
        for (const json& count : reconstruction["counts"])
            total += count.get<std::uint64_t>();
        QCOMPARE(total, std::uint64_t{1024});
        QVERIFY(run_cli({"histogram", model, "--tensor", "w"}).out.contains("█"));
    }

    void histogram_of_equal_weights() {
        const std::vector<float> weights(64, 0.25F);
        const QString model = write_safetensors(folder_, "e.safetensors", {stored("w", "F32", {2, 32}, weights)});
        const json document = run_cli({"histogram", model, "--tensor", "w", "--bins", "3", "--json"}).json();
        QVERIFY(document["counts"] == (json{0, 64, 0}));
    }

private:
    /// The result fields against sums of our own over the pairs that are finite.
    static void check_errors(const std::vector<float>& weights, const std::vector<float>& decoded,
                             const json& document) {
        QCOMPARE(weights.size(), decoded.size());
        double w2 = 0, d2 = 0, d = 0, largest = 0;
        std::size_t n = 0;
        for (std::size_t i = 0; i < weights.size(); ++i) {
            if (!std::isfinite(weights[i]) || !std::isfinite(decoded[i]))
                continue;
            const double w = weights[i], error = decoded[i] - w;
            ++n;
            w2 += w * w;
            d2 += error * error;
            d += error;
            largest = std::max(largest, std::abs(error));
        }
        const auto count = static_cast<double>(n);
        QCOMPARE(document["nonfinite"].get<std::size_t>(), weights.size() - n);
        QVERIFY(document["flagged"] == (n < weights.size()));
        QVERIFY(close(document["mse"], d2 / count));
        QVERIFY(close(document["rmse"], std::sqrt(d2 / count)));
        QVERIFY(close(document["relative_error"], std::sqrt(d2 / w2)));
        QVERIFY(close(document["max_abs_error"], largest));
        QVERIFY(std::abs(document["mean_error"].get<double>() - d / count) <= 1e-9 * std::sqrt(d2 / count));
        if (d2 > 0)
            QVERIFY(close(document["sqnr_db"], 10 * std::log10(w2 / d2)));
        else
            QVERIFY(document["sqnr_db"] == "inf");
    }
};

QTEST_GUILESS_MAIN(CliCodec)
#include "cli_codec.moc"
