"""Data sets: their splits as tables, whatever file they are in, and as tokens."""

from .splits import fingerprint, locate, read_split, require_unchanged

__all__ = ["fingerprint", "locate", "read_split", "require_unchanged"]
