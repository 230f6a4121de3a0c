#include <QTemporaryDir>
#include <QTest>

#include "tests/app/cli_run.h"

using namespace qs::test;
using nlohmann::json;

namespace {

const QString tiny = QStringLiteral(QUANTOSCOPE_TEST_DATA "/core/model/data/");
const QString stories = QStringLiteral(QUANTOSCOPE_SHARED_DATA "/models/stories260K/");
const QString text = QStringLiteral(QUANTOSCOPE_SHARED_DATA "/text/tinystories_sample.txt");

json eval(const QStringList& arguments) {
    const Outcome outcome = run_cli(QStringList{"eval"} + arguments + QStringList{"--json"});
    return outcome.status == 0 && outcome.error.isEmpty() ? outcome.json() : json(outcome.error.toStdString());
}

} // namespace

/// `eval` through the real executable.
class CliEval : public QObject {
    Q_OBJECT

private:
    QTemporaryDir folder_;

    QString write(const QString& name, const QByteArray& bytes) {
        QFile file(folder_.filePath(name));
        if (file.open(QIODevice::WriteOnly))
            file.write(bytes);
        return file.fileName();
    }

private slots:
    void document() {
        const QString ids = write("ids.txt", "1 2 3 4 5 6 7 8 9 10 11 12");
        const json document = eval({tiny + "qwen3", "--ids", ids, "--formats", "fp32,nf4,Q4_K_M", "--context", "8"});
        QVERIFY2(document.is_object(), document.dump().c_str());
        QCOMPARE(document["context"].get<int>(), 8);
        QCOMPARE(document["windows"].get<int>(), 2);
        QCOMPARE(document["tokens"].get<int>(), 7 + 3);
        QCOMPARE(document["results"].size(), std::size_t{3});
        for (const json& result : document["results"]) {
            for (const char* number : {"bits_per_weight", "perplexity", "perplexity_stderr", "kld_mean", "kld_median",
                                       "kld_p99", "kld_stderr", "top1_agreement"})
                QVERIFY2(result[number].is_number(), number);
            QCOMPARE(result["method"].get<std::string>(), std::string("rtn"));
            QCOMPARE(result["layers"].size(), std::size_t{14});
            QCOMPARE(result["layers"][13]["layer"].get<int>(), 1);
        }
        QCOMPARE(document["results"][0]["format"].get<std::string>(), std::string("fp32"));
        QVERIFY(document["results"][0]["perplexity"] == document["reference"]["perplexity"]);
        QCOMPARE(document["results"][0]["kld_mean"].get<double>(), 0.0);
        QVERIFY(document["results"][1]["kld_mean"].get<double>() > 1e-3);
        QVERIFY(document["results"][1]["layers"][0]["output_error"].get<double>() > 0.01);
    }

    /// The model answers all, with inputs and weights in eight bits too, at two bits hardly any sum.
    void skills() {
        const QString demo = QStringLiteral(QUANTOSCOPE_RESOURCES_DIR "/demo");
        const json document = eval({demo, "--text", demo + "/eval.txt", "--tokens", "200", "--formats", "int2,int8",
                                    "--method", "rtn,smoothquant", "--skills", demo + "/skills.json"});
        QVERIFY2(document.is_object(), document.dump().c_str());
        QVERIFY(document["reference"]["skills"]["sums"] == json({{"right", 60}, {"asked", 60}}));
        QVERIFY(document["results"][0]["skills"]["sums"]["right"].get<int>() < 20);
        QCOMPARE(document["results"][2]["method"].get<std::string>(), std::string("smoothquant"));
        QVERIFY(document["results"][2]["skills"]["sums"]["right"].get<int>() > 57);
    }

    void reference_perplexities_data() {
        QTest::addColumn<QString>("file");
        QTest::addColumn<double>("perplexity");
        QTest::newRow("safetensors") << "model.safetensors" << 3.5482;
        QTest::newRow("f16") << "gguf/stories260K-f16.gguf" << 3.5483;
        QTest::newRow("q8_0") << "gguf/stories260K-q8_0.gguf" << 3.5517;
        QTest::newRow("q4_0") << "gguf/stories260K-q4_0.gguf" << 3.8164;
    }

    /// REFERENCE.md of the model, from its text with its tokenizer.
    void reference_perplexities() {
        if (!QFile::exists(stories))
            QSKIP("the folder of real checkpoints is absent");
        QFETCH(QString, file);
        QFETCH(double, perplexity);
        QStringList arguments{
            stories + "derived/" + file, "--text", text, "--split", "<|endoftext|>", "--formats", "fp32"};
        if (!file.endsWith("gguf"))
            arguments += {"--tokenizer", stories + "tok512.bin"};
        const json document = eval(arguments);
        QVERIFY2(document.is_object(), document.dump().c_str());
        QCOMPARE(document["tokens"].get<int>(), 1804);
        const double found = document["results"][0]["perplexity"];
        QVERIFY2(std::abs(found / perplexity - 1) < 1e-4, qPrintable(QString::number(found)));
    }

