"""What reaches the hub, in one commit or not at all, and what its page says."""

import json
import re
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from dsee_compress_cli import main as cli
from huggingface_hub import ModelCard

import dsee_compress
from dsee_compress.configs import PushConfig
from dsee_compress.stages.push import Upload, card_of, plan
from dsee_compress.store.manifest import ExportManifest, Manifest

from ..fixtures.hub import Hub

REPO = "someone/small-bert"
OURS = ("report.html", "report.json", "report.md", "README.md", "dsee.json")


@pytest.fixture(scope="module")
def run(bert_dense, bert_exported, tmp_path_factory) -> Path:
    root = tmp_path_factory.mktemp("alice at home")
    for name in ("finetune", "dense", "prune", "export"):
        shutil.copytree(bert_exported.parent / name, root / name)
    limits = {"max_drop": 0.9, "max_compression_drop": 0.9}
    dsee_compress.validate(root / "export", overwrite=True, **limits)
    quick = {"samples": 10, "rounds": 1, "warmup": 1, "sequence_length": 16, "threads": 1}
    dsee_compress.benchmark(root / "export", baseline=str(root / "dense"), overwrite=True, **quick)
    (root / "export" / "notes of mine.txt").write_text("not for others")
    return dsee_compress.report(root)


@pytest.fixture
def copy(run, tmp_path) -> Path:
    """Of the run, for a test to change."""
    return Path(shutil.copytree(run, tmp_path / "run"))


@pytest.fixture(scope="module")
def hub() -> Iterator[Hub]:
    with Hub() as opened:
        yield opened


@pytest.fixture(scope="module")
def first(hub, run) -> dict[str, bytes]:
    """What a first push brought."""
    done = hub.run("push", run, REPO, "--license", "apache-2.0", "--private")
    assert done.returncode == 0, done.stderr
    assert done.stdout == f"pushed as {hub.endpoint}/{REPO}/commit/{1:040}\n"
    return hub.repositories[REPO]


def planned(run: Path, **options: object) -> list[Upload]:
    return plan(run, REPO, PushConfig.parse(options))


def refuse(capsys, *arguments: object) -> str:
    """The one sentence of a push that is refused before anything is sent."""
    assert cli._run(["push", *map(str, arguments)], debug=False) == 2
    printed = capsys.readouterr().err.splitlines()
    assert [line for line in printed if line.startswith("error: ")] == printed[-1:]
    return printed[-1]


def one_sentence(done, said: str) -> None:
    assert done.returncode == 2 and "Traceback" not in done.stderr
    errors = [line for line in done.stderr.splitlines() if line.startswith("error: ")]
    assert len(errors) == 1 and said in errors[0], done.stderr
    assert "hf_of" not in done.stdout + done.stderr, "the token is never shown"


def test_the_files_arrive_as_they_are_in_one_commit(hub, first, run):
    written = {path.name for path in (run / "export").iterdir()} & {*Manifest.read(run / "export").files}
    assert {*first} == {".gitattributes", *written, *OURS}
    for name in written:
        assert first[name] == (run / "export" / name).read_bytes()
    for name in OURS[:3]:
        assert first[name] == (run / name).read_bytes()
    commit = hub.commits[0]
    assert {*commit["added"]} == {*first} - {".gitattributes"} and commit["removed"] == []
    assert hub.private[REPO]


def test_no_path_arrives(first, run, data, bert):
    secrets = [str(run), run.name, str(data), str(bert)]
    assert [name for name, content in first.items() for secret in secrets if secret.encode() in content] == []


def test_what_arrived_is_an_export_folder(first, run, tmp_path):
    folder = tmp_path / "fetched"
    folder.mkdir()
    for name, content in first.items():
        (folder / name).write_bytes(content)
    there, here = ExportManifest.read(folder), ExportManifest.read(run / "export")
    assert there.structure == here.structure and there.metrics == here.metrics
    assert (there.base, there.task.data, there.parent.path) == ("bert", "data0", "../prune")
    dsee_compress.bundle(folder, output=tmp_path / "bundle")


def test_the_hub_reads_the_figures_of_the_report_from_the_card(first, run):
    card, report = ModelCard(first["README.md"].decode()), json.loads((run / "report.json").read_text())
    assert (card.data.license, card.data.pipeline_tag, card.data.library_name) == (
        *("apache-2.0", "text-classification", "onnx"),
    )
    assert card.data.base_model is None and card.data.datasets is None, "both are folders here"
    assert card.data.tags == ["onnx", "dsee", "pruned", "bert"]
    assert card.data.metrics == ["accuracy", "f1", "matthews"]
    assert card.data.model_name == "small-bert"
    assert {result.metric_name: result.metric_value for result in card.data.eval_results} == {
        f"Accuracy, {name}": round(report["accuracy"][f"onnx_{name}"]["value"], 4) for name in ("fp32", "int8")
    }


