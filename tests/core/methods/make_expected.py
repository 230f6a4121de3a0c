#!/usr/bin/env python3
"""Writes expected/awq.json and expected/hqq.json: what AWQ and HQQ make of small layers, computed with numpy after the
reference implementations (mit-han-lab/llm-awq d6e797a4: auto_scale.py, auto_clip.py; mobiusml/hqq e0b1d00e:
optimize_weights_proximal_legacy and Quantizer.quantize). AWQ measures outputs on the rows themselves, as its reference
does; duo scaling is that of casper-hansen/AutoAWQ 88e4c76b. The formats are those of this program, but for AWQ's affine
integers."""

import json
import pathlib

import numpy as np

f32 = np.float32
MASK = (1 << 64) - 1


def splitmix(n):
    n = (n + 0x9E3779B97F4A7C15) & MASK
    n = ((n ^ n >> 30) * 0xBF58476D1CE4E5B9) & MASK
    n = ((n ^ n >> 27) * 0x94D049BB133111EB) & MASK
    return n ^ n >> 31


def bell(seed, index):
    return sum((splitmix(seed * 1000003 + index * 4 + i) >> 40) / (1 << 23) - 1 for i in range(4))


def made_layer(rows, columns, tokens, seed):
    weights = np.array([bell(seed, i) / 32 for i in range(rows * columns)], f32).reshape(rows, columns)
    inputs = np.empty((tokens, columns), f32)
    for token in range(tokens):
        noise = [bell(seed + 1, token * (columns + 2) + i) for i in range(columns + 2)]
        for i in range(columns):
            x = noise[i] + noise[i + 1] / 2 + noise[i + 2] / 4
            inputs[token, i] = 8 * x if i % 16 == 3 else x
    return weights, inputs


# --- formats: float32 scales, groups along the rows ------------------------------------------------------------

def quantize_int(w, bits, affine):
    """Groups in rows of w."""
    w = w.astype(f32)
    if affine:  # AWQ's own
        low, high = w.min(1, keepdims=True), w.max(1, keepdims=True)
        top = f32(2**bits - 1)
        scale = np.maximum(high - low, f32(1e-5)) / top
        zero = np.clip(-np.rint(low / scale), 0, top)
        return (np.clip(np.rint(w / scale) + zero, 0, top) - zero) * scale
    scale = np.abs(w).max(1, keepdims=True) / f32(2 ** (bits - 1) - 1)
    scale[scale == 0] = 1
    return np.clip(np.rint(w / scale), -(2 ** (bits - 1)), 2 ** (bits - 1) - 1) * scale


NF4 = np.array([-1.0, -0.6961928009986877, -0.5250730514526367, -0.39491748809814453, -0.28444138169288635,
                -0.18477343022823334, -0.09105003625154495, 0.0, 0.07958029955625534, 0.16093020141124725,
                0.24611230194568634, 0.33791524171829224, 0.44070982933044434, 0.5626170039176941,
                0.7229568362236023, 1.0], f32)


def quantize_nf4(w):
    absmax = np.abs(w).max(1, keepdims=True)
    code = np.abs((w / absmax)[..., None] - NF4).argmin(-1)
    return NF4[code] * absmax


def by_group(w, group, quantize):
    return quantize(w.reshape(-1, group)).reshape(w.shape)


# --- AWQ -------------------------------------------------------------------------------------------------------

def awq(w, x, group, quantize, duo):
    mean = np.abs(x.astype(np.float64)).mean(0)
    parts = np.abs(w.astype(np.float64)).reshape(-1, group)
    magnitude = (parts / (parts.max(1, keepdims=True) + 1e-6)).reshape(w.shape).mean(0)
    exact = x.astype(np.float64) @ w.T.astype(np.float64)
    losses, best = [], None
    for step in range(20):
        scale = mean ** (step / 20)
        if duo:
            scale = scale / (magnitude ** (1 - step / 20) + 1e-4)
        scale = np.maximum(scale, 1e-4)
        scale = (scale / np.sqrt(scale.max() * scale.min())).astype(f32)
        q = by_group(w * scale, group, quantize) / scale
        losses.append(((x.astype(np.float64) @ q.T.astype(np.float64) - exact) ** 2).mean())
        if best is None or losses[-1] < losses[best[0]]:
            best = step, scale
    step, scale = best
    scaled, inputs = w * scale, x.astype(np.float64) / scale
    clipped = np.empty_like(scaled)
    for begin in range(0, w.shape[1], group):
        part, part_x = scaled[:, begin:begin + group], inputs[:, begin:begin + group]
        largest = np.abs(part).max(1, keepdims=True)
        limit, least = largest.copy(), np.full_like(largest, np.inf, dtype=np.float64)
        for trial in range(10):
            bound = largest * f32(1 - trial / 20)
            q = quantize(np.clip(part, -bound, bound))
            error = ((part_x @ (q - part).T.astype(np.float64)) ** 2).mean(0)[:, None]
            limit = np.where(error < least, bound, limit)
            least = np.minimum(error, least)
        clipped[:, begin:begin + group] = np.clip(part, -limit, limit)
    unclipped = by_group(scaled, group, quantize) / scale
    return step / 20, scale, losses, unclipped, by_group(clipped, group, quantize) / scale


