"""Trains the demo model on two CPU cores and writes it in the Hugging Face layout beside this folder."""

import argparse
import copy
import json
import math
import time
from itertools import islice
from pathlib import Path

import torch
import torch.nn.functional as F
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, processors, trainers

from evaluate import DEMO, read_documents, skill_scores, validation_loss
from generate import documents
from model import BOS, EOS, Config, Llama, parameter_count, write_atomically

TOKENIZER_SEED, TRAINING_SEED = 1, 2
DOCUMENTS_AT_ONCE = 1000


def train_tokenizer(vocab_size):
    """Byte-level BPE with single digits, learned from training documents."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([
        pre_tokenizers.Digits(individual_digits=True),
        pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True),
    ])
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size,
        special_tokens=[AddedToken(BOS, special=True), AddedToken(EOS, special=True)],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(islice(documents(TOKENIZER_SEED), 30_000), trainer)
    tokenizer.post_processor = processors.TemplateProcessing(
        single=f"{BOS} $A", pair=f"{BOS} $A {BOS} $B", special_tokens=[(BOS, tokenizer.token_to_id(BOS))]
    )
    return tokenizer


def save_tokenizer(tokenizer, folder, length):
    settings = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "bos_token": BOS,
        "eos_token": EOS,
        "model_max_length": length,
        "clean_up_tokenization_spaces": False,
    }
    write_atomically(folder / "tokenizer.json", lambda p: tokenizer.save(str(p)))
    write_atomically(
        folder / "tokenizer_config.json", lambda p: p.write_text(json.dumps(settings, indent=2) + "\n")
    )


def training_rows(tokenizer, length):
    """Rows of length + 1 tokens: whole documents one after the other, the last one cut where the row ends."""
    stream, eos, row = documents(TRAINING_SEED), tokenizer.token_to_id(EOS), []
    while True:
        for encoding in tokenizer.encode_batch(list(islice(stream, DOCUMENTS_AT_ONCE))):
            row += encoding.ids + [eos]
            if len(row) > length:
                yield row[: length + 1]
                row = []


def learning_rate(step, progress, args):
    """Linear warm-up over the first steps, and a cosine over the whole training down to a fiftieth of the peak."""
    warmup = min(1.0, step / args.warmup)
    return args.lr * warmup * (0.02 + 0.98 * 0.5 * (1 + math.cos(math.pi * progress)))


def make_optimizer(model, args):
    """AdamW; norms are not decayed."""
    matrices = [p for p in model.parameters() if p.dim() == 2]
    vectors = [p for p in model.parameters() if p.dim() == 1]
    groups = [{"params": matrices, "weight_decay": args.decay}, {"params": vectors, "weight_decay": 0.0}]
    return torch.optim.AdamW(groups, lr=args.lr, betas=(0.9, 0.95), fused=True)


def train_step(model, optimizer, batch, lr):
    """One update and its loss; the weights are float32, the matrix products bfloat16."""
    for group in optimizer.param_groups:
        group["lr"] = lr
    with torch.autocast("cpu", dtype=torch.bfloat16):
        logits = model(batch[:, :-1])
    loss = F.cross_entropy(logits.flatten(0, 1).float(), batch[:, 1:].flatten())
    optimizer.zero_grad()
    loss.backward()
    torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
    optimizer.step()
    return loss.item()


def stored(model):
    """A copy of the model with its weights rounded to bfloat16, as the file holds them."""
    rounded = copy.deepcopy(model)
    for weight in rounded.parameters():
        weight.data = weight.data.to(torch.bfloat16).float()
    return rounded


class Report:
    """Prints the losses and keeps them in a CSV file."""

    def __init__(self, path, tokenizer):
        self.path, self.tokenizer = path, tokenizer
        self.documents = read_documents(DEMO / "eval.txt")
        self.skills = json.loads((DEMO / "skills.json").read_text())
        self.lines = ["step,tokens,seconds,training_loss,validation_loss"]

    def validation(self, model):
        return validation_loss(model, self.tokenizer, self.documents)

    def add(self, step, tokens, seconds, loss, model):
        validation = self.validation(model)
        self.lines.append(f"{step},{tokens},{seconds:.0f},{loss:.4f},{validation:.4f}")
        write_atomically(self.path, lambda p: p.write_text("\n".join(self.lines) + "\n"))
        scores = skill_scores(model, self.tokenizer, self.skills)
        print(self.lines[-1], " ".join(f"{k} {v:.1%}" for k, v in scores.items()), flush=True)

    def compare(self, title, model):
        print(f"{title}: fp32 {self.validation(model):.4f}, bf16 {self.validation(stored(model)):.4f}", flush=True)


def train(model, tokenizer, args, report):
    optimizer = make_optimizer(model, args)
    rows = training_rows(tokenizer, model.config.max_position_embeddings)
    started, recent, step, progress = time.time(), [], 0, 0.0
    while progress < 1:
        step += 1
        batch = torch.tensor(list(islice(rows, args.batch)))
        recent.append(train_step(model, optimizer, batch, learning_rate(step, progress, args)))
        seconds = time.time() - started
        progress = max(step / args.steps, seconds / (60 * args.minutes))
        if step % args.report_every == 0 or progress >= 1:
            tokens = step * args.batch * model.config.max_position_embeddings
            report.add(step, tokens, seconds, sum(recent) / len(recent), model)
            model.save(args.out / "model.safetensors")
            recent = []


def parse_arguments():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--steps", type=int, default=8000, help="end after so many updates")
    parser.add_argument("--minutes", type=float, default=math.inf, help="end after this time if it comes first")
    parser.add_argument("--batch", type=int, default=8, help="rows in a step")
    parser.add_argument("--lr", type=float, default=2e-3, help="peak learning rate")
    parser.add_argument("--warmup", type=int, default=100)
    parser.add_argument("--decay", type=float, default=0.1)
    parser.add_argument("--report-every", type=int, default=400)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--out", type=Path, default=DEMO)
    return parser.parse_args()


def main():
    args = parse_arguments()
    torch.manual_seed(0)
    torch.set_num_threads(args.threads)
    torch.set_flush_denormal(True)  # Adam's moments decay into denormals, which are slow on a CPU
    args.out.mkdir(parents=True, exist_ok=True)
    config = Config()
    tokenizer = train_tokenizer(config.vocab_size)
    save_tokenizer(tokenizer, args.out, config.max_position_embeddings)
    config.vocab_size = tokenizer.get_vocab_size()
    config.save(args.out / "config.json")
    model = Llama(config)
    print(f"{parameter_count(model)} parameters, vocabulary {config.vocab_size}")
    report = Report(args.out / "training.csv", tokenizer)
    report.compare("validation loss before training", model)
    train(model, tokenizer, args, report)
    report.compare("validation loss after training", model)


if __name__ == "__main__":
    main()
