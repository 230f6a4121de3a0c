#include <QElapsedTimer>
#include <QTemporaryDir>
#include <QTest>

#include <csignal>

#include "tests/app/cli_run.h"
#include "tests/core/analysis/test_data.h"
#include "tests/core/checkpoint/made_imatrix.h"

using namespace qs::test;
using nlohmann::json;

/// What `analyze` covers, writes, and leaves behind.
class CliAnalyze : public QObject {
    Q_OBJECT

private:
    QTemporaryDir folder_;
    QString model_;

private slots:
    void initTestCase() {
        model_ = write_safetensors(
            folder_, "model.safetensors",
            {stored("model.embed_tokens.weight", "F32", {32, 64}, random_weights(32 * 64, 1)),
             stored("model.layers.0.self_attn.q_proj.weight", "BF16", {64, 64}, to_bf16(random_weights(64 * 64, 2))),
             stored("model.layers.1.self_attn.q_proj.weight", "F32", {64, 33}, random_weights(64 * 33, 3)),
             stored("model.norm.weight", "F32", {64}, random_weights(64, 4)),
             stored("steps, counted", "I64", {2, 2}, std::vector<std::int64_t>{1, 2, 3, 4})});
        QVERIFY(QFile::exists(model_));
    }

    void document() {
        const Outcome outcome = run_cli(arguments({"--json"}));
        QVERIFY2(outcome.status == 0 && outcome.error.isEmpty(), outcome.error);
        const json document = outcome.json();
        QVERIFY(document["checkpoint"] == model_.toStdString());
        QVERIFY(document["device"] == "cpu" && document["threads"].get<int>() >= 1);
        QVERIFY(document["seconds"].get<double>() > 0);
        QCOMPARE(document["bytes_read"].get<int>(), 4 * 32 * 64 + 2 * 64 * 64 + 4 * 64 * 33);
        QVERIFY(document["formats"] == (json{"nf4:block=128,dq", "q4_0"}));
        QCOMPARE(document["tensors"].size(), std::size_t{3});
        QCOMPARE(document["layers"].size(), std::size_t{2});
        QCOMPARE(document["roles"].size(), std::size_t{2});
        QCOMPARE(document["model"].size(), std::size_t{2});
        QVERIFY(document["model"][1]["fallbacks"] == 1 && document["model"][1]["tensors"] == 3);
        QCOMPARE(document["skipped"].size(), std::size_t{2});
        QVERIFY(document["skipped"][0]["name"] == "model.norm.weight");
        QVERIFY(!document["skipped"][1]["reason"].get<std::string>().empty());
        QVERIFY(document["aggregation"].get<std::string>().find("number of elements") != std::string::npos);
    }

    void chosen_tensors() {
        const json norm = run_cli(arguments({"--json", "--tensors", "*norm*"})).json();
        QCOMPARE(norm["tensors"].size(), std::size_t{1});
        QVERIFY(norm["tensors"][0]["name"] == "model.norm.weight" && norm["skipped"].empty());
        const Outcome counted = run_cli(arguments({"--tensors", "steps*"}));
        QCOMPARE(counted.status, 1);
        QVERIFY2(counted.one_error_line() && counted.error.contains("steps, counted"), counted.error);
    }

    void table() {
        const Outcome outcome = run_cli(arguments({}));
        QCOMPARE(outcome.status, 0);
        QVERIFY(outcome.out.contains("model.layers.0.self_attn.q_proj.weight  [64, 64]"));
        QVERIFY(outcome.out.contains("* model.layers.1.self_attn.q_proj.weight: fp16 instead of q4_0"));
        QVERIFY(outcome.out.contains("skipped model.norm.weight"));
        QVERIFY(outcome.error.isEmpty());
    }

    /// Without a head the embedding is stored as one, and one row of the two layers' q is no row of blocks.
    void recipes() {
        const QStringList command{"analyze", model_, "--formats", "Q4_K_M,recipe:q8_0"};
        const json document = run_cli(command + QStringList{"--json"}).json();
        QVERIFY(document["formats"] == (json{"Q4_K_M", "recipe:Q8_0"}));
        const char* used[][2] = {{"q8_0", "q8_0"}, {"q5_0", "q8_0"}, {"fp16", "fp16"}};
        for (std::size_t tensor = 0; tensor < 3; ++tensor)
            for (std::size_t recipe = 0; recipe < 2; ++recipe) {
                const json& result = document["tensors"][tensor]["results"][recipe];
                QVERIFY(result["format"] == document["formats"][recipe] && result["kept"].is_null());
                QVERIFY2(result["used"] == used[tensor][recipe], result.dump().c_str());
            }
        const json& total = document["model"][0];
        QVERIFY(total["format"] == "Q4_K_M" && total["tensors"] == 3 && !total.contains("used"));
        const double bits = 32 * 64 * 8.5 + 64 * 64 * 5.5 + 64 * 33 * 16.0;
        QVERIFY(close(total["bits_per_weight"], bits / (32 * 64 + 64 * 64 + 64 * 33)));

        const QByteArray table = run_cli(command + QStringList{"--tensors", "*"}).out;
        QVERIFY2(table.contains("q5_0 *"), table);
        QVERIFY(table.contains("model.layers.0.self_attn.q_proj.weight: q5_0 instead of the q4_K of Q4_K_M"));
        QVERIFY(table.contains("kept model.norm.weight in fp32 by Q4_K_M: it is a vector"));
    }

