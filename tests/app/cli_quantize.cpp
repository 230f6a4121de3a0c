#include <QDir>
#include <QTemporaryDir>
#include <QTest>
#include <QThread>

#include <csignal>

#include "tests/app/cli_run.h"

using namespace qs::test;
using nlohmann::json;

namespace {

const QString demo = QStringLiteral(QUANTOSCOPE_RESOURCES_DIR "/demo");
const QStringList calibration{"--calibration", demo + "/eval.txt",     "--split",
                              "<|endoftext|>", "--calibration-tokens", "600"};

} // namespace

/// `quantize` through the real executable.
class CliQuantize : public QObject {
    Q_OBJECT

private:
    QTemporaryDir folder_;

    QString path(const QString& name) const { return folder_.filePath(name); }
    QStringList left() const {
        return QDir(folder_.path()).entryList(QDir::AllEntries | QDir::Hidden | QDir::NoDotAndDotDot);
    }
    Outcome quantize(const QStringList& options, const QString& output) const {
        return run_cli(QStringList{"quantize", demo, "-o", path(output)} + options);
    }

private slots:
    void init() { QVERIFY(left().isEmpty()); }
    void cleanup() {
        for (const QString& name : left())
            QFileInfo(path(name)).isDir() ? (void)QDir(path(name)).removeRecursively()
                                          : (void)QFile::remove(path(name));
    }

    void folders_data() {
        QTest::addColumn<QStringList>("options");
        QTest::addColumn<QString>("layout");
        QTest::addColumn<QString>("tensor");
        const QString up = "model.layers.0.mlp.up_proj.";
        QTest::newRow("nf4") << QStringList{"--format", "nf4:dq"} << "bitsandbytes" << up + "weight.nested_absmax";
        QTest::newRow("int8") << QStringList{"--format", "llm_int8"} << "bitsandbytes" << up + "SCB";
        QTest::newRow("gptq") << QStringList{"--format", "int4", "--method", "gptq:act_order"} + calibration << "gptq"
                              << up + "g_idx";
        QTest::newRow("awq") << QStringList{"--format", "int4:affine", "--method", "awq"} + calibration << "awq"
                             << up + "qzeros";
        QTest::newRow("awq as gptq") << QStringList{"--format", "int4", "--method", "awq", "--layout", "gptq"} +
                                            calibration
                                     << "gptq" << up + "g_idx";
        QTest::newRow("hqq") << QStringList{"--format", "int4:group=64", "--method", "hqq"} << "hqq" << up + "W_q";
        QTest::newRow("fp8") << QStringList{"--format", "fp8_e4m3"} << "compressed-tensors" << up + "weight_scale";
        QTest::newRow("bf16") << QStringList{"--format", "bf16"} << "plain" << up + "weight";
    }

    void folders() {
        QFETCH(QStringList, options);
        QFETCH(QString, layout);
        QFETCH(QString, tensor);
        const Outcome outcome = quantize(options + QStringList{"--json"}, "out");
        QVERIFY2(outcome.status == 0 && outcome.error.isEmpty(), outcome.error.constData());
        const json document = outcome.json();
        QCOMPARE(QString::fromStdString(document["layout"]), layout);
        QCOMPARE(document["calibration_tokens"].get<int>(), options.contains("--calibration") ? 600 : 0);
        const json info = run_cli({"info", path("out"), "--json"}).json();
        QCOMPARE(info["tensors"].size(), document["tensors"].get<std::size_t>());
        const auto names = info["tensors"];
        QVERIFY(std::ranges::any_of(names, [&](const json& t) { return t["name"] == tensor.toStdString(); }));
        QVERIFY(document["bits_per_weight"].get<double>() > 4 && document["bits_per_weight"].get<double>() <= 16);
        std::size_t bytes = 0;
        for (const QFileInfo& file : QDir(path("out")).entryInfoList(QDir::Files))
            bytes += static_cast<std::size_t>(file.size());
        QCOMPARE(document["bytes"].get<std::size_t>(), bytes);
        QCOMPARE(left(), QStringList{"out"});
    }

