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
    figure: str
    """The headline's, of how many times as fast one is."""
    faster: str
    """What the headline says of that."""
    rows: list[Row]
    """With the artifact, and the figures and the time of every call."""
    counted: str = ""
    """What the headline counts a second."""


def of(rows: list[Row], writing: bool) -> list[Phase]:
    """The phases of rows; of a device that timed no tokens, prompts alone."""
    if not writing:
        return [Phase("latency", "", "call", "sequences/s", "speedup", "as fast", rows)]
    steps = [{"artifact": row["artifact"]} | row["decode"] for row in rows if "decode" in row]
    first = f"as fast to the first token of a prompt of {rows[0]['sequence_length']}" if rows else ""
    prompts = Phase("latency", "To the first token", "prompt", "prompts/s", "first_token", first, rows)
    after = Phase("decode", "Each token after it", "token", "tokens/s", "speedup", "as fast a token", steps, "tokens")
    return [prompts, *([after] if steps else [])]