    void windows_of_a_text() {
        if (!QFile::exists(stories))
            QSKIP("the folder of real checkpoints is absent");
        const QString model = stories + "derived/gguf/stories260K-f32.gguf";
        const json document = eval({model, "--text", text, "--formats", "q8_0", "--context", "128", "--tokens", "300"});
        QVERIFY2(document.is_object(), document.dump().c_str());
        QCOMPARE(document["tokens"].get<int>(), 300);
        QCOMPARE(document["windows"].get<int>(), 3); // 127 + 127 + 46 behind a BOS token each
    }

    void results_are_kept() {
        const QString ids = write("ids.txt", "1 2 3 4 5 6 7 8 9 10 11 12"), kept = folder_.filePath("kept.json");
        const QStringList arguments{tiny + "llama", "--ids", ids, "--formats", "nf4", "--resume", kept};
        const json first = eval(arguments), second = eval(arguments);
        QVERIFY2(first.is_object(), first.dump().c_str());
        QVERIFY(QFile::exists(kept));
        QVERIFY(first["results"] == second["results"]);
    }

    void table() {
        const QString ids = write("ids.txt", "1 2 3 4 5 6");
        const Outcome outcome = run_cli({"eval", tiny + "gpt2", "--ids", ids, "--formats", "int4"});
        QVERIFY2(outcome.status == 0 && outcome.error.isEmpty(), outcome.error);
        QVERIFY(outcome.out.contains("perplexity") && outcome.out.contains("int4") && outcome.out.contains("KLD"));
    }

    /// Every format with every method that is defined for it; the rest is named.
    void methods() {
        const QString ids = write("ids.txt", QByteArray("1 2 3 4 5 6 7 8 9 10 11 12 ").repeated(5));
        const QStringList arguments{tiny + "llama",
                                    "--ids",
                                    ids,
                                    "--formats",
                                    "int4:group=16,nf4,Q4_K_M",
                                    "--method",
                                    "rtn,gptq:act_order,damp=0.02,hqq",
                                    "--activations",
                                    "int8"};
        const json document = eval(arguments);
        QVERIFY2(document.is_object(), document.dump().c_str());
        std::vector<std::string> found, left_out;
        for (const json& result : document["results"]) {
            found.push_back(result["format"].get<std::string>() + " " + result["method"].get<std::string>());
            QVERIFY(result["seconds"].is_number());
            QCOMPARE(result["activations"].get<std::string>(), std::string("int8"));
            QCOMPARE(result["layers"].size(), std::size_t{14});
            QVERIFY(result["layers"][0]["output_error"].get<double>() > 0);
        }
        for (const json& pair : document["left_out"])
            left_out.push_back(pair["format"].get<std::string>() + " " + pair["method"].get<std::string>());
        QCOMPARE(found, (std::vector<std::string>{"int4:group=16 rtn", "int4:group=16 gptq:act_order,damp=0.02",
                                                  "int4:group=16 hqq", "nf4 rtn", "nf4 gptq:act_order,damp=0.02",
                                                  "Q4_K_M rtn"}));
        QCOMPARE(left_out, (std::vector<std::string>{"nf4 hqq", "Q4_K_M gptq:act_order,damp=0.02", "Q4_K_M hqq"}));
        QVERIFY(document["calibration"]["overlaps"].get<bool>());
        const json other = eval(arguments + QStringList{"--calibration", write("other.txt", "9 8 7 6 5 4 3 2 1 7 9"),
                                                        "--calibration-tokens", "5"});
        QCOMPARE(other["calibration"]["tokens"].get<int>(), 5);
        QVERIFY(!other["calibration"]["overlaps"].get<bool>());
        QVERIFY(other["results"][0]["kld_mean"] == document["results"][0]["kld_mean"]);
        QVERIFY(other["results"][1]["kld_mean"] != document["results"][1]["kld_mean"]);
    }

