#include <QTest>

#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>

#include "core/analysis/importance.h"
#include "core/analysis/pipeline.h"
#include "core/formats/registry.h"
#include "tests/core/analysis/test_data.h"
#include "tests/core/checkpoint/made_imatrix.h"

using namespace qs;
using namespace qs::test;

namespace {

constexpr float infinity = std::numeric_limits<float>::infinity();

/// Log-normal importances, the same in every run.
std::vector<float> random_importances(std::size_t count, unsigned seed) {
    std::vector<float> values = random_weights(count, seed, 1.0);
    std::ranges::transform(values, values.begin(), [](float value) { return std::exp(value); });
    return values;
}

/// The error of opening an importance matrix; empty if it opens.
QString imatrix_refusal(const std::string& path) {
    try {
        open_imatrix(path);
    } catch (const Error& error) {
        return QString::fromStdString(error.what());
    }
    return {};
}

/// The bytes of numbers the other way round.
template <class T>
QByteArray be(T value) {
    QByteArray bytes = le(value);
    std::ranges::reverse(bytes);
    return bytes;
}

QByteArray be_string(const QByteArray& text) {
    return be(static_cast<std::uint64_t>(text.size())) + text;
}

/// Codes and errors of a codec on a whole matrix of float32.
ErrorSums errors_of(const FormatSpec& spec, const std::vector<float>& weights, std::uint64_t columns,
                    const float* importance) {
    const auto codec = bind_codec(spec, {weights.size() / columns, columns}, importance);
    ErrorSums sums;
    codec->evaluate(weights.data(), 0, weights.size(), sums, nullptr);
    return sums;
}

bool near(double a, double b) {
    return std::abs(a - b) <= 1e-12 * std::abs(b);
}

} // namespace

class TestImatrix : public QObject {
    Q_OBJECT

private:
    Files files_;
    QTemporaryDir folder_;

    std::shared_ptr<const Checkpoint> checkpoint(const std::vector<StoredTensor>& tensors) const {
        return open_checkpoint(write_safetensors(folder_, "model.safetensors", tensors).toStdString());
    }

    static StoredTensor zeros(const std::string& name, const std::vector<std::int64_t>& shape) {
        const auto count = std::accumulate(shape.begin(), shape.end(), std::int64_t{1}, std::multiplies());
        return stored(name, "F32", shape, std::vector<float>(static_cast<std::size_t>(count)));
    }

private slots:
    void both_forms_hold_means() {
        const std::vector<ImatrixEntry> entries{{"blk.0.attn_q.weight", {1, 2, 0, 10}, {4}},
                                                {"output.weight", {3, 7}, {3}}};
        for (const QByteArray& bytes : {gguf_imatrix(entries), binary_imatrix(entries)}) {
            const ImportanceMatrix matrix = open_imatrix(files_.write("m", bytes));
            QCOMPARE(matrix.entries.size(), std::size_t{2});
            QCOMPARE(*matrix.find("blk.0.attn_q.weight"), (std::vector{0.25F, 0.5F, 0.0F, 2.5F}));
            QCOMPARE(*matrix.find("output.weight"), (std::vector{1.0F, 7.0F / 3.0F}));
            QVERIFY(matrix.find("blk.1.attn_q.weight") == nullptr);
        }
    }

    void each_expert_has_a_count() {
        const auto path = files_.write("m", gguf_imatrix({{"e", {2, 4, 5, 9, 3, 6}, {2, 0, 3}}}));
        QCOMPARE(*open_imatrix(path).find("e"), (std::vector<float>{1, 2, 1, 1, 1, 2}));
    }

    void no_calls_leave_the_sums() {
        const auto path = files_.write("m", binary_imatrix({{"e", {2, 4}, {0}}}));
        QCOMPARE(*open_imatrix(path).find("e"), (std::vector<float>{2, 4}));
    }

