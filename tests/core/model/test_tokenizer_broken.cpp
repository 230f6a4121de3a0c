#include <QElapsedTimer>
#include <QFileInfo>
#include <QTest>

#include <cmath>

#include "tests/core/model/tokenizer_files.h"

using namespace qs;
using namespace qs::test;
using nlohmann::json;

namespace {

constexpr std::uint32_t u32 = 4, i32 = 5, f32 = 6, text = 8, array = 9;

QByteArray strings(const std::vector<QByteArray>& values) {
    QByteArray bytes = le(text) + le(static_cast<std::uint64_t>(values.size()));
    for (const QByteArray& value : values)
        bytes += gguf_string(value);
    return bytes;
}

template <class T>
QByteArray values_of(std::uint32_t type, const std::vector<T>& values) {
    QByteArray bytes = le(type) + le(static_cast<std::uint64_t>(values.size()));
    for (const T value : values)
        bytes += le(value);
    return bytes;
}

QByteArray entry(const char* key, std::uint32_t type, const QByteArray& value) {
    return gguf_entry(QByteArray("tokenizer.ggml.") + key, type, value);
}

const QByteArray bpe_model = entry("model", text, gguf_string("gpt2"));
const QByteArray letters = entry("tokens", array, strings({"a", "b", "ab"}));

QByteArray gguf_of(const std::vector<QByteArray>& entries) {
    return gguf(entries, {}, 0);
}

// Bytes that are not UTF-8 in every way, and characters of every length.
const std::string odd_text =
    "a\xFF\xC3\x28\xE2\x82\xF0\x9F\x99 b\xED\xA0\x80\xC0\x80 \xC3\xA9\xE2\x82\xAC\xF0\x9F\x99\x82"
    "\xF4\x90\x80\x80 \0 <s>\xE2"
    "\x96\x81";

/// Encodes odd text in every way; what comes out must be ids of the vocabulary.
void exercise(const Tokenizer& tokenizer) {
    for (const bool special : {true, false})
        for (const TokenId id : tokenizer.encode(odd_text, {.bos = true, .eos = true, .special = special})) {
            QVERIFY(id >= 0 && static_cast<std::size_t>(id) < tokenizer.traits().size);
            tokenizer.piece(id);
        }
    const auto decoded = tokenizer.decode(tokenizer.encode(odd_text));
    QVERIFY(QString::fromStdString(decoded).toUtf8() == QByteArray::fromStdString(decoded));
}

} // namespace

/// Files that are broken or malicious give one error that names them, or a tokenizer that works; never a crash.
class TokenizerBroken : public QObject {
    Q_OBJECT

private:
    Files files_;
    const json golden_ = golden_json("huggingface.json");

    json valid(const char* name = "Llama 3") const { return tokenizer_of(golden_, named_case(golden_, name)); }

    QString refusal_of(const json& tokenizer) {
        return tokenizer_refusal(files_.write("t.json", QByteArray::fromStdString(tokenizer.dump())));
    }

    QString refusal_of_gguf(const std::vector<QByteArray>& entries) {
        return tokenizer_refusal(files_.write("t.gguf", gguf_of(entries)));
    }

private slots:
    void truncated_data() {
        QTest::addColumn<QString>("path");
        for (const char* name : {"bpe.model", "unigram.model", "unigram.gguf"})
            QTest::newRow(name) << QString::fromStdString(golden_tokenizers + name);
        const QString llama2c = QUANTOSCOPE_SHARED_DATA "/models/stories260K/tok512.bin";
        if (QFileInfo::exists(llama2c))
            QTest::newRow("tok512.bin") << llama2c;
    }

    void truncated() {
        QFETCH(QString, path);
        const QByteArray whole = QByteArray::fromStdString(read_file(path.toStdString()));
        const QString name = "short." + QFileInfo(path).suffix();
        for (qsizetype size = 0; size < whole.size(); size += 1 + size / 40) {
            const std::string file = files_.write(name, whole.left(size));
            try {
                exercise(*open_tokenizer(std::filesystem::path(file)));
            } catch (const Error& error) {
                QVERIFY2(QString(error.what()).contains(name), error.what());
                QVERIFY2(!QString(error.what()).contains('\n'), error.what());
            }
        }
    }

