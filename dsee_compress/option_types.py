"""How values of options are written: in a shell, in a recipe, in Python."""

import re
from typing import Annotated, Any

from pydantic import AfterValidator, BeforeValidator, Field


def from_yaml(text: str) -> Any:
    """The value that YAML writes; ValueError, in one line, for what is none, such as the date 2024-13-45."""
    import yaml

    try:
        return yaml.safe_load(text)
    except (yaml.YAMLError, ValueError) as error:
        raise ValueError(" ".join(str(error).split())) from error


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
            raise ValueError(f"write it as PATTERN=VALUE, not {part!r}")
    return {pattern: given for pattern, _, given in pairs}


def from_base_60(value: Any) -> Any:
    """Give 2:4 back as it was written: YAML 1.1 reads it as the number 124, two sixties and four."""
    return "{}:{}".format(*divmod(value, 60)) if isinstance(value, int) else value


def _compile(patterns: dict[str, Any]) -> dict[str, Any]:
    for pattern in patterns:
        try:
            re.compile(pattern)
        except re.error as error:
            raise ValueError(f"{pattern!r} is no regular expression: {error}") from error
    return patterns


Seed = Annotated[int, Field(ge=0, lt=2**32)]
Fraction = Annotated[float, Field(ge=0, lt=1)]
Names = Annotated[list[str], BeforeValidator(split_commas)]
_Patterns = (BeforeValidator(_split_pairs), AfterValidator(_compile))
_Numbers = (BeforeValidator(_split_numbers), Field(min_length=1))
Sizes = Annotated[list[Annotated[int, Field(ge=1)]], *_Numbers]
Lengths = Annotated[list[Annotated[int, Field(ge=2)]], *_Numbers]
Counts = Annotated[dict[str, Annotated[int, Field(ge=0)]], *_Patterns]
Scales = Annotated[dict[str, Annotated[float, Field(gt=0)]], *_Patterns]