    /// What the files hold beside the entries: the text that they were measured on, sums that are not squared.
    void more_than_entries() {
        const QByteArray text = "calibration.txt";
        const QByteArray tail = le(std::int32_t{7}) + le(static_cast<std::int32_t>(text.size())) + text;
        const auto binary = files_.write("m.dat", binary_imatrix({{"e", {2, 4}}}) + tail);
        QCOMPARE(open_imatrix(binary).entries.size(), std::size_t{1});
        const auto gguf = files_.write(
            "m.gguf", gguf_of_floats({imatrix_type()},
                                     {{"e.in_sum", {2}, {-1, 1}}, {"e.in_sum2", {2}, {2, 4}}, {"e.counts", {1}, {2}}}));
        QCOMPARE(*open_imatrix(gguf).find("e"), (std::vector<float>{1, 2}));
    }

    void either_byte_order() {
        const auto tensor = [](const QByteArray& name, std::uint64_t columns, std::uint64_t offset) {
            return be_string(name) + be(std::uint32_t{1}) + be(columns) + be(std::uint32_t{0}) + be(offset);
        };
        QByteArray bytes = "GGUF" + be(std::uint32_t{3}) + be(std::uint64_t{2}) + be(std::uint64_t{1}) +
                           be_string("general.type") + be(std::uint32_t{8}) + be_string("imatrix") +
                           tensor("e.in_sum2", 2, 0) + tensor("e.counts", 1, 32);
        bytes.append((32 - bytes.size() % 32) % 32, '\0');
        bytes += be(3.0F) + be(8.0F) + QByteArray(24, '\0') + be(2.0F);
        QCOMPARE(*open_imatrix(files_.write("m", bytes)).find("e"), (std::vector<float>{1.5, 4}));
    }

    void refused_data() {
        QTest::addColumn<QByteArray>("bytes");
        QTest::addColumn<QStringList>("says");
        const auto row = [](const char* name, const QByteArray& bytes, const QStringList& says) {
            QTest::newRow(name) << bytes << says;
        };
        const auto pair = [](const std::vector<float>& sums, const std::vector<float>& counts) {
            return gguf_imatrix({{"blk.0.ffn_up.weight", sums, counts}});
        };
        const QByteArray head = le(std::int32_t{1}) + le(std::int32_t{1}) + "e";
        const QByteArray sums = gguf_tensor("e.in_sum2", {2}, 0, 0), counts = gguf_tensor("e.counts", {1}, 0, 32);
        row("empty", "", {"no importance matrix"});
        row("text", "just some text that is no matrix at all", {"no importance matrix"});
        row("floats", floats({1.0F, 2.0F, 3.0F}), {"no importance matrix"});
        row("a model", gguf({imatrix_type("model")}, {sums, counts}, 64), {"general.type", "model"});
        row("no type", gguf({}, {sums, counts}, 64), {"general.type", "absent"});
        row("no entries", gguf({imatrix_type()}, {}, 0), {"without entries"});
        row("no counts", gguf({imatrix_type()}, {sums}, 64), {"'e'", ".counts"});
        row("no sums", gguf({imatrix_type()}, {gguf_tensor("e.counts", {1}, 0, 0)}, 64), {"'e'", ".in_sum2"});
        row("fp16", gguf({imatrix_type()}, {gguf_tensor("e.in_sum2", {2}, 1, 0), counts}, 64), {"'e'", "F16"});
        row("counts do not divide",
            gguf_of_floats({imatrix_type()}, {{"e.in_sum2", {3}, {1, 2, 3}}, {"e.counts", {2}, {1, 1}}}),
            {"'e'", "3 sums", "2 counts"});
        row("no values", gguf_of_floats({imatrix_type()}, {{"e.in_sum2", {0}, {}}, {"e.counts", {1}, {1}}}),
            {"'e'", "0 sums"});
        row("NaN", pair({1, std::nanf("")}, {1}), {"blk.0.ffn_up.weight", "nan", "finite"});
        row("infinite", pair({1, infinity}, {1}), {"blk.0.ffn_up.weight", "inf", "finite"});
        row("negative", pair({1, -2}, {1}), {"blk.0.ffn_up.weight", "-2", "negative"});
        row("negative count", pair({1, 2}, {-1}), {"blk.0.ffn_up.weight", "count -1"});
        row("count is NaN", pair({1, 2}, {std::nanf("")}), {"blk.0.ffn_up.weight", "count nan"});
        row("overflow", pair({1e38F, 2}, {1e-30F}), {"blk.0.ffn_up.weight", "inf"});
        row("huge GGUF tensor", gguf({imatrix_type()}, {gguf_tensor("e.in_sum2", {1ULL << 40}, 0, 0), counts}, 64),
            {"e.in_sum2", "does not fit"});
        row("huge name", le(std::int32_t{1}) + le(std::int32_t{4000}) + "blk", {"entry 0", "4000 bytes"});
        row("huge values", head + le(std::int32_t{1}) + le(std::int32_t{0x7fffffff}) + floats({1}),
            {"'e'", "8589934588 bytes"});
        row("negative length", head + le(std::int32_t{1}) + le(std::int32_t{-1}), {"'e'", "is -1"});
        row("negative calls", binary_imatrix({{"e", {1}, {-1}}}), {"'e'", "-1 calls"});
        row("negative value", binary_imatrix({{"e", {1, -3}}}), {"'e'", "-3"});
        row("twice", binary_imatrix({{"e", {1}}, {"e", {1}}}), {"'e'", "twice"});
    }