def test_the_card_tells_what_was_measured(first, run):
    text, report = first["README.md"].decode(), json.loads((run / "report.json").read_text())
    for name, entry in (("model.onnx", "onnx_fp32"), ("model_int8.onnx", "onnx_int8")):
        value, ends = report["accuracy"][entry]["value"], report["accuracy"][entry]["ci95"]
        low, high = (f"{100 * end:.1f} %" for end in ends)
        assert f"| {name} | {100 * value:.1f} % | {low} to {high} |" in text
    assert f"| parameters | {report['cost']['parameters']['dense']:,} |" in text
    assert report["environment"]["cpu"].replace("_", "") in text.replace("\\", "").replace("_", "")
    assert "heads: 0.34" in text and "rank: 3" in text


@pytest.mark.optimum
def test_the_programs_of_the_card_answer(first, tmp_path, monkeypatch, capsys):
    folder = tmp_path / "fetched"
    folder.mkdir()
    for name, content in first.items():
        (folder / name).write_bytes(content)
    monkeypatch.setattr("huggingface_hub.snapshot_download", lambda repo: repo)
    with_pipeline, alone = re.findall(r"```python\n(.*?)```", first["README.md"].decode(), flags=re.DOTALL)
    exec(with_pipeline.replace(REPO, str(folder)))
    assert re.match(r"\[\{'label': '(good|bad)', 'score': ", capsys.readouterr().out)
    names: dict[str, object] = {}
    exec(alone.replace(REPO, str(folder)), names)
    assert names["logits"].shape == (1, 2)


def test_a_second_push_of_the_same_makes_no_commit(hub, first, run):
    before = len(hub.commits)
    done = hub.run("push", run, REPO, "--license", "apache-2.0")
    assert done.returncode == 0, done.stderr
    assert len(hub.commits) == before and done.stdout.startswith("pushed as ")


def test_another_push_replaces_what_is_there_and_removes_models_that_are_gone(hub, first, run, tmp_path):
    hub.repositories[REPO] |= {"mine.txt": b"of the user", "onnx/model_int4.onnx": b"", "model_fp16.onnx.data": b""}
    done = hub.run("push", run, REPO)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == "the card names no licence; --license gives it one"
    assert hub.commits[-1]["removed"] == ["model_fp16.onnx.data", "onnx/model_int4.onnx"]
    there = hub.repositories[REPO]
    assert there["mine.txt"] == b"of the user" and there["README.md"] == card_of(planned(run)).encode()


@pytest.mark.parametrize(
    ("path", "status", "answer", "said"),
    [
        ("POST /api/repos/create", 401, "Invalid credentials", "the hub does not take the token (Invalid credentials)"),
        ("POST .*/commit/main", 403, "read-only token", "the token may not write to someone/else (read-only token)"),
        ("POST .*/commit/main", 400, "a folder is in the way", "nothing is there now: a folder is in the way (400)"),
    ],
)
def test_what_the_hub_refuses_is_told_and_changes_nothing(hub, first, run, monkeypatch, path, status, answer, said):
    monkeypatch.setitem(hub.refuse, path, (status, {"error": answer}))
    before = len(hub.commits)
    one_sentence(hub.run("push", run, "someone/else"), said)
    assert len(hub.commits) == before and hub.repositories.get("someone/else", {}).keys() <= {".gitattributes"}


def test_a_licence_that_the_hub_does_not_know_is_told_before_the_files_are_sent(hub, run):
    done = hub.run("push", run, "someone/other", "--license", "no-such-licence")
    one_sentence(done, '"license" must be one of [apache-2.0, mit]')
    assert not any("someone/other/preupload" in request for request in hub.requests)


def test_a_hub_that_is_not_there(hub, run):
    one_sentence(hub.run("push", run, REPO, HF_ENDPOINT="http://127.0.0.1:9"), "Connection refused")


def test_without_a_token_nothing_is_asked(hub, run, tmp_path):
    before = len(hub.requests)
    done = hub.run("push", run, REPO, HF_TOKEN="", HF_HOME=str(tmp_path))
    one_sentence(done, "there is no token for the hub; log in with hf auth login, or set HF_TOKEN")
    assert len(hub.requests) == before


def test_offline_nothing_is_asked(run, capsys):
    """As all tests are."""
    assert "HF_HUB_OFFLINE is set, and a push needs the hub; unset it" in refuse(capsys, run, REPO)


def test_a_dry_run_shows_files_and_card_and_needs_no_hub(run, capsys):
    assert cli._run(["push", str(run), REPO, "--dry-run", "--license", "mit"], debug=False) == 0
    shown = capsys.readouterr().out
    for upload in planned(run, license="mit"):
        assert re.search(rf"{re.escape(upload.name)} +│ +{upload.size:,} ", shown)
    assert card_of(planned(run, license="mit")) in shown and "notes of mine" not in shown


