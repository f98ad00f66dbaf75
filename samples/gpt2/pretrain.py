"""Make a small GPT-2 to start from where no hub is at hand: a byte-level BPE tokenizer and a language model.

    python samples/gpt2/pretrain.py --text FOLDER... --output FOLDER

The output is a folder as transformers writes it, and `pretraining.json`, which says how it was made and its
perplexity on the hundredth of the text that it was not trained on. It is written whole or not at all.
"""

import argparse
import json
import math
import random
import re
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import torch
import transformers
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import GPT2Config, GPT2LMHeadModel, GPT2TokenizerFast

from dsee_compress import checkpoint
from dsee_compress.errors import UserError

TEXT = ["../shared/data/e2e:target", "../shared/data/sst2", "../shared/data/cola", "../shared/data/rte"]
END = "<|endoftext|>"
LENGTH = 512
"""Tokens a row, and positions that the model knows: each is trained."""
ROWS = 2
"""Rows a step."""
LEARNING_RATE = 1.5e-3
WARM_UP = 0.05
"""Share of the time in which the learning rate rises."""


def read_texts(source: str) -> list[str]:
    """The paragraphs of a folder's .txt files and the strings of its .jsonl files, but for validation and test.

    `source` is FOLDER, or FOLDER:COLUMN to read that column of the .jsonl files alone. UserError if there is no text.
    """
    folder, _, column = source.partition(":")
    texts: list[str] = []
    for path in sorted(Path(folder).glob("*")):
        if path.stem.startswith(("validation", "dev", "test")):
            continue
        if path.suffix == ".txt":
            texts += re.split(r"\n\s*\n", path.read_text(encoding="utf-8"))
        elif path.suffix == ".jsonl":
            texts += read_columns(path, column)
    texts = [text.strip() for text in texts if text.strip()]
    if not texts:
        raise UserError(f"{source} holds no text; name a folder with .txt or .jsonl files to train on")
    return texts


def read_columns(path: Path, column: str) -> Iterator[str]:
    """The strings in a .jsonl file's `column`, or in all if that is empty; UserError for a line that is no object."""
    for number, line in enumerate(path.read_text(encoding="utf-8").split("\n"), start=1):
        try:
            row = dict(json.loads(line or "{}"))
        except (ValueError, TypeError) as error:
            raise UserError(f"{path}, line {number} is not a JSON object; correct or remove it") from error
        yield from (value for key, value in row.items() if isinstance(value, str) and column in ("", key))


def split(sources: list[str], seed: int) -> tuple[list[str], list[str]]:
    """Different texts in random order: those to train on, and the last hundredth. UserError if there is but one."""
    texts = list(dict.fromkeys(text for source in sources for text in read_texts(source)))
    if len(texts) < 2:
        raise UserError("a single text cannot be split; name folders with at least two")
    random.Random(seed).shuffle(texts)
    kept = len(texts) - max(1, round(len(texts) / 100))
    return texts[:kept], texts[kept:]


