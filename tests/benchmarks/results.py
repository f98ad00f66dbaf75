"""What the benchmarks keep: one JSON object a row, in a file beside each."""

import json
from pathlib import Path
from typing import Any


def read(path: Path) -> list[dict[str, Any]]:
    """The rows measured so far; none, if there is no file yet."""
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []
