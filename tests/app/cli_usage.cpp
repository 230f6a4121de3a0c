#include <QTemporaryDir>
#include <QTest>

#include <set>

#include "core/formats/registry.h"
#include "tests/app/cli_run.h"
#include "tests/core/analysis/test_data.h"

using namespace qs;
using namespace qs::test;
using nlohmann::json;

/// Options, exit statuses and errors, and the commands that need no arithmetic.
class CliUsage : public QObject {
    Q_OBJECT

private:
    QTemporaryDir folder_;
    QString model_;

private slots:
    void initTestCase() {
        const std::vector<float> weights(8 * 64, 0.5F), norm(64, 1);
        model_ = write_safetensors(folder_, "model.safetensors",
                                   {stored("model.layers.3.self_attn.q_proj.weight", "F32", {8, 64}, weights),
                                    stored("model.norm.weight", "F32", {64}, norm)});
        QVERIFY(QFile::exists(model_));
    }

    void help_and_version() {
        QVERIFY(run_cli({"--version"}).out.startsWith("quantoscope-cli "));
        for (const char* command : {"info", "formats", "analyze", "histogram", "codec", "memory", "bench", "devices"}) {
            const Outcome outcome = run_cli({command, "--help"});
            QCOMPARE(outcome.status, 0);
            QVERIFY2(outcome.out.contains("--json"), command);
            QVERIFY(outcome.error.isEmpty());
        }
    }

    void wrong_usage_data() {
        QTest::addColumn<QStringList>("arguments");
        QTest::addColumn<QString>("named");
        const QStringList analyze{"analyze", model_, "--formats"};
        QTest::newRow("no command") << QStringList{} << "subcommand";
        QTest::newRow("no such command") << QStringList{"guess"} << "guess";
        QTest::newRow("no checkpoint") << QStringList{"info"} << "CHECKPOINT";
        QTest::newRow("no such option") << QStringList{"info", model_, "--colour"} << "--colour";
        QTest::newRow("no formats") << QStringList{"analyze", model_} << "--formats";
        QTest::newRow("unknown format") << analyze + QStringList{"nf5"} << "nf4";
        QTest::newRow("unknown parameter") << analyze + QStringList{"nf4:blok=64"} << "blok";
        QTest::newRow("value not allowed") << analyze + QStringList{"nf4:block=65"} << "65";
        QTest::newRow("unknown device") << analyze + QStringList{"nf4", "--device", "gpu"} << "--device";
        QTest::newRow("no threads") << analyze + QStringList{"nf4", "--threads", "0"} << "--threads";
        QTest::newRow("threads are a number") << analyze + QStringList{"nf4", "--threads", "two"} << "--threads";
        QTest::newRow("no bins") << QStringList{"histogram", model_, "--tensor", "x", "--bins", "0"} << "--bins";
        QTest::newRow("no rows") << QStringList{"codec", "--format", "nf4", "--rows", "0", "--cols", "1", "x"}
                                 << "--rows";
        QTest::newRow("two many weights")
            << QStringList{"codec", "--format", "nf4", "--rows", "1099511627776", "--cols", "2", "x"} << "--rows";
        QTest::newRow("two models") << QStringList{"memory", model_, "--model", "7B", "--formats", "nf4"} << "--model";
        QTest::newRow("no model") << QStringList{"memory", "--formats", "nf4"} << "--model";
        QTest::newRow("a mode of later") << QStringList{"memory", "--model", "7B", "--formats", "nf4", "--mode", "lora"}
                                         << "mode lora is not available in this version";
        QTest::newRow("unknown cache") << QStringList{"memory", "--model", "7B", "--formats", "nf4", "--kv-cache", "q3"}
                                       << "--kv-cache";
        QTest::newRow("a format or a recipe") << analyze + QStringList{"Q6_K"} << "recipe:Q6_K";
        QTest::newRow("unknown recipe") << analyze + QStringList{"recipe:Q9_K"} << "recipe 'Q9_K'";
        QTest::newRow("no recipe for one tensor")
            << QStringList{"histogram", model_, "--tensor", "model.norm.weight", "--format", "Q4_K_M"} << "is a recipe";
        QTest::newRow("no recipe in bench") << QStringList{"bench", "--formats", "nf4,Q4_K_M"} << "is a recipe";
        QTest::newRow("unknown bench format") << QStringList{"bench", "--formats", "int9"} << "int8";
    }