    void refused() {
        QFETCH(QByteArray, bytes);
        QFETCH(QStringList, says);
        const auto path = files_.write("bad.imatrix", bytes);
        const QString error = imatrix_refusal(path);
        QVERIFY2(error.startsWith(QString::fromStdString(path)), qPrintable(error));
        for (const QString& part : says)
            QVERIFY2(error.contains(part), qPrintable(error));
    }

    void refuses_every_part_of_a_file() {
        const std::vector<ImatrixEntry> entries{{"blk.0.attn_q.weight", {1, 2, 3, 4}, {2}},
                                                {"blk.0.attn_k.weight", {5, 6, 7, 8}, {2}}};
        // The last tensor, of counts, is padded to 32 bytes.
        for (const auto& [bytes, padding] :
             {std::pair(gguf_imatrix(entries), qsizetype{28}), {binary_imatrix(entries), 0}})
            for (qsizetype size = 0; size < bytes.size() - padding; ++size)
                QVERIFY2(!imatrix_refusal(files_.write("part", bytes.first(size))).isEmpty(),
                         qPrintable(QString::number(size)));
    }

    void names_data() {
        QTest::addColumn<QString>("name");
        QTest::addColumn<QString>("entry");
        const std::pair<const char*, const char*> names[] = {
            {"model.layers.3.self_attn.q_proj.weight", "blk.3.attn_q.weight"},
            {"model.layers.3.self_attn.k_proj.weight", "blk.3.attn_k.weight"},
            {"model.layers.3.self_attn.v_proj.weight", "blk.3.attn_v.weight"},
            {"model.layers.3.self_attn.o_proj.weight", "blk.3.attn_output.weight"},
            {"model.layers.3.self_attn.qkv_proj.weight", "blk.3.attn_qkv.weight"},
            {"model.layers.4.self_attn.qkv_proj.weight", "blk.4.attn_q.weight"},
            {"model.layers.3.self_attn.q_a_proj.weight", "blk.3.attn_q_a.weight"},
            {"model.layers.3.mlp.gate_proj.weight", "blk.3.ffn_gate.weight"},
            {"model.layers.3.mlp.up_proj.weight", "blk.3.ffn_up.weight"},
            {"model.layers.3.mlp.gate_up_proj.weight", "blk.3.ffn_up.weight"},
            {"model.layers.3.mlp.down_proj.weight", "blk.3.ffn_down.weight"},
            {"model.layers.3.mlp.shared_expert.down_proj.weight", "blk.3.ffn_down_shexp.weight"},
            {"transformer.h.3.mlp.dense_h_to_4h.weight", "blk.3.ffn_up.weight"},
            {"model.embed_tokens.weight", "token_embd.weight"},
            {"lm_head.weight", "output.weight"},
            {"model.layers.3.input_layernorm.weight", ""},
            {"model.layers.3.mlp.gate.weight", ""},
            {"mtp.layers.3.self_attn.q_proj.weight", ""},
            {"vision_tower.layers.3.self_attn.q_proj.weight", ""},
        };
        for (const auto& [name, entry] : names)
            QTest::newRow(name) << name << entry;
    }

