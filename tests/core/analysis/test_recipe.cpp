#include <QFileInfo>
#include <QTest>

#include <algorithm>
#include <nlohmann/json.hpp>

#include "core/analysis/pipeline.h"
#include "core/analysis/recipe_plan.h"
#include "core/base/error.h"
#include "core/base/nearest.h"
#include "core/checkpoint/containers.h"
#include "core/formats/registry.h"
#include "core/memory/ledger.h"
#include "tests/core/analysis/test_data.h"

using namespace qs;

namespace {

/// A model's dimensions, as far as its tensors' names and shapes depend on them.
struct Shape {
    const char* architecture;
    int layers, heads, kv_heads, hidden, inner, vocabulary;
    int experts = 0;
    bool tied = false;
    bool fused = false; ///< one matrix for q, k and v
};

const std::map<std::string, Shape> shapes{
    {"llama-2-7b", {"llama", 32, 32, 32, 4096, 11008, 32000}},
    {"llama-3-8b", {"llama", 32, 32, 8, 4096, 14336, 128256}},
    {"llama-2-70b", {"llama", 80, 64, 8, 8192, 28672, 32000}},
    {"llama-3.2-1b", {"llama", 16, 32, 8, 2048, 8192, 128256, 0, true}},
    {"mixtral-8x7b", {"llama", 32, 32, 8, 4096, 14336, 32000, 8}},
    {"falcon-40b", {"falcon", 60, 128, 8, 8192, 32768, 65024, 0, false, true}},
};

enum class Spelling { gguf, hugging_face };

/// Adds tensors under llama.cpp's names or under Hugging Face's; `module` tells which of the first each one is.
class Builder {
public:
    Builder(const Shape& shape, Spelling spelling) : shape_(shape), gguf_(spelling == Spelling::gguf) {
        checkpoint.container = gguf_ ? "GGUF v3" : "safetensors";
        checkpoint.architecture = shape.architecture;
        if (!gguf_ && shape.experts > 0)
            checkpoint.architecture = "mixtral";
        nlohmann::json config;
        config[gguf_ ? checkpoint.architecture + ".attention.head_count" : "num_attention_heads"] = shape.heads;
        config[gguf_ ? checkpoint.architecture + ".attention.head_count_kv" : "num_key_value_heads"] = shape.kv_heads;
        checkpoint.config = std::make_shared<const nlohmann::json>(config);
        add_all();
        assign_places(checkpoint.tensors);
    }

    Checkpoint checkpoint;
    std::vector<std::string> modules;

private:
    void add(const std::string& module, const std::string& gguf, const std::string& hugging_face,
             std::vector<std::int64_t> extents) {
        TensorInfo tensor;
        tensor.name = gguf_ ? gguf : hugging_face;
        tensor.shape = std::move(extents);
        tensor.dtype = tensor.shape.size() == 1 || module == "ffn_gate_inp" ? DType::f32 : DType::f16;
        checkpoint.tensors.push_back(tensor);
        modules.push_back(module);
    }

    void add_all() {
        const Shape& s = shape_;
        if (!s.tied)
            add("output", "output.weight", "lm_head.weight", {s.vocabulary, s.hidden});
        add("norm", "output_norm.weight", "model.norm.weight", {s.hidden});
        add("token_embd", "token_embd.weight", "model.embed_tokens.weight", {s.vocabulary, s.hidden});
        for (int layer = s.layers - 1; layer >= 0; --layer) { // the order in the file does not matter
            const std::string blk = "blk." + std::to_string(layer) + ".";
            const std::string in = (s.fused ? "transformer.h." : "model.layers.") + std::to_string(layer) + ".";
            add("norm", blk + "attn_norm.weight", in + "input_layernorm.weight", {s.hidden});
            add_attention(blk, in);
            s.experts > 0 ? add_experts(blk, in) : add_mlp(blk, in);
        }
    }

    void add_attention(const std::string& blk, const std::string& in) {
        const int head = shape_.hidden / shape_.heads, kv = shape_.kv_heads * head, hidden = shape_.hidden;
        if (shape_.fused) {
            add("attn_qkv", blk + "attn_qkv.weight", in + "self_attention.query_key_value.weight",
                {hidden + 2 * kv, hidden});
            add("attn_output", blk + "attn_output.weight", in + "self_attention.dense.weight", {hidden, hidden});
            return;
        }
        add("attn_q", blk + "attn_q.weight", in + "self_attn.q_proj.weight", {hidden, hidden});
        add("attn_k", blk + "attn_k.weight", in + "self_attn.k_proj.weight", {kv, hidden});
        add("attn_v", blk + "attn_v.weight", in + "self_attn.v_proj.weight", {kv, hidden});
        add("attn_output", blk + "attn_output.weight", in + "self_attn.o_proj.weight", {hidden, hidden});
    }

