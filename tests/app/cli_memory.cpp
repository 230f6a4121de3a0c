#include <QFile>
#include <QTemporaryDir>
#include <QTest>

#include "tests/app/cli_run.h"
#include "tests/core/analysis/test_data.h"

using namespace qs::test;
using nlohmann::json;

namespace {

json memory(const QStringList& arguments) {
    const Outcome outcome = run_cli(QStringList{"memory"} + arguments + QStringList{"--json"});
    return outcome.status == 0 && outcome.error.isEmpty() ? outcome.json() : json(outcome.error.toStdString());
}

double line_bytes(const json& result, const char* name) {
    for (const json& line : result["lines"])
        if (line["name"] == name)
            return line["bytes"];
    return -1;
}

} // namespace

/// `memory` against worked examples.
class CliMemory : public QObject {
    Q_OBJECT

private:
    QTemporaryDir folder_;

private slots:
    void textbook_table_data() {
        QTest::addColumn<QString>("card");
        QTest::addColumn<double>("billions");
        QTest::newRow("7B") << "7B" << 7.0;
        QTest::newRow("13B") << "13B" << 13.0;
        QTest::newRow("70B") << "70B" << 70.0;
    }

    void textbook_table() {
        QFETCH(QString, card);
        QFETCH(double, billions);
        const json document = memory({"--model", card, "--formats", "fp32,fp16,int8,nf4"});
        QVERIFY2(document.is_object(), document.dump().c_str());
        QVERIFY(document["model"] == card.toStdString());
        QCOMPARE(document["parameters"].get<double>(), billions * 1e9);
        const double bits[] = {32, 16, 8, 4};
        for (std::size_t i = 0; i < 4; ++i)
            QCOMPARE(document["results"][i]["naive_bytes"].get<double>(), billions * 1e9 * bits[i] / 8);
    }

    void ledger_of_llama() {
        const json document = memory({"--model", "llama-2-7b", "--formats", "fp16,nf4", "--context", "4096"});
        QVERIFY2(document.is_object(), document.dump().c_str());
        QCOMPARE(document["parameters"].get<std::int64_t>(), std::int64_t{6738415616});
        for (const json& result : document["results"]) {
            double sum = 0;
            for (const json& line : result["lines"]) {
                sum += line["bytes"].get<double>();
                QVERIFY(!line["formula"].get<std::string>().empty());
            }
            QVERIFY(close(result["total_bytes"], sum));
            // 32 layers · 4096 tokens · 32 heads · (128 + 128) · 2 bytes
            QCOMPARE(line_bytes(result, "kv cache"), 2147483648.0);
        }
        const json& half = document["results"][0];
        const double weights = line_bytes(half, "linear weights") + line_bytes(half, "embedding weights") +
                               line_bytes(half, "head weights") + line_bytes(half, "norm weights");
        QCOMPARE(weights, 2 * 6738415616.0);
        // The linear layers of nf4: 4 bits and a float32 for each 64 weights.
        const double linear = 32.0 * (4 * 4096.0 * 4096 + 3 * 4096.0 * 11008);
        QCOMPARE(line_bytes(document["results"][1], "linear weights"), linear * 4.5 / 8);
    }

    void recipes() {
        const json document = memory({"--model", "llama-2-7b", "--formats", "Q4_K_M,recipe:Q6_K"});
        QVERIFY2(document.is_object(), document.dump().c_str());
        // q6_K in half of the layers' attention v and MLP down, and in the head.
        const double v = 4096.0 * 4096, down = 4096.0 * 11008, others = 3 * v + 2 * down;
        const double more = 16 * (v + down), linear = 32 * (others + v + down);
        const json& q4 = document["results"][0];
        QCOMPARE(line_bytes(q4, "linear weights"), ((linear - more) * 4.5 + more * 6.5625) / 8);
        QCOMPARE(line_bytes(q4, "embedding weights"), 32000.0 * 4096 * 4.5 / 8);
        QCOMPARE(line_bytes(q4, "head weights"), 32000.0 * 4096 * 6.5625 / 8);
        QCOMPARE(line_bytes(q4, "norm weights"), 65.0 * 4096 * 4);
        QVERIFY(q4["format"] == "Q4_K_M" && document["results"][1]["format"] == "recipe:Q6_K");
        QCOMPARE(q4["naive_bytes"].get<double>(), 6738415616.0 / 2);
        QCOMPARE(line_bytes(document["results"][1], "linear weights"), linear * 6.5625 / 8);
    }

