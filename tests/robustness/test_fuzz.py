"""The first cases of each kind of `python -m tests.robustness.fuzz`, whose long form has hundreds."""

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]


def test_fuzzed_inputs(tmp_path):
    """In a process of its own: it forks, and one that has run models has threads, which a fork loses."""
    command = [sys.executable, "-m", "tests.robustness.fuzz", "--cases", "30", "--seed", "1", "--folder", str(tmp_path)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{done.stdout}\n{done.stderr}"