    void wrong_usage() {
        QFETCH(QStringList, arguments);
        QFETCH(QString, named);
        const Outcome outcome = run_cli(arguments);
        QCOMPARE(outcome.status, 2);
        QVERIFY2(outcome.one_error_line(), outcome.error);
        QVERIFY2(QString::fromUtf8(outcome.error).contains(named), outcome.error);
        QVERIFY(outcome.out.isEmpty());
    }

    void bad_input_data() {
        QTest::addColumn<QStringList>("arguments");
        QTest::addColumn<QString>("named");
        QFile noise(folder_.filePath("noise.safetensors"));
        QVERIFY(noise.open(QIODevice::WriteOnly));
        noise.write(QByteArray(100, '\xff'));
        noise.close();
        QTest::newRow("no such file") << QStringList{"info", "absent.gguf"} << "absent.gguf";
        QTest::newRow("not a checkpoint")
            << QStringList{"analyze", noise.fileName(), "--formats", "nf4"} << "noise.safetensors";
        QTest::newRow("no tensor matches")
            << QStringList{"analyze", model_, "--formats", "nf4", "--tensors", "*.bias"} << "*.bias";
        QTest::newRow("no such tensor") << QStringList{"histogram", model_, "--tensor", "model.norm"}
                                        << "model.norm.weight";
        QTest::newRow("no such input") << QStringList{"codec", "--format", "nf4", "--rows",
                                                      "1",     "--cols",   "1",   "no.f32"}
                                       << "no.f32";
        QTest::newRow("no such config") << QStringList{"memory", "no/config.json", "--formats", "nf4"} << "config.json";
        QTest::newRow("no such GPU") << QStringList{"analyze", model_, "--formats", "nf4", "--device", "cuda:99"}
                                     << "cuda:99";
    }

    void bad_input() {
        QFETCH(QStringList, arguments);
        QFETCH(QString, named);
        const Outcome outcome = run_cli(arguments);
        QCOMPARE(outcome.status, 1);
        QVERIFY2(outcome.one_error_line(), outcome.error);
        QVERIFY2(QString::fromUtf8(outcome.error).contains(named), outcome.error);
        QVERIFY(outcome.out.isEmpty());
    }

    void full_output() {
        QProcess process;
        process.setStandardOutputFile("/dev/full");
        process.start(cli_path(), {"formats"});
        QVERIFY(process.waitForFinished());
        QCOMPARE(process.exitCode(), 1);
        QVERIFY(process.readAllStandardError().startsWith("error: standard output"));
    }

    void info() {
        const Outcome outcome = run_cli({"info", model_, "--json"});
        QVERIFY2(outcome.status == 0 && outcome.error.isEmpty(), outcome.error);
        const json document = outcome.json();
        QCOMPARE(document["container"].get<std::string>(), std::string("safetensors"));
        QCOMPARE(document["parameters"].get<int>(), 8 * 64 + 64);
        QCOMPARE(document["bytes"].get<int>(), 4 * (8 * 64 + 64));
        QVERIFY(document["architecture"].is_string());
        QCOMPARE(document["tensors"].size(), std::size_t{2});
        for (const json& tensor : document["tensors"]) {
            const bool norm = tensor["name"] == "model.norm.weight";
            QVERIFY(tensor["shape"] == (norm ? json{64} : json{8, 64}));
            QVERIFY(tensor["role"] == (norm ? "norm" : "attention_q"));
            QVERIFY(tensor["layer"] == (norm ? json() : json(3)));
            QVERIFY(tensor["dtype"] == "F32" || tensor["dtype"] == "f32");
            QCOMPARE(tensor["bytes"].get<int>(), norm ? 256 : 2048);
            QVERIFY(QString::fromStdString(tensor["file"]).endsWith("model.safetensors"));
        }
        QVERIFY(run_cli({"info", model_}).out.contains("model.layers.3.self_attn.q_proj.weight"));
    }

    void formats() {
        const json document = run_cli({"formats", "--json"}).json();
        QVERIFY(document.is_array());
        std::set<std::string> ids;
        for (const json& format : document) {
            ids.insert(format["id"]);
            QVERIFY(format["family"].is_string() && format["block"].is_number_unsigned());
            QVERIFY(format["bits_per_weight"].is_number() && format["parameters"].is_object());
            QVERIFY(format["bit_exact_with"].is_null() || !format["bit_exact_with"].get<std::string>().empty());
            if (format["id"] == "nf4") {
                QCOMPARE(format["parameters"]["block"].get<int>(), 64);
                QCOMPARE(format["parameters"]["dq"].get<bool>(), false);
                QCOMPARE(format["bits_per_weight"].get<double>(), 4.5);
                QCOMPARE(format["block"].get<int>(), 64);
            }
            if (format["id"] == "q5_1")
                QCOMPARE(format["bits_per_weight"].get<double>(), 6.0);
        }
        for (const char* id : {"fp32", "fp16", "bf16", "tf32", "fp8_e4m3", "fp8_e5m2", "int8", "int4", "llm_int8",
                               "nf4", "fp4", "q4_0", "q4_1", "q5_0", "q5_1", "q8_0"})
            QVERIFY2(ids.contains(id), id);
        QVERIFY(run_cli({"formats"}).out.contains("nf4"));
    }