    void names() {
        QFETCH(QString, name);
        QFETCH(QString, entry);
        std::vector<ImatrixEntry> entries{{"token_embd.weight", {1, 2}}, {"output.weight", {3, 4}}};
        for (const char* module : {"attn_q", "attn_k", "attn_v", "attn_output", "attn_qkv", "attn_q_a", "ffn_gate",
                                   "ffn_up", "ffn_down", "ffn_down_shexp", "ffn_gate_inp", "attn_norm"})
            entries.push_back({"blk.3." + QByteArray(module) + ".weight", {5, 6}});
        entries.push_back({"blk.4.attn_q.weight", {7, 8}});
        const ImportanceMatrix matrix = open_imatrix(files_.write("m", gguf_imatrix(entries)));
        const auto model = checkpoint({zeros(name.toStdString(), {4, 2})});
        const TensorImportance importance = importance_of(matrix, *model, model->tensors[0]);
        QCOMPARE(importance.values.empty(), entry.isEmpty());
        QCOMPARE(importance.missing.empty(), !entry.isEmpty());
        if (!entry.isEmpty())
            QCOMPARE(importance.values.data(), matrix.find(entry.toStdString())->data());
    }

    void each_expert_has_its_slice() {
        const ImportanceMatrix matrix = open_imatrix(
            files_.write("m", gguf_imatrix({{"blk.0.ffn_down_exps.weight", {1, 2, 3, 4, 5, 6}, {1, 1, 1}}})));
        const std::vector<float>& values = *matrix.find("blk.0.ffn_down_exps.weight");
        const auto model = checkpoint({zeros("model.layers.0.block_sparse_moe.experts.2.w2.weight", {4, 2}),
                                       zeros("model.layers.0.block_sparse_moe.experts.3.w2.weight", {4, 2}),
                                       zeros("model.layers.0.mlp.experts.down_proj", {3, 4, 2}),
                                       zeros("model.layers.0.mlp.experts.0.up_proj.weight", {4, 2})});
        const auto of = [&](const char* name) {
            return importance_of(matrix, *model, model->tensors[*model->find(name)]);
        };
        const auto third = of("model.layers.0.block_sparse_moe.experts.2.w2.weight");
        QCOMPARE(third.values.data(), values.data() + 4);
        QCOMPARE(third.values.size(), std::size_t{2});
        QCOMPARE(third.matrices, 1U);
        const auto all = of("model.layers.0.mlp.experts.down_proj");
        QCOMPARE(all.values.size(), std::size_t{6});
        QCOMPARE(all.matrices, 3U);
        QVERIFY(of("model.layers.0.mlp.experts.0.up_proj.weight").missing.find("ffn_up_exps") != std::string::npos);
        QVERIFY_EXCEPTION_THROWN(of("model.layers.0.block_sparse_moe.experts.3.w2.weight"), Error);
    }