def train_tokenizer(texts: list[str], vocabulary: int) -> GPT2TokenizerFast:
    """A byte-level BPE tokenizer of at most `vocabulary` tokens; one token begins, ends and pads."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=vocabulary, special_tokens=[END], initial_alphabet=alphabet, show_progress=False
    )
    tokenizer.train_from_iterator(texts, trainer)
    ends = {"bos_token": END, "eos_token": END, "unk_token": END, "pad_token": END}
    return GPT2TokenizerFast(tokenizer_object=tokenizer, model_max_length=LENGTH, **ends)


def encode(tokenizer: GPT2TokenizerFast, texts: list[str]) -> list[torch.Tensor]:
    """The tokens of each text and one that ends it."""
    return [torch.tensor([*tokens, tokenizer.eos_token_id]) for tokens in tokenizer(texts)["input_ids"]]


def batches(documents: list[torch.Tensor], generator: torch.Generator) -> Iterator[torch.Tensor]:
    """Tokens [ROWS, LENGTH] without end: the documents one after the other, in a new order each time round."""
    rest = torch.empty(0, dtype=torch.long)
    while True:
        order = torch.randperm(len(documents), generator=generator).tolist()
        rest = torch.cat([rest, *(documents[index] for index in order)])
        while len(rest) >= ROWS * LENGTH:
            yield rest[: ROWS * LENGTH].view(ROWS, LENGTH)
            rest = rest[ROWS * LENGTH :]


def learning_rate(share: float) -> float:
    """What to learn with after that share of the time: a linear rise, then half a cosine."""
    if share < WARM_UP:
        return LEARNING_RATE * share / WARM_UP
    return LEARNING_RATE * (1 + math.cos(math.pi * (share - WARM_UP) / (1 - WARM_UP))) / 2


def train(model: GPT2LMHeadModel, documents: list[torch.Tensor], seconds: float, seed: int) -> dict[str, float]:
    """Train for that long, one step at least; returns the tokens seen, tokens a second and the last loss."""
    matrices = [parameter for parameter in model.parameters() if parameter.dim() > 1]
    vectors = [parameter for parameter in model.parameters() if parameter.dim() == 1]
    groups = [{"params": matrices, "weight_decay": 0.1}, {"params": vectors, "weight_decay": 0.0}]
    optimizer = torch.optim.AdamW(groups, betas=(0.9, 0.99), fused=True)
    losses: list[float] = []
    report: dict[str, float] = {}
    elapsed, told = 0.0, 0.0
    start = time.monotonic()
    for rows in batches(documents, torch.Generator().manual_seed(seed)):
        for group in optimizer.param_groups:
            group["lr"] = learning_rate(elapsed / seconds)
        loss = model(input_ids=rows, labels=rows).loss
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()
        losses = [*losses[-49:], loss.item()]
        elapsed = time.monotonic() - start
        tokens = report.get("tokens", 0) + rows.numel()
        report = {"tokens": tokens, "tokens_per_second": tokens / elapsed, "loss": sum(losses) / len(losses)}
        if elapsed >= seconds:
            break
        if elapsed - told > 10:
            told = elapsed
            print(f"{elapsed:5.0f} s  {describe(report)}", flush=True)
    return report


def describe(numbers: dict[str, float]) -> str:
    """Numbers and their names in one line."""
    return "  ".join(f"{name.replace('_', ' ')} {value:,.6g}" for name, value in numbers.items())


@torch.no_grad()
def perplexity(model: GPT2LMHeadModel, documents: list[torch.Tensor]) -> float:
    """Of each token but the first of a row, given those before it in the row."""
    total, count = 0.0, 0
    for row in torch.cat(documents).split(LENGTH):
        if len(row) > 1:
            total += model(input_ids=row[None], labels=row[None]).loss.item() * (len(row) - 1)
            count += len(row) - 1
    return math.exp(total / count)


def pretrain(options: argparse.Namespace) -> None:
    """Read the text, train both, measure and write the folder; UserError for what cannot be used."""
    if options.output.exists():
        raise UserError(f"{options.output} already exists; choose another output")
    if min(options.minutes, options.layers, options.width, options.heads) <= 0 or options.width % options.heads:
        raise UserError("--minutes, --layers, --width and --heads must be above 0, and the heads must divide the width")
    texts, held_out = split(options.text, options.seed)
    tokenizer = train_tokenizer(texts, options.vocabulary)
    documents = encode(tokenizer, texts)
    torch.manual_seed(options.seed)
    config = GPT2Config(
        vocab_size=len(tokenizer),
        n_positions=LENGTH,
        n_embd=options.width,
        n_layer=options.layers,
        n_head=options.heads,
        activation_function="gelu_pytorch_tanh",
        **dict.fromkeys(("resid_pdrop", "embd_pdrop", "attn_pdrop"), 0.0),
        **dict.fromkeys(("bos_token_id", "eos_token_id", "pad_token_id"), tokenizer.eos_token_id),
    )
    model = GPT2LMHeadModel(config)
    made = {
        "minutes": options.minutes,
        "seed": options.seed,
        "parameters": model.num_parameters(),
        "texts": len(texts),
        "tokens_of_text": sum(map(len, documents)),
    }
    print(describe(made), flush=True)
    made |= train(model, documents, options.minutes * 60, options.seed)
    made["held_out_perplexity"] = perplexity(model, encode(tokenizer, held_out))
    config.activation_function = "gelu_new"  # GPT-2's own name for the same function, whose code is slower to train
    with checkpoint.writing(options.output, overwrite=False) as folder:
        model.save_pretrained(folder)
        tokenizer.save_pretrained(folder)
        checkpoint.write_json(folder / "pretraining.json", made)
    print(f"wrote {options.output}  {describe(made)}")


def main(arguments: list[str] | None = None) -> None:
    """Run with the shell's arguments; a mistake in them is told in one sentence, with exit code 2."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--text", nargs="+", default=TEXT, metavar="FOLDER[:COLUMN]", help=f"default: {' '.join(TEXT)}")
    parser.add_argument("--output", type=Path, required=True)
    parser.add_argument("--minutes", type=float, default=30.0, help="of training (default: 30)")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--layers", type=int, default=6)
    parser.add_argument("--width", type=int, default=320)
    parser.add_argument("--heads", type=int, default=10)
    parser.add_argument("--vocabulary", type=int, default=8192, help="tokens at most (default: 8192)")
    transformers.logging.set_verbosity_error()
    try:
        pretrain(parser.parse_args(arguments))
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)


if __name__ == "__main__":
    main()
