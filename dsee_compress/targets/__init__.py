"""Where a model shall run: one small YAML file a target, ours beside this one, users' own by path."""

import platform
from pathlib import Path
from typing import Literal

from pydantic import Field

from ..configs import Graph, Precisions
from ..errors import UserError
from ..evaluation import environment
from ..option_types import Names, Threads
from ..strict import StrictConfig
from ..yaml_text import from_yaml

_HERE = Path(__file__).parent


class Target(StrictConfig):
    """What a kind of device asks for."""

    description: str = Field(description="What the target is, in a few words.")
    machines: Names = Field(description="`platform.machine()` of such devices; none where they never run this program.")
    cpu_flags: Names = Field([], description="CPU flags of which such a device has one.")
    provider: Literal["cpu", "cuda"] = Field("cpu", description="ONNX Runtime execution provider.")
    threads: Threads | None = Field(None, description="Intra-op threads; the physical cores if not given.")
    graph: Graph = Field("fused", description="Graph style.")
    precision: Precisions = Field(["fp32", "int8"], min_length=1, description="Precisions that are worth having there.")
    reduce_range: bool = Field(False, description="7-bit weights of int8, where 16-bit sums saturate (no VNNI).")
    signed_activations: bool = Field(False, description="Signed activations of static int8.")
    ort_format: bool = Field(False, description="Each model as .ort, too, with the operators that a build needs.")


def known() -> list[str]:
    """The names of our targets."""
    return sorted(path.stem for path in _HERE.glob("*.yaml"))


def load(name: str) -> Target:
    """A target of ours by its name, or a user's by the path of its YAML file.

    Raises UserError if it is neither (with the names that are known), or has unknown or wrong options.
    """
    path = _HERE / f"{name}.yaml" if name in known() else Path(name)
    if not path.is_file():
        raise UserError(f"there is no target {name!r}; known are {', '.join(known())}, or give a YAML file of your own")
    try:
        content = from_yaml(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise UserError(f"target {path} is not YAML: {error}") from error
    if not isinstance(content, dict):
        raise UserError(f"target {path} must map options to values")
    return Target.parse(content, str(path))


def host() -> str:
    """The name of the target that this machine's CPU is; x86-avx2, which asks for least, where none fits."""
    return next((name for name in ("x86-vnni", "arm64", "x86-avx2") if not obstacle(load(name))), "x86-avx2")


def obstacle(target: Target) -> str:
    """Why a latency measured on this machine would not be the target's; empty if it would."""
    if platform.machine() not in target.machines:
        return f"it is for {' and '.join(target.machines) or 'other devices'}, and this machine is {platform.machine()}"
    flags = environment.cpu_flags()
    if target.cpu_flags and not flags & {*target.cpu_flags}:
        return f"its CPU has {' or '.join(target.cpu_flags)}, and this one has not"
    return ""
