#include <QTest>

#include "tests/core/model/tokenizer_files.h"

using namespace qs;
using namespace qs::test;
using nlohmann::json;

/// The ids and texts that the reference libraries give.
class TokenizerGolden : public QObject {
    Q_OBJECT

private:
    Files files_;
    const json huggingface_ = golden_json("huggingface.json");
    const json sentencepiece_ = golden_json("sentencepiece.json");

    /// The decoded text that a case tells, which is the text itself where it tells none.
    static std::string decoded(const json& test, const json& texts, std::size_t index) {
        const auto found = test.at("decoded").find(std::to_string(index));
        return (found == test.at("decoded").end() ? texts[index] : *found).get<std::string>();
    }

private slots:
    void huggingface_data() {
        QTest::addColumn<int>("number");
        for (std::size_t i = 0; i < huggingface_["cases"].size(); ++i)
            QTest::newRow(huggingface_["cases"][i]["name"].get<std::string>().c_str()) << static_cast<int>(i);
    }

    void huggingface() {
        QFETCH(int, number);
        const json& test = huggingface_["cases"][static_cast<std::size_t>(number)];
        const json& texts = huggingface_["texts"];
        const auto tokenizer = open_json(files_, tokenizer_of(huggingface_, test));
        for (std::size_t i = 0; i < texts.size(); ++i) {
            const auto text = texts[i].get<std::string>();
            const auto ids = tokenizer->encode(text);
            QVERIFY2(ids == test["ids"][i].get<std::vector<TokenId>>(), text.c_str());
            QCOMPARE(tokenizer->decode(ids), decoded(test, texts, i));
        }
        QCOMPARE(tokenizer->encode(texts[12].get<std::string>(), {.special = false}),
                 test["plain"].get<std::vector<TokenId>>());
        const auto front = test["front"].get<std::vector<TokenId>>();
        const auto back = test["back"].get<std::vector<TokenId>>();
        QCOMPARE(tokenizer->traits().adds_bos, !front.empty());
        QCOMPARE(tokenizer->traits().adds_eos, !back.empty());
        auto expected = front;
        const auto middle = tokenizer->encode("x");
        expected.insert(expected.end(), middle.begin(), middle.end());
        expected.insert(expected.end(), back.begin(), back.end());
        QCOMPARE(tokenizer->encode("x", tokenizer->defaults()), expected);
    }

    void sentencepiece_data() {
        QTest::addColumn<QString>("file");
        QTest::addColumn<QString>("expected");
        QTest::newRow("bpe.model") << "bpe.model"
                                   << "bpe";
        QTest::newRow("unigram.model") << "unigram.model"
                                       << "unigram";
        QTest::newRow("unigram.gguf") << "unigram.gguf"
                                      << "unigram";
    }

    void sentencepiece() {
        QFETCH(QString, file);
        QFETCH(QString, expected);
        const json& test = sentencepiece_[expected.toStdString()];
        const json& texts = sentencepiece_["texts"];
        const auto tokenizer = open_tokenizer(std::filesystem::path(golden_tokenizers + file.toStdString()));
        const bool gguf = file.endsWith(".gguf");
        for (std::size_t i = 0; i < texts.size(); ++i) {
            const auto text = texts[i].get<std::string>();
            // In a GGUF file, as in llama.cpp, a user-defined token begins a text anew.
            if (gguf && text.find("<sep>") != std::string::npos)
                continue;
            const auto ids = tokenizer->encode(text, {.special = false});
            QVERIFY2(ids == test["ids"][i].get<std::vector<TokenId>>(), text.c_str());
            if (!gguf) // the library shows an unknown token in its own way
                QCOMPARE(tokenizer->decode(ids), decoded(test, texts, i));
        }
    }

    void special_tokens_of_a_sentencepiece_model() {
        const auto tokenizer = open_tokenizer(std::filesystem::path(golden_tokenizers + "bpe.model"));
        QCOMPARE(tokenizer->traits().bos, std::optional(1));
        QCOMPARE(tokenizer->traits().eos, std::optional(2));
        QCOMPARE(tokenizer->traits().unk, std::optional(0));
        QVERIFY(tokenizer->defaults().bos && !tokenizer->defaults().eos);
        QCOMPARE(tokenizer->encode("<s></s>"), (std::vector<TokenId>{1, 2}));
        QCOMPARE(tokenizer->encode("", tokenizer->defaults()), (std::vector<TokenId>{1}));
        const auto ids = tokenizer->encode("<s>The scale</s>");
        QCOMPARE(tokenizer->decode(ids), std::string("<s>The scale</s>"));
        QCOMPARE(tokenizer->piece(ids[1]).substr(0, 1), std::string(" "));
    }

