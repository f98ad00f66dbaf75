"""How values of options are written: in a shell, in a recipe, in Python; and how large they may be."""

import os
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Annotated, Any

from pydantic import AfterValidator, BeforeValidator, Field, GetCoreSchemaHandler
from pydantic_core import PydanticCustomError, core_schema

from .errors import shown


def split_commas(value: Any) -> Any:
    """Turn "a,b" and ["a,b", "c"] into ["a", "b", "c"], so that a shell may write either."""
    if isinstance(value, str):
        value = [value]
    if isinstance(value, list | tuple) and all(isinstance(item, str) for item in value):
        return [part.strip() for item in value for part in item.split(",") if part.strip()]
    return value


def _split_numbers(value: Any) -> Any:
    """Turn 1, "1,8" and ["1,8", 16] into a list of numbers, as they are written."""
    values = value if isinstance(value, list | tuple) else [value]
    return [part for item in values for part in (split_commas(item) if isinstance(item, str) else [item])]


def _split_pairs(value: Any) -> Any:
    """Turn "a=1,b=2" and ["a=1,b=2", "c=3"] into {"a": "1", "b": "2", "c": "3"}, so that a shell may write either."""
    parts = split_commas(value)
    if not isinstance(parts, list):
        return value
    pairs = [part.rpartition("=") for part in parts]
    for _, equals, part in pairs:
        if not equals:
            raise ValueError(f"write it as PATTERN=VALUE, not {shown(part)}")
    named = [pattern for pattern, _, _ in pairs]
    for pattern in named:
        if named.count(pattern) > 1:
            raise ValueError(f"{shown(pattern)} has two values")
    return {pattern: given for pattern, _, given in pairs}


def from_base_60(value: Any) -> Any:
    """Give 2:4 back as it was written: YAML 1.1 reads it as the number 124, two sixties and four."""
    is_number = isinstance(value, int) and not isinstance(value, bool)
    return "{}:{}".format(*divmod(value, 60)) if is_number else value


def pattern_error(pattern: str) -> str:
    """What is wrong with a regular expression that names of Linears are matched with; empty if nothing is.

    Python's matcher tries out what it repeats: a repeated group, or many repetitions, may take it for ever.
    """
    try:
        re.compile(pattern)
    except (re.error, OverflowError, RecursionError) as error:
        return f"{shown(pattern)} is no regular expression: {error}"
    bare = re.sub(r"\\.|\[\^?\]?(?:\\.|[^\]\\])*\]", "x", pattern, flags=re.DOTALL)
    if re.search(r"\(\?[^:=!<P]", bare):
        return f"{shown(pattern)} has flags or a comment inside, which names of Linears do not need"
    if re.search(r"\)[*+{]", bare) or len(re.findall(r"[*+{]|(?<!\()\?", bare)) > _MOST_REPETITIONS:
        return (
            f"{shown(pattern)} could take for ever to match; repeat single characters instead of groups, and use "
            f"*, +, ? and {{}} {_MOST_REPETITIONS} times at most"
        )
    return ""


def _check_patterns(patterns: dict[str, Any]) -> dict[str, Any]:
    for error in filter(None, map(pattern_error, patterns)):
        raise ValueError(error)
    return patterns


def _no_switch(value: Any) -> Any:
    """Refuse true and false, and YAML's yes and no, which Python takes for 1 and 0."""
    if isinstance(value, bool):
        raise ValueError("input should be a number")
    return value


def _no_strange_path(path: str) -> str:
    """Refuse what no system has as a path: a NUL inside, or too long a name."""
    if "\0" in path:
        raise ValueError("a path has no NUL inside")
    if len(os.fsencode(path)) > _LONGEST_PATH or any(
        len(os.fsencode(name)) > _LONGEST_NAME for name in path.split("/")
    ):
        raise ValueError(f"a path has {_LONGEST_PATH} bytes at most, and {_LONGEST_NAME} in one name")
    return path


@dataclass(frozen=True)
class OneOf:
    """Of a text: that it is one of some names, which may still be told when the option is made."""

    names: Callable[[], Iterable[str]]

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> core_schema.CoreSchema:
        return core_schema.no_info_after_validator_function(self._known, handler(source))

    def _known(self, name: str) -> str:
        *others, last = known = list(self.names())
        if name not in known:
            expected = f"{', '.join(map(repr, others))} or {last!r}"
            raise PydanticCustomError("literal_error", "Input should be {expected}", {"expected": expected})
        return name


_MOST_REPETITIONS = 6
_LONGEST_PATH, _LONGEST_NAME = 4095, 255
LARGEST_COUNT = 2**20
"""Of tokens, examples, samples, neurons: more than any model or device has; what is larger is a slip of the finger."""

Whole = Annotated[int, BeforeValidator(_no_switch)]
Real = Annotated[float, BeforeValidator(_no_switch)]
Count = Annotated[Whole, Field(ge=1, le=LARGEST_COUNT)]
Batch = Annotated[Whole, Field(ge=1, le=65_536)]
Length = Annotated[Whole, Field(ge=2, le=LARGEST_COUNT)]
Threads = Annotated[Whole, Field(ge=1, le=1024)]
Rank = Annotated[Whole, Field(ge=0, le=65_536)]
Entries = Annotated[Whole, Field(ge=0, le=2**30)]
Scale = Annotated[Real, Field(gt=0, le=1_000_000)]
Seed = Annotated[Whole, Field(ge=0, lt=2**32)]
Fraction = Annotated[Real, Field(ge=0, lt=1)]
Place = Annotated[str, Field(min_length=1), AfterValidator(_no_strange_path)]
"""The path of a folder or file, or a name that stands for one."""
Places = Annotated[list[Place], BeforeValidator(split_commas)]
Names = Annotated[list[str], BeforeValidator(split_commas)]
_Patterns = (BeforeValidator(_split_pairs), AfterValidator(_check_patterns))
_Numbers = (BeforeValidator(_split_numbers), Field(min_length=1, max_length=64))
Batches = Annotated[list[Batch], *_Numbers]
Lengths = Annotated[list[Length], *_Numbers]
ThreadCounts = Annotated[list[Threads], *_Numbers]
Ranks = Annotated[dict[str, Rank], *_Patterns]
EntryCounts = Annotated[dict[str, Entries], *_Patterns]
Scales = Annotated[dict[str, Scale], *_Patterns]
