"""ONNX Runtime's own format, for builds that hold only the operators that the models need."""

import os
import subprocess
from pathlib import Path

from .. import child_process

CONFIG = "required_operators_and_types.config"


def write(folder: Path) -> None:
    """Write each model in `folder` as .ort beside it, and CONFIG, which a reduced build is made with.

    Optimised as far as holds on every machine, not on this one alone. CONFIG names the models without their folder.
    """
    folder = folder.resolve()
    options = ["--optimization_style", "Fixed", "--enable_type_reduction"]
    command = child_process.command("onnxruntime.tools.convert_onnx_models_to_ort", folder, *options)
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=child_process.surroundings())
    if done.returncode:
        raise RuntimeError(f"writing the .ort format failed: {done.stderr.strip()}")
    config = folder / CONFIG
    config.write_text(config.read_text(encoding="utf-8").replace(f"{folder}{os.sep}", ""), encoding="utf-8")
