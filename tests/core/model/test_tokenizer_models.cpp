#include <QDir>
#include <QElapsedTimer>
#include <QFile>
#include <QFileInfo>
#include <QTemporaryDir>
#include <QTest>

#include <sstream>

#include "tests/core/model/tokenizer_files.h"

using namespace qs;
using namespace qs::test;
using nlohmann::json;

namespace {

const QString shared_data = QStringLiteral(QUANTOSCOPE_SHARED_DATA);

/// A folder or file of the shared data; empty where it is absent.
std::string shared(const QString& path) {
    const QString full = shared_data + "/" + path;
    return QFileInfo::exists(full) ? full.toStdString() : std::string();
}

std::vector<std::string> split(const std::string& text, const std::string& separator) {
    std::vector<std::string> parts;
    std::size_t begin = 0;
    for (std::size_t at = text.find(separator); at != std::string::npos; at = text.find(separator, begin)) {
        parts.push_back(text.substr(begin, at - begin));
        begin = at + separator.size();
    }
    parts.push_back(text.substr(begin));
    return parts;
}

std::vector<TokenId> numbers(const std::string& line) {
    std::istringstream stream(line);
    return {std::istream_iterator<TokenId>(stream), {}};
}

std::unique_ptr<Tokenizer> open(const std::string& path) {
    return open_tokenizer(std::filesystem::path(path));
}

} // namespace

/// Tokenizers of real models.
class TokenizerModels : public QObject {
    Q_OBJECT

private slots:
    void llama_cpp_vocabularies_data() {
        QTest::addColumn<QString>("path");
        const QDir folder(shared_data + "/containers/gguf/vocab");
        if (!folder.exists())
            QSKIP("no vocabularies in " QUANTOSCOPE_SHARED_DATA "/containers/gguf/vocab");
        for (const QString& name : folder.entryList({"*.gguf"}))
            QTest::newRow(qPrintable(name)) << folder.filePath(name);
    }

    void llama_cpp_vocabularies() {
        QFETCH(QString, path);
        const std::string file = path.toStdString();
        const auto tokenizer = open(file);
        const auto texts = split(read_file(file + ".inp"), "\n__ggml_vocab_test__\n");
        const auto lines = split(read_file(file + ".out"), "\n");
        QVERIFY(texts.size() > 40 && lines.size() >= texts.size());
        for (std::size_t i = 0; i < texts.size(); ++i) {
            const auto ids = tokenizer->encode(texts[i], {.special = false});
            QVERIFY2(ids == numbers(lines[i]), texts[i].c_str());
            QCOMPARE(tokenizer->decode(ids), texts[i]);
        }
    }

    void stories_data() {
        QTest::addColumn<QString>("file");
        if (shared("models/stories260K").empty())
            QSKIP("no model in " QUANTOSCOPE_SHARED_DATA "/models/stories260K");
        QTest::newRow("tok512.bin") << "tok512.bin";
        for (const QString& name : QDir(shared_data + "/models/stories260K/derived/gguf").entryList({"*.gguf"}))
            QTest::newRow(qPrintable(name)) << "derived/gguf/" + name;
    }

    void stories() {
        QFETCH(QString, file);
        const auto tokenizer = open(shared("models/stories260K/" + file));
        const auto expected = json::parse(read_file(shared("models/stories260K/reference_ids.json")));
        std::vector<std::vector<TokenId>> encoded;
        for (const auto& part : split(read_file(shared("text/tinystories_sample.txt")), "<|endoftext|>")) {
            const QByteArray text = QByteArray::fromStdString(part).trimmed();
            if (text.isEmpty())
                continue;
            encoded.push_back(tokenizer->encode(text.toStdString(), tokenizer->defaults()));
            QCOMPARE(tokenizer->decode(std::span(encoded.back()).subspan(1)), text.toStdString());
        }
        QCOMPARE(encoded, expected.get<std::vector<std::vector<TokenId>>>());
        QCOMPARE(tokenizer->traits().size, std::size_t{512});
    }

