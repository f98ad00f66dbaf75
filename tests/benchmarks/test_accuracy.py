"""What is published is what was measured."""

from pathlib import Path

import pytest

from . import accuracy

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize("page", ["README.md", "tests/benchmarks/RESULTS.md"])
def test_the_published_table_is_made_from_the_measured_rows(page):
    assert accuracy.table(accuracy.measured_rows()) in (ROOT / page).read_text()


def test_the_picture_is_drawn_from_the_measured_rows(tmp_path):
    accuracy.draw(accuracy.measured_rows(), tmp_path / "drawn.svg")
    assert (tmp_path / "drawn.svg").read_text() == accuracy.PICTURE.read_text()
