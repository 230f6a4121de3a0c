#include <QFile>
#include <QTemporaryDir>
#include <QTest>

#include "core/base/error.h"
#include "core/memory/ledger.h"

using namespace qs;

/// Model cards against the parameter counts that the models' makers publish, and configs of every family.
class Cards : public QObject {
    Q_OBJECT

private:
    QTemporaryDir folder_;

    ModelCard from(const char* config) {
        const QString path = folder_.filePath("config.json");
        QFile file(path);
        if (!file.open(QIODevice::WriteOnly | QIODevice::Truncate))
            return {};
        file.write(config);
        file.close();
        return card_from_config(path.toStdString());
    }

    QString refusal(const char* config) {
        try {
            from(config);
        } catch (const Error& error) {
            return QString::fromStdString(error.what());
        }
        return {};
    }

private slots:
    void published_parameters_data() {
        QTest::addColumn<QString>("id");
        QTest::addColumn<quint64>("parameters");
        const auto row = [](const char* id, quint64 count) { QTest::newRow(id) << QString(id) << count; };
        // The sums of the tensors' elements in the files of Hugging Face.
        row("llama-2-7b", 6738415616);
        row("llama-2-13b", 13015864320);
        row("llama-2-70b", 68976648192);
        row("llama-3.1-8b", 8030261248);
        row("llama-3.1-70b", 70553706496);
        row("llama-3.1-405b", 405853388800);
        row("mistral-7b", 7241732096);
        row("mixtral-8x7b", 46702792704);
        row("qwen-2.5-0.5b", 494032768);
        row("qwen-2.5-7b", 7615616512);
        row("qwen-2.5-72b", 72706203648);
        row("gemma-2-9b", 9241705984);
        row("phi-3-mini", 3821079552);
        row("llama-3.2-1b", 1235814400);
        row("llama-3.2-3b", 3212749824);
        row("tinyllama-1.1b", 1100048384);
        row("smollm2-135m", 134515008);
        row("gpt2", 124439808);
        row("gemma-2-2b", 2614341888);
        row("qwen-3-8b", 8190735360);
        row("qwen-3-30b-a3b", 30532122624);
    }

    void published_parameters() {
        QFETCH(QString, id);
        QFETCH(quint64, parameters);
        const ModelCard& card = model_card(id.toStdString());
        QCOMPARE(static_cast<quint64>(card.parameters), parameters);
        QVERIFY(!card.source.empty() && !card.title.empty() && !card.nominal);
    }

