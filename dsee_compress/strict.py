"""Options that are refused where they are misspelt or do not fit, in one sentence."""

import difflib
from collections.abc import Mapping
from typing import Any, Self

from pydantic import BaseModel, ConfigDict, ValidationError

from .errors import UserError, shown


class StrictConfig(BaseModel):
    """A config that refuses unknown keys and does not change after it was made."""

    model_config = ConfigDict(extra="forbid", frozen=True, protected_namespaces=(), allow_inf_nan=False)

    @classmethod
    def parse(cls, options: Mapping[str, Any], where: str = "") -> Self:
        """Validate `options`; raise UserError with one sentence about the first thing that is wrong.

        `where` is put before the key in the message (a recipe's path, say).
        """
        try:
            return cls.model_validate(dict(options))
        except ValidationError as error:
            raise UserError(_sentence(cls, error, where)) from error

    def resolved(self) -> dict[str, Any]:
        """Every option that may change the result, with its value, as plain JSON types."""
        return self.model_dump(mode="json", by_alias=True)


def nearest(name: str, known: list[str]) -> str:
    """A hint for a misspelt name: the closest known one, or all of them."""
    close = difflib.get_close_matches(name, known, n=1)
    return f"did you mean {close[0]!r}?" if close else f"known are: {', '.join(known)}"


def _sentence(config: type[BaseModel], error: ValidationError, where: str) -> str:
    # A misspelt key often makes another one missing: it is the cause, so it is told first.
    first = min(error.errors(), key=lambda entry: entry["type"] != "extra_forbidden")
    location = [str(part) for part in first["loc"]]
    name = ".".join(location) or "options"
    prefix = f"{where}: " if where else ""
    if first["type"] == "extra_forbidden":
        owner: Any = config
        for part in location[:-1]:
            owner = next(field.annotation for key, field in owner.model_fields.items() if part in (key, field.alias))
        known = [field.alias or key for key, field in owner.model_fields.items()]
        return f"{prefix}unknown option {name!r}; {nearest(location[-1], known)}"
    if first["type"] == "missing":
        return f"{prefix}option {name!r} is missing"
    message = first["msg"].removeprefix("Value error, ")
    given = "" if isinstance(first["input"], dict) else f", got {shown(first['input'])}"
    return f"{prefix}{name}: {message[0].lower()}{message[1:]}{given}"