    void truncated_json() {
        const QByteArray whole = QByteArray::fromStdString(valid().dump());
        for (qsizetype size = 0; size < whole.size(); size += 1 + size / 17) {
            const QString refusal = tokenizer_refusal(files_.write("short.json", whole.left(size)));
            QVERIFY2(refusal.contains("short.json"), qPrintable(refusal));
        }
    }

    void wrong_json_data() {
        QTest::addColumn<QString>("pointer");
        QTest::addColumn<QString>("value");
        QTest::addColumn<QString>("complaint");
        const auto row = [](const char* pointer, const char* value, const char* complaint) {
            QTest::addRow("%s = %s", pointer, value) << pointer << value << complaint;
        };
        row("/model", "3", "the model is wrong");
        row("/model/type", "\"WordPiece\"", "uses the model 'WordPiece', which is not supported");
        row("/model/vocab", "[]", "has a vocabulary that does not map texts to ids");
        row("/model/vocab/!", "-1", "token '!' has the id -1");
        row("/model/vocab/!", "4294967295", "token '!' has the id 4294967295");
        row("/model/vocab/!", "\"x\"", "token '!' has the id \"x\"");
        row("/model/vocab/!", "4", "have the same id 4");
        row("/model/merges", "{\"a\": 1}", "the model is wrong");
        row("/model/merges/0", "[\"a\"]", "the model is wrong");
        row("/model/merges/0", "\"a b c\"", "has the merge 'a b c', which is not two tokens");
        row("/model/merges/0", "[\"absent\", \"b\"]", "needs the token 'absent'");
        row("/model/merges/0", "[\"q\", \"q\"]", "needs the token 'qq', which is not in the vocabulary");
        row("/added_tokens", "7", "the list of added tokens is wrong");
        row("/added_tokens/0", "{}", "key 'content' not found");
        row("/added_tokens/0/id", "123456789012", "has the id 123456789012");
        row("/added_tokens/0/special", "\"yes\"", "type must be boolean");
        row("/normalizer", "{}", "a normalizer is wrong: key 'type' not found");
        row("/normalizer", "{\"type\": \"Nmt\"}", "uses the normalizer 'Nmt', which is not supported");
        row("/normalizer", "{\"type\": \"Precompiled\", \"precompiled_charsmap\": \"AAAA\"}",
            "damaged table of character replacements");
        row("/normalizer", "{\"type\": \"Precompiled\", \"precompiled_charsmap\": \"!\"}", "is not base64");
        row("/pre_tokenizer/pretokenizers/0/behavior", "\"Sideways\"", "the behavior 'Sideways' is unknown");
        row("/pre_tokenizer/pretokenizers/0/pattern", "{}", "the pre-tokenizer 'Split' is wrong");
        row("/pre_tokenizer/pretokenizers/0/pattern/Regex", "\"(a\"", "which is wrong at character 2");
        row("/pre_tokenizer/pretokenizers/0/pattern/Regex", "\"[a-z&&[^b]]\"", "which is not supported");
        row("/pre_tokenizer", "{\"type\": \"UnicodeScripts\"}", "'UnicodeScripts', which is not supported");
        row("/decoder", "{\"type\": \"CTC\"}", "uses the decoder 'CTC', which is not supported");
        row("/post_processor", "{\"type\": \"Other\"}", "uses the post-processor 'Other'");
        row("/post_processor/special_tokens/<s>/ids", "[999999]", "puts token 999999 around a text");
    }

    void wrong_json() {
        QFETCH(QString, pointer);
        QFETCH(QString, value);
        QFETCH(QString, complaint);
        json tokenizer = valid();
        tokenizer[json::json_pointer(pointer.toStdString())] = json::parse(value.toStdString());
        const QString refusal = refusal_of(tokenizer);
        QVERIFY2(refusal.contains("t.json") && refusal.contains(complaint), qPrintable(refusal));
        QVERIFY2(!refusal.contains('\n') && refusal.size() < 800, qPrintable(refusal));
    }

