#include <QDir>
#include <QTest>

#include "core/base/error.h"
#include "core/formats/registry.h"
#include "core/model/generation.h"
#include "core/model/quantized_weights.h"
#include "core/model/tokenizer.h"
#include "tests/core/model/models.h"

using namespace qs;
using namespace qs::test;

/// Texts that grow token by token.
class Generation : public QObject {
    Q_OBJECT

private:
    JobControl job_;

    std::string continued(Session& session, const Tokenizer& tokenizer, std::vector<int> ids, Sampler sampler,
                          int tokens) {
        RowVector logits = session.feed(ids, job_);
        for (int i = 0; i < tokens; ++i) {
            ids.push_back(sampler.choose(logits));
            if (i + 1 < tokens)
                logits = session.feed(std::span(&ids.back(), 1), job_);
        }
        return tokenizer.decode(ids);
    }

private slots:
    void token_by_token_as_at_once_data() {
        QTest::addColumn<QString>("model");
        for (const QString& model : QDir(tiny_models).entryList(QDir::Dirs | QDir::NoDotAndDotDot))
            QTest::newRow(qPrintable(model)) << model;
    }

    void token_by_token_as_at_once() {
        QFETCH(QString, model);
        const Decoder decoder = open_decoder(tiny_models + model);
        const std::vector<int> ids = tiny_ids(model);
        const Matrix expected = decoder.run(ids);
        Session resident(decoder, static_cast<Index>(ids.size())), streamed(decoder, resident.capacity(), {}, 0);
        constexpr std::size_t prompt = 9;
        RowVector logits = resident.feed(std::span(ids).first(prompt), job_);
        for (std::size_t i = prompt; i <= ids.size(); ++i) {
            QVERIFY(difference(logits, expected.row(static_cast<Index>(i) - 1)) < 1e-5);
            if (i < ids.size())
                logits = resident.feed(std::span(&ids[i], 1), job_);
        }
        QVERIFY(difference(streamed.feed(ids, job_), expected.bottomRows(1)) < 1e-5);
        QVERIFY_EXCEPTION_THROWN(resident.feed(std::span(ids).first(1), job_), Error);
    }

    /// llama2.c's own output at temperature 0 (its test_all.py).
    void story() {
        if (!QFile::exists(stories))
            QSKIP("the folder of real checkpoints is absent");
        const auto checkpoint = open_checkpoint((stories + "derived/gguf/stories260K-f32.gguf").toStdString());
        const Decoder decoder(checkpoint);
        const auto tokenizer = open_tokenizer(*checkpoint);
        Session session(decoder, 256);
        const std::string story =
            continued(session, *tokenizer, tokenizer->encode("Once upon a time", {.bos = true}), Sampler({}), 190);
        QVERIFY2(QString::fromStdString(story).contains(
                     "Once upon a time, there was a little girl named Lily. She loved to play outside in the park. One "
                     "day, she saw a big, red ball. She wanted to play with it, but it was too high.\nLily's mom said, "
                     "\"Lily, let's go to the park.\" Lily was sad and didn't know what to do. She said, \"I want to "
                     "play with your ball, but I can't find it.\"\nLily was sad and didn't know what to do."),
                 story.c_str());
    }

    /// Two models side by side, each told what the other chose.
    void quantized_beside_original() {
        const Decoder decoder = open_decoder(tiny_models + "llama");
        const auto device = make_cpu_device(1);
        const std::vector<FormatSpec> specs = parse_specs("fp32,int2");
        const QuantizedWeights formats(decoder.weights().checkpoint(), specs, *device, job_);
        Session original(decoder, 40), same(decoder, 40, formats.hook(0)), coarse(decoder, 40, formats.hook(1));
        const std::vector<int> ids = tiny_ids("llama");
        const RowVector expected = original.feed(ids, job_);
        QVERIFY(same.feed(ids, job_) == expected);
        const RowVector other = coarse.feed(ids, job_);
        QVERIFY(difference(other, expected) > 1e-2);
        const Matrix run = decoder.run(ids, formats.hook(1));
        QVERIFY(difference(other, run.bottomRows(1)) < 1e-5);
    }

    void sampling() {
        RowVector logits(4);
        logits << 0, std::log(6.0f), std::log(2.0f), std::log(1.0f);
        const std::vector<double> p = probabilities(logits);
        QVERIFY(std::abs(p[1] - 0.6) < 1e-6 && std::abs(p[2] - 0.2) < 1e-6);
        QCOMPARE(Sampler({}).choose(logits), 1);
        Sampler narrow({1, 0.5}, 3), wide({1, 1}, 3), again({1, 1}, 3), two({1, 0.7}, 4);
        std::array<int, 4> counts{}, of_two{};
        for (int i = 0; i < 4000; ++i) {
            QCOMPARE(narrow.choose(logits), 1);
            const int token = wide.choose(logits);
            QCOMPARE(again.choose(logits), token);
            ++counts[static_cast<std::size_t>(token)];
            ++of_two[static_cast<std::size_t>(two.choose(logits))];
        }
        QVERIFY(std::abs(counts[1] - 2400) < 150 && std::abs(counts[2] - 800) < 120 && std::abs(counts[0] - 400) < 90);
        QVERIFY(of_two[0] == 0 && of_two[3] == 0 && std::abs(of_two[1] - 3000) < 150);
    }
};

QTEST_GUILESS_MAIN(Generation)
#include "test_generation.moc"