    /// A matrix of another model is refused; the embedding, of which llama-imatrix knows little, does without.
    void sizes_must_fit() {
        const ImportanceMatrix matrix = open_imatrix(
            files_.write("m", gguf_imatrix({{"blk.0.attn_q.weight", {1, 2, 3}}, {"token_embd.weight", {1, 2, 3}}})));
        const auto model = checkpoint({zeros("model.layers.0.self_attn.q_proj.weight", {4, 2}),
                                       zeros("model.embed_tokens.weight", {4, 2}),
                                       zeros("model.layers.1.self_attn.q_proj.weight", {4, 3})});
        const auto of = [&](const char* name) {
            return importance_of(matrix, *model, model->tensors[*model->find(name)]);
        };
        QVERIFY(!of("model.embed_tokens.weight").missing.empty());
        QVERIFY(of("model.layers.1.self_attn.q_proj.weight").missing.find("blk.1.attn_q") != std::string::npos);
        try {
            of("model.layers.0.self_attn.q_proj.weight");
            QFAIL("taken");
        } catch (const Error& error) {
            for (const auto& part : {matrix.path.string(), std::string("layers.0.self_attn.q_proj"),
                                     std::string("3 values"), std::string("2 columns")})
                QVERIFY2(QString(error.what()).contains(part.c_str()), error.what());
        }
    }

    /// GPT-2's matrices stand [in, out], so that their columns are outputs.
    void transposed_matrices_do_without() {
        const ImportanceMatrix matrix =
            open_imatrix(files_.write("m", gguf_imatrix({{"blk.0.attn_output.weight", {1, 2}}})));
        const auto model =
            checkpoint({zeros("h.0.attn.c_attn.weight", {2, 6}), zeros("h.0.attn.c_proj.weight", {2, 2})});
        const TensorInfo& tensor = model->tensors[*model->find("h.0.attn.c_proj.weight")];
        QVERIFY(tensor.transposed);
        QVERIFY(importance_of(matrix, *model, tensor).values.empty());
    }

    void analysis_equals_the_codec() {
        constexpr std::size_t rows = 48, columns = 512;
        const auto weights = random_weights(rows * columns, 1);
        const auto values = random_importances(columns, 2);
        const auto model = checkpoint({stored("model.layers.0.mlp.up_proj.weight", "F32", {rows, columns}, weights),
                                       stored("model.embed_tokens.weight", "F32", {rows, columns}, weights)});
        const ImportanceMatrix matrix = open_imatrix(
            files_.write("m", binary_imatrix({{"blk.0.ffn_up.weight", values}, {"blk.9.ffn_up.weight", values}})));
        const auto specs = parse_specs("q4_K,iq2_xxs,nf4,q4_0");
        const auto device = make_cpu_device(2);
        JobControl job;
        const auto selection = select_tensors(*model);
        const auto reports = analyze(*model, selection.tensors, specs, *device, job, {}, &matrix);
        const auto plain = analyze(*model, selection.tensors, parse_specs("q4_K,nf4,q4_0"), *device, job);
        const bool first_is_up = model->tensors[reports[0].tensor].role == Role::mlp_up;
        const TensorReport &with = reports[first_is_up ? 0 : 1], &without = reports[first_is_up ? 1 : 0];

        QVERIFY(with.has_importance && with.skipped.empty());
        QCOMPARE(with.results.size(), specs.size());
        for (const FormatResult& result : with.results) {
            if (result.spec.id == "nf4")
                continue; // no use for importances, and sums of other pieces
            const ErrorSums expected = errors_of(result.spec, weights, columns, values.data());
            QVERIFY2(near(result.sums.sum_d2, expected.sum_d2), result.spec.id.c_str());
            QCOMPARE(result.sums.max_abs, expected.max_abs);
            QCOMPARE(result.sums.max_index, expected.max_index);
        }
        const auto& without_use = plain[first_is_up ? 0 : 1].results;
        QVERIFY(with.results[0].sums.sum_d2 > without_use[0].sums.sum_d2);
        QCOMPARE(with.results[2].sums.sum_d2, without_use[1].sums.sum_d2);
        QVERIFY(with.results[3].sums.sum_d2 != without_use[2].sums.sum_d2);

        QVERIFY(!without.has_importance);
        QCOMPARE(without.results.size(), std::size_t{3});
        for (std::size_t i = 0; i < 3; ++i)
            QCOMPARE(without.results[i].sums.sum_d2, plain[first_is_up ? 1 : 0].results[i].sums.sum_d2);
        QCOMPARE(without.skipped.size(), std::size_t{1});
        QCOMPARE(without.skipped[0].spec.id, std::string("iq2_xxs"));
        QVERIFY2(without.skipped[0].reason.find("token_embd.weight") != std::string::npos,
                 without.skipped[0].reason.c_str());
        const ModelReport sums = aggregate(*model, specs, reports);
        QCOMPARE(sums.model[0].tensors, 2U);
        QCOMPARE(sums.model[1].tensors, 1U);
        QVERIFY_EXCEPTION_THROWN(analyze(*model, selection.tensors, specs, *device, job), Error);
    }