    void add_mlp(const std::string& blk, const std::string& in) {
        const int hidden = shape_.hidden, inner = shape_.inner;
        if (!shape_.fused)
            add("ffn_gate", blk + "ffn_gate.weight", in + "mlp.gate_proj.weight", {inner, hidden});
        add("ffn_up", blk + "ffn_up.weight", in + (shape_.fused ? "mlp.dense_h_to_4h.weight" : "mlp.up_proj.weight"),
            {inner, hidden});
        add("ffn_down", blk + "ffn_down.weight",
            in + (shape_.fused ? "mlp.dense_4h_to_h.weight" : "mlp.down_proj.weight"), {hidden, inner});
    }

    /// llama.cpp stacks the experts of a layer, Hugging Face has a tensor for each.
    void add_experts(const std::string& blk, const std::string& in) {
        const int hidden = shape_.hidden, inner = shape_.inner;
        add("ffn_gate_inp", blk + "ffn_gate_inp.weight", in + "block_sparse_moe.gate.weight", {shape_.experts, hidden});
        const struct {
            const char *module, *matrix;
            int rows, columns;
        } parts[] = {
            {"ffn_gate", "w1", inner, hidden}, {"ffn_up", "w3", inner, hidden}, {"ffn_down", "w2", hidden, inner}};
        for (const auto& part : parts) {
            if (gguf_)
                add(part.module, blk + part.module + "_exps.weight", {}, {shape_.experts, part.rows, part.columns});
            else
                for (int expert = 0; expert < shape_.experts; ++expert)
                    add(part.module, {},
                        in + "block_sparse_moe.experts." + std::to_string(expert) + "." + part.matrix + ".weight",
                        {part.rows, part.columns});
        }
    }

    const Shape& shape_;
    bool gguf_;
};

/// "0-3,6,9" has 2, not 4; "" has every layer.
bool has_layer(const QString& list, int layer) {
    if (list.isEmpty())
        return true;
    return std::ranges::any_of(list.split(','), [&](const QString& range) {
        const QStringList ends = range.split('-');
        return layer >= ends.front().toInt() && layer <= ends.back().toInt();
    });
}

/// The type that the rules "MODULE=TYPE[@LAYERS] …" give a tensor: the first that fits, else `otherwise`.
QString expected_type(const QStringList& rules, const std::string& module, int layer, const QString& otherwise) {
    for (const QString& rule : rules) {
        const QString name = rule.section('=', 0, 0), type = rule.section('=', 1).section('@', 0, 0);
        if (name == QString::fromStdString(module) && has_layer(rule.section('@', 1), layer))
            return type;
    }
    return otherwise;
}

// Layers with more bits (use_more_bits): i < n/8, i >= 7n/8, or (i − n/8) % 3 == 2, for 16, 32, 60 and 80 layers.
const QString more_of_16 = "0,1,4,7,10,13,14-15";
const QString more_of_32 = "0-3,6,9,12,15,18,21,24,27,28-31";
const QString more_of_60 = "0-6,9,12,15,18,21,24,27,30,33,36,39,42,45,48,51,52-59";
const QString more_of_80 = "0-9,12,15,18,21,24,27,30,33,36,39,42,45,48,51,54,57,60,63,66,69,70-79";

} // namespace

/// The expectations were written from llama.cpp 007dbbf3, src/llama-quant.cpp: llama_tensor_get_type_impl and
/// llama_ftype_get_default_type, model by model, not from what the program says.
class TestRecipe : public QObject {
    Q_OBJECT

private slots:
    void types_of_all_tensors_data();
    void types_of_all_tensors();
    void names();
    void errors_data();
    void errors();
    void kept_tensors();
    void heads_by_config_and_by_shape();
    void file_of_llama_quantize();
    void published_sizes_data();
    void published_sizes();
    void cards_and_checkpoints_agree();
    void absurd_layers();
    void analysis();
    void formats_that_are_missing();
};

