#include <QTest>

#include "core/checkpoint/containers.h"

using namespace qs;

/// Roles and layers of the names that real checkpoints use.
class NamesTest : public QObject {
    Q_OBJECT

private slots:
    void places_data() {
        QTest::addColumn<QString>("name");
        QTest::addColumn<QString>("role");
        QTest::addColumn<int>("layer");
        QTest::addColumn<int>("expert");
        const auto row = [](const char* name, const char* role, int layer = -1, int expert = -1) {
            QTest::newRow(name) << QString(name) << QString(role) << layer << expert;
        };
        // Llama, Mistral, Qwen, Gemma, Phi as Hugging Face writes them
        row("model.embed_tokens.weight", "token_embedding");
        row("model.layers.11.self_attn.q_proj.weight", "attention_q", 11);
        row("model.layers.11.self_attn.k_proj.weight", "attention_k", 11);
        row("model.layers.11.self_attn.v_proj.weight", "attention_v", 11);
        row("model.layers.11.self_attn.o_proj.weight", "attention_o", 11);
        row("model.layers.0.self_attn.q_proj.bias", "bias", 0);
        row("model.layers.0.self_attn.q_norm.weight", "norm", 0);
        row("model.layers.2.self_attn.qkv_proj.weight", "attention_qkv", 2);
        row("model.layers.2.mlp.gate_proj.weight", "mlp_gate", 2);
        row("model.layers.2.mlp.up_proj.weight", "mlp_up", 2);
        row("model.layers.2.mlp.down_proj.weight", "mlp_down", 2);
        row("model.layers.2.mlp.gate_up_proj.weight", "mlp_gate_up", 2);
        row("model.layers.2.pre_feedforward_layernorm.weight", "norm", 2);
        row("model.layers.2.input_layernorm.weight", "norm", 2);
        row("model.norm.weight", "norm");
        row("lm_head.weight", "lm_head");
        row("model.layers.9.self_attn.dense.weight", "attention_o", 9);
        row("model.layers.9.mlp.fc1.weight", "mlp_up", 9);
        row("model.layers.9.mlp.fc2.weight", "mlp_down", 9);
        row("model.final_layernorm.weight", "norm");
        // mixtures of experts
        row("model.layers.1.block_sparse_moe.gate.weight", "moe_router", 1);
        row("model.layers.1.block_sparse_moe.experts.7.w1.weight", "moe_expert", 1, 7);
        row("model.layers.1.mlp.gate.weight", "moe_router", 1);
        row("model.layers.1.mlp.experts.63.down_proj.weight", "moe_expert", 1, 63);
        row("model.layers.1.mlp.shared_expert.up_proj.weight", "mlp_up", 1);
        row("blk.4.ffn_gate_inp.weight", "moe_router", 4);
        row("blk.4.ffn_up_exps.weight", "moe_expert", 4);
        row("blk.4.ffn_up.3.weight", "moe_expert", 4, 3);
        // GPT-2, GPT-NeoX, BERT
        row("transformer.h.5.attn.c_attn.weight", "attention_qkv", 5);
        row("transformer.h.5.attn.c_proj.weight", "attention_o", 5);
        row("h.5.mlp.c_fc.weight", "mlp_up", 5);
        row("h.5.mlp.c_proj.weight", "mlp_down", 5);
        row("h.5.ln_1.weight", "norm", 5);
        row("h.5.attn.bias", "other", 5);
        row("wte.weight", "token_embedding");
        row("wpe.weight", "position_embedding");
        row("gpt_neox.layers.0.attention.query_key_value.weight", "attention_qkv", 0);
        row("gpt_neox.layers.0.mlp.dense_4h_to_h.weight", "mlp_down", 0);
        row("gpt_neox.embed_in.weight", "token_embedding");
        row("embed_out.weight", "lm_head");
        row("bert.encoder.layer.3.attention.self.query.weight", "attention_q", 3);
        row("bert.encoder.layer.3.attention.output.dense.weight", "attention_o", 3);
        row("bert.encoder.layer.3.intermediate.dense.weight", "mlp_up", 3);
        row("bert.encoder.layer.3.output.dense.weight", "mlp_down", 3);
        row("bert.encoder.layer.3.output.LayerNorm.weight", "norm", 3);
        row("bert.embeddings.word_embeddings.weight", "token_embedding");
        row("bert.embeddings.position_embeddings.weight", "position_embedding");
        // GGUF
        row("token_embd.weight", "token_embedding");
        row("output.weight", "lm_head");
        row("output_norm.weight", "norm");
        row("blk.21.attn_q.weight", "attention_q", 21);
        row("blk.21.attn_qkv.weight", "attention_qkv", 21);
        row("blk.21.attn_output.weight", "attention_o", 21);
        row("blk.21.ffn_gate.weight", "mlp_gate", 21);
        row("blk.21.ffn_norm.weight", "norm", 21);
        row("blk.21.attn_q.bias", "bias", 21);
        // and what is none of these
        row("something.else", "other");
        row("", "other");
        row("vision_tower.encoder.layers.2.self_attn.q_proj.weight", "other");
        row("model.layers.99999999999.mlp.up_proj.weight", "other");
    }

    void places() {
        QFETCH(QString, name);
        QFETCH(QString, role);
        QFETCH(int, layer);
        QFETCH(int, expert);
        const Place place = place_of(name.toStdString());
        QCOMPARE(QString::fromStdString(std::string(to_string(place.role))), role);
        QCOMPARE(place.layer.value_or(-1), layer);
        QCOMPARE(place.expert.value_or(-1), expert);
    }
};

QTEST_GUILESS_MAIN(NamesTest)
#include "test_names.moc"
