#include <QTest>

#include <cmath>

#include "core/base/error.h"
#include "core/base/mapped_file.h"
#include "core/checkpoint/text.h"
#include "core/formats/registry.h"
#include "core/model/continuations.h"
#include "core/model/skills.h"
#include "core/model/text_windows.h"
#include "core/model/variants.h"
#include "tests/core/model/models.h"

using namespace qs;
using namespace qs::test;

namespace {

const QString demo = QStringLiteral(QUANTOSCOPE_RESOURCES_DIR "/demo");

/// The demo model with what belongs to it.
struct Demo {
    std::shared_ptr<const Checkpoint> checkpoint = open_checkpoint(demo.toStdString());
    Decoder decoder{checkpoint};
    std::unique_ptr<Tokenizer> tokenizer = open_tokenizer(*checkpoint);
    ModelMaterial material = material_of(*checkpoint).value();
    std::unique_ptr<Device> device = make_cpu_device();
    JobControl job;

    std::vector<Variant> variants(const char* formats) const {
        return combine(parse_specs(formats), {parse_method("rtn")});
    }
    std::string text() const { return std::string(as_text(MappedFile::open(material.text)->bytes())); }
};

} // namespace

/// What the Quality view asks of a model: results of variants, skills, texts side by side.
class Variants : public QObject {
    Q_OBJECT

private slots:
    void initTestCase() {
        if (!QFile::exists(demo + "/model.safetensors"))
            QSKIP("resources/demo holds no model");
    }

    void variants_are_formats_by_methods() {
        const auto methods = parse_methods("rtn,hqq");
        const auto variants = combine(parse_specs("nf4,int4"), methods);
        QCOMPARE(variants.size(), std::size_t{3}); // HQQ is not defined for NF4
        QCOMPARE(variants[0].text(), std::string("nf4"));
        QCOMPARE(variants[2].text(), std::string("int4 · hqq"));
        QVERIFY(why_not(variants[0]).empty());
        QVERIFY(why_not(variants[2]).empty());
        const Variant gptq{parse_spec("int4"), parse_method("gptq")};
        QVERIFY(!why_not(gptq).empty() && why_not(gptq, true).empty());
        QVERIFY(why_not({parse_spec("int8"), parse_method("smoothquant")}, true).empty());
        QVERIFY(!why_not({parse_spec("iq2_xxs"), methods[0]}).empty());
    }

    /// The figures of resources/demo/CARD.md, which PyTorch has computed.
    void card() {
        Demo model;
        const auto windows =
            text_windows(*model.tokenizer, model.decoder.config(), model.text(), {usual_separator(model.text()), 0, 0});
        std::size_t calls = 0;
        const auto results = evaluate_variants(model.decoder, model.variants("int3:group=128,int2:group=32"), windows,
                                               *model.device, model.job, [&](const VariantResults& part) {
                                                   ++calls;
                                                   QCOMPARE(part.variants.size(), std::size_t{2});
                                               });
        QVERIFY(calls > 3);
        QCOMPARE(results.reference.tokens, scored_tokens(windows));
        QVERIFY(std::abs(results.reference.perplexity - 2.3732) < 2e-4);
        QVERIFY(std::abs(results.variants[0].scores.perplexity - 2.4104) < 2e-3);
        QVERIFY(std::abs(results.variants[1].scores.perplexity - 2.7416) < 2e-3);
        QVERIFY(results.variants[1].scores.kld_mean > results.variants[0].scores.kld_mean);
    }

    void skills() {
        Demo model;
        const auto skills = read_skills(model.material.skills);
        QCOMPARE(skills.size(), std::size_t{3});
        QCOMPARE(skills[0].name, std::string("sums"));
        for (const SkillScore& score : score_skills(model.decoder, *model.tokenizer, skills, {}, model.job)) {
            QCOMPARE(score.asked, std::size_t{60});
            QCOMPARE(score.right, score.asked);
            QCOMPARE(score.share_stderr(), 0.0);
        }
        const VariantWeights weights(model.decoder, model.variants("int2:group=32"), *model.device, model.job);
        const auto coarse = score_skills(model.decoder, *model.tokenizer, skills, weights.hook(0), model.job);
        const double expected[] = {0.633, 0.917, 0.567};
        for (std::size_t i = 0; i < 3; ++i)
            QVERIFY2(std::abs(coarse[i].share() - expected[i]) < 0.05, qPrintable(QString::number(coarse[i].share())));
    }

