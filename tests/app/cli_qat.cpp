#include <QDir>
#include <QTemporaryDir>
#include <QTest>

#include "tests/app/cli_run.h"

using namespace qs::test;
using nlohmann::json;

namespace {

const QString demo = QStringLiteral(QUANTOSCOPE_RESOURCES_DIR "/demo");
const QStringList arguments{"qat",           demo,      "--text", demo + "/eval.txt", "--split",
                            "<|endoftext|>", "--steps", "2",      "--batch",          "2"};

} // namespace

/// `qat` through the real executable.
class CliQat : public QObject {
    Q_OBJECT

private:
    QTemporaryDir folder_;

private slots:
    void document_and_checkpoint() {
        const QString file = folder_.filePath("model.safetensors");
        const Outcome outcome =
            run_cli(arguments + QStringList{"--format", "int2", "--json", "-o", file, "--loss", "text"});
        QVERIFY2(outcome.status == 0 && outcome.error.isEmpty(), outcome.error.constData());
        const json document = outcome.json();
        QCOMPARE(document["format"].get<std::string>(), std::string("int2"));
        QCOMPARE(document["curve"].size(), std::size_t{3});
        QVERIFY(document["curve"][0]["loss"].is_null());
        QVERIFY(document["curve"][1]["validation_perplexity"].is_null());
        QVERIFY(document["curve"][2]["validation_perplexity"].is_number());
        QCOMPARE(document["results"].size(), std::size_t{3});
        QCOMPARE(document["results"][0]["kld_mean"].get<double>(), 0.0);
        // Rounded, the model is at the curve's first point.
        QVERIFY(close(document["results"][1]["perplexity"], document["curve"][0]["validation_perplexity"], 1e-6));
        QVERIFY(document["best_step"].get<int>() == 0 ||
                document["results"][2]["perplexity"] < document["results"][1]["perplexity"]);

        for (const char* beside : {"config.json", "tokenizer.json"})
            QCOMPARE(contents(folder_.filePath(beside)), contents(demo + "/" + beside));
        const Outcome evaluated = run_cli(
            {"eval", folder_.path(), "--text", demo + "/eval.txt", "--tokens", "50", "--formats", "fp32", "--json"});
        QVERIFY2(evaluated.status == 0, evaluated.error.constData());
    }

    void text() {
        const Outcome outcome = run_cli(
            arguments + QStringList{"--format", "int3", "--step-size", "learned", "--skills", demo + "/skills.json"});
        QVERIFY2(outcome.status == 0 && outcome.error.isEmpty(), outcome.error.constData());
        for (const char* part :
             {"validation loss", "unquantized", "int3 · rtn", "int3 · qat", "sums", "facts", "bits/weight"})
            QVERIFY2(outcome.out.contains(part), part);
    }

    void failures() {
        // Before any training: the folder is not there.
        const Outcome unwritable =
            run_cli(arguments + QStringList{"--format", "int3", "-o", folder_.filePath("none/model.safetensors")});
        QCOMPARE(unwritable.status, 1);
        QVERIFY(unwritable.one_error_line() && unwritable.out.isEmpty());
        const Outcome no_step = run_cli(arguments + QStringList{"--format", "nf4", "--step-size", "learned"});
        QCOMPARE(no_step.status, 1);
        QVERIFY(no_step.one_error_line() && no_step.error.contains("nf4"));
        QCOMPARE(run_cli({"qat", demo, "--format", "int3"}).status, 2);
        QCOMPARE(run_cli(arguments + QStringList{"--format", "int5"}).status, 2);
    }
};

QTEST_GUILESS_MAIN(CliQat)
#include "cli_qat.moc"
