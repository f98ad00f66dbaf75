"""Other libraries that load an exported folder, and whether they answer as this package does (gate 'readers').

The one place that knows Optimum: transformers' pipelines and sentence-transformers read ONNX through it. Each reader
gets one text at a time, so that no padding and no batch stands between its answers and ours.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache, partial
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from ..errors import GateError, first_line
from ..progress import quiet, without_bars
from ..store import versions
from ..tasks import HeadKind
from . import session
from .generator import OnnxGenerator

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

TEXTS = 16
"""Texts that each reader is asked at most."""
NEW_TOKENS = 16
"""Tokens that a decoder writes to each."""
LIMIT = 1e-4
"""Largest difference of two figures that are alike: what runs the graph is the same, and its threads may differ."""
_MODULES = {
    "optimum-onnx": "optimum.onnxruntime",
    "transformers": "transformers",
    "sentence-transformers": "sentence_transformers",
}
"""What each package is imported by."""
_CLASSES: dict[HeadKind, str] = {
    "sequence": "ORTModelForSequenceClassification",
    "token": "ORTModelForTokenClassification",
    "language": "ORTModelForCausalLM",
}


class Question(NamedTuple):
    """What each reader is asked."""

    folder: Path
    graph: Path
    head: HeadKind
    tokenizer: "PreTrainedTokenizerBase"
    max_length: int
    texts: list[tuple[str, ...]]

    def tokens(self, kind: str) -> list[Any]:
        """Each text, or pair, as a batch of its own: tensors (1, tokens) of NumPy (np) or PyTorch (pt)."""
        options = {"truncation": True, "max_length": self.max_length, "return_tensors": kind}
        return [self.tokenizer(*text, **options) for text in self.texts]


@dataclass(frozen=True)
class Way:
    """How a reader answers a kind of question."""

    compared: str
    """What of its answers is compared, in words."""
    ask: Callable[[Question], list[Any]]
    """Its answer to each text: figures, or a text."""
    expected: Callable[[Question, list[Any]], list[Any]] = lambda question, own: own
    """The same of what this package answers: the logits of each text, or what is written to it."""


@dataclass(frozen=True)
class Reader:
    """A library that loads exported folders."""

    name: str
    packages: tuple[str, ...]
    """What it needs, its own package first."""
    ways: Mapping[HeadKind, Way]
    of_pairs_alone: bool = False


def _optimum(question: Question) -> Any:
    """The artifact as Optimum's class of its head."""
    from optimum import onnxruntime

    inside = question.graph.parent.relative_to(question.folder)
    return getattr(onnxruntime, _CLASSES[question.head]).from_pretrained(
        question.folder,
        file_name=question.graph.name,
        subfolder="" if inside == Path() else str(inside),
        trust_remote_code=False,
    )


def _optimum_logits(question: Question) -> list[Any]:
    model = _optimum(question)
    return [model(**tokens).logits[0].numpy() for tokens in question.tokens("pt")]


def _optimum_texts(question: Question) -> list[Any]:
    return _written(question, _optimum(question))


def _written(question: Question, model: Any) -> list[str]:
    """What a model with transformers' `generate` writes to each text, greedily."""
    texts = []
    for tokens in question.tokens("pt"):
        prompt = {name: tokens[name] for name in ("input_ids", "attention_mask")}
        (ids,) = model.generate(**prompt, do_sample=False, max_new_tokens=NEW_TOKENS)
        written = ids[prompt["input_ids"].shape[1] :]
        texts.append(question.tokenizer.decode(written, skip_special_tokens=True).strip())
    return texts


def _pipeline(question: Question, task: str) -> Any:
    from transformers import pipeline

    return pipeline(task, model=_optimum(question), tokenizer=question.tokenizer, trust_remote_code=False)


def _pipeline_logits(question: Question) -> list[Any]:
    ask, limits = _pipeline(question, "text-classification"), {"truncation": True, "max_length": question.max_length}
    labels = ask.model.config.label2id
    found = []
    for text in question.texts:
        given = {"text": text[0], **({"text_pair": text[1]} if len(text) > 1 else {})}
        scores = ask(given, top_k=None, function_to_apply="none", **limits)
        found.append(np.array([row["score"] for row in sorted(scores, key=lambda row: labels[row["label"]])]))
    return found


def _pipeline_tags(question: Question) -> list[Any]:
    ask = _pipeline(question, "token-classification")
    labels = ask.model.config.label2id
    return [
        np.array([labels[row["entity"]] for row in ask(text, ignore_labels=[], aggregation_strategy="none")])
        for (text,) in question.texts
    ]


def _tags(question: Question, own: list[Any]) -> list[Any]:
    """The best label of each token that is of the text."""
    special = {*question.tokenizer.all_special_ids}
    return [
        np.array(
            [
                best
                for best, token in zip(logits.argmax(-1), tokens["input_ids"][0], strict=True)
                if token not in special
            ]
        )
        for logits, tokens in zip(own, question.tokens("np"), strict=True)
    ]


