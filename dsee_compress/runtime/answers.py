"""The model of a bundle: what it is fed with, and what it makes of its outputs."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import onnxruntime
from tokenizers import Tokenizer

if TYPE_CHECKING or __package__:
    from . import opened, tagging
    from .opened import are_texts, damage, is_number
    from .usage import UsageError, first_line
else:  # in a bundle
    import opened
    import tagging
    from opened import are_texts, damage, is_number
    from usage import UsageError, first_line

Texts = tuple[str, ...]
"""What one answer is about: one text, or the two of a pair."""
WINDOWS_A_CALL = 8


class LineError(Exception):
    """What is wrong with one line; the others are answered."""


def _is_padding(value: Any) -> bool:
    return isinstance(value, dict) and is_number(value.get("id")) and is_number(value.get("type_id"))


FIELDS: opened.Fields = {
    "answer": lambda value: isinstance(value, str) and value in ANSWERS,
    "text": lambda value: are_texts(value) and 1 <= len(value) <= 2,
    "labels": are_texts,
    "inputs": are_texts,
    "max_length": lambda value: is_number(value, 1),
    "truncation_side": lambda value: value in ("left", "right"),
    "padding": lambda value: _is_padding(value) and value.get("side") in ("left", "right"),
    "onnxruntime": lambda value: isinstance(value, str) and re.match(r"\d{1,9}\.\d{1,9}", value) is not None,
}
"""What bundle.json holds, as far as it is needed here, and whether a value can be that."""
OWN_FIELDS: dict[str, opened.Fields] = {
    "labels": {"threshold": lambda value: isinstance(value, float) and 0 <= value <= 1},
    "entities": {"stride": is_number},
    "text": {
        "prompt": lambda value: isinstance(value, str),
        "start": lambda value: isinstance(value, list) and all(map(is_number, value)),
        "end": lambda value: value is None or is_number(value),
        "max_new_tokens": lambda value: is_number(value, 1),
        "longest_input": lambda value: is_number(value, 1),
    },
}
"""The same of models that answer so."""


class Model:
    """The tokenizer and the ONNX model of a bundle."""

    def __init__(self, folder: Path, threads: int | None = None) -> None:
        """Load the bundle in `folder`; UsageError if a file is missing or damaged, or onnxruntime is too old."""
        self.bundle = read_bundle(folder)
        self._folder = folder
        if _release(onnxruntime.__version__) < _release(self.bundle["onnxruntime"]):
            raise UsageError(
                f"onnxruntime {onnxruntime.__version__} is too old for this model, which needs "
                f"{self.bundle['onnxruntime']}; pip install -r requirements.txt"
            )
        try:
            self._tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
            self._tokenizer.no_padding()
            self._limit()
        except Exception as error:  # tokenizers raises Exception itself
            raise damage(folder, first_line(error)) from error
        self._session = opened.Session(folder, self.bundle, threads)

    def _limit(self) -> None:
        """Have the tokenizer cut what is too long."""
        self._tokenizer.enable_truncation(
            self.bundle["max_length"], strategy="longest_first", direction=self.bundle["truncation_side"]
        )

    def encode(self, texts: Texts) -> Any:
        """One text or a pair as tokens, cut to the length that the model was trained with; not padded."""
        try:
            return self._tokenizer.encode(*texts)
        except Exception as error:
            raise LineError(f"the tokenizer cannot read it: {first_line(error)}") from error

    def windows(self, encoded: Any) -> list[Any]:
        """What the model is called with for an encoded text."""
        return [encoded]

    def pad(self, rows: list[Any]) -> dict[str, Any]:
        """The model's inputs, int64 arrays (rows, tokens), padded to the longest row."""
        padding = self.bundle["padding"]
        length = max(len(row) for row in rows)
        kinds = {
            "input_ids": ("ids", padding["id"]),
            "attention_mask": ("attention_mask", 0),
            "token_type_ids": ("type_ids", padding["type_id"]),
        }
        arrays = {}
        for name in self.bundle["inputs"]:
            attribute, filler = kinds[name]
            arrays[name] = np.full((len(rows), length), filler, np.int64)
            for array, row in zip(arrays[name], rows):
                start = length - len(row) if padding["side"] == "left" else 0
                array[start : start + len(row)] = getattr(row, attribute)
        return arrays

    def logits(self, rows: list[Any], labels: int) -> Any:
        """The model's numbers for some encoded rows, (rows, labels)."""
        logits = self._session.run(["logits"], self.pad(rows))[0].astype(np.float64)
        if logits.shape != (len(rows), labels):
            raise damage(self._folder, "model.onnx has other labels than bundle.json")
        return logits

    def answer(self, rows: list[Any]) -> list[dict[str, Any]]:
        """What the model says of each encoded row, at least one."""
        raise NotImplementedError