    /// Formats that need importances are skipped where there are none, and the others run.
    void imatrix() {
        const std::vector<float> ones(256, 1.0F);
        const QString model = write_safetensors(
            folder_, "wide.safetensors",
            {stored("model.embed_tokens.weight", "F32", {16, 256}, random_weights(16 * 256, 5)),
             stored("model.layers.0.mlp.up_proj.weight", "F32", {16, 256}, random_weights(16 * 256, 6))});
        std::vector<float> values = random_weights(256, 7, 1.0);
        for (float& value : values)
            value = std::exp(value);
        const QString matrix =
            write("m.gguf", gguf_imatrix({{"blk.0.ffn_up.weight", values}, {"output.weight", ones}}));
        const QStringList plain{"analyze", model, "--formats", "iq2_xxs,q4_K", "--device", "cpu"};
        const QStringList command = plain + QStringList{"--imatrix", matrix};

        const Outcome outcome = run_cli(command + QStringList{"--json"});
        QVERIFY2(outcome.status == 0, outcome.error);
        const json document = outcome.json();
        QVERIFY(document["imatrix"] == (json{{"file", matrix.toStdString()}, {"entries", 2}, {"used", 1}}));
        const json &embedding = document["tensors"][0], &up = document["tensors"][1];
        QVERIFY(embedding["results"].size() == 1 && embedding["results"][0]["format"] == "q4_K");
        QVERIFY(embedding["skipped_formats"].size() == 1);
        QVERIFY(embedding["skipped_formats"][0]["format"] == "iq2_xxs");
        const auto reason = embedding["skipped_formats"][0]["reason"].get<std::string>();
        QVERIFY2(reason.find("token_embd.weight") != std::string::npos, reason.c_str());
        QVERIFY(up["results"].size() == 2 && up["skipped_formats"].empty());
        QVERIFY(document["model"][0]["tensors"] == 1 && document["model"][1]["tensors"] == 2);

        const QByteArray table = run_cli(command).out;
        QVERIFY2(table.contains("1 of 2 tensors have importances, from 2 entries of " + matrix.toUtf8()), table);
        QVERIFY2(table.contains("model.embed_tokens.weight: iq2_xxs is skipped"), table);

        compare_with_codec(up, values);
        const Outcome without = run_cli(plain);
        QVERIFY2(without.status == 1 && without.one_error_line(), without.error);
        QVERIFY2(without.error.contains("format iq2_xxs: needs an importance matrix"), without.error);
        QVERIFY(run_cli({"analyze", model, "--formats", "q4_K", "--json"}).json()["imatrix"].is_null());
    }

    void imatrix_cannot_be_used() {
        const Outcome other = run_cli(arguments({"--imatrix", write("text.dat", "this is no importance matrix")}));
        QVERIFY2(other.status == 1 && other.one_error_line() && other.error.contains("text.dat"), other.error);
        const QByteArray wrong = gguf_imatrix({{"blk.0.attn_q.weight", {1, 2, 3}}});
        const Outcome size = run_cli(arguments({"--imatrix", write("wrong.gguf", wrong)}));
        QVERIFY2(size.status == 1 && size.one_error_line(), size.error);
        QVERIFY2(size.error.contains("blk.0.attn_q.weight has 3 values"), size.error);
        QCOMPARE(run_cli(arguments({"--imatrix", folder_.filePath("absent.gguf")})).status, 1);
    }

    void histogram_with_imatrix() {
        const std::vector<float> weights = random_weights(16 * 256, 6);
        const QString model = write_safetensors(
            folder_, "one.safetensors", {stored("model.layers.0.mlp.up_proj.weight", "F32", {16, 256}, weights)});
        const QStringList command{"histogram", model,      "--tensor", "model.layers.0.mlp.up_proj.weight",
                                  "--json",    "--format", "iq2_xxs",  "--imatrix"};
        const std::vector<float> ones(256, 1.0F);
        const QString matrix = write("h.dat", binary_imatrix({{"blk.0.ffn_up.weight", ones}}));
        const Outcome outcome = run_cli(command + QStringList{matrix});
        QVERIFY2(outcome.status == 0, outcome.error);
        QVERIFY(outcome.json()["reconstruction"]["format"] == "iq2_xxs");
        const QString other = write("o.dat", binary_imatrix({{"blk.1.ffn_up.weight", ones}}));
        const Outcome without = run_cli(command + QStringList{other});
        QVERIFY2(without.status == 1 && without.error.contains("blk.0.ffn_up.weight"), without.error);
    }

