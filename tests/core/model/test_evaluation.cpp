#include <QTemporaryDir>
#include <QTest>

#include <numeric>
#include <random>

#include "core/base/error.h"
#include "core/formats/registry.h"
#include "core/model/evaluation.h"
#include "core/model/product.h"
#include "core/model/quantized_weights.h"
#include "core/model/variants.h"
#include "core/model/windows.h"
#include "tests/core/model/models.h"

using namespace qs;
using namespace qs::test;

namespace {

bool close(double a, double b, double tolerance) {
    return std::abs(a - b) <= tolerance * std::max({std::abs(a), std::abs(b), 1e-12});
}

void compare(const ScoreSummary& a, const ScoreSummary& b) {
    QCOMPARE(a.tokens, b.tokens);
    QCOMPARE(a.perplexity, b.perplexity);
    QCOMPARE(a.perplexity_stderr, b.perplexity_stderr);
    QCOMPARE(a.kld_mean, b.kld_mean);
    QCOMPARE(a.kld_p99, b.kld_p99);
    QCOMPARE(a.top1_agreement, b.top1_agreement);
}

void compare(const Evaluation& a, const Evaluation& b) {
    compare(a.reference, b.reference);
    QCOMPARE(a.variants.size(), b.variants.size());
    for (std::size_t i = 0; i < a.variants.size(); ++i) {
        compare(a.variants[i].scores, b.variants[i].scores);
        QCOMPARE(a.variants[i].bits_per_weight, b.variants[i].bits_per_weight);
        for (const auto& [name, linear] : a.variants[i].linears)
            QVERIFY(close(linear.relative_error(), b.variants[i].linears.at(name).relative_error(), 1e-9));
    }
}

} // namespace

/// Perplexity, divergences and layer output errors against plain computations of the same.
class Evaluations : public QObject {
    Q_OBJECT

private:
    QTemporaryDir folder_;
    std::unique_ptr<Device> device_ = make_cpu_device(2);
    JobControl job_;

    EvaluationRequest request(const char* specs) {
        EvaluationRequest request;
        const std::vector<int> ids = tiny_ids("llama"), others = tiny_ids("qwen3");
        request.windows = {ids, others, cut_windows(ids, {}, 13)[1], cut_windows(others, {}, 17)[0]};
        request.variants = combine(parse_specs(specs), {parse_method("rtn")});
        return request;
    }

private slots:
    void statistics_of_scores() {
        TokenScores scores;
        scores.nll = {1, 2, 3, 6};
        scores.kld = {0.4f, 0.1f, 0.2f, 0.3f};
        scores.same_top = {1, 1, 0, 1};
        const ScoreSummary summary = summarise(scores);
        QCOMPARE(summary.tokens, std::size_t{4});
        QVERIFY(close(summary.perplexity, std::exp(3.0), 1e-12));
        // Variance 3.5 of four values: √(3.5 / 3).
        QVERIFY(close(summary.perplexity_stderr, std::exp(3.0) * std::sqrt(3.5 / 3), 1e-12));
        QVERIFY(close(summary.kld_mean, 0.25, 1e-6));
        QVERIFY(close(summary.kld_median, 0.25, 1e-6));
        QVERIFY(close(summary.kld_p99, 0.3 + 0.97 * 0.1, 1e-6));
        QVERIFY(close(summary.kld_stderr, std::sqrt(0.0125 / 3), 1e-6));
        QCOMPARE(summary.top1_agreement, 0.75);
        QVERIFY(close(summary.top1_stderr, std::sqrt(0.75 * 0.25 / 3), 1e-12));
    }

    void scores_of_logits() {
        std::mt19937 engine(1);
        std::normal_distribution<float> normal(0, 4);
        const auto random = [&] { return normal(engine); };
        const Matrix p = Matrix::NullaryExpr(5, 1000, random), noise = Matrix::NullaryExpr(5, 1000, random);
        const Matrix q = p + 0.1f * noise;
        const std::vector<int> targets = {3, 999, -1, 0, 500};
        const TokenScores scores = score(Distributions(Matrix(q)), Distributions(Matrix(p)), targets);
        QCOMPARE(scores.count(), std::size_t{4});
        std::size_t at = 0;
        for (Index row = 0; row < 5; ++row) {
            if (targets[static_cast<std::size_t>(row)] < 0)
                continue;
            Eigen::RowVectorXd lp = p.row(row).cast<double>(), lq = q.row(row).cast<double>();
            lp.array() -= std::log(lp.array().exp().sum());
            lq.array() -= std::log(lq.array().exp().sum());
            QVERIFY(close(scores.nll[at], -lq[targets[static_cast<std::size_t>(row)]], 1e-6));
            QVERIFY(close(scores.kld[at], (lp.array().exp() * (lp - lq).array()).sum(), 1e-4));
            Index top_p = 0, top_q = 0;
            lp.maxCoeff(&top_p);
            lq.maxCoeff(&top_q);
            QCOMPARE(scores.same_top[at] != 0, top_p == top_q);
            ++at;
        }
    }