class Classifier(Model):
    """A model that chooses one label."""

    def answer(self, rows: list[Any]) -> list[dict[str, Any]]:
        """The label and its probability."""
        labels = self.bundle["labels"]
        logits = self.logits(rows, len(labels))
        probabilities = softmax(logits)
        return [{"label": labels[row.argmax()], "score": float(row.max())} for row in probabilities]


class Regressor(Model):
    """A model that gives a number."""

    def answer(self, rows: list[Any]) -> list[dict[str, Any]]:
        """The number."""
        return [{"score": float(row[0])} for row in self.logits(rows, 1)]


class Several(Model):
    """A model that gives each of its labels or not."""

    def answer(self, rows: list[Any]) -> list[dict[str, Any]]:
        """The labels whose probability is above the threshold, the likeliest first, and theirs."""
        labels, threshold = self.bundle["labels"], self.bundle["threshold"]
        probabilities = 1 / (1 + np.exp(-self.logits(rows, len(labels))))
        found = []
        for row in probabilities:
            chosen = [index for index in np.argsort(-row, kind="stable") if row[index] > threshold]
            scores = [float(row[index]) for index in chosen]
            found.append({"labels": [labels[index] for index in chosen], "scores": scores})
        return found


class Windows(NamedTuple):
    """A text in windows that overlap."""

    text: str
    tokens: list[Any]


class Tagger(Model):
    """A model that finds entities."""

    def _limit(self) -> None:
        """A long text is read in windows that overlap."""
        self._tokenizer.enable_truncation(self.bundle["max_length"], stride=self.bundle["stride"])

    def encode(self, texts: Texts) -> Windows:
        """The windows of a text."""
        first = super().encode(texts)
        return Windows(texts[0], [first, *first.overflowing])

    def windows(self, encoded: Windows) -> list[Any]:
        """Those of the text."""
        return encoded.tokens

    def answer(self, rows: list[Windows]) -> list[dict[str, Any]]:
        """The entities of each text: where in the line they stand, of which type, and the mean probability of their
        words' tags."""
        tags = self.bundle["labels"]
        windows = [window for row in rows for window in row.tokens]
        probabilities = [
            tag
            for start in range(0, len(windows), WINDOWS_A_CALL)
            for tag in self._probabilities(windows[start : start + WINDOWS_A_CALL], len(tags))
        ]
        found, start = [], 0
        for row in rows:
            own = probabilities[start : start + len(row.tokens)]
            start += len(row.tokens)
            found.append({"entities": _entities(row, own, tags)})
        return found

    def _probabilities(self, windows: list[Any], tags: int) -> Any:
        """Those of each tag for each token, (windows, tokens, tags)."""
        fed = self.pad(windows)
        logits = self._session.run(["logits"], fed)[0].astype(np.float64)
        if logits.shape != (*fed["input_ids"].shape, tags):
            raise damage(self._folder, "model.onnx has other labels than bundle.json")
        return softmax(logits)


def _entities(row: Windows, probabilities: Sequence[Any], tags: list[str]) -> list[dict[str, Any]]:
    words = tagging.words(row.text)
    places = tagging.first_pieces(words, [window.offsets for window in row.tokens])
    best = [(tagging.OUTSIDE, 0.0)] * len(words)
    for index, place in enumerate(places):
        if place is not None:
            window, piece = place
            of_word = probabilities[window][piece]
            best[index] = (tags[of_word.argmax()], float(of_word.max()))
    found = []
    for first, after, kind in tagging.entities([tag for tag, _ in best]):
        start, end = words[first][0], words[after - 1][1]
        scores = [score for _, score in best[first:after]]
        found.append(
            {
                "text": row.text[start:end],
                "type": kind,
                "start": start,
                "end": end,
                "score": sum(scores) / len(scores),
            }
        )
    return found