    void gguf() {
        QFile recipe(path("recipe.json"));
        QVERIFY(recipe.open(QIODevice::WriteOnly));
        recipe.write(R"({"format": "Q4_K_M", "tensors": {"*attn_k.weight": "q8_0"}})");
        recipe.close();
        const Outcome outcome =
            quantize({"--recipe", path("recipe.json"), "--tensor-type", "attn_v=F16", "--json"}, "out.gguf");
        QVERIFY2(outcome.status == 0 && outcome.error.isEmpty(), outcome.error.constData());
        QCOMPARE(QString::fromStdString(outcome.json()["layout"]), QString("gguf"));
        std::map<std::string, std::string> types;
        const json info = run_cli({"info", path("out.gguf"), "--json"}).json();
        for (const json& tensor : info["tensors"])
            types[tensor["name"]] = tensor["dtype"];
        QCOMPARE(types.at("blk.0.attn_k.weight"), std::string("Q8_0"));
        QCOMPARE(types.at("blk.0.attn_v.weight"), std::string("F16"));
        QCOMPARE(types.at("blk.0.attn_q.weight"), std::string("Q4_K"));

        const Outcome again = quantize({"--format", "q8_0"}, "out.gguf");
        QVERIFY(again.status == 1 && again.one_error_line() && again.error.contains("--overwrite"));
        const Outcome over = quantize({"--format", "q8_0", "--overwrite"}, "out.gguf");
        QVERIFY2(over.status == 0 && over.out.contains("q8_0"), over.error.constData());
    }

    void gguf_by_an_importance_matrix() {
        QCOMPARE(quantize({"--format", "q4_K"}, "plain.gguf").status, 0);
        const Outcome collected =
            quantize(QStringList{"--format", "q4_K", "--method", "imatrix"} + calibration, "collected.gguf");
        QVERIFY2(collected.status == 0 && collected.out.contains("calibrated on 600 tokens"),
                 collected.error.constData());
        QCOMPARE(run_cli({"imatrix", demo, "--text", demo + "/eval.txt", "--split", "<|endoftext|>", "--tokens", "600",
                          "-o", path("imatrix.gguf")})
                     .status,
                 0);
        QCOMPARE(quantize({"--format", "q4_K", "--imatrix", path("imatrix.gguf")}, "given.gguf").status, 0);
        // The header names the file.
        const auto weights = [&](const char* name) { return contents(path(name)).right(1'500'000); };
        QVERIFY(weights("collected.gguf") == weights("given.gguf"));
        QVERIFY(weights("collected.gguf") != weights("plain.gguf"));
    }

    void text_output() {
        const Outcome outcome =
            quantize(QStringList{"--format", "int4:affine", "--method", "awq"} + calibration, "out");
        QCOMPARE(outcome.status, 0);
        QVERIFY(outcome.error.isEmpty());
        for (const char* part : {"bits/weight", "int4:affine · awq", "loads in transformers with GPTQModel",
                                 "calibrated on 600 tokens", "note: "})
            QVERIFY2(outcome.out.contains(part), part);
    }

    /// Without a text the one beside the model serves, or else the program's own.
    void usual_calibration_text() {
        const QStringList options{"--format", "int4", "--method", "gptq", "--calibration-tokens", "600"};
        const Outcome beside = quantize(options, "beside");
        QVERIFY2(beside.status == 0 && beside.out.contains("of " + demo.toUtf8() + "/eval.txt"),
                 (beside.out + beside.error).constData());
        QVERIFY(QDir().mkpath(path("bare")));
        for (const QString name : {"config.json", "tokenizer.json", "model.safetensors"})
            QVERIFY(QFile::copy(demo + "/" + name, path("bare/" + name)));
        const Outcome own = run_cli(QStringList{"quantize", path("bare"), "-o", path("own")} + options);
        QVERIFY2(own.status == 0 && own.out.contains("text/general.txt"), (own.out + own.error).constData());
    }