    void threads_do_not_change_a_number() {
        json one = run_cli(arguments({"--json", "--threads", "1"})).json();
        json three = run_cli(arguments({"--json", "--threads", "3"})).json();
        QVERIFY(one["threads"] == 1 && three["threads"] == 3);
        for (json* document : {&one, &three}) {
            document->erase("threads");
            document->erase("seconds");
        }
        QVERIFY(one == three);
    }

    void compared_with_itself() {
        const Outcome outcome = run_cli(arguments({"--json", "--compare-with", "cpu"}));
        QVERIFY2(outcome.status == 0 && outcome.error.isEmpty(), outcome.error);
        const json document = outcome.json(), &comparison = document["comparison"];
        QVERIFY(comparison["device"] == "cpu" && comparison["device_name"] == document["device_name"]);
        QVERIFY(comparison["bytes_read"] == document["bytes_read"] && comparison["seconds"].get<double>() > 0);
        QVERIFY(comparison["notes"].empty() && document["notes"].empty());
        QVERIFY(comparison["agrees"] == true && comparison["bound"] == 1e-9 && comparison["tensors"] == 3);
        QVERIFY(comparison["differing_counts"] == 0 && comparison["largest_deviation"] == 0);
        QVERIFY(comparison["metric"].is_null() && comparison["tensor"].is_null());
        QVERIFY(comparison["statistics"]["counts"] == 3 * 6);
        QCOMPARE(comparison["formats"].size(), std::size_t{2});
        QVERIFY(comparison["formats"][0]["format"] == "nf4:block=128,dq" && comparison["formats"][0]["tensors"] == 3);
        QVERIFY(comparison["formats"][0]["counts"].get<int>() >= 3 * 16);

        const QByteArray table = run_cli(arguments({"--compare-with", "cpu"})).out;
        QVERIFY2(table.contains("the results agree"), table);
        QCOMPARE(table.count(" read in "), 2);
        QVERIFY(run_cli(arguments({"--json"})).json()["comparison"].is_null());
    }

    void cannot_be_compared() {
        const Outcome gone = run_cli(arguments({"--compare-with", "cuda:999"}));
        QVERIFY2(gone.status == 1 && gone.one_error_line() && gone.out.isEmpty(), gone.error);
        QVERIFY2(gone.error.startsWith("error: --compare-with cuda:999: "), gone.error);
        const json devices = run_cli({"devices", "--json"}).json()["devices"];
        const json& gpu = devices.back();
        if (gpu["usable"] == false)
            QVERIFY2(gone.error.contains(gpu["reason"].get<std::string>().c_str()), gone.error);
        const Outcome unknown = run_cli(arguments({"--compare-with", "tpu"}));
        QCOMPARE(unknown.status, 2);
        QVERIFY2(unknown.error.startsWith("error: --compare-with: 'tpu' is not known"), unknown.error);
    }

    void csv() {
        const QString path = folder_.filePath("out.csv");
        const Outcome outcome = run_cli(arguments({"--json", "--csv", path}));
        QVERIFY2(outcome.status == 0, outcome.error);
        const json document = outcome.json();
        const QList<QByteArray> lines = contents(path).split('\n');
        QCOMPARE(lines.size(), 1 + 3 * 2 + 1);
        const QList<QByteArray> names = lines[0].split(',');
        for (const char* name : {"name", "shape", "role", "layer", "count", "std", "format", "bits_per_weight", "mse",
                                 "sqnr_db", "code_entropy", "fallback", "flagged"})
            QVERIFY2(names.contains(name), name);
        for (int row = 0; row < 6; ++row) {
            // The only commas inside a cell are those of the quoted spec.
            const QList<QByteArray> cells =
                QByteArray(lines[row + 1]).replace("\"nf4:block=128,dq\"", "nf4").split(',');
            QCOMPARE(cells.size(), names.size());
            const json& tensor = document["tensors"][static_cast<std::size_t>(row) / 2];
            QCOMPARE(cells[names.indexOf("name")].toStdString(), tensor["name"].get<std::string>());
            QCOMPARE(cells[names.indexOf("mse")].toDouble(),
                     tensor["results"][static_cast<std::size_t>(row) % 2]["mse"].get<double>());
            QCOMPARE(cells[names.indexOf("std")].toDouble(), tensor["statistics"]["std"].get<double>());
        }
        QCOMPARE(lines.last(), QByteArray());
    }

