"""What tells an encoder from a decoder: how it becomes ONNX, is proven, and is called when it is measured."""

from .. import architectures
from . import decoder, encoder
from .interface import Interface

__all__ = ["Interface", "of"]


def of(architecture: str) -> Interface:
    """The interface of a family's models."""
    return decoder if architectures.get(architecture).decoder else encoder