void TestRecipe::types_of_all_tensors_data() {
    QTest::addColumn<QString>("model");
    QTest::addColumn<QString>("recipe");
    QTest::addColumn<bool>("importance");
    QTest::addColumn<QString>("otherwise");
    QTest::addColumn<QStringList>("rules");
    const auto row = [](const char* model, const char* recipe, const char* otherwise, const QString& rules,
                        bool importance = false) {
        QTest::addRow("%s %s%s", model, recipe, importance ? " with imatrix" : "")
            << model << recipe << importance << otherwise << rules.split(' ', Qt::SkipEmptyParts);
    };
    // 32 layers: n/8 = 4, n/16 = 2; no grouped queries.
    const char* model = "llama-2-7b";
    row(model, "Q2_K", "q2_K", "output=q6_K attn_v=q3_K attn_output=q3_K ffn_down=q3_K");
    row(model, "Q2_K_S", "q2_K", "output=q6_K ffn_down=q4_K@0-3");
    row(model, "Q3_K_S", "q3_K", "output=q6_K");
    row(model, "Q3_K_M", "q3_K",
        "output=q6_K attn_v=q5_K@0-1 attn_v=q4_K attn_output=q4_K ffn_down=q5_K@0-1 ffn_down=q4_K");
    row(model, "Q3_K_L", "q3_K", "output=q6_K attn_v=q5_K attn_output=q5_K ffn_down=q5_K");
    row(model, "Q4_K_S", "q4_K", "output=q6_K attn_v=q5_K@0-3 ffn_down=q5_K@0-3");
    row(model, "Q4_K_M", "q4_K", "output=q6_K attn_v=q6_K@" + more_of_32 + " ffn_down=q6_K@" + more_of_32);
    row(model, "Q5_K_S", "q5_K", "output=q6_K");
    row(model, "Q5_K_M", "q5_K", "output=q6_K attn_v=q6_K@" + more_of_32 + " ffn_down=q6_K@" + more_of_32);
    row(model, "Q6_K", "q6_K", "");
    row(model, "Q4_0", "q4_0", "output=q6_K");
    row(model, "Q4_0", "q4_0", "output=q6_K ffn_down=q4_1@0-3", true);
    row(model, "Q4_1", "q4_1", "output=q6_K", true);
    row(model, "Q5_0", "q5_0", "output=q6_K ffn_down=q5_1@0-3", true);
    row(model, "Q5_1", "q5_1", "output=q6_K");
    row(model, "Q8_0", "q8_0", "");
    row(model, "Q1_0", "q1_0", "output=q6_K");
    row(model, "Q2_0", "q2_0", "output=q6_K token_embd=q4_K");
    row(model, "TQ1_0", "tq1_0", "output=q6_K token_embd=q4_K");
    row(model, "TQ2_0", "tq2_0", "output=q6_K token_embd=q4_K");
    row(model, "MXFP4_MOE", "q8_0", "");
    row(model, "IQ4_NL", "iq4_nl", "output=q6_K ffn_down=q5_K@0-3");
    row(model, "IQ4_XS", "iq4_xs", "output=q6_K ffn_down=q5_K@0-3");
    row(model, "IQ4_XS", "iq4_xs", "output=q6_K", true);
    row(model, "IQ3_M", "iq3_s", "output=q6_K attn_v=q4_K attn_output=q4_K ffn_down=q4_K@0-3");
    row(model, "IQ3_S", "iq3_s", "output=q6_K");
    row(model, "IQ3_XS", "iq3_s",
        "output=q6_K attn_q=iq3_xxs attn_k=iq3_xxs ffn_gate=iq3_xxs@4-27 ffn_up=iq3_xxs@4-27");
    row(model, "IQ3_XXS", "iq3_xxs", "output=q5_K token_embd=iq3_s attn_q=iq2_s attn_k=iq2_s attn_output=iq3_s", true);
    row(model, "IQ3_XXS", "iq3_xxs",
        "output=q5_K token_embd=iq3_s attn_q=iq2_s attn_k=iq2_s attn_v=iq3_s attn_output=iq3_s ffn_down=q4_K@0-3 "
        "ffn_down=q3_K");
    row(model, "IQ2_M", "iq2_s", "output=q5_K token_embd=iq3_s attn_v=iq3_s attn_output=iq3_s ffn_down=iq3_s@0-3");
    row(model, "IQ2_S", "iq2_xs", "output=q5_K token_embd=iq3_s attn_v=iq3_s attn_output=iq3_s ffn_down=iq3_s@0-3");
    row(model, "IQ2_XS", "iq2_xs", "output=q5_K token_embd=q2_K attn_v=q2_K ffn_down=q2_K@0-3");
    row(model, "IQ2_XXS", "iq2_xxs", "output=q5_K token_embd=q2_K attn_v=q2_K ffn_down=q2_K@0-3");
    row(model, "IQ1_S", "iq1_s", "output=q5_K token_embd=q2_K attn_v=q2_K attn_output=iq2_xxs ffn_down=q2_K@0-3");
    row(model, "IQ1_M", "iq1_m", "output=q5_K token_embd=q2_K attn_v=q2_K attn_output=iq2_xxs ffn_down=q2_K@0-3");

    // Four heads share a key: n_gqa() >= 4.
    model = "llama-3-8b";
    row(model, "Q2_K", "q2_K", "output=q6_K attn_v=q4_K attn_output=q3_K ffn_down=q3_K");
    row(model, "Q2_K_S", "q2_K", "output=q6_K attn_v=q4_K ffn_down=q4_K@0-3");
    row(model, "Q3_K_S", "q3_K", "output=q6_K");
    row(model, "Q3_K_M", "q3_K",
        "output=q6_K attn_v=q5_K@0-1 attn_v=q4_K attn_output=q4_K ffn_down=q5_K@0-1 ffn_down=q4_K");
    row(model, "Q3_K_L", "q3_K", "output=q6_K attn_v=q5_K attn_output=q5_K ffn_down=q5_K");
    row(model, "Q4_K_S", "q4_K", "output=q6_K attn_v=q5_K@0-3 ffn_down=q5_K@0-3");
    row(model, "Q4_K_M", "q4_K", "output=q6_K attn_v=q6_K@" + more_of_32 + " ffn_down=q6_K@" + more_of_32);
    row(model, "Q5_K_M", "q5_K", "output=q6_K attn_v=q6_K@" + more_of_32 + " ffn_down=q6_K@" + more_of_32);
    row(model, "Q6_K", "q6_K", "");
    row(model, "Q4_0", "q4_0", "output=q6_K");
    row(model, "IQ4_NL", "iq4_nl", "output=q6_K attn_v=q5_K", true);
    row(model, "IQ4_XS", "iq4_xs", "output=q6_K attn_v=q5_K ffn_down=q5_K@0-3");
    row(model, "IQ3_S", "iq3_s", "output=q6_K attn_v=q4_K");
    row(model, "IQ3_XXS", "iq3_xxs",
        "output=q5_K token_embd=iq3_s attn_q=iq2_s attn_k=iq2_s attn_v=q4_K attn_output=iq3_s", true);
    row(model, "IQ2_XS", "iq2_xs", "output=q5_K token_embd=q2_K attn_v=q4_K ffn_down=q2_K@0-3");

    // Eight experts: k and v in q8_0, the attention's output in q5_K; layers come from the names.
    model = "mixtral-8x7b";
    row(model, "Q2_K", "q2_K", "output=q6_K attn_k=q8_0 attn_v=q8_0 attn_output=q5_K ffn_down=q3_K");
    row(model, "Q2_K_S", "q2_K", "output=q6_K attn_k=q8_0 attn_v=q8_0 ffn_down=q4_K@0-3");
    row(model, "Q3_K_S", "q3_K", "output=q6_K attn_k=q8_0 attn_v=q8_0 attn_output=q5_K");
    row(model, "Q3_K_M", "q3_K",
        "output=q6_K attn_k=q8_0 attn_v=q8_0 attn_output=q5_K ffn_down=q5_K@0-1 ffn_down=q4_K");
    row(model, "Q3_K_L", "q3_K", "output=q6_K attn_k=q8_0 attn_v=q8_0 ffn_down=q5_K");
    row(model, "Q4_K_S", "q4_K", "output=q6_K attn_k=q8_0 attn_v=q8_0 attn_output=q5_K ffn_down=q5_K@0-3");
    row(model, "Q4_K_M", "q4_K", "output=q6_K attn_k=q8_0 attn_v=q8_0 attn_output=q5_K ffn_down=q6_K@" + more_of_32);
    row(model, "Q5_K_S", "q5_K", "output=q6_K attn_k=q8_0 attn_v=q8_0");
    row(model, "Q5_K_M", "q5_K", "output=q6_K attn_k=q8_0 attn_v=q8_0 ffn_down=q6_K@" + more_of_32);
    row(model, "Q6_K", "q6_K", "attn_k=q8_0 attn_v=q8_0");
    row(model, "Q8_0", "q8_0", "");
    row(model, "IQ4_XS", "iq4_xs", "output=q6_K attn_k=q8_0 attn_v=q8_0 attn_output=q5_K ffn_down=q5_K@0-3");
    row(model, "IQ3_M", "iq3_s", "output=q6_K attn_k=q8_0 attn_v=q8_0 attn_output=q5_K ffn_down=q4_K@" + more_of_32);
    row(model, "IQ2_XS", "iq2_xs",
        "output=q5_K token_embd=q2_K attn_k=q4_K attn_v=q4_K attn_output=q5_K ffn_down=q2_K@0-3");
    row(model, "MXFP4_MOE", "q8_0", "ffn_gate=mxfp4_ggml ffn_up=mxfp4_ggml ffn_down=mxfp4_ggml");

    // What llama.cpp calls a 70B: v in q5_K where it would be in q3_K or q4_K. n/8 = 10, n/16 = 5.
    model = "llama-2-70b";
    row(model, "Q2_K", "q2_K", "output=q6_K attn_v=q5_K attn_output=q3_K ffn_down=q3_K");
    row(model, "Q2_K_S", "q2_K", "output=q6_K attn_v=q5_K ffn_down=q4_K@0-9");
    row(model, "Q3_K_S", "q3_K", "output=q6_K attn_v=q5_K");
    row(model, "Q3_K_M", "q3_K", "output=q6_K attn_v=q5_K attn_output=q4_K ffn_down=q5_K@0-4 ffn_down=q4_K");
    row(model, "Q3_K_L", "q3_K", "output=q6_K attn_v=q5_K attn_output=q5_K ffn_down=q5_K");
    row(model, "Q4_K_S", "q4_K", "output=q6_K attn_v=q5_K ffn_down=q5_K@0-9");
    row(model, "Q4_K_M", "q4_K", "output=q6_K attn_v=q6_K@" + more_of_80 + " attn_v=q5_K ffn_down=q6_K@" + more_of_80);
    row(model, "Q5_K_M", "q5_K", "output=q6_K attn_v=q6_K@" + more_of_80 + " ffn_down=q6_K@" + more_of_80);
    row(model, "Q6_K", "q6_K", "");
    row(model, "Q4_0", "q4_0", "output=q6_K");
    row(model, "IQ3_M", "iq3_s", "output=q6_K attn_v=q5_K attn_output=q4_K ffn_down=q4_K@0-9");

    // Tied embeddings: the embedding is stored as the head would be.
    model = "llama-3.2-1b";
    row(model, "Q2_K", "q2_K", "token_embd=q6_K attn_v=q4_K attn_output=q3_K ffn_down=q3_K");
    row(model, "Q4_K_M", "q4_K", "token_embd=q6_K attn_v=q6_K@" + more_of_16 + " ffn_down=q6_K@" + more_of_16);
    row(model, "Q8_0", "q8_0", "");
    row(model, "TQ1_0", "tq1_0", "token_embd=q6_K");
    row(model, "IQ2_XXS", "iq2_xxs", "token_embd=q5_K attn_v=q4_K ffn_down=q2_K@0-1");
    row(model, "MXFP4_MOE", "q8_0", "");

    // Falcon has rules of its own, and one matrix for q, k and v, which counts as v. n/8 = 7, n/16 = 3.
    model = "falcon-40b";
    row(model, "Q3_K_M", "q3_K",
        "output=q8_0 attn_qkv=q5_K@0-1 attn_qkv=q4_K ffn_down=q5_K@0-2 ffn_down=q4_K@" + more_of_60);
    row(model, "Q3_K_L", "q3_K", "output=q8_0 attn_qkv=q5_K attn_output=q4_K ffn_down=q4_K");
    row(model, "Q4_K_S", "q4_K", "output=q8_0 attn_qkv=q5_K@0-3");
    row(model, "Q4_K_M", "q4_K",
        "output=q8_0 attn_qkv=q6_K@" + more_of_60 + " ffn_down=q6_K@0-2 ffn_down=q5_K@" + more_of_60);
    row(model, "Q5_K_M", "q5_K", "output=q8_0 attn_qkv=q6_K@" + more_of_60 + " ffn_down=q6_K@" + more_of_60);
}