    void unquantized_weights_change_nothing() {
        const Decoder decoder = open_decoder(tiny_models + "llama");
        const Evaluation evaluation = evaluate(decoder, request("fp32"), *device_, job_);
        const VariantResult& format = evaluation.variants[0];
        QCOMPARE(format.scores.perplexity, evaluation.reference.perplexity);
        QCOMPARE(format.scores.kld_mean, 0.0);
        QCOMPARE(format.scores.top1_agreement, 1.0);
        QCOMPARE(format.bits_per_weight, 32.0);
        QCOMPARE(format.linears.size(), std::size_t{14});
        for (const auto& [name, linear] : format.linears)
            QVERIFY(linear.error2 == 0 && linear.output2 > 0);
    }

    void against_a_model_of_quantized_weights_alone() {
        const Decoder decoder = open_decoder(tiny_models + "llama");
        const EvaluationRequest request = this->request("nf4,int4");
        const Evaluation evaluation = evaluate(decoder, request, *device_, job_);
        const auto specs = parse_specs("nf4,int4");
        const QuantizedWeights formats(decoder.weights().checkpoint(), specs, *device_, job_);
        for (std::size_t spec = 0; spec < 2; ++spec) {
            std::vector<double> nll;
            for (const auto& window : request.windows)
                for (const double token : nll_of(decoder.run(window, formats.hook(spec)), window))
                    nll.push_back(token);
            const double mean = std::accumulate(nll.begin(), nll.end(), 0.0) / static_cast<double>(nll.size());
            QCOMPARE(evaluation.variants[spec].scores.tokens, nll.size());
            QVERIFY(close(evaluation.variants[spec].scores.perplexity, std::exp(mean), 1e-5));
            QVERIFY(evaluation.variants[spec].scores.kld_mean > 1e-3);
        }
    }

    void output_errors_of_layers() {
        const Decoder decoder = open_decoder(tiny_models + "gpt2");
        EvaluationRequest request = this->request("nf4");
        const Evaluation evaluation = evaluate(decoder, request, *device_, job_);
        const auto specs = parse_specs("nf4");
        const QuantizedWeights formats(decoder.weights().checkpoint(), specs, *device_, job_);
        std::map<std::string, std::pair<double, double>> expected;
        const auto observer = [&](const LinearTensor& tensor, const Matrix& inputs, const Matrix& outputs) {
            Matrix decoded;
            formats.quantize(0, tensor, decoder.weights().load(tensor), decoded);
            const Eigen::MatrixXd found = inputs.cast<double>() * decoded.cast<double>().transpose();
            expected[tensor.name].first += (found - outputs.cast<double>()).squaredNorm();
            expected[tensor.name].second += outputs.cast<double>().squaredNorm();
        };
        for (const auto& window : request.windows)
            decoder.run(window, {}, observer);
        QCOMPARE(expected.size(), std::size_t{8});
        for (const auto& [name, sums] : expected) {
            const double error = std::sqrt(sums.first / sums.second);
            QVERIFY(error > 0.01);
            QVERIFY(close(evaluation.variants[0].linears.at(name).relative_error(), error, 1e-4));
        }
    }

    void embedding_and_head_too() {
        const Decoder decoder = open_decoder(tiny_models + "llama");
        EvaluationRequest request = this->request("int8");
        const Evaluation layers = evaluate(decoder, request, *device_, job_);
        request.all_matrices = true;
        const Evaluation all = evaluate(decoder, request, *device_, job_);
        QCOMPARE(all.variants[0].linears.size(), std::size_t{16});
        QVERIFY(all.variants[0].scores.kld_mean > layers.variants[0].scores.kld_mean);
        QVERIFY(all.variants[0].linears.at("lm_head.weight").stored_bits > 0);
    }

