"""Where the weights of a decoder's ONNX graph belong: by the modules that the nodes around them come from."""

import ast
import re
from collections import defaultdict
from collections.abc import Callable, Iterator
from typing import Any

from ..architectures.structure import Architecture

_WRAPPER = "_model."
"""What the exporter puts before every path of the model."""
_CARRIES_WEIGHTS_ON = {"Cast", "DequantizeLinear", "Reshape", "Transpose"}
_LOOKS_UP = {"Gather", "GatherBlockQuantized"}
_FORGOTTEN = 5
"""Nodes at most that a quantised product is made of, one after the other."""
_SCOPES = "pkg.torch.onnx.name_scopes"


class Parts:
    """The part of the model that each weight of a graph belongs to.

    The vocabulary's matrix is of the embeddings where tokens are looked up in it, and the task head where it scores
    them alone.
    """

    def __init__(self, graph: Any, family: Architecture) -> None:
        self._family = family
        self._readers: dict[str, list[Any]] = defaultdict(list)
        self._makers = {}
        for node in graph.node:
            for name in node.input:
                self._readers[name].append(node)
            for name in node.output:
                self._makers[name] = node

    def of(self, tensor: str) -> str | None:
        """One of shares.PARTS, or None for what is in none."""
        readers = list(self._read_by(tensor))
        if any(node.op_type in _LOOKS_UP and name != node.input[1] for name, node in readers):
            return "embeddings"
        if self._layer(tensor) is not None:
            return self._inside(tensor)
        found = (
            part
            for _, node in readers
            for part in (self._nearest(node, self._after), self._nearest(node, self._before))
        )
        return next(filter(None, found), None)

    def _read_by(self, tensor: str) -> Iterator[tuple[str, Any]]:
        """The nodes that read a tensor, or what only carries it on, each with the name that it reads."""
        for node in self._readers[tensor]:
            if node.op_type in _CARRIES_WEIGHTS_ON and node.input[0] == tensor:
                for output in node.output:
                    yield from self._read_by(output)
            else:
                yield tensor, node

    def _nearest(self, node: Any, neighbours: Callable[[Any], list[Any]]) -> str | None:
        """The part of the nearest node in one direction that says its module: quantised products forget their own."""
        near = [node]
        for _ in range(_FORGOTTEN):
            for one in near:
                if "logits" in one.output:
                    return "task_head"
                scopes = next((entry.value for entry in one.metadata_props if entry.key == _SCOPES), None)
                if scopes:
                    return self._inside(ast.literal_eval(scopes)[-2])
            near = [other for one in near for other in neighbours(one)]
        return None

    def _after(self, node: Any) -> list[Any]:
        return [reader for name in node.output for reader in self._readers[name]]

    def _before(self, node: Any) -> list[Any]:
        return [self._makers[name] for name in node.input if name in self._makers]

    def _layer(self, path: str) -> re.Match[str] | None:
        return re.match(rf"{_WRAPPER}{re.escape(self._family.layers)}\.\d+\.", path)

    def _inside(self, path: str) -> str | None:
        layer = self._layer(path)
        if layer is None:
            return None
        module = path[layer.end() :].partition(".")[0]
        ffn = self._family.linears["ffn_in"].partition(".")[0]
        return {self._family.attention: "attention", ffn: "ffn"}.get(module)