void TestRecipe::types_of_all_tensors() {
    QFETCH(QString, model);
    QFETCH(QString, recipe);
    QFETCH(bool, importance);
    QFETCH(QString, otherwise);
    QFETCH(QStringList, rules);
    for (const Spelling spelling : {Spelling::gguf, Spelling::hugging_face}) {
        const Builder builder(shapes.at(model.toStdString()), spelling);
        const RecipeView view = recipe_view(builder.checkpoint);
        const auto choices = choose(*find_recipe("recipe:" + recipe.toStdString()), view.model, importance);
        for (std::size_t i = 0; i < builder.modules.size(); ++i) {
            const TensorInfo& tensor = builder.checkpoint.tensors[i];
            const RecipeChoice& choice = choices.at(view.places[i].value());
            const bool kept = builder.modules[i] == "norm" || builder.modules[i] == "ffn_gate_inp";
            const QString expected =
                kept ? "fp32" : expected_type(rules, builder.modules[i], tensor.layer.value_or(-1), otherwise);
            QVERIFY2(choice.kept.empty() != kept, tensor.name.c_str());
            QVERIFY2(QString::fromStdString(choice.format) == expected,
                     (tensor.name + " is " + choice.format + ", not " + expected.toStdString()).c_str());
        }
    }
}

