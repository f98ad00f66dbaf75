"""ONNX Runtime's own format, for builds that hold only the operators that the models need."""

import subprocess
import sys
from pathlib import Path

CONFIG = "required_operators_and_types.config"


def write(folder: Path) -> None:
    """Write each model in `folder` as .ort beside it, and CONFIG, which a reduced build is made with.

    Optimised as far as holds on every machine, not on this one alone.
    """
    command = [sys.executable, "-m", "onnxruntime.tools.convert_onnx_models_to_ort", str(folder)]
    options = ["--optimization_style", "Fixed", "--enable_type_reduction"]
    done = subprocess.run([*command, *options], capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"writing the .ort format failed: {done.stderr.strip()}")
