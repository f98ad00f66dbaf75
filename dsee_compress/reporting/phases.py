"""The kinds of calls that a benchmark times: one, or of a model that writes prompts and the tokens after them."""

from typing import Any, NamedTuple

Row = dict[str, Any]


class Phase(NamedTuple):
    """Calls of one kind."""

    name: str
    """Of its picture."""
    title: str
    unit: str
    """What one of them is."""
    rate: str
    """What is counted a second."""
    rows: list[Row]
    """With the artifact, and the figures and the time of every call."""


def of(rows: list[Row], writing: bool) -> list[Phase]:
    """The phases of rows; of a device that timed no tokens, prompts alone."""
    if not writing:
        return [Phase("latency", "", "call", "sequences/s", rows)]
    steps = [{"artifact": row["artifact"]} | row["decode"] for row in rows if "decode" in row]
    prompts = Phase("latency", "To the first token", "prompt", "prompts/s", rows)
    return [prompts, *([Phase("decode", "Each token after it", "token", "tokens/s", steps)] if steps else [])]