class Writer(Model):
    """A model that writes on from a prompt: at each step the token that it holds for the likeliest."""

    def _limit(self) -> None:
        """A prompt is read whole, or refused."""
        self._tokenizer.no_truncation()

    def encode(self, texts: Texts) -> list[int]:
        """The prompt of a text as tokens; LineError if it leaves no room for what is to be written."""
        prompt = self.bundle["prompt"].replace("{source}", texts[0])
        tokens = [*self.bundle["start"], *self._tokenizer.encode(prompt, add_special_tokens=False).ids]
        if len(tokens) >= self.bundle["longest_input"]:
            raise LineError(
                f"its prompt has {len(tokens)} tokens, and the model reads {self.bundle['longest_input']}, what it "
                "writes included"
            )
        return tokens

    def pad(self, rows: list[list[int]]) -> dict[str, Any]:
        """The first step's inputs, int64 arrays (rows, tokens), padded on the left to the longest row."""
        length = max(map(len, rows))
        mask = np.array([[0] * (length - len(row)) + [1] * len(row) for row in rows], np.int64)
        tokens = np.array([[self.bundle["padding"]["id"]] * (length - len(row)) + row for row in rows], np.int64)
        return {"input_ids": tokens, "attention_mask": mask, "position_ids": np.maximum(mask.cumsum(1) - 1, 0)}

    def answer(self, rows: list[list[int]]) -> list[dict[str, Any]]:
        """The text that is written to each prompt."""
        return [{"text": self._tokenizer.decode(tokens).strip()} for tokens in self.write(rows)]

    def write(self, rows: list[list[int]]) -> list[list[int]]:
        """The tokens that follow each prompt, the one that ends a text left out."""
        inputs, end = self.pad(rows), self.bundle["end"]
        lengths, memory = np.array([len(row) for row in rows]), self._session.cache(len(rows), 0)
        written: list[list[int]] = [[] for _ in rows]
        going = np.ones(len(rows), bool)
        for step in range(self.bundle["max_new_tokens"]):
            going &= lengths + step < self.bundle["longest_input"]
            if not going.any():
                break
            logits, *present = self._session.run(None, {**inputs, **memory, "logits_to_keep": np.array([1], np.int64)})
            best = logits[:, -1].argmax(-1)
            going &= best != end
            for row in np.flatnonzero(going):
                written[row].append(int(best[row]))
            memory = dict(zip(memory, present))
            mask = np.pad(inputs["attention_mask"], ((0, 0), (0, 1)), constant_values=1)
            inputs = {
                "input_ids": best[:, None].astype(np.int64),
                "attention_mask": mask,
                # A text that has ended may stand at the last position for good.
                "position_ids": np.minimum(lengths + step, self.bundle["longest_input"] - 1)[:, None],
            }
        return written


def softmax(logits: Any) -> Any:
    """Probabilities along the last axis."""
    powers = np.exp(logits - logits.max(-1, keepdims=True))
    return powers / powers.sum(-1, keepdims=True)


ANSWERS: dict[str, type[Model]] = {
    "label": Classifier,
    "labels": Several,
    "number": Regressor,
    "entities": Tagger,
    "text": Writer,
}
"""What a model answers with, as bundle.json says."""


def load(folder: Path, threads: int | None = None) -> Model:
    """The model of the bundle in `folder`, as its answers need it; UsageError as for Model."""
    return ANSWERS[read_bundle(folder)["answer"]](folder, threads)


def read_bundle(folder: Path) -> dict[str, Any]:
    """The content of bundle.json, as its answers need it; UsageError as for opened.read."""
    bundle = opened.read(folder, FIELDS)
    opened.require(folder, bundle, OWN_FIELDS.get(bundle["answer"], {}))
    return bundle


def _release(version: str) -> tuple[int, ...]:
    return tuple(map(int, version.split(".")[:2]))