    void what_fits() {
        const json document = memory({"--model", "llama-2-7b", "--formats", "fp16,nf4", "--context", "2048"});
        const json& gpus = document["results"][0]["gpus"];
        QVERIFY(gpus.size() >= 25);
        for (const json& result : document["results"])
            for (const json& gpu : result["gpus"]) {
                QCOMPARE(gpu["fits"].get<bool>(), result["total_bytes"].get<double>() <= gpu["bytes"].get<double>());
                QCOMPARE(gpu["fits"].get<bool>(), gpu["max_context"].get<std::uint64_t>() >= 2048);
            }
        const std::string name = gpus[0]["name"];
        const json one = memory({"--model", "7b", "--formats", "nf4", "--gpu", QString::fromStdString(name)});
        QCOMPARE(one["results"][0]["gpus"].size(), std::size_t{1});
        QVERIFY(one["results"][0]["gpus"][0]["name"] == name);
        QVERIFY(one["best_fitting"][0]["gpu"] == name);
    }

    void a_bare_config() {
        QFile file(folder_.filePath("config.json"));
        QVERIFY(file.open(QIODevice::WriteOnly));
        // head_dim is not hidden_size / num_attention_heads.
        file.write(R"({"model_type": "llama", "architectures": ["LlamaForCausalLM"], "hidden_size": 64,
            "intermediate_size": 160, "num_hidden_layers": 3, "num_attention_heads": 4, "num_key_value_heads": 2,
            "head_dim": 32, "vocab_size": 100, "tie_word_embeddings": true})");
        file.close();
        const json document = memory({file.fileName(), "--formats", "fp16", "--context", "100", "--batch", "2"});
        QVERIFY2(document.is_object(), document.dump().c_str());
        const int layer = 64 * 128 + 2 * 64 * 64 + 128 * 64 + 3 * 64 * 160 + 2 * 64;
        QCOMPARE(document["parameters"].get<int>(), 3 * layer + 64 + 100 * 64);
        QCOMPARE(line_bytes(document["results"][0], "kv cache"), 2.0 * 3 * 100 * 2 * (32 + 32) * 2);
    }

    void a_checkpoint() {
        const QString path = QStringLiteral(QUANTOSCOPE_SHARED_DATA "/models/stories260K/derived/");
        if (!QFile::exists(path + "sharded"))
            QSKIP("the folder of real checkpoints is absent");
        for (const char* model : {"sharded", "gguf/stories260K-f32.gguf"}) {
            const json document = memory({path + model, "--formats", "q4_0", "--context", "512", "--kv-cache", "q8_0"});
            QVERIFY2(document.is_object(), document.dump().c_str());
            QCOMPARE(document["parameters"].get<int>(), 260032);
            // 5 layers · 512 tokens · 4 heads · (8 + 8) · 34/32 bytes
            QCOMPARE(line_bytes(document["results"][0], "kv cache"), 5.0 * 512 * 4 * 16 * 34 / 32);
        }
    }

    void table() {
        const Outcome outcome = run_cli({"memory", "--model", "7B", "--formats", "nf4"});
        QVERIFY2(outcome.status == 0, outcome.error);
        QVERIFY(outcome.out.contains("kv cache") && outcome.out.contains("GiB") && outcome.out.contains("3.50"));
    }

    void unknown_names() {
        const Outcome card = run_cli({"memory", "--model", "llama-2-8b", "--formats", "nf4"});
        QCOMPARE(card.status, 2);
        QVERIFY2(card.one_error_line() && card.error.contains("llama-2-7b"), card.error);
        const Outcome gpu = run_cli({"memory", "--model", "7B", "--formats", "nf4", "--gpu", "RTX 409O"});
        QCOMPARE(gpu.status, 2);
        QVERIFY2(gpu.one_error_line() && gpu.error.contains("4090"), gpu.error);
    }
};

QTEST_GUILESS_MAIN(CliMemory)
#include "cli_memory.moc"
