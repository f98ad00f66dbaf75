"""What a bundle measured on a device comes into the report, and stays there."""

import copy
import json
import shutil
from pathlib import Path

import pytest
from dsee_compress_cli import main as cli

import dsee_compress
from dsee_compress.store import lineage
from dsee_compress.store.manifest import Manifest

RESULTS = ("report.json", "report.md", "report.html")


@pytest.fixture
def run(reported, tmp_path) -> Path:
    """A copy of the run, beside the finetune folder that it was made from."""
    tuned = (reported / "prune" / Manifest.read(reported / "prune").parent.path).resolve()
    root = reported.parent
    shutil.copytree(tuned, tmp_path / tuned.relative_to(root))
    return Path(shutil.copytree(reported, tmp_path / reported.relative_to(root)))


@pytest.fixture
def file(latency, tmp_path) -> Path:
    return written(tmp_path / "latency.json", latency)


def written(path: Path, content: object) -> Path:
    path.write_text(json.dumps(content))
    return path


def devices_of(run: Path) -> list[dict]:
    return json.loads((run / "report.json").read_text())["devices"]


def test_a_device_stands_in_all_three_with_its_environment(run, file, latency, content):
    assert devices_of(run) == []
    assert cli._run(["report", str(run), "--add", str(file)], debug=False) == 0
    assert devices_of(run) == [{"environment": latency["environment"], "latency": latency["latency"]}]
    ours = next(row for row in content["latency"] if row["artifact"] == "pruned_int8")
    page, markdown = (run / "report.html").read_text(), (run / "report.md").read_text()
    for cell in ("61.25", "987.00", f"{ours['p50_ms']:.2f}", "412.0"):
        assert f"<td>{cell}</td>" in page.partition('id="devices"')[2]
        assert f"| {cell} |" in markdown.partition("## On other devices")[2]
    assert "Raspberry Pi 4 Model B | Rev &lt;1.4&gt;" in page
    assert "| cpu | Raspberry Pi 4 Model B \\| Rev \\<1.4\\> |" in markdown


def test_devices_are_kept_each_once_and_the_export_stays_the_same(run, file, latency, tmp_path):
    export = lineage.fingerprint(run / "export")
    other = copy.deepcopy(latency)
    other["environment"]["cpu"] = "another"
    files = [file, written(tmp_path / "other.json", other), file]
    dsee_compress.report(run, add=files)
    pages = [(run / name).read_text() for name in RESULTS]
    dsee_compress.report(run)
    dsee_compress.report(run, add=[file])
    assert [device["environment"]["cpu"] for device in devices_of(run)] == [latency["environment"]["cpu"], "another"]
    assert [(run / name).read_text() for name in RESULTS] == pages
    assert lineage.fingerprint(run / "export") == export


def test_a_setting_that_we_did_not_measure_has_nothing_beside_it(run, latency, tmp_path):
    latency["latency"][0]["batch"] = 7
    dsee_compress.report(run, add=[written(tmp_path / "latency.json", latency)])
    assert "<td>not measured</td>" in (run / "report.html").read_text()


def with_row(latency: dict, **values: object) -> dict:
    return latency | {"latency": [latency["latency"][0] | values]}


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (lambda latency: latency | {"schema": 2}, "has schema 2, and this version of dsee-compress reads up to 1"),
        (lambda latency: latency | {"bundle": "0" * 64}, "was measured with a bundle of another export"),
        (lambda latency: latency | {"latency": []}, "(latency: list should have at least 1 item"),
        (lambda latency: latency | {"environment": {"cpu": "", "system": ""}}, "(environment.libraries: field"),
        (lambda latency: with_row(latency, p50_ms=float("nan")), "(latency.0.p50_ms: input should be"),
        (lambda latency: with_row(latency, raw_ms=[[]]), "(latency.0.raw_ms.0:"),
        (lambda latency: [], "is not what a bundle's bench.py writes; measure again"),
        (lambda latency: {"schema": "one"}, "is not what a bundle's bench.py writes; measure again"),
    ],
)
def test_what_is_no_measurement_of_this_export_is_refused(run, latency, tmp_path, capsys, change, sentence):
    path = written(tmp_path / "latency.json", change(latency))
    refused(run, path, sentence, capsys)


@pytest.mark.parametrize("content", [b"{", b"\xff\xfe", b""])
def test_what_is_no_json_is_refused(run, tmp_path, capsys, content):
    path = tmp_path / "latency.json"
    path.write_bytes(content)
    refused(run, path, "is not what a bundle's bench.py writes; measure again", capsys)


def test_a_missing_file_is_refused_and_a_good_one_beside_it_not_kept(run, file, tmp_path, capsys):
    refused(run, tmp_path / "none.json", "there is no file", capsys, "--add", str(file))


def refused(run: Path, path: Path, sentence: str, capsys, *others: str) -> None:
    """Exit code 2 and one sentence; nothing in the run has changed."""
    before = {file: file.read_bytes() for file in run.rglob("*") if file.is_file()}
    assert cli._run(["report", str(run), *others, "--add", str(path)], debug=False) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("error: ") and sentence in line and str(path) in line
    assert {file: file.read_bytes() for file in run.rglob("*") if file.is_file()} == before


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        ("{", "is damaged; remove it"),
        ('{"key": {"folder": "another"}, "devices": []}', "is of an earlier content of its folder; remove it"),
    ],
)
def test_kept_figures_that_are_damaged_or_of_another_export_are_refused(run, capsys, content, sentence):
    (run / "export" / "devices.json").write_text(content)
    assert cli._run(["report", str(run)], debug=False) == 2
    assert sentence in capsys.readouterr().err
