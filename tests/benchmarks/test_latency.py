"""What is published is what was measured, and what measures it still runs."""

from pathlib import Path

import pytest

from dsee_compress import targets

from ..fixtures import models
from . import latency
from .contestants import OPTIMIZED, PLAIN, PYTORCH
from .latency import Block

ROOT = Path(__file__).parents[2]
HEADING = "\n## Latency against Optimum and PyTorch\n"


def test_the_published_section_ends_with_what_is_made_from_the_measured_rows():
    page = (ROOT / "tests/benchmarks/RESULTS.md").read_text()
    section = page.partition(HEADING)[2].partition("\n## ")[0]
    assert section.endswith(f"\n\n{latency.show(latency.measured_rows())}\n")


def test_a_table_in_the_readme_is_made_from_the_measured_rows():
    readme = (ROOT / "README.md").read_text()
    rows = latency.measured_rows()
    for title in latency.titles(rows):
        assert f"| {title} | size, MB |" not in readme or latency.table(rows, title) in readme


@pytest.fixture(scope="module")
def measured(tmp_path_factory):
    """The rows of a tiny model in a block of its own, what was printed aside."""
    folder = tmp_path_factory.mktemp("latency")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(latency, "RESULTS", folder / "latency.jsonl")
        patch.setitem(latency.MODELS, "tiny", lambda made: str(models.write_model("bert", made)))
        few = ["--rounds", "2", "--seconds", "0", "--work", str(folder / "work")]

        def measure(*lengths: int) -> list[latency.Row]:
            wanted = ["--models", "tiny", "--batches", "8", "--lengths", *map(str, lengths)]
            latency.main(["measure", *wanted, *few])
            return latency.measured_rows()

        yield measure


@pytest.mark.optimum
def test_every_contestant_of_a_tiny_model_is_measured_and_counted(measured):
    rows = {row["contestant"]: row for row in measured(16)}
    ours = [f"ours, {precision}{cut}" for precision in ("fp32", "int8") for cut in ("", ", 25 %", ", 40 %")]
    quantized = ["Optimum, int8, --avx512_vnni", "Optimum, int8, --avx2"]
    assert list(rows) == [PYTORCH, PLAIN, OPTIMIZED, *quantized, *ours]
    for name, row in rows.items():
        assert (row["samples"], row["rounds"], row["threads"]) == (10, 2, 2)
        assert 0 < row["p50_ms"] <= row["p95_ms"]
        assert row["times_as_fast"][PLAIN]["value"] == pytest.approx(rows[PLAIN]["p50_ms"] / row["p50_ms"])
        assert (row["flops_computed"] < row["flops"]) == name.startswith("ours")
        assert row["environment"]["physical_cores"] >= 1
    dense = rows["ours, fp32"]
    assert {rows[name]["flops"] for name in (PYTORCH, PLAIN, OPTIMIZED, *quantized)} == {dense["flops"]}
    sizes = [rows[name]["size_mb"] for name in ours]
    assert sizes[:3] == sorted(sizes[:3], reverse=True) and sizes[3:] == sorted(sizes[3:], reverse=True)


@pytest.mark.optimum
def test_what_is_measured_is_not_measured_again_and_what_is_made_is_not_made_again(measured, monkeypatch):
    first = measured(16)
    monkeypatch.setattr("optimum.commands.optimum_cli.main", None)
    both = measured(16, 24)
    assert both[: len(first)] == first
    assert {latency.block_of(row) for row in both} == {Block("tiny", 8, length, targets.host()) for length in (16, 24)}
    assert measured(24, 16) == both


def test_a_table_has_a_line_for_each_contestant_and_a_column_for_each_shape():
    rows = [
        _row(PLAIN, 8.0),
        _row("ours, fp32", 4.04, length=128) | {"times_as_fast": {PLAIN: {"value": 2.0, "ci95": [1.9, 2.125]}}},
    ]
    assert latency.table(rows, "tiny, x86-avx2").splitlines() == [
        "| tiny, x86-avx2 | size, MB | 8 × 32 | 8 × 128 |",
        "| --- | --- | --- | --- |",
        "| Optimum, fp32 | 12.5 | 8.0, 1.00 (0.90 to 1.10) | not yet run |",
        "| ours, fp32 | 12.5 | not yet run | 4.0, 2.00 (1.90 to 2.12) |",
    ]


def test_a_claim_holds_where_the_whole_interval_does():
    def fast(value: float) -> dict:
        return {"value": value, "ci95": [value - 0.1, value + 0.1]}

    rows = [
        _row("ours, fp32", 8.0, flops=200) | {"times_as_fast": {OPTIMIZED: fast(1.05)}},
        _row("ours, fp32, 25 %", 5.0, flops=160) | {"times_as_fast": {"ours, fp32": fast(1.5)}},
        _row("ours, fp32, 40 %", 5.0, flops=100) | {"times_as_fast": {"ours, fp32": fast(1.5)}},
        _row("ours, int8, 40 %", 5.0) | {"times_as_fast": {PLAIN: fast(3.2)}},
    ]
    assert latency.claims(rows).splitlines()[2:] == [
        "| ours, fp32, 25 %: 0.95 of the ratio of FLOPs to ours, fp32 | tiny, x86-avx2, 8 × 32 "
        "| 1.50 of 1.25: 1.20 (1.12 to 1.28) | yes |",
        "| ours, fp32, 40 %: 0.95 of the ratio of FLOPs to ours, fp32 | tiny, x86-avx2, 8 × 32 "
        "| 1.50 of 2.00: 0.75 (0.70 to 0.80) | no |",
        "| ours, fp32: not slower than Optimum, fp32, -O2 | tiny, x86-avx2, 8 × 32 "
        "| 1.05 (0.95 to 1.15) | not told apart |",
        "| ours, int8, 40 %: 3 times as fast as Optimum, fp32 | tiny, x86-avx2, 8 × 32 | 3.20 (3.10 to 3.30) | yes |",
    ]


def _row(contestant: str, milliseconds: float, length: int = 32, flops: int = 100) -> latency.Row:
    return {
        "model": "tiny",
        "batch": 8,
        "length": length,
        "target": "x86-avx2",
        "contestant": contestant,
        "p50_ms": milliseconds,
        "times_as_fast": {PLAIN: {"value": 1.0, "ci95": [0.9, 1.1]}},
        "flops_computed": flops,
        "size_mb": 12.5,
    }