    void recipes() {
        const json document = run_cli({"formats", "--recipes", "--json"}).json();
        QVERIFY(document.is_array());
        std::set<std::string> ids;
        for (const json& recipe : document) {
            ids.insert(recipe["id"]);
            QVERIFY(recipe["family"] == "recipe" && recipe["type"].is_string() && recipe["needs_imatrix"].is_boolean());
            if (recipe["id"] == "Q4_K_M") // the bytes of its tensors over the weights of Llama 2 7B
                QVERIFY(std::abs(recipe["bits_per_weight"].get<double>() - 4.844) < 0.001);
        }
        for (const char* id : {"recipe:Q2_K", "Q3_K_S", "Q3_K_M", "Q3_K_L", "Q4_K_S", "Q4_K_M", "Q5_K_S", "Q5_K_M",
                               "recipe:Q6_K", "recipe:Q8_0", "recipe:IQ2_XXS", "IQ3_M", "MXFP4_MOE"})
            QVERIFY2(ids.contains(id), id);
        QVERIFY(run_cli({"formats", "--recipes"}).out.contains("recipe:Q6_K"));
        QVERIFY(!run_cli({"formats", "--json"}).out.contains("Q4_K_M"));
    }

    void devices() {
        const json document = run_cli({"devices", "--json"}).json();
        const json& cpu = document["devices"].at(0);
        QVERIFY(cpu["id"] == "cpu" && cpu["kind"] == "cpu" && cpu["usable"] == true && cpu["reason"].is_null());
        QVERIFY(cpu["memory_bytes"].get<double>() > 1e8);
        QVERIFY(!cpu["instructions"].get<std::string>().empty() && !cpu["name"].get<std::string>().empty());
        for (const json& device : document["devices"])
            QVERIFY(device["usable"] == true || !device["reason"].get<std::string>().empty());
        QVERIFY(run_cli({"devices"}).out.contains("cpu"));
    }

    void bench() {
        const Outcome outcome =
            run_cli({"bench", "--device", "cpu", "--formats", "nf4,q4_0", "--threads", "1", "--json"});
        QVERIFY2(outcome.status == 0 && outcome.error.isEmpty(), outcome.error);
        const json document = outcome.json();
        const double read = document["read_gbps"];
        QVERIFY(document["device"] == "cpu" && read > 0 && document["skipped"].empty());
        QStringList measured;
        for (const json& result : document["results"]) {
            const QString format = QString::fromStdString(result["format"]);
            const QString operation = QString::fromStdString(result["operation"]);
            measured << format + " " + operation;
            QVERIFY(result["threads"] == 1);
            const double input = result["input_gbps"], weights = result["weights_per_second"];
            const auto codec = bind_codec(parse_spec(format.toStdString()), {2, 4096});
            const double stored = static_cast<double>(codec->encoded_bytes(0, 8192)) / 8192;
            QVERIFY(close(input, 1e-9 * (operation == "decode" ? stored : 2) * weights));
            QVERIFY(close(result["fraction_of_read"], input / read));
        }
        QCOMPARE(measured, QStringList({"nf4 encode", "nf4 decode", "nf4 encode+error", "q4_0 encode", "q4_0 decode",
                                        "q4_0 encode+error"}));
    }

    void bench_of_several_formats_in_one_pass() {
        const json results =
            run_cli({"bench", "--device", "cpu", "--formats", "nf4,q4_0", "--fused", "--threads", "1", "--json"})
                .json()["results"];
        QCOMPARE(results.size(), std::size_t{1});
        QVERIFY(results[0]["format"] == "nf4,q4_0" && results[0]["operation"] == "encode+error, fused");
        QVERIFY(results[0]["weights_per_second"].get<double>() > 0);
    }
};

QTEST_GUILESS_MAIN(CliUsage)
#include "cli_usage.moc"