@pytest.mark.parametrize(
    ("layout", "int8", "said"),
    [
        ("transformers.js", "onnx/model_quantized.onnx", f'await pipeline("text-classification", "{REPO}")'),
        ("sentence-transformers", "onnx/model_int8.onnx", f'CrossEncoder("{REPO}", backend="onnx", model_kwargs='),
    ],
)
def test_files_keep_the_paths_of_their_layout_and_the_card_tells_who_reads_it(copy, layout, int8, said):
    export = copy / "export"
    (export / "onnx").mkdir()
    moved = {"model.onnx": "onnx/model.onnx", "model_int8.onnx": int8}
    for old, new in moved.items():
        (export / old).rename(export / new)
    manifest = json.loads((export / "dsee.json").read_text())
    manifest["files"] = [moved.get(name, name) for name in manifest["files"]]
    manifest["config"]["layout"] = layout
    (export / "dsee.json").write_text(json.dumps(manifest))
    lineage_again(copy)
    uploads = planned(copy)
    assert {*moved.values()} < {upload.name for upload in uploads}
    card = ModelCard(card_of(uploads))
    assert layout in card.data.tags and said in card.text and 'subfolder="onnx"' in card.text


def test_a_hubs_base_and_data_are_named(copy):
    for name in ("finetune", "prune", "export"):
        path = copy / name / "dsee.json"
        content = json.loads(path.read_text())
        content["task"]["data"] = "glue/sst2"
        if name == "finetune":
            content["config"]["model"] = "google/bert"
        path.write_text(json.dumps(content))
    lineage_again(copy)
    card = ModelCard(card_of(planned(copy)))
    assert card.data.base_model == "google/bert" and card.data.datasets == ["glue/sst2"]
    assert card.data.eval_results[0].dataset_type == "glue/sst2"
    assert "[google/bert](https://huggingface.co/google/bert), fine-tuned on" in card.text


def lineage_again(run: Path) -> None:
    """Have the folders of a run, whose manifests were changed, name each other's contents as they are now."""
    from dsee_compress.store import lineage

    for parent, child in (("finetune", "prune"), ("prune", "export")):
        path = run / child / "dsee.json"
        content = json.loads(path.read_text())
        content["parent"]["fingerprint"] = lineage.fingerprint(run / parent)
        path.write_text(json.dumps(content))
    report = json.loads((run / "report.json").read_text())
    (run / "report.json").write_text(json.dumps(report | {"export": lineage.fingerprint(run / "export")}))


@pytest.mark.parametrize("repo", ["small-bert", "a/b/c", "someone/", "some one/bert", "someone/b--t", "/home/bert"])
def test_what_is_no_repository(run, capsys, repo):
    assert "repository" in refuse(capsys, run, repo)


def test_what_is_no_reported_run(copy, bert_tuned, tmp_path, capsys):
    assert "there is no folder" in refuse(capsys, tmp_path / "none", REPO)
    assert "is not the folder of a run: it holds no export" in refuse(capsys, tmp_path, REPO)
    assert "is the output of finetune; this needs that of export" in refuse(capsys, bert_tuned, REPO)
    (copy / "report.md").unlink()
    assert f"has no report.md; run dsee-compress report {copy} first" in refuse(capsys, copy, REPO)
    assert f"has no report.json; run dsee-compress report {copy}" in refuse(capsys, copy / "export", REPO)


@pytest.mark.parametrize("content", ["{", "[]", "null", '{"schema": 1}'])
def test_a_damaged_report(copy, capsys, content):
    (copy / "report.json").write_text(content)
    assert "report.json is damaged; run dsee-compress report" in refuse(capsys, copy, REPO)


@pytest.mark.parametrize("lost", ["accuracy", "latency", "pipeline", "files", "environment", "structure", "cost"])
def test_a_report_without_a_part(copy, capsys, lost):
    report = json.loads((copy / "report.json").read_text())
    for value in ({}, [], None, 3):
        (copy / "report.json").write_text(json.dumps(report | {lost: value}))
        code = cli._run(["push", str(copy), REPO, "--dry-run"], debug=False)
        assert code in (0, 2) and "internal" not in capsys.readouterr().err


def test_a_report_of_another_export(copy, capsys):
    with (copy / "export" / "tokenizer_config.json").open("a") as file:
        file.write("\n")
    assert "is of an earlier export or version; run dsee-compress report" in refuse(capsys, copy, REPO)
    (copy / "export" / "tokenizer_config.json").unlink()
    assert "tokenizer_config.json is missing; export again with --overwrite" in refuse(capsys, copy, REPO)


def test_a_licence_is_spelt_as_the_hubs(run, capsys):
    assert "license: string should match pattern" in refuse(capsys, run, REPO, "--license", "Apache License 2.0")