    void other_files() {
        QVERIFY(tokenizer_refusal(files_.folder() + "/absent").contains("does not exist"));
        QVERIFY(tokenizer_refusal(files_.folder()).contains("holds no tokenizer"));
        QVERIFY(tokenizer_refusal(files_.write("a.txt", "words")).contains("is no known tokenizer"));
        QVERIFY(tokenizer_refusal(files_.write("b.json", "{\"hidden_size\": 1}")).contains("without a 'model'"));
        QVERIFY(tokenizer_refusal(files_.write("c.json", QByteArray(100000, '{'))).contains("c.json"));
        QVERIFY(tokenizer_refusal(files_.write("d.json", "{\"model\": 1e999}")).contains("too large"));
        const QByteArray token = le(0.0F) + le(std::uint32_t{9}) + "x";
        QVERIFY(tokenizer_refusal(files_.write("e.bin", le(std::uint32_t{5}) + token)).contains("token 0 has 9 bytes"));
    }

    /// A merge can only ever shorten a word, whatever the list says.
    void merges_in_a_circle() {
        json tokenizer = valid();
        tokenizer["pre_tokenizer"] = tokenizer["added_tokens"] = tokenizer["post_processor"] = nullptr;
        tokenizer["model"]["vocab"] = {{"a", 0}, {"b", 1}, {"ab", 2}, {"ba", 3}, {"aba", 4}, {"bab", 5}};
        tokenizer["model"]["merges"] = {"ab a", "a ba", "b ab", "ba b", "a b", "b a", "a b"};
        tokenizer["added_tokens"] = json::array();
        const auto opened = open_json(files_, tokenizer);
        std::string word;
        for (int i = 0; i < 20000; ++i)
            word += "ab";
        std::string joined;
        for (const TokenId id : opened->encode(word))
            joined += opened->piece(id);
        QCOMPARE(joined, word);
    }

    void costly_regular_expression() {
        json tokenizer = valid();
        tokenizer["pre_tokenizer"] = {
            {"type", "Split"}, {"pattern", {{"Regex", "(a|aa)+$"}}}, {"behavior", "Isolated"}};
        const auto opened = open_json(files_, tokenizer);
        QElapsedTimer timer;
        timer.start();
        try {
            opened->encode(std::string(5000, 'a') + "b");
            QFAIL("should give up");
        } catch (const Error& error) {
            QVERIFY2(QString(error.what()).contains("fails on this text"), error.what());
        }
        QVERIFY(timer.elapsed() < 20000);
    }

    void odd_texts_data() {
        QTest::addColumn<int>("number");
        for (std::size_t i = 0; i < golden_["cases"].size(); ++i)
            QTest::newRow(golden_["cases"][i]["name"].get<std::string>().c_str()) << static_cast<int>(i);
    }

    void odd_texts() {
        QFETCH(int, number);
        exercise(*open_json(files_, tokenizer_of(golden_, golden_["cases"][static_cast<std::size_t>(number)])));
    }

    void wrong_gguf() {
        QVERIFY(refusal_of_gguf({letters}).contains("the kind '' (tokenizer.ggml.model), which is not supported"));
        QVERIFY(refusal_of_gguf({entry("model", text, gguf_string("bert")), letters}).contains("the kind 'bert'"));
        QVERIFY(refusal_of_gguf({entry("model", u32, le(1U)), letters}).contains("metadata 'tokenizer.ggml.model'"));
        QVERIFY(refusal_of_gguf({bpe_model, letters}).contains("without merges"));
        QVERIFY(refusal_of_gguf({bpe_model, letters, entry("pre", text, gguf_string("nobody"))})
                    .contains("uses the pre-tokenizer 'nobody'"));
        QVERIFY(refusal_of_gguf({bpe_model, letters, entry("merges", array, strings({"ab"}))})
                    .contains("has the merge 'ab', which is not two tokens"));
        QVERIFY(refusal_of_gguf({bpe_model, letters, entry("merges", array, strings({"a c"}))})
                    .contains("needs the token 'c'"));
        QVERIFY(refusal_of_gguf({bpe_model, letters, entry("scores", array, values_of<float>(f32, {1, 2}))})
                    .contains("has 2 values for 3 tokens"));
        QVERIFY(refusal_of_gguf({bpe_model, letters, entry("token_type", array, strings({"a", "b", "c"}))})
                    .contains("metadata 'tokenizer.ggml.token_type' is wrong"));
        QVERIFY(refusal_of_gguf({bpe_model, entry("tokens", array, values_of<std::uint32_t>(u32, {1, 2}))})
                    .contains("metadata 'tokenizer.ggml.tokens' is wrong"));
        QVERIFY(refusal_of_gguf({entry("model", text, gguf_string("t5")), letters,
                                 entry("precompiled_charsmap", array, values_of<std::uint8_t>(0, {9, 9, 9, 9, 9}))})
                    .contains("damaged table"));
    }