    void wrong_usage_data() {
        QTest::addColumn<QStringList>("options");
        QTest::addColumn<QString>("output");
        QTest::addColumn<QString>("said");
        const auto row = [](const char* name, const QStringList& options, const char* output, const char* said) {
            QTest::newRow(name) << options << output << said;
        };
        row("no format", {}, "out", "--format");
        row("two formats", {"--format", "nf4,int8"}, "out", "one format");
        row("unknown format", {"--format", "int5"}, "out", "int5");
        row("ggml in a folder", {"--format", "q4_K"}, "out", "OUT.gguf");
        row("recipe in a folder", {"--format", "Q4_K_M"}, "out", "OUT.gguf");
        row("rules in a folder", {"--format", "nf4", "--tensor-type", "attn_v=F16"}, "out", "OUT.gguf");
        row("imatrix in a folder", {"--format", "nf4", "--imatrix", "x.gguf"}, "out", "--imatrix");
        row("wrong rule", {"--format", "q8_0", "--tensor-type", "attn_v"}, "out.gguf", "--tensor-type");
        row("undefined method", {"--format", "fp8_e4m3", "--method", "gptq"}, "out", "fp8_e4m3");
        row("method of no GGUF", {"--format", "q8_0", "--method", "gptq"}, "out.gguf", "gptq");
        row("unknown layout", {"--format", "int4", "--layout", "gptk"}, "out", "gptq");
        row("wrong layout", {"--format", "nf4", "--layout", "gptq"}, "out", "nf4");
        row("plain", {"--format", "nf4", "--layout", "plain"}, "out", "bf16");
        row("not stored", {"--format", "mxint8"}, "out", "none of the layouts");
    }

    void wrong_usage() {
        QFETCH(QStringList, options);
        QFETCH(QString, output);
        QFETCH(QString, said);
        const Outcome outcome = quantize(options, output);
        QCOMPARE(outcome.status, 2);
        QVERIFY(outcome.one_error_line() && outcome.out.isEmpty());
        QVERIFY2(outcome.error.contains(said.toUtf8()), outcome.error.constData());
        QVERIFY(left().isEmpty());
    }

    void failures() {
        QCOMPARE(quantize({"--format", "nf4"}, "out").status, 0);
        const Outcome again = quantize({"--format", "fp4"}, "out");
        QVERIFY(again.status == 1 && again.one_error_line() && again.error.contains("--overwrite"));
        QCOMPARE(quantize({"--format", "fp4", "--overwrite"}, "out").status, 0);
        // What was written is no longer a model to quantize.
        const Outcome twice = run_cli({"quantize", path("out"), "--format", "nf4", "-o", path("more")});
        QVERIFY(twice.status == 1 && twice.one_error_line());
        const Outcome nowhere = quantize({"--format", "nf4"}, "none/out");
        QVERIFY(nowhere.status == 1 && nowhere.one_error_line());
        const Outcome integers = quantize({"--format", "int4"}, "int4.gguf");
        QVERIFY(integers.status == 1 && integers.one_error_line() && integers.error.contains("int4"));
        QCOMPARE(left(), QStringList{"out"});
    }

    void interruption_leaves_nothing() {
        QProcess process;
        process.start(cli_path(), QStringList{"quantize", demo, "--format", "int4:affine", "--method", "awq:steps=400",
                                              "-o", path("out")} +
                                      calibration);
        QTRY_VERIFY_WITH_TIMEOUT(!left().isEmpty(), 10'000);
        QThread::msleep(200);
        ::kill(static_cast<pid_t>(process.processId()), SIGINT);
        QVERIFY(process.waitForFinished(20'000));
        QCOMPARE(process.exitCode(), 128 + SIGINT);
        QVERIFY(process.readAllStandardError().contains("nothing was written"));
        QVERIFY(left().isEmpty());
    }
};

QTEST_GUILESS_MAIN(CliQuantize)
#include "cli_quantize.moc"
