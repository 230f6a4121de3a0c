"""Measures the demo model: loss on the held-out text and exact answers per skill, as stored and rounded to integers."""

import argparse
import json
import math
from pathlib import Path

import torch
import torch.nn.functional as F
from tokenizers import Tokenizer

from generate import SEPARATOR
from model import load_model

DEMO = Path(__file__).resolve().parent.parent
LONGEST_ANSWER = 12
ROUNDINGS = [None, (8, 32), (4, 32), (4, 128), (3, 32), (3, 128), (2, 32)]


def read_documents(path):
    return [text.strip() for text in path.read_text().split(SEPARATOR) if text.strip()]


def pad(rows):
    """Token rows of unequal length as one matrix, and where it holds real tokens."""
    longest = max(map(len, rows))
    tokens = torch.tensor([row + [0] * (longest - len(row)) for row in rows])
    real = torch.tensor([[True] * len(row) + [False] * (longest - len(row)) for row in rows])
    return tokens, real


@torch.no_grad()
def validation_loss(model, tokenizer, documents):
    """Mean negative log-likelihood in nats per token, each document on its own behind <|bos|>."""
    total, count = 0.0, 0
    rows = [encoding.ids[: model.config.max_position_embeddings] for encoding in tokenizer.encode_batch(documents)]
    for start in range(0, len(rows), 32):
        tokens, real = pad(rows[start : start + 32])
        logits = model(tokens[:, :-1]).flatten(0, 1).float()
        losses = F.cross_entropy(logits, tokens[:, 1:].flatten(), reduction="none")
        total += losses[real[:, 1:].flatten()].double().sum().item()
        count += int(real[:, 1:].sum())
    return total / count


@torch.no_grad()
def complete(model, tokenizer, prompts):
    """Greedy continuations of the prompts, each cut behind its first full stop."""
    rows = [encoding.ids for encoding in tokenizer.encode_batch(prompts)]
    starts = [len(row) for row in rows]
    for _ in range(LONGEST_ANSWER):
        logits = model(pad(rows)[0])
        for i, row in enumerate(rows):
            row.append(int(logits[i, len(row) - 1].argmax()))
    texts = [tokenizer.decode(row[start:]) for row, start in zip(rows, starts)]
    return [text[: text.find(".") + 1] for text in texts]


def skill_scores(model, tokenizer, skills):
    """Share of exact answers for each skill."""
    scores = {}
    for skill, items in skills.items():
        answers = complete(model, tokenizer, [item["prompt"] for item in items])
        scores[skill] = sum(a == item["answer"] for a, item in zip(answers, items)) / len(items)
    return scores


def round_to_nearest(weight, bits, group):
    """Symmetric integers with one scale for each group of consecutive weights of a row."""
    grouped = weight.reshape(-1, group)
    top = 2 ** (bits - 1) - 1
    scale = grouped.abs().amax(dim=1, keepdim=True).clamp_min(1e-12) / top
    return ((grouped / scale).round().clamp(-top, top) * scale).reshape(weight.shape)


def quantize(model, bits, group):
    """Rounds the linear weights of the layers in place; embedding, norms and head stay as stored."""
    for name, weight in model.named_parameters():
        if name.endswith("_proj.weight"):
            weight.data = round_to_nearest(weight.data, bits, group)


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", nargs="?", type=Path, default=DEMO, help="folder of the model")
    parser.add_argument("--threads", type=int, default=2)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    tokenizer = Tokenizer.from_file(str(args.folder / "tokenizer.json"))
    documents = read_documents(DEMO / "eval.txt")
    skills = json.loads((DEMO / "skills.json").read_text())
    print("weights        loss  perplexity  " + "  ".join(f"{skill:>8}" for skill in skills))
    for rounding in ROUNDINGS:
        model = load_model(args.folder)
        if rounding:
            quantize(model, *rounding)
        loss = validation_loss(model, tokenizer, documents)
        scores = skill_scores(model, tokenizer, skills)
        label = f"int{rounding[0]} by {rounding[1]}" if rounding else "bf16"
        print(f"{label:<12}{loss:7.4f}  {math.exp(loss):10.4f}  " + "  ".join(f"{s:8.1%}" for s in scores.values()))


if __name__ == "__main__":
    main()
