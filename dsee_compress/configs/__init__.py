"""One strict model a stage: the same options for the shell, a recipe and a notebook.

Each field carries its help. An unknown key is an error that names the nearest known one.
"""

from .deployment import (
    OPSETS,
    BenchmarkConfig,
    BundleConfig,
    DecodingConfig,
    ExportConfig,
    GenerateConfig,
    Precisions,
    PushConfig,
    ValidateConfig,
)
from .names import Criterion, Decomposition, Graph, LayoutName, Precision, Role, Tracker
from .recipe import RunConfig
from .training import FinetuneConfig, ImportPeftConfig, PruneConfig, SourceConfig, UpdateConfig

__all__ = [
    "OPSETS",
    "BenchmarkConfig",
    "BundleConfig",
    "Criterion",
    "DecodingConfig",
    "Decomposition",
    "ExportConfig",
    "FinetuneConfig",
    "GenerateConfig",
    "Graph",
    "ImportPeftConfig",
    "LayoutName",
    "Precision",
    "Precisions",
    "PruneConfig",
    "PushConfig",
    "Role",
    "RunConfig",
    "SourceConfig",
    "Tracker",
    "UpdateConfig",
    "ValidateConfig",
]
