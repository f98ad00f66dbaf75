"""Where the weights of a decoder's ONNX graph belong: by the modules that the nodes around them come from."""

import ast
import re
from collections import defaultdict
from collections.abc import Iterator
from typing import Any

from ..architectures.structure import Architecture

_WRAPPER = "_model."
"""What the exporter puts before every path of the model."""
_CARRIES_WEIGHTS_ON = {"Cast", "DequantizeLinear", "Reshape", "Transpose"}
_LOOKS_UP = {"Gather", "GatherBlockQuantized"}
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
        if any("logits" in node.output for _, node in readers):
            return "task_head"
        if self._layer(tensor) is not None:
            return self._inside(tensor)
        found = (self._inside(path) for _, node in readers for path in self._around(node))
        return next(filter(None, found), None)

    def _read_by(self, tensor: str) -> Iterator[tuple[str, Any]]:
        """The nodes that read a tensor, or what only carries it on, each with the name that it reads."""
        for node in self._readers[tensor]:
            if node.op_type in _CARRIES_WEIGHTS_ON and node.input[0] == tensor:
                for output in node.output:
                    yield from self._read_by(output)
            else:
                yield tensor, node

    def _around(self, node: Any) -> Iterator[str]:
        """Paths of the modules of a node, and of its neighbours: quantised products forget their own."""
        makers = (self._makers[name] for name in node.input if name in self._makers)
        readers = (reader for name in node.output for reader in self._readers[name])
        for near in (node, *readers, *makers):
            scopes = next((entry.value for entry in near.metadata_props if entry.key == _SCOPES), None)
            if scopes:
                yield ast.literal_eval(scopes)[-2]

    def _layer(self, path: str) -> re.Match[str] | None:
        return re.match(rf"{_WRAPPER}{re.escape(self._family.layers)}\.\d+\.", path)

    def _inside(self, path: str) -> str | None:
        layer = self._layer(path)
        if layer is None:
            return None
        module = path[layer.end() :].partition(".")[0]
        ffn = self._family.linears["ffn_in"].partition(".")[0]
        return {self._family.attention: "attention", ffn: "ffn"}.get(module)