    /// A layer's experts in one tensor: each is rounded with its own importances.
    void stacked_experts() {
        constexpr std::size_t experts = 3, rows = 20, columns = 256, count = rows * columns;
        const auto weights = random_weights(experts * count, 3);
        const auto values = random_importances(experts * columns, 4);
        const auto model = open_checkpoint(files_.write(
            "model.gguf", gguf_of_floats({gguf_entry("general.architecture", 8, gguf_string("llama"))},
                                         {{"blk.0.ffn_up_exps.weight", {columns, rows, experts}, weights}})));
        const ImportanceMatrix matrix = open_imatrix(
            files_.write("m", gguf_imatrix({{"blk.0.ffn_up_exps.weight", values, std::vector<float>(experts, 1.0F)}})));
        const auto specs = parse_specs("q4_K,iq2_xs,q4_0,iq4_nl");
        JobControl job;
        const auto reports = analyze(*model, {0}, specs, *make_cpu_device(2), job, {}, &matrix);
        for (const FormatResult& result : reports.at(0).results) {
            ErrorSums expected;
            for (std::size_t expert = 0; expert < experts; ++expert) {
                const auto* from = weights.data() + expert * count;
                expected.merge(errors_of(result.spec, {from, from + count}, columns, values.data() + expert * columns));
            }
            QVERIFY2(near(result.sums.sum_d2, expected.sum_d2), result.spec.id.c_str());
            QCOMPARE(result.sums.max_abs, expected.max_abs);
        }
    }

    /// llama-quantize gives the first eighth of MLP down more bits in Q4_0 where it has an importance matrix.
    void recipes_know_of_it() {
        std::vector<StoredTensor> tensors;
        std::vector<ImatrixEntry> entries;
        for (int layer = 0; layer < 8; ++layer) {
            tensors.push_back(zeros(QString("model.layers.%1.mlp.down_proj.weight").arg(layer).toStdString(), {8, 32}));
            entries.push_back({"blk." + QByteArray::number(layer) + ".ffn_down.weight", std::vector<float>(32, 1.0F)});
        }
        const auto model = checkpoint(tensors);
        const ImportanceMatrix matrix = open_imatrix(files_.write("m", gguf_imatrix(entries)));
        const auto specs = parse_specs("recipe:Q4_0");
        const auto device = make_cpu_device(1);
        JobControl job;
        const auto first = [&](const ImportanceMatrix* imatrix) {
            const auto reports = analyze(*model, {*model->find("model.layers.0.mlp.down_proj.weight")}, specs, *device,
                                         job, {}, imatrix);
            return reports.at(0).results.at(0).used().text();
        };
        QCOMPARE(first(&matrix), std::string("q4_1"));
        QCOMPARE(first(nullptr), std::string("q4_0"));
    }
};

QTEST_GUILESS_MAIN(TestImatrix)
#include "test_imatrix.moc"