    void nominal_cards_come_first() {
        QCOMPARE(model_cards()[0].id, std::string("7B"));
        QCOMPARE(model_cards()[1].id, std::string("13B"));
        QCOMPARE(model_cards()[2].id, std::string("70B"));
        QVERIFY(model_cards()[2].nominal && !model_cards()[3].nominal);
        QCOMPARE(static_cast<quint64>(model_card("70B").parameters), quint64{70'000'000'000});
        QCOMPARE(model_card("70b").kv_heads, 8);
    }

    void ids_are_found_as_people_write_them() {
        QCOMPARE(model_card("Qwen2.5-7B").id, std::string("qwen-2.5-7b"));
        QCOMPARE(model_card("LLAMA-3.1-8B").id, std::string("llama-3.1-8b"));
        try {
            model_card("lama-2-7b");
            QFAIL("an unknown card was found");
        } catch (const Error& error) {
            QVERIFY2(QString(error.what()).contains("llama-2-7b"), error.what());
        }
    }

    void windows_of_layers() {
        QCOMPARE(model_card("mistral-7b").sliding_layers, 32);
        QCOMPARE(model_card("gemma-2-9b").sliding_layers, 21);
        QCOMPARE(model_card("qwen-2.5-7b").sliding_window, 0);
        const ModelCard gemma3 = from(R"({"model_type": "gemma3", "text_config": {"model_type": "gemma3_text",
            "hidden_size": 2560, "intermediate_size": 10240, "num_hidden_layers": 34, "num_attention_heads": 8,
            "num_key_value_heads": 4, "head_dim": 256, "vocab_size": 262208, "sliding_window": 1024,
            "max_position_embeddings": 131072}})");
        QCOMPARE(gemma3.sliding_layers, 29); // one of six attends to everything
        QVERIFY(gemma3.tied_embeddings);
        const ModelCard listed = from(R"({"model_type": "qwen3", "hidden_size": 64, "intermediate_size": 128,
            "num_hidden_layers": 3, "num_attention_heads": 4, "vocab_size": 10, "sliding_window": 16,
            "layer_types": ["sliding_attention", "full_attention", "sliding_attention"]})");
        QCOMPARE(listed.sliding_layers, 2);
    }

    void head_size_is_taken_from_the_config() {
        const ModelCard card = from(R"({"model_type": "qwen3", "hidden_size": 64, "intermediate_size": 128,
            "num_hidden_layers": 1, "num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 40,
            "vocab_size": 10, "tie_word_embeddings": true})");
        QCOMPARE(card.head_dim_k, 40);
        const int attention = 64 * (4 * 40 + 2 * 2 * 40) + 4 * 40 * 64;
        QCOMPARE(static_cast<int>(card.parameters), 10 * 64 + attention + 3 * 64 * 128 + 2 * 40 + 3 * 64);
    }

    void gpt_names_and_defaults() {
        const ModelCard card = from(R"({"model_type": "gpt2", "n_embd": 8, "n_layer": 1, "n_head": 2,
            "n_positions": 16, "vocab_size": 10, "n_inner": null})");
        QCOMPARE(card.intermediate, 32);
        const int matrices = 10 * 8 + 16 * 8 + 24 * 8 + 8 * 8 + 2 * 8 * 32;
        QCOMPARE(static_cast<int>(card.parameters), matrices + 24 + 8 + 32 + 8 + 3 * 2 * 8);
    }

    void unknown_architectures_say_so() {
        const ModelCard card = from(R"({"model_type": "novel", "hidden_size": 64, "intermediate_size": 128,
            "num_hidden_layers": 1, "num_attention_heads": 4, "vocab_size": 10})");
        QVERIFY(QString::fromStdString(card.source).contains("'novel' is not known"));
    }

    void broken_configs_are_refused_with_the_key() {
        QVERIFY(refusal(R"({"model_type": "llama"})").contains("num_hidden_layers"));
        QVERIFY(refusal(R"({"num_hidden_layers": -3})").contains("num_hidden_layers"));
        QVERIFY(refusal(R"({"num_hidden_layers": 1e300})").contains("num_hidden_layers"));
        QVERIFY(refusal(R"({"num_hidden_layers": 99999999999999999999})").contains("num_hidden_layers"));
        QVERIFY(refusal(R"({"num_hidden_layers": "12"})").contains("num_hidden_layers"));
        QVERIFY(refusal("[]").contains("config.json"));
        QVERIFY(refusal("{").contains("JSON"));
        QVERIFY(refusal(R"({"kv_lora_rank": 512, "num_hidden_layers": 4})").contains("latent"));
    }

    void gpus() {
        QVERIFY(gpu_catalogue().size() >= 25);
        double least = 1e18, most = 0;
        for (const Gpu& gpu : gpu_catalogue()) {
            least = std::min(least, gpu.bytes);
            most = std::max(most, gpu.bytes);
            QVERIFY(gpu.bandwidth_gbps > 0 && !gpu.source.empty());
            QCOMPARE(&find_gpu(gpu.name), &gpu);
        }
        QCOMPARE(least, 4 * 0x1p30);
        QCOMPARE(most, 192 * 0x1p30);
        QCOMPARE(find_gpu("nvidia geforce rtx 4090").name, std::string("GeForce RTX 4090"));
        QCOMPARE(find_gpu("rtx4090").name, std::string("GeForce RTX 4090"));
        QCOMPARE(find_gpu("4090").name, std::string("GeForce RTX 4090"));
        QCOMPARE(find_gpu("T4").name, std::string("Tesla T4"));
        try {
            find_gpu("RTX 409O");
            QFAIL("a GPU that is not there was found");
        } catch (const Error& error) {
            QVERIFY2(QString(error.what()).contains("GeForce RTX 4090?"), error.what());
        }
    }
};

QTEST_GUILESS_MAIN(Cards)
#include "test_cards.moc"