    /// The weights that methods make are those that are evaluated, and spare skills that rounding loses.
    void weights_of_methods() {
        Demo model;
        const auto windows = text_windows(*model.tokenizer, model.decoder.config(), model.text(),
                                          {usual_separator(model.text()), 0, 4000});
        const auto variants = combine(parse_specs("int2"), parse_methods("rtn,gptq,hqq"));
        const VariantWeights weights(model.decoder, variants, *model.device, model.job, windows);
        const std::vector<std::vector<int>> few(windows.begin(), windows.begin() + 3);
        const auto results = evaluate_variants(model.decoder, variants, few, *model.device, model.job, {}, windows);
        const auto skills = read_skills(model.material.skills);
        std::vector<double> shares;
        for (std::size_t i = 0; i < variants.size(); ++i) {
            double nll = 0;
            for (const auto& window : few)
                for (const double token : nll_of(model.decoder.run(window, weights.hook(i)), window))
                    nll += token;
            const double perplexity = std::exp(nll / static_cast<double>(scored_tokens(few)));
            QVERIFY(std::abs(results.variants[i].scores.perplexity / perplexity - 1) < 1e-4);
            double share = 0;
            for (const SkillScore& score :
                 score_skills(model.decoder, *model.tokenizer, skills, weights.hook(i), model.job))
                share += score.share() / 3;
            shares.push_back(share);
        }
        QVERIFY(shares[1] > shares[0] && shares[2] > shares[0]);
        QVERIFY_EXCEPTION_THROWN(VariantWeights(model.decoder, variants, *model.device, model.job), Error);
    }

    /// Models whose inputs are rounded too: what is evaluated is what writes texts and answers.
    void weights_with_rounded_inputs() {
        Demo model;
        const auto windows = text_windows(*model.tokenizer, model.decoder.config(), model.text(),
                                          {usual_separator(model.text()), 0, 2000});
        auto variants = combine(parse_specs("int8,llm_int8"), parse_methods("smoothquant,llm_int8"));
        QCOMPARE(variants.size(), std::size_t{2});
        for (Variant& variant : combine(parse_specs("int4"), parse_methods("rtn,gptq"), Activations::mxfp8))
            variants.push_back(std::move(variant));
        QCOMPARE(variants[2].text(), std::string("int4 · inputs mxfp8"));
        const VariantWeights weights(model.decoder, variants, *model.device, model.job, windows);
        const std::vector<std::vector<int>> few(windows.begin(), windows.begin() + 2);
        const auto results = evaluate_variants(model.decoder, variants, few, *model.device, model.job, {}, windows);
        for (std::size_t i = 0; i < variants.size(); ++i) {
            double nll = 0, plain = 0;
            WeightHook unrounded = weights.hook(i);
            unrounded.product = nullptr;
            for (const auto& window : few) {
                for (const double token : nll_of(model.decoder.run(window, weights.hook(i)), window))
                    nll += token;
                for (const double token : nll_of(model.decoder.run(window, unrounded), window))
                    plain += token;
            }
            const double perplexity = std::exp(nll / static_cast<double>(scored_tokens(few)));
            // Outliers are found among all tokens that are multiplied at once, which are not the same here.
            const double tolerance = variants[i].method.id == "llm_int8" ? 1e-2 : 1e-4;
            QVERIFY(std::abs(results.variants[i].scores.perplexity / perplexity - 1) < tolerance);
            QVERIFY(nll != plain);
        }
    }

    /// Trained weights are a variant like any other.
    void trained_weights() {
        Demo model;
        const auto windows = text_windows(*model.tokenizer, model.decoder.config(), model.text(),
                                          {usual_separator(model.text()), 0, 500});
        const auto rounded = model.variants("int3");
        const VariantWeights weights(model.decoder, rounded, *model.device, model.job);
        auto trained = std::make_shared<TrainedWeights>();
        trained->name = "qat";
        trained->bits_per_weight = 3.125;
        for (int layer = 0; layer < model.decoder.config().layers; ++layer)
            for (auto& linear : model.decoder.weights().layer(layer, weights.hook(0)).linears)
                if (linear)
                    trained->weights[linear->tensor.tensor] = linear->weight;
        const std::vector<Variant> both{rounded[0],
                                        {parse_spec("int3"), parse_method("rtn"), Activations::none, trained}};
        QCOMPARE(both[1].text(), std::string("int3 · qat"));
        const auto results = evaluate_variants(model.decoder, both, windows, *model.device, model.job);
        QCOMPARE(results.variants[1].scores.perplexity, results.variants[0].scores.perplexity);
        QCOMPARE(results.variants[1].bits_per_weight, results.variants[0].bits_per_weight);
        for (const auto& [name, linear] : results.variants[1].linears) {
            QCOMPARE(linear.relative_error(), results.variants[0].linears.at(name).relative_error());
            QVERIFY(linear.relative_weight_error() > 0.1 && linear.relative_weight_error() < 0.5);
        }
        const VariantWeights again(model.decoder, both, *model.device, model.job);
        const auto& window = windows.front();
        QVERIFY(model.decoder.run(window, again.hook(1)) == model.decoder.run(window, again.hook(0)));
    }