def _pipeline_texts(question: Question) -> list[Any]:
    ask = _pipeline(question, "text-generation")
    options = {"do_sample": False, "max_new_tokens": NEW_TOKENS, "return_full_text": False}
    return [ask(text, **options)[0]["generated_text"].strip() for (text,) in question.texts]


def _cross_encoder_scores(question: Question) -> list[Any]:
    from sentence_transformers import CrossEncoder
    from torch.nn import Identity

    model = CrossEncoder(
        str(question.folder),
        backend="onnx",
        device="cpu",
        max_length=question.max_length,
        trust_remote_code=False,
        model_kwargs={"file_name": question.graph.relative_to(question.folder).as_posix()},
    )
    options = {"activation_fn": Identity(), "batch_size": 1, "show_progress_bar": False}
    return [np.reshape(model.predict([text], **options), -1) for text in question.texts]


READERS = (
    Reader(
        "Optimum",
        ("optimum-onnx",),
        {
            "sequence": Way("logits", _optimum_logits),
            "token": Way("logits", _optimum_logits),
            "language": Way("texts", _optimum_texts),
        },
    ),
    Reader(
        "transformers' pipeline",
        ("transformers", "optimum-onnx"),
        {
            "sequence": Way("logits", _pipeline_logits),
            "token": Way("tags", _pipeline_tags, _tags),
            "language": Way("texts", _pipeline_texts),
        },
    ),
    Reader(
        "sentence-transformers' CrossEncoder",
        ("sentence-transformers", "optimum-onnx"),
        {"sequence": Way("logits", _cross_encoder_scores)},
        of_pairs_alone=True,
    ),
)


def installed() -> dict[str, str]:
    """The version of each package that reads folders here."""
    return versions.installed(_MODULES)


def compare(question: Question, artifact: str) -> list[dict[str, Any]]:
    """What validation.json says of each reader that knows such a task: its versions and what was equal, or why it was
    not tried.

    Raises GateError if a reader does not load the folder, or answers otherwise than this package.
    """
    there, own, rows = installed(), None, []
    heads = cache(partial(_other_heads, question))
    for reader in READERS:
        if question.head not in reader.ways or (reader.of_pairs_alone and len(question.texts[0]) < 2):
            continue
        needed = {package: there[package] for package in reader.packages if package in there}
        row: dict[str, Any] = {"reader": reader.name, "versions": needed, "artifact": artifact}
        if obstacle := _missing(reader, there) or heads():
            rows.append(row | {"not_tried": obstacle})
            continue
        own = own or _own(question)
        rows.append(row | {"texts": len(question.texts)} | _compared(reader, question, own))
    return rows


def _missing(reader: Reader, there: Mapping[str, str]) -> str:
    """Which package a reader lacks; empty if none."""
    for package in reader.packages:
        if package not in there:
            return f"{package} is not installed"
        try:
            import_module(_MODULES[package])
        except ImportError as error:
            return f"{package} does not import: {first_line(error)}"
    return ""


def _other_heads(question: Question) -> str:
    """Why no reader keeps the cache of a decoder; empty if they do, or there is none."""
    if question.head == "language":
        with OnnxGenerator(question.graph) as model:
            if {*model.heads} != {getattr(model.config, "num_key_value_heads", model.config.num_attention_heads)}:
                return f"Optimum's caches have the config's heads, and these have {', '.join(map(str, model.heads))}"
    return ""


def _own(question: Question) -> list[Any]:
    """What this package answers to each text: logits (outputs,) or (tokens, outputs), or what is written."""
    if question.head == "language":
        with OnnxGenerator(question.graph) as model:
            return _written(question, model)
    with session.Session(question.graph) as live:
        return [live.forward({**tokens})[0] for tokens in question.tokens("np")]


def _compared(reader: Reader, question: Question, own: list[Any]) -> dict[str, Any]:
    way = reader.ways[question.head]
    try:
        with quiet("optimum", "transformers", "sentence_transformers"), without_bars():
            theirs = way.ask(question)
    except Exception as error:  # a reader raises what it likes
        raise GateError(
            f"gate 'readers' failed: {reader.name} does not load {question.folder}: {first_line(error)}"
        ) from error
    pairs = list(zip(way.expected(question, own), theirs, strict=True))
    if way.compared == "texts":
        differing = sum(left != right for left, right in pairs)
        if differing:
            raise GateError(
                f"gate 'readers' failed: {reader.name} writes otherwise to {differing} of {len(pairs)} texts in "
                f"{question.folder}"
            )
        return {"compared": way.compared, "max_abs": 0.0}
    largest = max(float(np.abs(left - right).max()) if left.shape == right.shape else np.inf for left, right in pairs)
    if not largest <= LIMIT:
        raise GateError(
            f"gate 'readers' failed: {way.compared} of {reader.name} differ by up to {largest:.3g} from ours "
            f"(limit {LIMIT:g}) in {question.folder}"
        )
    return {"compared": way.compared, "max_abs": largest}