    void configuration_beside_a_tokenizer() {
        Files files;
        const json tokenizer = tokenizer_of(huggingface_, named_case(huggingface_, "GPT-2"));
        auto opened = open_json(files, tokenizer);
        QVERIFY(!opened->traits().bos && !opened->traits().eos);
        files.write("tokenizer_config.json", R"({"bos_token": {"content": "<s>"}, "add_bos_token": true})");
        files.write("special_tokens_map.json", R"({"bos_token": "</s>", "eos_token": "</s>", "unk_token": null})");
        opened = open_json(files, tokenizer);
        QCOMPARE(opened->traits().bos, std::optional(0));
        QCOMPARE(opened->traits().eos, std::optional(1));
        QVERIFY(opened->traits().adds_bos && !opened->traits().adds_eos);
        QCOMPARE(opened->encode("x", opened->defaults()).front(), 0);
        QCOMPARE(opened->encode("x", {.eos = true}).back(), 1);
        files.write("tokenizer_config.json", "{ broken");
        QCOMPARE(open_json(files, tokenizer)->traits().bos, std::optional(1));
    }

    /// Every piece of a text, one after the other, is the text.
    void pieces() {
        const auto tokenizer = open_json(files_, tokenizer_of(huggingface_, named_case(huggingface_, "Llama 3")));
        for (const json& text : huggingface_["texts"]) {
            const auto whole = text.get<std::string>();
            std::string joined;
            for (const TokenId id : tokenizer->encode(whole, {.special = false}))
                joined += tokenizer->piece(id);
            QCOMPARE(joined, whole);
        }
        QVERIFY_EXCEPTION_THROWN(tokenizer->piece(-1), Error);
        QVERIFY_EXCEPTION_THROWN(tokenizer->piece(static_cast<TokenId>(tokenizer->traits().size)), Error);
        QVERIFY_EXCEPTION_THROWN(tokenizer->decode(std::vector<TokenId>{0, 1 << 30}), Error);
    }

    void vocabulary_and_merges() {
        const json model = tokenizer_of(huggingface_, named_case(huggingface_, "GPT-2"))["model"];
        json vocab = model["vocab"];
        vocab["<|endoftext|>"] = vocab.size();
        const auto end = vocab["<|endoftext|>"].get<TokenId>();
        std::string merges = "#version: 0.2\n";
        for (const json& merge : model["merges"])
            merges += merge[0].get<std::string>() + " " + merge[1].get<std::string>() + "\n";
        Files folder;
        const std::string path = folder.write("vocab.json", QByteArray::fromStdString(vocab.dump()));
        QVERIFY(tokenizer_refusal(path).contains("needs merges.txt beside it"));
        folder.write("merges.txt", QByteArray::fromStdString(merges));
        const auto tokenizer = open_tokenizer(std::filesystem::path(folder.folder()));
        const json& test = named_case(huggingface_, "GPT-2");
        for (const std::size_t i : {4, 8, 10})
            QCOMPARE(tokenizer->encode(huggingface_["texts"][i].get<std::string>()),
                     test["ids"][i].get<std::vector<TokenId>>());
        QCOMPARE(tokenizer->traits().eos, std::optional(end));
        QCOMPARE(tokenizer->encode("<|endoftext|>"), std::vector<TokenId>{end});
        QVERIFY(!tokenizer->traits().adds_bos);
    }

    void token_ids() {
        const auto tokenizer = id_tokenizer(512);
        QCOMPARE(tokenizer->encode(" 1 403\n407\t0 511 "), (std::vector<TokenId>{1, 403, 407, 0, 511}));
        QCOMPARE(tokenizer->decode(std::vector<TokenId>{1, 403}), std::string("1 403"));
        QVERIFY(!tokenizer->traits().bos && !tokenizer->traits().adds_bos);
        for (const char* text : {"512", "-1", "1.5", "one", "99999999999"})
            QVERIFY_EXCEPTION_THROWN(tokenizer->encode(text), Error);
    }
};

QTEST_GUILESS_MAIN(TokenizerGolden)
#include "test_tokenizer_golden.moc"