    void csv_cannot_be_written_data() {
        QTest::addColumn<QString>("path");
        QTest::newRow("no folder") << folder_.filePath("absent/out.csv");
        QTest::newRow("a folder") << folder_.path();
        QTest::newRow("not writable") << "/proc/quantoscope.csv";
        QTest::newRow("a device") << "/dev/null";
    }

    void csv_cannot_be_written() {
        QFETCH(QString, path);
        const Outcome outcome = run_cli(arguments({"--csv", path}));
        QCOMPARE(outcome.status, 1);
        QVERIFY2(outcome.one_error_line() && outcome.error.contains(path.toUtf8()), outcome.error);
        QVERIFY(outcome.out.isEmpty());
    }

    void a_failure_leaves_the_older_file() {
        QFile older(folder_.filePath("older.csv"));
        QVERIFY(older.open(QIODevice::WriteOnly));
        older.write("older");
        older.close();
        const Outcome outcome =
            run_cli({"analyze", folder_.filePath("none.gguf"), "--formats", "nf4", "--csv", older.fileName()});
        QCOMPARE(outcome.status, 1);
        QCOMPARE(contents(older.fileName()), QByteArray("older"));
        QVERIFY(left_overs().isEmpty());
    }

    void interrupted() {
        const QString big = write_sparse_model("big.safetensors", qint64{16} << 30);
        QVERIFY(QFile::exists(big));
        QProcess process;
        process.start(cli_path(), {"analyze", big, "--formats", "nf4,int8,int4,q5_1", "--device", "cpu", "--csv",
                                   folder_.filePath("big.csv")});
        QVERIFY(process.waitForStarted());
        QVERIFY(!process.waitForFinished(1000));
        QElapsedTimer timer;
        timer.start();
        ::kill(static_cast<pid_t>(process.processId()), SIGINT);
        QVERIFY(process.waitForFinished(5000));
        QVERIFY2(timer.elapsed() < 1000, qPrintable(QString::number(timer.elapsed())));
        QCOMPARE(process.exitStatus(), QProcess::NormalExit);
        QCOMPARE(process.exitCode(), 130);
        QVERIFY(process.readAllStandardOutput().isEmpty());
        QCOMPARE(process.readAllStandardError(), QByteArray("error: interrupted; nothing was written\n"));
        QVERIFY(!QFile::exists(folder_.filePath("big.csv")));
        QVERIFY(left_overs().isEmpty());
        QVERIFY(QFile::remove(big));
    }

private:
    QStringList arguments(const QStringList& more) const {
        return QStringList{"analyze", model_, "--formats", "nf4:block=128,dq,q4_0", "--device", "cpu"} + more;
    }

    QString write(const QString& name, const QByteArray& bytes) const {
        QFile file(folder_.filePath(name));
        return file.open(QIODevice::WriteOnly) && file.write(bytes) == bytes.size() ? file.fileName() : QString();
    }

    /// What `codec` makes of the weights of `imatrix()` with the same importances.
    void compare_with_codec(const json& tensor, const std::vector<float>& importances) const {
        const QString input = write("w.f32", floats(random_weights(16 * 256, 6)));
        const QString matrix = write("i.f32", floats(importances));
        for (const json& result : tensor["results"]) {
            const QString format = QString::fromStdString(result["format"].get<std::string>());
            const json codec = run_cli({"codec", input, "--format", format, "--rows", "16", "--cols", "256",
                                        "--imatrix", matrix, "--device", "cpu", "--json"})
                                   .json();
            QVERIFY2(codec["mse"] == result["mse"] && codec["code_entropy"] == result["code_entropy"],
                     qPrintable(format));
        }
    }

    QStringList left_overs() const {
        return QDir(folder_.path()).entryList({"*.part", ".*.part"}, QDir::Files | QDir::Hidden);
    }

    /// One bf16 matrix of `bytes` zeros that takes no room on the disk.
    QString write_sparse_model(const QString& name, qint64 bytes) const {
        const json header{{"w", {{"dtype", "BF16"}, {"shape", {bytes / 8192, 4096}}, {"data_offsets", {0, bytes}}}}};
        std::string text = header.dump();
        text.resize((text.size() + 7) / 8 * 8, ' ');
        const auto length = static_cast<std::uint64_t>(text.size());
        QFile file(folder_.filePath(name));
        if (!file.open(QIODevice::WriteOnly))
            return {};
        file.write(reinterpret_cast<const char*>(&length), 8);
        file.write(text.data(), static_cast<qint64>(text.size()));
        return file.resize(8 + static_cast<qint64>(text.size()) + bytes) ? file.fileName() : QString();
    }
};

QTEST_GUILESS_MAIN(CliAnalyze)
#include "cli_analyze.moc"