def awq_case(name, seed, group, quantize, duo=False):
    w, x = made_layer(8, 128, 200, seed)
    ratio, scale, losses, unclipped, weight = awq(w, x, group, quantize, duo)
    return {"format": name, "method": "awq:duo" if duo else "awq", "seed": seed, "rows": 8, "columns": 128, "tokens": 200, "ratio": ratio,
            "scales": scale.tolist(), "losses": losses, "unclipped": unclipped.flatten().tolist(),
            "weight": weight.flatten().tolist()}


# --- HQQ -------------------------------------------------------------------------------------------------------

def hqq(w, bits, early_stop, beta):
    """Groups in rows of w."""
    top = f32(2**bits - 1)
    low, high = w.min(1, keepdims=True), w.max(1, keepdims=True)
    width = high - low
    scale = np.where(width <= f32(1e-4), f32(1), top / np.maximum(width, f32(1e-30))).astype(f32)
    scale = np.minimum(scale, f32(2e4))
    zero = -low * scale
    if bits == 4:
        zero = np.rint(zero)
    p = f32(0.7)
    best, iterations = np.inf, 0
    for _ in range(20):
        q = np.clip(np.rint(w * scale + zero), 0, top)
        r = (q - zero) / scale
        error = np.abs(w - r).mean(dtype=np.float64)
        e = w - r
        with np.errstate(divide="ignore", invalid="ignore"):
            shrunk = np.sign(e) * np.maximum(np.abs(e) - np.abs(e) ** (p - f32(1)) / f32(beta), 0)
        shrunk[e == 0] = 0
        zero = (q - (w - shrunk) * scale).mean(1, keepdims=True, dtype=np.float64).astype(f32)
        iterations += 1
        if early_stop and not error < best:
            break
        best = error
    q = np.clip(np.rint(w * scale + zero), 0, top)
    return q, 1 / scale, zero, iterations


def hqq_case(bits, seed, group, early_stop, beta=10.0):
    w, _ = made_layer(16, 128, 0, seed)
    q, scale, zero, iterations = hqq(w.reshape(-1, group), bits, early_stop, beta)
    return {"format": f"int{bits}:group={group},scales=fp32", "seed": seed, "rows": 16, "columns": 128,
            "method": f"hqq:early_stop={int(early_stop)},beta={beta:g}", "iterations": iterations, "codes": q.astype(int).flatten().tolist(),
            "scales": scale.flatten().tolist(), "zeros": zero.flatten().tolist()}


def shortest(value):
    """Nine digits tell a float32 from its neighbours."""
    if isinstance(value, float):
        return float(f"{value:.9g}")
    if isinstance(value, list):
        return [shortest(item) for item in value]
    return value


def write(name, cases):
    cases = [{key: shortest(value) for key, value in case.items()} for case in cases]
    text = ",\n".join(json.dumps(case, separators=(",", ":")) for case in cases)
    (pathlib.Path(__file__).parent / "expected" / name).write_text(f"[\n{text}\n]\n")


write("awq.json", [
    awq_case("int4:group=64,affine,scales=fp32", 21, 64, lambda w: quantize_int(w, 4, True)),
    awq_case("int3:group=32,scales=fp32", 22, 32, lambda w: quantize_int(w, 3, False)),
    awq_case("nf4", 23, 64, quantize_nf4),
    awq_case("int4:group=32,affine,scales=fp32", 24, 32, lambda w: quantize_int(w, 4, True), True),
])
write("hqq.json", [hqq_case(bits, 30 + bits, group, early_stop)
                   for bits, group in ((8, 128), (4, 64), (4, 128), (3, 64), (2, 16))
                   for early_stop in (True, False)]
      # With errors as small as these weights' the default beta shrinks all of them to nothing.
      + [hqq_case(bits, 40 + bits, 64, False, 3000.0) for bits in (3, 2)])
