"""YAML as people write options in: what has one meaning, and no more of it than an option needs."""

from typing import Any

import yaml

LONGEST = 100_000
"""Characters of a recipe or a target."""
DEEPEST = 20
"""Levels of lists and maps inside each other."""
MOST_VALUES = 2_000
"""Values, with what an alias (`*name`) stands for counted wherever it stands."""

_TOO_MANY = f"it holds more than {MOST_VALUES:,} values"


def from_yaml(text: str) -> Any:
    """The value that YAML writes.

    Raises ValueError, in one line, for what is no YAML or no value (the date 2024-13-45, say), for a key that stands
    twice in one map, and for what is too long, too deep or too large.
    """
    if len(text) > LONGEST:
        raise ValueError(f"it has {len(text):,} characters, and {LONGEST:,} is the most")
    try:
        return yaml.load(text, _Loader)
    except _RefusedError:
        raise
    except Exception as error:  # PyYAML's constructors let through what int(), float() and their own look-ups raise
        raise ValueError(" ".join(str(error).split()) or type(error).__name__) from error


class _RefusedError(ValueError):
    pass


class _Loader(yaml.SafeLoader):
    """A SafeLoader that looks at what it was given before it makes values of it."""

    _depth = _written = 0

    def get_single_node(self) -> yaml.Node | None:
        node: yaml.Node | None = super().get_single_node()
        if node is not None:
            _count(node, {})
        return node

    def compose_node(self, parent: yaml.Node | None, index: Any) -> yaml.Node | None:
        self._depth += 1
        self._written += 1
        if self._written > MOST_VALUES:
            raise _RefusedError(_TOO_MANY)
        if self._depth > DEEPEST:
            raise _RefusedError(f"line {self.peek_event().start_mark.line + 1}: it is more than {DEEPEST} levels deep")
        node: yaml.Node | None = super().compose_node(parent, index)
        self._depth -= 1
        return node


def _count(node: yaml.Node, counted: dict[int, int]) -> int:
    """Values in a node, aliases followed. `counted` holds those of nodes met before; 0 for one that is being counted.

    Raises _RefusedError for too many, for a node inside itself, and for a key twice.
    """
    line = node.start_mark.line + 1
    if id(node) in counted:
        if not counted[id(node)]:
            raise _RefusedError(f"line {line}: it holds itself")
        return counted[id(node)]
    counted[id(node)] = 0
    inside: list[yaml.Node] = []
    if isinstance(node, yaml.MappingNode):
        _require_single_keys(node)
        inside = [part for pair in node.value for part in pair]
    elif isinstance(node, yaml.SequenceNode):
        inside = node.value
    total = 1
    for part in inside:
        total += _count(part, counted)
        if total > MOST_VALUES:
            raise _RefusedError(f"line {line}: {_TOO_MANY}")
    counted[id(node)] = total
    return total


def _require_single_keys(node: yaml.MappingNode) -> None:
    first: dict[tuple[str, str], int] = {}
    for key, _ in node.value:
        if isinstance(key, yaml.ScalarNode):
            line, name = key.start_mark.line + 1, (key.tag, key.value)
            if name in first:
                raise _RefusedError(f"{key.value!r} stands twice, on lines {first[name]} and {line}")
            first[name] = line
