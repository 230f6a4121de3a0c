#!/usr/bin/env python3
"""Makes tests/core/model/data: tiny random models of each family that core/model runs, with the logits that Hugging
Face transformers computes for them in float64, and the same models as GGUF files by llama.cpp's conventions.

    pip install torch transformers safetensors gguf numpy
    python3 make_reference_models.py [OUT]

A folder a model: config.json, model.safetensors (float16), reference.json (token ids), logits.safetensors (float32,
[tokens, vocabulary]) and, for some, model.gguf. Everything is random and the same in every run.
"""

import json
import pathlib
import sys

import gguf
import numpy as np
import torch
import transformers
from safetensors.torch import save_file

TOKENS = 40
VOCABULARY = 44

BASE = dict(hidden_size=16, intermediate_size=24, num_hidden_layers=2, num_attention_heads=4, num_key_value_heads=2,
            head_dim=8, vocab_size=VOCABULARY, max_position_embeddings=64, rms_norm_eps=1e-5, hidden_act="silu",
            tie_word_embeddings=False, rope_theta=10000.0)


def llama(**changes):
    return {"model_type": "llama", **BASE, **changes}


GEMMA = dict(hidden_act="gelu_pytorch_tanh", hidden_activation="gelu_pytorch_tanh", tie_word_embeddings=True,
             rms_norm_eps=1e-6)
LONG = dict(type="longrope", short_factor=[1.0, 1.1, 1.3, 1.7], long_factor=[1.2, 2.0, 3.5, 5.0])

MODELS = {
    "llama": llama(),
    "llama-tied": llama(tie_word_embeddings=True, rope_theta=500.0),
    "llama-biases": llama(attention_bias=True, mlp_bias=True),
    "llama-linear": llama(rope_scaling={"type": "linear", "factor": 4.0}),
    "llama-dynamic": llama(max_position_embeddings=16, rope_scaling={"type": "dynamic", "factor": 2.0}),
    "llama-yarn": llama(rope_theta=100.0, max_position_embeddings=256,
                        rope_scaling={"rope_type": "yarn", "factor": 4.0, "beta_fast": 2.0, "beta_slow": 1.0,
                                      "original_max_position_embeddings": 64}),
    "llama3": llama(rope_theta=100.0, rope_scaling={"rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0,
                                                    "high_freq_factor": 4.0,
                                                    "original_max_position_embeddings": 32}),
    # As transformers 5 writes configs: one object for base and scaling.
    "llama-rope-parameters": {k: v for k, v in llama(rope_parameters={
        "rope_type": "linear", "factor": 2.0, "rope_theta": 300.0}).items() if k != "rope_theta"},
    "mistral": {"model_type": "mistral", **BASE, "sliding_window": 7},
    "qwen2": {"model_type": "qwen2", **BASE, "head_dim": 4, "tie_word_embeddings": True, "use_sliding_window": False,
              "sliding_window": 5},
    "qwen2-window": {"model_type": "qwen2", **BASE, "head_dim": 4, "use_sliding_window": True, "sliding_window": 5,
                     "max_window_layers": 1},
    "qwen3": {"model_type": "qwen3", **BASE},
    "gemma": {"model_type": "gemma", **BASE, **GEMMA},
    "gemma2": {"model_type": "gemma2", **BASE, **GEMMA, "sliding_window": 6, "query_pre_attn_scalar": 8,
               "attn_logit_softcapping": 3.0, "final_logit_softcapping": 5.0},
    "gemma2-scalar": {"model_type": "gemma2", **BASE, **GEMMA, "sliding_window": 9, "query_pre_attn_scalar": 20,
                      "attn_logit_softcapping": None, "final_logit_softcapping": None},
    "gemma3": {"model_type": "gemma3_text", **BASE, **GEMMA, "num_hidden_layers": 6, "num_attention_heads": 2,
               "num_key_value_heads": 1, "sliding_window": 5, "rope_local_base_freq": 50.0, "rope_theta": 1000.0,
               "query_pre_attn_scalar": 8, "rope_scaling": {"rope_type": "linear", "factor": 4.0},
               "sliding_window_pattern": 6},
    "phi3": {"model_type": "phi3", **BASE, "head_dim": 4, "sliding_window": 11, "pad_token_id": 0},
    "phi3-short": {"model_type": "phi3", **BASE, "num_attention_heads": 2, "num_key_value_heads": 1,
                   "max_position_embeddings": 256, "original_max_position_embeddings": 64, "sliding_window": None,
                   "rope_scaling": LONG, "pad_token_id": 0},
    "phi3-long": {"model_type": "phi3", **BASE, "num_attention_heads": 2, "num_key_value_heads": 1,
                  "max_position_embeddings": 64, "original_max_position_embeddings": 16, "sliding_window": None,
                  "rope_scaling": LONG, "pad_token_id": 0},
    "phi3-partial": {"model_type": "phi3", **BASE, "num_attention_heads": 2, "num_key_value_heads": 1,
                     "partial_rotary_factor": 0.5, "sliding_window": None, "pad_token_id": 0},
    "gpt2": {"model_type": "gpt2", "n_embd": 16, "n_layer": 2, "n_head": 4, "n_positions": 48, "n_inner": None,
             "vocab_size": VOCABULARY, "activation_function": "gelu_new", "layer_norm_epsilon": 1e-5},
}
FOR_GGUF = {"llama", "llama-biases", "llama3", "llama-yarn", "llama-linear", "mistral", "qwen2", "qwen3", "gemma",
            "gemma2", "gemma3", "phi3", "phi3-long", "phi3-short", "gpt2"}


def randomise(model, generator):
    """Weights large enough that every part of the arithmetic counts, all of them values of float16."""
    with torch.no_grad():
        for name, weight in model.named_parameters():
            size = weight.shape[-1] if weight.dim() > 1 else 1
            if name.endswith("c_attn.weight") or name.endswith("c_proj.weight") or name.endswith("c_fc.weight"):
                size = weight.shape[0]
            noise = torch.randn(weight.shape, generator=generator, dtype=torch.float64)
            if weight.dim() > 1:
                value = noise * (0.3 if "embed" in name or "wte" in name else 1.3 / size ** 0.5)
            elif name.endswith("bias"):
                value = 0.3 * noise
            else:
                value = 1 + 0.2 * noise
            weight.copy_(value.half().to(weight.dtype))


def build(name, config, out):
    generator = torch.Generator().manual_seed(sum(map(ord, name)))
    fields = {k: v for k, v in config.items() if k != "model_type"}
    parsed = transformers.AutoConfig.for_model(config["model_type"], **json.loads(json.dumps(fields)))
    parsed._attn_implementation = "eager"
    model = transformers.AutoModelForCausalLM.from_config(parsed).double().eval()
    randomise(model, generator)
    ids = torch.randint(0, VOCABULARY, (1, TOKENS), generator=generator)
    with torch.no_grad():
        logits = model(ids, use_cache=False).logits[0]
    tied = parsed.tie_word_embeddings
    tensors = {k: v.detach().half().contiguous() for k, v in model.state_dict().items()
               if not (tied and k == "lm_head.weight") and not k.endswith((".attn.bias", ".masked_bias"))}
    folder = out / name
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.json").write_text(json.dumps(config, indent=1) + "\n")
    (folder / "reference.json").write_text(json.dumps({"ids": ids[0].tolist()}) + "\n")
    save_file(tensors, folder / "model.safetensors")
    save_file({"logits": logits.float().contiguous()}, folder / "logits.safetensors")
    if name in FOR_GGUF:
        write_gguf(folder / "model.gguf", config, {k: v.float().numpy() for k, v in tensors.items()})
    print(f"{name:22} {logits.abs().max():8.3f} {logits.std():8.3f}")


# --- GGUF, as llama.cpp's convert_hf_to_gguf.py writes it ---------------------------------------------------------

LAYER_NAMES = {
    "self_attn.q_proj": "attn_q", "self_attn.k_proj": "attn_k", "self_attn.v_proj": "attn_v",
    "self_attn.o_proj": "attn_output", "self_attn.qkv_proj": "attn_qkv", "self_attn.q_norm": "attn_q_norm",
    "self_attn.k_norm": "attn_k_norm", "mlp.gate_proj": "ffn_gate", "mlp.up_proj": "ffn_up",
    "mlp.down_proj": "ffn_down", "mlp.gate_up_proj": "ffn_up", "input_layernorm": "attn_norm",
    "post_attention_layernorm": "ffn_norm", "attn.c_attn": "attn_qkv", "attn.c_proj": "attn_output",
    "mlp.c_fc": "ffn_up", "mlp.c_proj": "ffn_down", "ln_1": "attn_norm", "ln_2": "ffn_norm",
}
SANDWICH_NAMES = {"post_attention_layernorm": "post_attention_norm", "pre_feedforward_layernorm": "ffn_norm",
                  "post_feedforward_layernorm": "post_ffw_norm"}
OTHER_NAMES = {"model.embed_tokens": "token_embd", "model.norm": "output_norm", "lm_head": "output",
               "transformer.wte": "token_embd", "transformer.wpe": "position_embd", "transformer.ln_f": "output_norm"}


def gguf_name(name, architecture):
    stem, kind = name.rsplit(".", 1)
    if stem in OTHER_NAMES:
        return f"{OTHER_NAMES[stem]}.{kind}"
    layer, module = stem.replace("model.layers.", "").replace("transformer.h.", "").split(".", 1)
    names = {**LAYER_NAMES, **SANDWICH_NAMES} if architecture in ("gemma2", "gemma3") else LAYER_NAMES
    return f"blk.{layer}.{names[module]}.{kind}"