    void tokenizer_of_a_checkpoint() {
        const std::string gguf = shared("models/stories260K/derived/gguf/stories260K-q4_0.gguf");
        const std::string folder = shared("models/tiny_gpt2-lm-buddy");
        if (gguf.empty() || folder.empty())
            QSKIP("no models in " QUANTOSCOPE_SHARED_DATA "/models");
        QCOMPARE(open_tokenizer(*open_checkpoint(gguf))->encode("One day", {.bos = true}),
                 open(shared("models/stories260K/tok512.bin"))->encode("One day", {.bos = true}));
        // By transformers 5.24.
        for (const std::string& path : {folder, folder + "/model.safetensors"}) {
            const auto tokenizer = open_tokenizer(*open_checkpoint(path));
            QCOMPARE(tokenizer->encode("Hello world <|endoftext|>"),
                     (std::vector<TokenId>{3, 0, 0, 1, 10, 2, 1, 4, 0, 8, 10, 20}));
            QCOMPARE(tokenizer->encode("<unk>"), std::vector<TokenId>{19});
        }
    }

    /// A tokenizer in a folder above serves a model with a vocabulary of its size, and no other.
    void tokenizer_above_the_weights() {
        const std::string stories = shared("models/stories260K"), other = shared("models/tiny_gpt2-lm-buddy");
        if (stories.empty() || other.empty())
            QSKIP("no models in " QUANTOSCOPE_SHARED_DATA "/models");
        const auto expected = open(stories + "/tok512.bin")->encode("One day");
        for (const char* path : {"/derived/model.safetensors", "/derived", "/derived/sharded"})
            QCOMPARE(open_tokenizer(*open_checkpoint(stories + path))->encode("One day"), expected);
        QTemporaryDir folder;
        const auto copy = [&](const std::string& from, const QString& to) {
            QVERIFY(QFile::copy(QString::fromStdString(from), folder.filePath(to)));
        };
        QVERIFY(QDir(folder.path()).mkdir("below"));
        copy(stories + "/derived/model.safetensors", "below/model.safetensors");
        copy(stories + "/derived/config.json", "below/config.json");
        for (const char* name : {"/vocab.json", "/merges.txt"})
            copy(other + name, QString(name).mid(1));
        try {
            open_tokenizer(*open_checkpoint(folder.filePath("below").toStdString()));
            QFAIL("the tokenizer above is another model's");
        } catch (const Error& error) {
            QVERIFY2(QString(error.what()).contains("holds no tokenizer"), error.what());
        }
    }

    /// The same vocabulary from two containers, over texts of a megabyte, in a time that is not quadratic.
    void long_texts() {
        const std::string folder = shared("containers/tokenizers/gpt2");
        const std::string gguf = shared("containers/gguf/vocab/ggml-vocab-gpt-2.gguf");
        if (folder.empty() || gguf.empty())
            QSKIP("no tokenizers in " QUANTOSCOPE_SHARED_DATA "/containers");
        const auto a = open(folder + "/gpt2_vocab.json");
        const auto b = open(gguf);
        QCOMPARE(a->traits().bos, b->traits().bos);
        const std::string article = read_file(shared("text/wikitext-2-test.txt"));
        for (const std::string& text : {article, std::string(1 << 20, 'a'), std::string(1 << 20, ' ')}) {
            QElapsedTimer timer;
            timer.start();
            const auto ids = a->encode(text);
            QVERIFY2(timer.elapsed() < 20000, "too slow");
            QCOMPARE(b->encode(text), ids);
            QVERIFY(a->decode(ids) == text);
        }
        // By huggingface/tokenizers 0.23.3.
        const std::size_t wikitext_tokens = a->encode(article).size();
        QCOMPARE(wikitext_tokens, std::size_t{295877});
    }

    void long_texts_of_scored_pieces() {
        const std::string path = shared("containers/gguf/vocab/ggml-vocab-llama-spm.gguf");
        if (path.empty())
            QSKIP("no vocabularies in " QUANTOSCOPE_SHARED_DATA "/containers/gguf/vocab");
        const auto tokenizer = open(path);
        const std::string text = read_file(shared("text/wikitext-2-test.txt"));
        QElapsedTimer timer;
        timer.start();
        const auto ids = tokenizer->encode(text, {.special = false});
        QVERIFY2(timer.elapsed() < 20000, "too slow");
        QVERIFY(tokenizer->decode(ids) == text);
        // "<unk>", of which the text is full, is a token only where special tokens are wanted.
        QCOMPARE(std::ranges::count(ids, 0), 0);
        QVERIFY(std::ranges::count(tokenizer->encode(text), 0) > 1000);
    }
};

QTEST_GUILESS_MAIN(TokenizerModels)
#include "test_tokenizer_models.moc"
