#include <QDir>
#include <QFile>
#include <QTemporaryDir>
#include <QTest>

#include <algorithm>
#include <map>

#include "core/base/atomic_file.h"
#include "core/export/gguf_plan.h"
#include "core/model/tokenizer_readers.h"
#include "tests/core/model/tokenizer_files.h"

using namespace qs;
using namespace qs::test;
using nlohmann::json;

namespace {

const QString shared = QStringLiteral(QUANTOSCOPE_SHARED_DATA);

const std::vector<std::string> texts = {
    "Once upon a time, there was a little girl named Lily.\n\nShe  had 3 dogs and 12345 cats; isn't that odd?",
    "  leading and trailing  ",
    "\tfor (i = 0; i < 10; i++) { x[i] += 0x1F; }  // 100% done!!",
    "naïve Größe — „quoted“ … привет мир 你好，世界 こんにちは 안녕 🙂👩‍👧 "
    "e\xCC\x81",
    "",
    " ",
    "\n\n\n   \n",
    "<s> not special </s> <0x41> Ġ",
};

class TestGgufTokenizer : public QObject {
    Q_OBJECT

    /// What a file that holds only the tokenizer in `folder` gives back; null if there is none in it.
    std::unique_ptr<Tokenizer> converted(const std::string& folder, std::vector<std::string>& notes) {
        Checkpoint checkpoint;
        checkpoint.path = folder;
        const auto source = open_tokenizer(checkpoint);
        GgufPlan plan;
        // Embeddings are often padded beyond the tokens.
        add_tokenizer_metadata(plan, checkpoint, static_cast<int>(source->traits().size) + 3);
        notes = plan.notes;
        if (!notes.empty() && notes.front().starts_with("the file has no tokenizer"))
            return nullptr;
        QTemporaryDir out;
        plan.header.set("general.architecture", "llama");
        const std::string path = out.filePath("tokenizer.gguf").toStdString();
        write_file(path, plan.header.bytes());
        return open_tokenizer(std::filesystem::path(path));
    }

    void compare(const std::string& folder) {
        Checkpoint checkpoint;
        checkpoint.path = folder;
        const auto source = open_tokenizer(checkpoint);
        std::vector<std::string> notes;
        const auto made = converted(folder, notes);
        QVERIFY2(notes.empty(), notes.empty() ? "" : notes.front().c_str());
        for (const std::string& text : texts) {
            QVERIFY2(made->encode(text) == source->encode(text), text.c_str());
            QVERIFY2(made->encode(text, made->defaults()) == source->encode(text, source->defaults()), text.c_str());
        }
        QCOMPARE(made->traits().bos, source->traits().bos);
        QCOMPARE(made->traits().eos, source->traits().eos);
        QCOMPARE(made->traits().size, source->traits().size + 3);
    }

    static std::string with_file(QTemporaryDir& folder, const QString& from, const QString& name) {
        QFile::copy(from, folder.filePath(name));
        return folder.path().toStdString();
    }

private slots:
    void demo() { compare(QUANTOSCOPE_RESOURCES_DIR "/demo"); }

    /// Tokens of which the model has no embeddings are added ones, as a rule.
    void more_tokens_than_embeddings() {
        Files files;
        json tokenizer = json::parse(read_file(QUANTOSCOPE_RESOURCES_DIR "/demo/tokenizer.json"));
        tokenizer["added_tokens"].push_back({{"id", 1024}, {"content", "<image>"}, {"special", true}});
        files.write("tokenizer.json", QByteArray::fromStdString(tokenizer.dump()));
        Checkpoint checkpoint;
        checkpoint.path = files.folder();
        GgufPlan plan;
        add_tokenizer_metadata(plan, checkpoint, 1024);
        QCOMPARE(plan.notes, std::vector<std::string>{"1 tokens beyond the 1024 that the model embeds are left out"});
    }