    /// llama.cpp's names; each has its own regular expressions.
    void gguf_pre_tokenizers() {
        const QString names =
            "default llama3 llama-v3 llama-bpe falcon3 falcon-h1 pixtral midm-2.0 lfm2 jina-v5-nano dbrx smaug-bpe "
            "chatglm-bpe glm4 jais-2 deepseek-llm deepseek-coder deepseek-v3 hunyuan-dense joyai-llm hy_v4 youtu "
            "falcon starcoder refact command-r smollm codeshell exaone minerva-7b mellum2 gpt-2 phi-2 mpt olmo jais "
            "trillion granite-docling gigachat mellum modern-bert exaone4 a.x-4.0 jina-es jina-de jina-v2-es "
            "jina-v2-de jina-v1-en jina-v2-code roberta-bpe qwen2 stablelm2 hunyuan solar-open megrez grok-2 "
            "deepseek-r1-qwen kormo f2llmv2 qwen35 poro-chat bloom gpt3-finnish viking tekken chameleon gpt-4o llama4 "
            "kanana2 talkie minimax-m2 tiny_aya cohere2moe superbpe bailingmoe bailingmoe2 llada-moe seed-coder "
            "exaone-moe laguna minicpm5 ufakzeka gemma4 granite-embed-multi-311m sarvam-moe";
        for (const QString& name : names.split(' ')) {
            const std::string path =
                files_.write("pre.gguf", gguf_of({bpe_model, letters, entry("merges", array, strings({"a b"})),
                                                  entry("pre", text, gguf_string(name.toUtf8()))}));
            QVERIFY2(tokenizer_refusal(path).isEmpty(), qPrintable(tokenizer_refusal(path)));
            const auto tokenizer = open_tokenizer(std::filesystem::path(path));
            QCOMPARE(tokenizer->encode("abba"), (std::vector<TokenId>{2, 1, 0}));
            exercise(*tokenizer);
        }
    }

    void odd_gguf_tokenizers_work() {
        const std::vector<QByteArray> odd = {bpe_model,
                                             letters,
                                             entry("merges", array, strings({"a b", "a b"})),
                                             entry("token_type", array, values_of<std::int32_t>(i32, {1, -7, 99})),
                                             entry("bos_token_id", u32, le(std::uint32_t{77})),
                                             entry("add_bos_token", 7, QByteArray(1, '\1'))};
        const auto bpe = open_tokenizer(std::filesystem::path(files_.write("odd.gguf", gguf_of(odd))));
        QVERIFY(!bpe->traits().bos && !bpe->traits().adds_bos);
        QCOMPARE(bpe->encode("abba"), (std::vector<TokenId>{2, 1, 0}));
        exercise(*bpe);
        const float nan = std::nanf("");
        const auto scored = open_tokenizer(std::filesystem::path(files_.write(
            "nan.gguf", gguf_of({entry("model", text, gguf_string("llama")),
                                 entry("tokens", array, strings({"a", "", "ab", "\xFF", "ba", "b"})),
                                 entry("scores", array, values_of<float>(f32, {nan, nan, nan, 0, -1, nan}))}))));
        QCOMPARE(scored->encode("ababab", {}).size(), std::size_t{5}); // unknown space, a, ba, ba, b
        exercise(*scored);
    }
};

QTEST_GUILESS_MAIN(TokenizerBroken)
#include "test_tokenizer_broken.moc"