def permute(weight, heads):
    """Rotate-half order to pairs side by side: what the converter does to q and k of the llama architecture."""
    return (weight.reshape(heads, 2, weight.shape[0] // heads // 2, *weight.shape[1:])
            .swapaxes(1, 2).reshape(weight.shape))


def llama3_factors(config):
    scaling = config["rope_scaling"]
    dims = config["head_dim"]
    frequencies = 1.0 / config["rope_theta"] ** (np.arange(0, dims, 2) / dims)
    low, high, factor = scaling["low_freq_factor"], scaling["high_freq_factor"], scaling["factor"]
    context = scaling["original_max_position_embeddings"]
    factors = []
    for wavelength in 2 * np.pi / frequencies:
        smooth = (context / wavelength - low) / (high - low)
        if wavelength < context / high:
            factors.append(1.0)
        elif wavelength > context / low:
            factors.append(factor)
        else:
            factors.append(1 / ((1 - smooth) / factor + smooth))
    return np.array(factors, dtype=np.float32)


def write_scaling(writer, config):
    scaling = config.get("rope_scaling")
    if not scaling:
        return
    kind = scaling.get("rope_type", scaling.get("type"))
    if kind == "linear":
        writer.add_rope_scaling_type(gguf.RopeScalingType.LINEAR)
        writer.add_rope_scaling_factor(scaling["factor"])
    elif kind == "yarn":
        writer.add_rope_scaling_type(gguf.RopeScalingType.YARN)
        writer.add_rope_scaling_factor(scaling["factor"])
        writer.add_rope_scaling_orig_ctx_len(scaling["original_max_position_embeddings"])
        writer.add_rope_scaling_yarn_beta_fast(scaling["beta_fast"])
        writer.add_rope_scaling_yarn_beta_slow(scaling["beta_slow"])
    elif kind == "llama3":
        writer.add_tensor("rope_freqs.weight", llama3_factors(config))
    elif kind == "longrope":
        context, original = config["max_position_embeddings"], config["original_max_position_embeddings"]
        scale = context / original
        writer.add_rope_scaling_orig_ctx_len(original)
        writer.add_rope_scaling_attn_factors(1.0 if scale <= 1 else float(np.sqrt(1 + np.log(scale) / np.log(original))))
        writer.add_tensor("rope_factors_long.weight", np.array(scaling["long_factor"], dtype=np.float32))
        writer.add_tensor("rope_factors_short.weight", np.array(scaling["short_factor"], dtype=np.float32))


def write_dimensions(writer, config, architecture):
    if architecture == "gpt2":
        writer.add_context_length(config["n_positions"])
        writer.add_embedding_length(config["n_embd"])
        writer.add_feed_forward_length(4 * config["n_embd"])
        writer.add_block_count(config["n_layer"])
        writer.add_head_count(config["n_head"])
        writer.add_layer_norm_eps(config["layer_norm_epsilon"])
        return
    writer.add_context_length(config["max_position_embeddings"])
    writer.add_embedding_length(config["hidden_size"])
    writer.add_feed_forward_length(config["intermediate_size"])
    writer.add_block_count(config["num_hidden_layers"])
    writer.add_head_count(config["num_attention_heads"])
    writer.add_head_count_kv(config["num_key_value_heads"])
    writer.add_layer_norm_rms_eps(config["rms_norm_eps"])
    writer.add_rope_freq_base(config["rope_theta"])
    writer.add_key_length(config["head_dim"])
    writer.add_value_length(config["head_dim"])
    writer.add_rope_dimension_count(config["head_dim"])
    if config.get("sliding_window") and config.get("use_sliding_window", True):
        writer.add_sliding_window(config["sliding_window"])
    if config.get("attn_logit_softcapping"):
        writer.add_attn_logit_softcapping(config["attn_logit_softcapping"])
    if config.get("final_logit_softcapping"):
        writer.add_final_logit_softcapping(config["final_logit_softcapping"])
    if config.get("rope_local_base_freq"):
        writer.add_float32("gemma3.rope.freq_base_swa", config["rope_local_base_freq"])


def write_gguf(path, config, tensors):
    architecture = {"mistral": "llama", "gemma3_text": "gemma3"}.get(config["model_type"], config["model_type"])
    writer = gguf.GGUFWriter(path, architecture)
    write_dimensions(writer, config, architecture)
    write_scaling(writer, config)
    for name, weight in tensors.items():
        if architecture == "llama" and ".q_proj." in name:
            weight = permute(weight, config["num_attention_heads"])
        if architecture == "llama" and ".k_proj." in name:
            weight = permute(weight, config["num_key_value_heads"])
        if architecture.startswith("gemma") and name.endswith("norm.weight"):
            weight = weight + np.float32(1)
        if architecture == "gpt2" and name.endswith(("c_attn.weight", "c_proj.weight", "c_fc.weight")):
            weight = weight.T
        half = weight.ndim > 1 and not name.endswith("wpe.weight")
        writer.add_tensor(gguf_name(name, architecture),
                          np.ascontiguousarray(weight, dtype=np.float16 if half else np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def main():
    out = pathlib.Path(sys.argv[1]) if len(sys.argv) > 1 else pathlib.Path(__file__).parent / "data"
    for name, config in MODELS.items():
        build(name, config, out)


if __name__ == "__main__":
    main()
