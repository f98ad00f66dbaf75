"""Make a small GPT-2 to start from where no hub is at hand: a byte-level BPE tokenizer and a language model.

    python samples/gpt2/pretrain.py --text FOLDER... --output FOLDER

Most texts stand behind some of their own phrases, so that it learns to write to a prompt, as data-to-text asks. The
output is a folder as transformers writes it, and `pretraining.json`, which says how it was made and its perplexity on
the hundredth of the texts that it was not trained on. It is written whole or not at all.
"""

import argparse
import itertools
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

from dsee_compress.errors import UserError
from dsee_compress.store import folders
from dsee_compress.tasks.text import IGNORED

TEXT = ["../shared/data/e2e:target", "../shared/data/sst2", "../shared/data/cola", "../shared/data/rte"]
END = "<|endoftext|>"
LENGTH = 512
"""Positions that the model knows."""
LENGTHS = (LENGTH // 4, LENGTH // 4, LENGTH // 4, LENGTH)
"""Tokens a row, step by step in turns: short rows teach sooner to read a prompt, long ones train every position."""
TOKENS = 1024
"""Of all rows of a step."""
PROMPTED = 0.8
"""Share of the texts that stand behind a prompt."""
WORDS = 4
"""Of a prompt's phrase, at most."""
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


def split(sources: list[str], seed: int) -> tuple[list[str], dict[str, str]]:
    """Different texts in random order: those to train on; and the last hundredth, with the source of each.

    UserError if there is but one text.
    """
    source_of: dict[str, str] = {}
    for source in sources:
        source_of |= dict.fromkeys(read_texts(source), source) | source_of
    texts = list(source_of)
    if len(texts) < 2:
        raise UserError("a single text cannot be split; name folders with at least two")
    random.Random(seed).shuffle(texts)
    kept = len(texts) - max(1, round(len(texts) / 100))
    return texts[:kept], {text: source_of[text] for text in texts[kept:]}


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


def phrases(text: str, chance: random.Random) -> str:
    """A prompt for a text: some of its phrases, of a few words each and in any order, one at least, and a new line."""
    words, found = text.split(), []
    while words:
        count = chance.randint(1, WORDS)
        found.append(" ".join(words[:count]))
        words = words[count:]
    kept = chance.sample(found, max(1, round(len(found) * chance.uniform(0.4, 0.9))))
    return " | ".join(kept) + "\n"


def encode(tokenizer: GPT2TokenizerFast, texts: list[str], prompts: list[str]) -> list[torch.Tensor]:
    """Of each text [2, tokens]: those of its prompt, its own and one that ends it; and what to learn of them, which of
    a prompt is nothing."""
    encoded = zip(tokenizer(prompts)["input_ids"], tokenizer(texts)["input_ids"], strict=True)
    told = ((prompt, [*text, tokenizer.eos_token_id]) for prompt, text in encoded)
    return [torch.tensor([prompt + text, [IGNORED] * len(prompt) + text]) for prompt, text in told]


def documents(tokenizer: GPT2TokenizerFast, texts: list[str], seed: int) -> Iterator[torch.Tensor]:
    """The texts [2, tokens] without end, in a new order and with new prompts each time round."""
    chance = random.Random(seed)
    while True:
        order = chance.sample(texts, len(texts))
        prompts = [phrases(text, chance) if chance.random() < PROMPTED else "" for text in order]
        yield from encode(tokenizer, order, prompts)


def batches(documents: Iterator[torch.Tensor]) -> Iterator[torch.Tensor]:
    """Tokens and labels [2, rows, length] without end. A row begins with a text; what goes beyond its end is left."""
    for length in itertools.cycle(LENGTHS):
        yield torch.stack([_row(documents, length) for _ in range(TOKENS // length)], dim=1)


def _row(documents: Iterator[torch.Tensor], length: int) -> torch.Tensor:
    row = torch.empty(2, 0, dtype=torch.long)
    while row.shape[1] < length:
        row = torch.cat([row, next(documents)], dim=1)
    return row[:, :length]


def cross_entropy(model: GPT2LMHeadModel, rows: torch.Tensor) -> torch.Tensor:
    """Of each token [labels] that is to be learnt, given those before it in its row of `rows` [2, rows, length]; the
    vocabulary is scored for no others."""
    tokens, labels = rows[0], rows[1, :, 1:]
    learnt = labels != IGNORED
    hidden = model.transformer(input_ids=tokens).last_hidden_state[:, :-1]
    return torch.nn.functional.cross_entropy(model.lm_head(hidden[learnt]), labels[learnt], reduction="none")


def learning_rate(share: float) -> float:
    """What to learn with after that share of the time: a linear rise, then half a cosine."""
    if share < WARM_UP:
        return LEARNING_RATE * share / WARM_UP
    return LEARNING_RATE * (1 + math.cos(math.pi * (share - WARM_UP) / (1 - WARM_UP))) / 2


def train(model: GPT2LMHeadModel, documents: Iterator[torch.Tensor], seconds: float) -> dict[str, float]:
    """Train for that long, one step at least; returns the tokens seen, tokens a second and the last loss."""
    matrices = [parameter for parameter in model.parameters() if parameter.dim() > 1]
    vectors = [parameter for parameter in model.parameters() if parameter.dim() == 1]
    groups = [{"params": matrices, "weight_decay": 0.1}, {"params": vectors, "weight_decay": 0.0}]
    optimizer = torch.optim.AdamW(groups, betas=(0.9, 0.99), fused=True)
    losses: list[float] = []
    report: dict[str, float] = {}
    elapsed, told = 0.0, 0.0
    start = time.monotonic()
    for rows in batches(documents):
        for group in optimizer.param_groups:
            group["lr"] = learning_rate(elapsed / seconds)
        loss = cross_entropy(model, rows).mean()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()
        losses = [*losses[-49:], loss.item()]
        elapsed = time.monotonic() - start
        tokens = report.get("tokens", 0) + rows[0].numel()
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
def held_out_perplexity(
    model: GPT2LMHeadModel, tokenizer: GPT2TokenizerFast, held_out: dict[str, str], seed: int
) -> dict[str, dict[str, float]]:
    """Of all texts and of each source's: with nothing before them, and behind some of their own phrases.

    Of the tokens of each text and its end, but for one that nothing stands before; given those before in the text and
    its prompt.
    """
    chance = random.Random(seed)
    prompts = {"alone": [""] * len(held_out), "behind_phrases": [phrases(text, chance) for text in held_out]}
    found: dict[str, dict[str, float]] = {}
    for name, before in prompts.items():
        encoded = encode(tokenizer, list(held_out), before)
        losses = [cross_entropy(model, document[:, None, :LENGTH]) for document in encoded]
        for source in ("all", *dict.fromkeys(held_out.values())):
            mine = [loss for loss, where in zip(losses, held_out.values(), strict=True) if source in ("all", where)]
            found.setdefault(source, {})[name] = torch.cat(mine).mean().exp().item()
    return found


def pretrain(options: argparse.Namespace) -> None:
    """Read the text, train both, measure and write the folder; UserError for what cannot be used."""
    if options.output.exists():
        raise UserError(f"{options.output} already exists; choose another output")
    if min(options.minutes, options.layers, options.width, options.heads) <= 0 or options.width % options.heads:
        raise UserError("--minutes, --layers, --width and --heads must be above 0, and the heads must divide the width")
    texts, held_out = split(options.text, options.seed)
    tokenizer = train_tokenizer(texts, options.vocabulary)
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
        "tokens_of_text": sum(map(len, tokenizer(texts)["input_ids"])),
    }
    print(describe(made), flush=True)
    made |= train(model, documents(tokenizer, texts, options.seed), options.minutes * 60)
    perplexity = held_out_perplexity(model, tokenizer, held_out, options.seed)
    config.activation_function = "gelu_new"  # GPT-2's own name for the same function, whose code is slower to train
    with folders.writing(options.output, overwrite=False) as folder:
        model.save_pretrained(folder)
        tokenizer.save_pretrained(folder)
        folders.write_json(folder / "pretraining.json", made | {"held_out_perplexity": perplexity})
    print(f"wrote {options.output}  {describe(made)}")
    for source, figures in perplexity.items():
        print(f"held-out perplexity of {source}:  {describe(figures)}")


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