    void chat_templates() {
        Files files;
        files.write("tokenizer.json",
                    QByteArray::fromStdString(read_file(QUANTOSCOPE_RESOURCES_DIR "/demo/tokenizer.json")));
        const auto entry = [&](const char* key) {
            Checkpoint checkpoint;
            checkpoint.path = files.folder();
            GgufPlan plan;
            add_tokenizer_metadata(plan, checkpoint, 1024);
            plan.header.set("general.architecture", "llama");
            const auto bytes = plan.header.bytes();
            const std::string path = files.write(
                "made.gguf", QByteArray(reinterpret_cast<const char*>(bytes.data()), qsizetype(bytes.size())));
            return open_checkpoint(path)->config->value(key, json()).dump();
        };
        QCOMPARE(entry("tokenizer.chat_template"), std::string("null"));
        files.write("tokenizer_config.json", R"({"chat_template": "{{ a }}", "pad_token": "<|eos|>"})");
        QCOMPARE(entry("tokenizer.chat_template"), std::string("\"{{ a }}\""));
        QCOMPARE(entry("tokenizer.ggml.padding_token_id"), std::string("1"));
        files.write("tokenizer_config.json", R"({"chat_template": [{"name": "tool", "template": "{{ b }}"},
                                                                   {"name": "default", "template": "{{ c }}"}]})");
        QCOMPARE(entry("tokenizer.chat_template"), std::string("\"{{ c }}\""));
        files.write("chat_template.jinja", "{{ d }}");
        QCOMPARE(entry("tokenizer.chat_template"), std::string("\"{{ d }}\""));
    }

    void golden_models_data() {
        QTest::addColumn<QString>("model");
        QTest::addRow("bpe") << "bpe.model";
        QTest::addRow("unigram") << "unigram.model";
    }
    void golden_models() {
        QFETCH(QString, model);
        QTemporaryDir folder;
        compare(with_file(folder, QString::fromStdString(golden_tokenizers) + model, "tokenizer.model"));
    }

    /// Tokens that are found in a text before anything else are marked as such.
    void types_of_sentencepiece_tokens() {
        QTemporaryDir folder;
        Checkpoint checkpoint;
        checkpoint.path = with_file(folder, QString::fromStdString(golden_tokenizers) + "bpe.model", "tokenizer.model");
        const auto source = open_tokenizer(checkpoint);
        const auto types = sentencepiece_types(read_file(golden_tokenizers + "bpe.model"));
        QCOMPARE(types.size(), source->traits().size);
        QCOMPARE(types[0], GgufTokenType::unknown);
        QCOMPARE(types[1], GgufTokenType::control);
        QCOMPARE(std::ranges::count(types, GgufTokenType::byte), 256);
        const auto user_defined = std::ranges::find(types, GgufTokenType::user_defined);
        QVERIFY(user_defined != types.end());
        QCOMPARE(source->piece(static_cast<TokenId>(user_defined - types.begin())), std::string("<sep>"));
        std::vector<std::string> notes;
        const auto made = converted(folder.path().toStdString(), notes);
        QCOMPARE(made->encode("<sep>").back(), static_cast<TokenId>(user_defined - types.begin()));
    }

    void hugging_face_data() {
        QTest::addColumn<QString>("name");
        const json golden = golden_json("huggingface.json");
        for (const json& test : golden.at("cases"))
            QTest::addRow("%s", test.at("name").get<std::string>().c_str()) << QString::fromStdString(test.at("name"));
    }
    /// Whatever is written gives the source's ids; what cannot be is said.
    void hugging_face() {
        QFETCH(QString, name);
        const json golden = golden_json("huggingface.json");
        QTemporaryDir folder;
        QFile file(folder.filePath("tokenizer.json"));
        QVERIFY(file.open(QIODevice::WriteOnly));
        file.write(QByteArray::fromStdString(tokenizer_of(golden, named_case(golden, name.toStdString())).dump()));
        file.close();
        const std::string path = folder.path().toStdString();
        std::vector<std::string> notes;
        const auto made = converted(path, notes);
        const std::map<QString, std::string> kinds = {
            {"GPT-2", "BPE gpt-2 (GGUF)"},
            {"NFC", "BPE gpt-2 (GGUF)"},
            {"Llama 3", "BPE llama3 (GGUF)"},
            {"DeepSeek", "BPE deepseek-coder (GGUF)"},
            {"Llama 2", "SentencePiece BPE (GGUF)"},
            {"Gemma", "SentencePiece BPE (GGUF)"},
            {"Metaspace whole", "SentencePiece BPE (GGUF)"},
            {"T5", "Unigram (GGUF)"},
        };
        if (const auto kind = kinds.find(name); kind != kinds.end())
            QCOMPARE(made ? made->traits().kind : notes.front(), kind->second);
        QVERIFY(made || !notes.empty());
        const auto source = open_tokenizer(std::filesystem::path(path));
        for (const std::string& text : texts)
            QVERIFY2(!notes.empty() || made->encode(text) == source->encode(text), text.c_str());
    }

    void real_ones_data() {
        QTest::addColumn<QString>("from");
        QTest::addColumn<QStringList>("files");
        QTest::addRow("llama2.c") << "/models/stories260K" << QStringList{"tok512.bin:tokenizer.bin"};
        QTest::addRow("tiny GPT-2") << "/models/tiny_gpt2-lm-buddy"
                                    << QStringList{"vocab.json", "merges.txt", "special_tokens_map.json",
                                                   "tokenizer_config.json"};
        QTest::addRow("GPT-2") << "/containers/tokenizers/gpt2"
                               << QStringList{"gpt2_vocab.json:vocab.json", "gpt2_merges.txt:merges.txt"};
    }
    void real_ones() {
        QFETCH(QString, from);
        QFETCH(QStringList, files);
        if (!QDir(shared + from).exists())
            QSKIP("the shared data are absent");
        QTemporaryDir folder;
        for (const QString& file : files)
            with_file(folder, shared + from + "/" + file.section(':', 0, 0), file.section(':', -1));
        compare(folder.path().toStdString());
    }
};

} // namespace

QTEST_GUILESS_MAIN(TestGgufTokenizer)
#include "test_gguf_tokenizer.moc"