    /// Progress counts what methods do, and ends where it was said to.
    void progress_is_of_all_work() {
        Demo model;
        const auto windows = text_windows(*model.tokenizer, model.decoder.config(), model.text(),
                                          {usual_separator(model.text()), 0, 1500});
        const auto variants = combine(parse_specs("int4"), parse_methods("rtn,gptq,awq,hqq"));
        for (const bool long_text : {false, true}) {
            JobControl job;
            const std::vector<std::vector<int>> text(windows.begin(), windows.begin() + (long_text ? 8 : 2));
            evaluate_variants(model.decoder, variants, text, *model.device, job, {}, windows);
            QVERIFY(job.total() > 0);
            QCOMPARE(job.done(), job.total());
        }
    }

    void calibration_is_the_rest_of_the_text() {
        const std::vector<std::vector<int>> windows(50, std::vector<int>(101));
        const CalibrationText rest = rest_of_text(windows, 10, 3000);
        QCOMPARE(scored_tokens(rest.windows), std::size_t{3000});
        QVERIFY(!rest.overlaps);
        const CalibrationText all = rest_of_text(windows, 10, 0);
        QCOMPARE(scored_tokens(all.windows), std::size_t{4000});
        const CalibrationText short_rest = rest_of_text(windows, 45, 3000);
        QVERIFY(short_rest.overlaps);
        QCOMPARE(scored_tokens(short_rest.windows), std::size_t{3000});
        QVERIFY(own_text(windows, demo.toStdString(), demo.toStdString(), 0).overlaps);
        QVERIFY(!own_text(windows, demo.toStdString(), (demo + "/eval.txt").toStdString(), 0).overlaps);
    }

    void text_is_cut_as_asked() {
        const Demo model;
        const auto all = text_windows(*model.tokenizer, model.decoder.config(), model.text(), {});
        QCOMPARE(all.front().size(), std::size_t{256}); // of the model's positions
        const auto some = text_windows(*model.tokenizer, model.decoder.config(), model.text(), {{}, 100, 250});
        QCOMPARE(some.size(), std::size_t{3});
        QCOMPARE(some.front().size(), std::size_t{100});
        QCOMPARE(scored_tokens(some), std::size_t{250});
    }

    /// Each text, and all that is said of it, is what the model gives that runs over it alone.
    void side_by_side() {
        Demo model;
        const auto variants = model.variants("int8,int2");
        const VariantWeights weights(model.decoder, variants, *model.device, model.job);
        const std::vector<WeightHook> hooks{{}, weights.hook(0), weights.hook(1)};
        ContinuationRequest request;
        request.prompt = model.tokenizer->encode("Bram lives in", model.tokenizer->defaults());
        request.tokens = 24;
        std::size_t calls = 0;
        const auto texts =
            continue_side_by_side(model.decoder, hooks, request, model.job, [&](const std::vector<Continuation>& part) {
                ++calls;
                QCOMPARE(part[0].tokens.size(), calls);
            });
        QCOMPARE(calls, request.tokens);
        QVERIFY(!first_difference(texts[0], texts[0]));
        const auto differs = first_difference(texts[2], texts[0]);
        QVERIFY(differs.has_value());
        QVERIFY(texts[2].tokens[*differs].token != texts[0].tokens[*differs].token);
        for (const Continuation& text : texts) {
            std::vector<int> ids = request.prompt;
            for (const ContinuedToken& token : text.tokens)
                ids.push_back(token.token);
            for (std::size_t asked = 0; asked < hooks.size(); ++asked) {
                const Matrix logits = model.decoder.run(ids, hooks[asked]);
                for (std::size_t i = 0; i < text.tokens.size(); ++i) {
                    const auto row = static_cast<Index>(request.prompt.size() - 1 + i);
                    const auto expected =
                        probabilities(logits.row(row))[static_cast<std::size_t>(text.tokens[i].token)];
                    QVERIFY(std::abs(text.tokens[i].probabilities[asked] - expected) < 1e-4);
                }
            }
        }
    }

    /// The same numbers are drawn for every model; an empty prompt and a cancelled job are told.
    void sampling_and_end() {
        Demo model;
        ContinuationRequest request;
        request.prompt = model.tokenizer->encode("sort: moon cup ->", model.tokenizer->defaults());
        request.sampling = {1.0, 0.9};
        request.seed = 7;
        request.tokens = 40;
        request.end = model.tokenizer->encode(".", {}).front();
        const auto texts = continue_side_by_side(model.decoder, {{}, {}}, request, model.job, {});
        QVERIFY(!first_difference(texts[0], texts[1]));
        QVERIFY(texts[0].ended);
        QCOMPARE(texts[0].tokens.back().token, *request.end);
        request.prompt.clear();
        QVERIFY_EXCEPTION_THROWN(continue_side_by_side(model.decoder, {{}}, request, model.job, {}), Error);
        request.prompt = {1};
        model.job.cancel();
        QVERIFY_EXCEPTION_THROWN(continue_side_by_side(model.decoder, {{}}, request, model.job, {}), Cancelled);
    }
};

QTEST_GUILESS_MAIN(Variants)
#include "test_variants.moc"