void TestRecipe::names() {
    for (const Recipe& recipe : recipes()) {
        const FormatSpec spec = parse_spec(recipe.id);
        QCOMPARE(spec.text(), recipe.id);
        QCOMPARE(recipe_of(spec), &recipe);
        QVERIFY(!recipe.title.empty());
        const std::string name(recipe.name());
        QCOMPARE(find_recipe("recipe:" + name), &recipe);
        // A name stands alone where no format bears it.
        const bool taken =
            std::ranges::any_of(formats(), [&](const Format& format) { return same_word(format.id, name); });
        QVERIFY2(!taken || recipe.id == "recipe:" + name, recipe.id.c_str());
    }
    QCOMPARE(parse_spec("q4_k_m").text(), std::string("Q4_K_M"));
    QCOMPARE(parse_spec("recipe:q4_K_m").text(), std::string("Q4_K_M"));
    QCOMPARE(parse_spec("RECIPE:q6_k").text(), std::string("recipe:Q6_K"));
    QCOMPARE(parse_spec("recipe:Q4_K").text(), std::string("Q4_K_M")); // llama-quantize's alias
    QVERIFY(recipe_of(parse_spec("q4_K")) == nullptr && recipe_of(parse_spec("q6_K")) == nullptr);
    std::vector<std::string> texts;
    for (const FormatSpec& spec : parse_specs("nf4:block=128,dq,Q4_K_M,int4:group=64,recipe:Q6_K,q4_k_m,q6_K"))
        texts.push_back(spec.text());
    QCOMPARE(texts, (std::vector<std::string>{"nf4:block=128,dq", "Q4_K_M", "int4:group=64", "recipe:Q6_K", "q6_K"}));
}

void TestRecipe::errors_data() {
    QTest::addColumn<QString>("text");
    QTest::addColumn<QStringList>("words");
    QTest::addRow("ambiguous") << "Q6_K" << QStringList{"q6_K for the format", "recipe:Q6_K"};
    QTest::addRow("ambiguous, no K") << "Q4_0" << QStringList{"q4_0 for the format", "recipe:Q4_0"};
    QTest::addRow("misspelt") << "Q4_K-M" << QStringList{"did you mean Q4_K_M", "recipe:Q6_K"};
    QTest::addRow("unknown recipe") << "recipe:Q4_K_MM" << QStringList{"recipe 'Q4_K_MM'", "did you mean Q4_K_M"};
    QTest::addRow("parameters") << "Q4_K_M:block=32" << QStringList{"recipe Q4_K_M", "no parameters"};
}

