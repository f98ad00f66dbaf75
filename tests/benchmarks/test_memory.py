"""What is published is what was measured, and what measures it sees memory come and go."""

import sys
from pathlib import Path

from . import memory, results

PAGE = Path(__file__).with_name("RESULTS.md")
HEADING = "\n## Memory of the stages\n"
HOLD = """
import time
print("✓ nothing", flush=True)
held = bytearray(300_000_000)
time.sleep(0.5)
print("✓ held (1 s)", flush=True)
del held
time.sleep(0.5)
"""


def test_the_published_section_holds_what_is_made_from_the_measured_rows():
    section = PAGE.read_text().partition(HEADING)[2].partition("\n## ")[0]
    assert memory.table(results.read(memory.RESULTS)) in section


def test_a_process_is_looked_at_step_by_step(tmp_path):
    found = memory.looked_at([sys.executable, "-c", HOLD], tmp_path / "log")
    resident, own = found["steps"]["held"]
    assert resident >= own >= 300 > found["steps"]["end"][1]
    assert found["peak_mb"] >= resident - 1 and found["own_mb"] >= own - 1