    void threads_do_not_matter() {
        const Decoder decoder = open_decoder(tiny_models + "llama");
        EvaluationRequest request = this->request("nf4");
        request.threads = 1;
        const Evaluation one = evaluate(decoder, request, *device_, job_);
        request.threads = 4;
        compare(evaluate(decoder, request, *device_, job_), one);
    }

    void an_interrupted_run_goes_on() {
        const Decoder decoder = open_decoder(tiny_models + "llama");
        EvaluationRequest request = this->request("nf4,int4");
        const Evaluation whole = evaluate(decoder, request, *device_, job_);
        request.state = folder_.filePath("interrupted.json").toStdString();
        request.group_tokens = 45;
        JobControl job;
        std::size_t windows = 0;
        const auto stop = [&](const Evaluation& evaluation) {
            windows = evaluation.windows_done;
            if (windows == 2)
                job.cancel();
        };
        QVERIFY_EXCEPTION_THROWN(evaluate(decoder, request, *device_, job, stop), Cancelled);
        QCOMPARE(windows, std::size_t{2});
        JobControl rest;
        compare(evaluate(decoder, request, *device_, rest), whole);
        QCOMPARE(rest.done(), rest.total());
        QCOMPARE(rest.total(), std::uint64_t{3 * 3 * (13 + 17)});
    }

    void a_format_is_added_to_a_run() {
        const Decoder decoder = open_decoder(tiny_models + "llama");
        EvaluationRequest request = this->request("nf4");
        request.state = folder_.filePath("added.json").toStdString();
        evaluate(decoder, request, *device_, job_);
        request.variants = combine(parse_specs("int4,nf4"), {parse_method("rtn")});
        JobControl job;
        const Evaluation both = evaluate(decoder, request, *device_, job);
        QCOMPARE(job.total(), std::uint64_t{3 * 2 * (40 + 40 + 13 + 17)});
        request.state.clear();
        compare(both, evaluate(decoder, request, *device_, job_));
    }

    void results_of_something_else_are_refused() {
        const Decoder decoder = open_decoder(tiny_models + "llama");
        EvaluationRequest request = this->request("nf4");
        request.state = folder_.filePath("other.json").toStdString();
        evaluate(decoder, request, *device_, job_);
        request.windows.pop_back();
        QVERIFY_EXCEPTION_THROWN(evaluate(decoder, request, *device_, job_), Error);
        QFile file(folder_.filePath("other.json"));
        QVERIFY(file.resize(100));
        QVERIFY_EXCEPTION_THROWN(evaluate(decoder, request, *device_, job_), Error);
    }

    void bad_texts_are_refused() {
        const Decoder decoder = open_decoder(tiny_models + "llama");
        EvaluationRequest request;
        request.windows = {tiny_ids("llama")};
        request.variants = combine(parse_specs("int8"), {parse_method("rtn")});
        request.windows[0].push_back(99);
        QVERIFY_EXCEPTION_THROWN(evaluate(decoder, request, *device_, job_), Error);
        request.windows.clear();
        QVERIFY_EXCEPTION_THROWN(evaluate(decoder, request, *device_, job_), Error);
    }

    void windows() {
        const std::vector<int> ids = {10, 11, 12, 13, 14, 15, 16}, bos = {1};
        using Windows = std::vector<std::vector<int>>;
        QVERIFY(cut_windows(ids, bos, 4) == (Windows{{1, 10, 11, 12}, {1, 13, 14, 15}, {1, 16}}));
        QVERIFY(cut_windows(ids, {}, 3) == (Windows{{10, 11, 12}, {13, 14, 15}})); // nothing to score in the last
        QVERIFY(cut_windows({}, bos, 4).empty());
        const auto documents = split_documents("<s> a b \n<s>\t<s>c<s>", "<s>");
        QVERIFY(documents == (std::vector<std::string_view>{"a b", "c"}));
        QVERIFY(parse_ids("1 2,3\n4", "f") == (Windows{{1, 2, 3, 4}}));
        QVERIFY(parse_ids("[1, 2]", "f") == (Windows{{1, 2}}));
        QVERIFY(parse_ids("[[1, 2], [3]]\n", "f") == (Windows{{1, 2}, {3}}));
        QVERIFY_EXCEPTION_THROWN(parse_ids("1 two", "f"), Error);
        QVERIFY_EXCEPTION_THROWN(parse_ids("1 -2", "f"), Error);
    }
};

QTEST_GUILESS_MAIN(Evaluations)
#include "test_evaluation.moc"