void TestRecipe::errors() {
    QFETCH(QString, text);
    QFETCH(QStringList, words);
    try {
        parse_spec(text.toStdString());
        QFAIL("accepted");
    } catch (const Error& error) {
        for (const QString& word : words)
            QVERIFY2(QString(error.what()).contains(word), error.what());
    }
    // A recipe is no format of one tensor.
    QVERIFY_EXCEPTION_THROWN(format("Q4_K_M"), Error);
    QVERIFY_EXCEPTION_THROWN(effective_spec(parse_spec("Q4_K_M"), {1, 256}), Error);
}

void TestRecipe::kept_tensors() {
    const struct {
        const char* container;
        const char* name;
        std::vector<std::int64_t> shape;
        DType dtype;
        const char* reason; ///< a word of it; null where the tensor is quantized
        const char* format;
    } cases[] = {
        {"GGUF v3", "blk.0.attn_norm.weight", {256}, DType::f32, "vector", "fp32"},
        {"GGUF v3", "blk.0.attn_q_norm.weight", {4, 256}, DType::f16, "norm", "fp16"},
        {"GGUF v3", "blk.0.ffn_gate_inp.weight", {8, 256}, DType::f32, "router", "fp32"},
        {"GGUF v3", "blk.0.ffn_gate_inp_shexp.weight", {1, 256}, DType::bf16, "vector", "bf16"},
        {"GGUF v3", "position_embd.weight", {64, 256}, DType::f32, "positions", "fp32"},
        {"GGUF v3", "blk.0.ssm_conv1d.weight", {64, 256}, DType::f32, "small", "fp32"},
        {"GGUF v3", "blk.0.attn_q.scale", {4, 256}, DType::f32, "name", "fp32"},
        {"GGUF v3", "blk.0.ssm_in.weight", {64, 256}, DType::f16, nullptr, "q4_K"},
        {"safetensors", "model.layers.0.input_layernorm.weight", {256}, DType::bf16, "vector", "fp32"},
        {"safetensors", "model.layers.0.self_attn.q_norm.weight", {4, 256}, DType::bf16, "norm", "fp32"},
        {"safetensors", "model.layers.0.mlp.gate.weight", {8, 256}, DType::bf16, "router", "fp32"},
        {"safetensors", "transformer.wpe.weight", {64, 256}, DType::bf16, "positions", "fp32"},
        {"safetensors", "model.vision_tower.encoder.layers.0.mlp.fc1.weight", {64, 256}, DType::bf16, "vision", "fp32"},
        {"safetensors", "model.layers.0.mlp.experts.down_proj_bias", {8, 256}, DType::bf16, "bias", "fp32"},
        {"safetensors", "model.layers.0.mamba.in_proj.weight", {64, 256}, DType::bf16, nullptr, "q4_K"},
    };
    for (const auto& one : cases) {
        Checkpoint checkpoint;
        checkpoint.container = one.container;
        TensorInfo tensor;
        tensor.name = one.name;
        tensor.shape = one.shape;
        tensor.dtype = one.dtype;
        checkpoint.tensors.push_back(tensor);
        assign_places(checkpoint.tensors);
        const auto choice = choose(*find_recipe("Q4_K_S"), recipe_view(checkpoint).model, false).at(0);
        QVERIFY2(choice.format == one.format, one.name);
        QVERIFY2(one.reason == nullptr ? choice.kept.empty() : choice.kept.find(one.reason) != std::string::npos,
                 (one.name + (": " + choice.kept)).c_str());
    }
}

void TestRecipe::heads_by_config_and_by_shape() {
    const auto queries_per_key = [](const char* container, const nlohmann::json& config) {
        Checkpoint checkpoint;
        checkpoint.container = container;
        checkpoint.architecture = "llama";
        if (!config.is_null())
            checkpoint.config = std::make_shared<const nlohmann::json>(config);
        for (const auto& [name, rows] : {std::pair("q", 64), std::pair("k", 16)}) {
            TensorInfo tensor;
            tensor.name = checkpoint.container == "safetensors"
                              ? std::string("model.layers.0.self_attn.") + name + "_proj.weight"
                              : std::string("blk.0.attn_") + name + ".weight";
            tensor.shape = {rows, 32};
            tensor.dtype = DType::f16;
            checkpoint.tensors.push_back(tensor);
        }
        assign_places(checkpoint.tensors);
        return recipe_view(checkpoint).model.queries_per_key;
    };
    using Json = nlohmann::json;
    QCOMPARE(queries_per_key("safetensors", Json()), 4); // rows of q over rows of k
    QCOMPARE(queries_per_key("safetensors", Json{{"num_attention_heads", 8}, {"num_key_value_heads", 1}}), 8);
    QCOMPARE(queries_per_key("safetensors", Json{{"num_attention_heads", 8}, {"num_key_value_heads", nullptr}}), 1);
    QCOMPARE(queries_per_key("safetensors", Json{{"n_head", 12}}), 1);
    QCOMPARE(queries_per_key("safetensors", Json{{"num_attention_heads", 71}, {"multi_query", true}}), 71);
    QCOMPARE(
        queries_per_key("safetensors", Json{{"text_config", {{"num_attention_heads", 6}, {"num_key_value_heads", 3}}}}),
        2);
    QCOMPARE(queries_per_key("safetensors", Json{{"num_attention_heads", "many"}}), 4);
    QCOMPARE(queries_per_key("GGUF v3", Json{{"llama.attention.head_count", 16}}), 1);
    QCOMPARE(queries_per_key("GGUF v3",
                             Json{{"llama.attention.head_count", {9, 3}}, {"llama.attention.head_count_kv", {3, 3}}}),
             3); // the first layer's
    QCOMPARE(queries_per_key("GGUF v3", Json{{"llama.attention.head_count", 8}, {"llama.attention.head_count_kv", 0}}),
             0);
}