    /// Where a part of the text is evaluated, what follows is calibrated on.
    void calibrates_on_what_follows() {
        if (!QFile::exists(stories))
            QSKIP("the folder of real checkpoints is absent");
        const QString model = stories + "derived/gguf/stories260K-f32.gguf";
        const QStringList arguments{model,       "--text",        text,       "--split", "<|endoftext|>",
                                    "--formats", "int4:group=64", "--method", "gptq"};
        const json part = eval(arguments + QStringList{"--tokens", "300", "--calibration-tokens", "700"});
        QVERIFY2(part.is_object(), part.dump().c_str());
        QVERIFY(!part["calibration"]["overlaps"].get<bool>());
        QCOMPARE(part["calibration"]["tokens"].get<int>(), 700);
        QVERIFY(eval(arguments)["calibration"]["overlaps"].get<bool>());
        const Outcome table = run_cli(QStringList{"eval"} + arguments);
        QVERIFY2(table.out.contains("calibrated on 1804 tokens of the evaluated text itself: what is measured"),
                 table.out);
    }

    /// What is collected serves eval and analyze, whichever form of file it is in.
    void importance_matrix() {
        if (!QFile::exists(stories))
            QSKIP("the folder of real checkpoints is absent");
        const QString model = stories + "derived/gguf/stories260K-f32.gguf";
        const QStringList tokens{"--text", text, "--split", "<|endoftext|>"};
        json perplexities;
        for (const QString name : {"imatrix.gguf", "imatrix.dat"}) {
            const QString file = folder_.filePath(name);
            const Outcome made = run_cli(QStringList{"imatrix", model, "-o", file, "--json"} + tokens);
            QVERIFY2(made.status == 0, made.error);
            QCOMPARE(made.json()["entries"].get<int>(), 35);
            QCOMPARE(made.json()["left_out"].size(), std::size_t{0});
            const json document = eval(QStringList{model, "--formats", "q4_0", "--imatrix", file} + tokens);
            QVERIFY2(document.is_object(), document.dump().c_str());
            perplexities.push_back(document["results"][0]["perplexity"]);
            const Outcome report = run_cli({"analyze", model, "--formats", "q4_0", "--imatrix", file, "--json"});
            QVERIFY2(report.status == 0, report.error);
            QCOMPARE(report.json()["imatrix"]["used"].get<int>(), 35);
        }
        QVERIFY(perplexities[0] == perplexities[1]);
        const json plain = eval(QStringList{model, "--formats", "q4_0"} + tokens);
        QVERIFY(plain["results"][0]["perplexity"] != perplexities[0]);
        const Outcome wrong = run_cli(QStringList{"imatrix", model, "-o", folder_.filePath("imatrix.bin")} + tokens);
        QCOMPARE(wrong.status, 2);
        QVERIFY(wrong.one_error_line() && wrong.error.contains("--output"));
    }

    void failures_data() {
        QTest::addColumn<QStringList>("arguments");
        QTest::addColumn<int>("status");
        QTest::addColumn<QString>("says");
        const QString ids = write("ids.txt", "1 2 3 4 5 6"), large = write("large.txt", "1 2 999");
        const QString words = write("words.txt", "once upon"), one = write("one.txt", "1");
        const QString llama = tiny + "llama";
        QTest::newRow("no text") << QStringList{llama, "--formats", "nf4"} << 2 << "--text";
        QTest::newRow("unknown format") << QStringList{llama, "--ids", ids, "--formats", "nf5"} << 2 << "nf4";
        QTest::newRow("unknown method") << QStringList{llama, "--ids", ids, "--formats", "nf4", "--method", "gtpq"} << 2
                                        << "gptq";
        QTest::newRow("method of no format")
            << QStringList{llama, "--ids", ids, "--formats", "nf4", "--method", "hqq"} << 2 << "--method";
        QTest::newRow("activations") << QStringList{llama, "--ids", ids, "--formats", "nf4", "--activations", "int9"}
                                     << 2 << "int8";
        QTest::newRow("token") << QStringList{llama, "--ids", large, "--formats", "nf4"} << 1 << "999";
        QTest::newRow("words") << QStringList{llama, "--ids", words, "--formats", "nf4"} << 1 << "words.txt";
        QTest::newRow("one token") << QStringList{llama, "--ids", one, "--formats", "nf4"} << 1 << "no token to score";
        QTest::newRow("no tokenizer") << QStringList{llama, "--text", words, "--formats", "nf4"} << 1 << "llama";
        QTest::newRow("positions")
            << QStringList{tiny + "gpt2", "--ids", write("long.txt", QByteArray("1 ").repeated(99)), "--formats", "nf4",
                           "--context",   "99"}
            << 1 << "positions";
    }

    void failures() {
        QFETCH(QStringList, arguments);
        QFETCH(int, status);
        QFETCH(QString, says);
        const Outcome outcome = run_cli(QStringList{"eval"} + arguments);
        QCOMPARE(outcome.status, status);
        QVERIFY2(outcome.one_error_line() && outcome.error.contains(says.toUtf8()), outcome.error);
    }
};

QTEST_GUILESS_MAIN(CliEval)
#include "cli_eval.moc"
