"""Pretrained models as others wrote them: found, examined before anything is trained, and loaded."""

from .folder import Examined, examine, fingerprint, load, load_config, locate

__all__ = ["Examined", "examine", "fingerprint", "load", "load_config", "locate"]