/// stories260K-q4_k_m.gguf was written by llama-quantize from stories260K-f32.gguf.
void TestRecipe::file_of_llama_quantize() {
    const QString folder = QUANTOSCOPE_SHARED_DATA "/models/stories260K/derived/";
    if (!QFileInfo::exists(folder))
        QSKIP("the checkpoints of QUANTOSCOPE_SHARED_DATA are not there");
    const auto made = open_checkpoint((folder + "gguf/stories260K-q4_k_m.gguf").toStdString());
    const std::map<DType, std::string> ids{
        {DType::f16, "fp16"}, {DType::q5_0, "q5_0"}, {DType::q8_0, "q8_0"}, {DType::f32, "fp32"}};
    const auto specs = parse_specs("Q4_K_M");
    for (const char* source :
         {"gguf/stories260K-f32.gguf", "gguf/stories260K-bf16.gguf", "model.safetensors", "sharded"}) {
        const auto checkpoint = open_checkpoint((folder + source).toStdString());
        const RecipePlan plan(*checkpoint, specs);
        std::map<std::pair<Role, int>, std::string> used; // names differ, norms apart a role is once in a layer
        for (std::size_t i = 0; i < checkpoint->tensors.size(); ++i) {
            const TensorInfo& tensor = checkpoint->tensors[i];
            const FormatSpec stored = effective_spec(plan.formats(i).at(0), {tensor.rows(), tensor.columns()});
            used[{tensor.role, tensor.layer.value_or(-1)}] = stored.text();
        }
        QVERIFY(used.size() >= 38); // the embedding, seven matrices and the norms of five layers, the last norm
        for (const TensorInfo& tensor : made->tensors)
            QVERIFY2(used.at({tensor.role, tensor.layer.value_or(-1)}) == ids.at(tensor.dtype), tensor.name.c_str());
        QCOMPARE(inference_ledger(card_from_checkpoint(*checkpoint), specs[0], {}).weight_bytes,
                 static_cast<double>(made->bytes()));
    }
}

void TestRecipe::published_sizes_data() {
    QTest::addColumn<double>("bytes");
    // The files llama-2-7b.NAME.gguf of TheBloke/Llama-2-7B-GGUF: tensors and 0.7 MB of metadata. Its Q2_K is of an
    // older rule, which stored most of the model in q3_K.
    QTest::addRow("Q3_K_M") << 3298004672.0;
    QTest::addRow("Q4_K_M") << 4081004224.0;
    QTest::addRow("Q5_K_M") << 4783156928.0;
    QTest::addRow("Q6_K") << 5529194176.0;
}

void TestRecipe::published_sizes() {
    QFETCH(double, bytes);
    const FormatSpec spec = parse_spec(std::string("recipe:") + QTest::currentDataTag());
    const double counted = inference_ledger(model_card("llama-2-7b"), spec, {}).weight_bytes;
    QVERIFY2(bytes - counted > 0 && bytes - counted < 2e6, qPrintable(QString::number(bytes - counted, 'f', 0)));
}

/// A built-in card gives the bytes of the same model's tensors.
void TestRecipe::cards_and_checkpoints_agree() {
    for (const char* id : {"llama-2-7b", "llama-3-8b", "llama-2-70b", "llama-3.2-1b", "mixtral-8x7b"})
        for (const char* recipe : {"recipe:Q2_K", "Q3_K_M", "Q4_K_S", "Q4_K_M", "recipe:Q8_0", "MXFP4_MOE"}) {
            const FormatSpec spec = parse_spec(recipe);
            for (const Spelling spelling : {Spelling::gguf, Spelling::hugging_face}) {
                ModelCard card = model_card(id);
                const double of_card = inference_ledger(card, spec, {}).weight_bytes;
                const Builder builder(shapes.at(id), spelling);
                card.recipe_model = recipe_view(builder.checkpoint).model;
                // The lists above have one norm a layer, the models two.
                const double norms = 4.0 * shapes.at(id).layers * shapes.at(id).hidden;
                QCOMPARE(inference_ledger(card, spec, {}).weight_bytes + norms, of_card);
            }
        }
}

