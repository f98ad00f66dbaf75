"""Where each artifact of an export is asked: on the provider and in the arithmetic that it is for, or not here.

fp16 is for cards: ONNX Runtime's CPU provider computes it in fp32, where nothing overflows, so it says nothing of fp16.
int8 is for its target's CPU: whole numbers are the same anywhere, but where their sums stop at 16 bits. fp32 runs
anywhere.
"""

from pathlib import Path
from typing import NamedTuple

from .. import interfaces, targets
from ..configs import Precision
from ..evaluation import arithmetic
from ..store.manifest import ExportManifest
from ..targets import Target

VERDICT = "not validated here"
"""What a gate says of an artifact that this machine does not run as its target does."""


class Place(NamedTuple):
    """Where an artifact is asked."""

    provider: str
    """Of `session.PROVIDERS`."""
    obstacle: str = ""
    """Why it is not asked here; empty if it is."""


def of_artifacts(manifest: ExportManifest) -> dict[str, Place]:
    """The place of every artifact of an export, `onnx_fp32` and so on."""
    target = Target.parse(manifest.metrics.target)
    names: list[Precision] = manifest.config["precision"]
    return {f"onnx_{precision}": _place(manifest, target, precision) for precision in names}


def _place(manifest: ExportManifest, target: Target, precision: Precision) -> Place:
    card = precision == "fp16" or target.provider == "cuda"
    missing = _missing_card(manifest) if card else ""
    if card and not missing:
        return Place("cuda")
    if missing and precision != "fp32":
        return Place("cuda", f"{precision} is for CUDA, and {missing}")
    if _saturates_here_alone(manifest, target, precision):
        name = Path(manifest.config["target"]).name
        return Place("cpu", f"{precision} is for {name}, and this CPU stops sums of int8 products at 16 bits")
    return Place("cpu")


def _missing_card(manifest: ExportManifest) -> str:
    """Why a model does not run on a CUDA card here; empty if it does."""
    missing = arithmetic.obstacle("cuda")
    if not missing and interfaces.of(manifest.architecture).TORCH_ON_CARD:
        import torch

        missing = "" if torch.cuda.is_available() else "PyTorch finds no CUDA device"
    return missing


def _saturates_here_alone(manifest: ExportManifest, target: Target, precision: Precision) -> bool:
    """Whether int8 gives other answers here than on its target, whose sums are not cut; 7-bit weights fit anywhere."""
    made = {"int8": manifest.metrics.int8, "int8_static": manifest.metrics.int8_static}.get(precision)
    if made is None or made.reduce_range:
        return False
    return bool(targets.obstacle(target)) and arithmetic.saturates()