void TestRecipe::absurd_layers() {
    const QTemporaryDir folder;
    QFile file(folder.filePath("config.json"));
    QVERIFY(file.open(QIODevice::WriteOnly));
    file.write(R"({"model_type": "llama", "hidden_size": 64, "intermediate_size": 128, "num_attention_heads": 4,
                   "num_hidden_layers": 16777216, "vocab_size": 10})");
    file.close();
    const ModelCard card = card_from_config(file.fileName().toStdString());
    QVERIFY(inference_ledger(card, parse_spec("q4_K"), {}).weight_bytes > 1e11);
    QVERIFY_EXCEPTION_THROWN(inference_ledger(card, parse_spec("Q4_K_M"), {}), Error);
}

void TestRecipe::analysis() {
    const QTemporaryDir folder;
    std::vector<test::StoredTensor> tensors;
    const auto add = [&](const std::string& name, std::vector<std::int64_t> shape) {
        std::size_t count = 1;
        for (const auto extent : shape)
            count *= static_cast<std::size_t>(extent);
        tensors.push_back(
            test::stored(name, "F32", shape, test::random_weights(count, static_cast<unsigned>(tensors.size()))));
    };
    add("model.embed_tokens.weight", {32, 256});
    for (int layer = 0; layer < 4; ++layer) {
        const std::string in = "model.layers." + std::to_string(layer) + ".";
        add(in + "self_attn.v_proj.weight", {16, 256});
        add(in + "self_attn.q_proj.weight", {16, 256});
        add(in + "mlp.down_proj.weight", {16, 64});
        add(in + "mlp.gate.weight", {4, 256});
    }
    const auto checkpoint = open_checkpoint(test::write_safetensors(folder, "m.safetensors", tensors).toStdString());
    const auto specs = parse_specs("Q4_K_M,q4_K,q6_K,fp32");
    const auto selection = select_tensors(*checkpoint);
    const auto device = make_cpu_device(2);
    JobControl job;
    const auto reports = analyze(*checkpoint, selection.tensors, specs, *device, job);
    QCOMPARE(reports.size(), std::size_t{17});
    double bits = 0;
    for (const TensorReport& report : reports) {
        const TensorInfo& tensor = checkpoint->tensors[report.tensor];
        const FormatResult& result = report.results.at(0);
        QCOMPARE(result.spec.text(), std::string("Q4_K_M"));
        bits += result.stored_bits;
        // Four layers: (i − 0) % 3 == 2 and i >= 3 have more bits.
        const bool more = tensor.layer.value_or(0) >= 2;
        std::size_t same = tensor.role == Role::token_embedding || (tensor.role == Role::attention_v && more) ? 2 : 1;
        if (tensor.role == Role::moe_router)
            same = 3;
        QVERIFY2(result.used() == report.results[same].used() || tensor.role == Role::mlp_down, tensor.name.c_str());
        QCOMPARE(result.kept.empty(), tensor.role != Role::moe_router);
        if (tensor.role == Role::mlp_down) { // 64 columns are no blocks of 256
            QCOMPARE(result.chosen->text(), std::string(more ? "q6_K" : "q4_K"));
            QCOMPARE(result.fallback->text(), std::string(more ? "q8_0" : "q5_0"));
            continue;
        }
        QVERIFY(!result.fallback);
        QCOMPARE(result.sums.sum_d2, report.results[same].sums.sum_d2);
        QCOMPARE(result.stored_bits, report.results[same].stored_bits);
    }
    const ModelReport model = aggregate(*checkpoint, specs, reports);
    QCOMPARE(model.model[0].tensors, 17U);
    QCOMPARE(model.model[0].fallbacks, 4U);
    QCOMPARE(model.model[0].total.stored_bits, bits);
    QVERIFY(std::isnan(model.model[0].total.code_entropy())); // codes of several formats
    QVERIFY(!std::isnan(model.model[1].total.code_entropy()));
    // The choice looks at the whole checkpoint, whatever is measured of it.
    const auto alone =
        analyze(*checkpoint, select_tensors(*checkpoint, "*.3.self_attn.v_proj*").tensors, specs, *device, job);
    QCOMPARE(alone.at(0).results[0].used().text(), std::string("q6_K"));
}

void TestRecipe::formats_that_are_missing() {
    const Recipe& recipe = *find_recipe("recipe:IQ2_XS");
    try {
        spec_of(recipe, {"q9_K", {}});
        QFAIL("found");
    } catch (const Error& error) {
        QVERIFY2(QString(error.what()).contains("q9_K") && QString(error.what()).contains("IQ2_XS"), error.what());
    }
    const bool there = std::ranges::any_of(formats(), [](const Format& format) { return format.id == "iq2_xs"; });
    if (!there)
        QSKIP("the table of formats has no iq2_xs");
    QCOMPARE(spec_of(recipe, {"iq2_xs", {}}).text(), std::string("iq2_xs"));
    const double bits = 8 * inference_ledger(model_card("llama-2-7b"), parse_spec(recipe.id), {}).weight_bytes;
    QVERIFY(bits / 6738415616.0 > 2.3125 && bits / 6738415616.0 < 2.6);
}

QTEST_GUILESS_MAIN(TestRecipe)
#include "test_recipe.moc"
