"""The whole way of tasks other than single-text classification by accuracy: what each stage says of them."""

import json
import random
from pathlib import Path

import numpy as np
import pytest
from scipy import stats
from sklearn import metrics as sklearn_metrics

import dsee_compress
from dsee_compress.errors import GateError
from dsee_compress.store.manifest import Manifest

from ..fixtures.models import write_jsonl

FINETUNE = {"epochs": 12, "batch_size": 16, "learning_rate": 1e-2, "rank": 3, "sparse": 5, "alpha": 6.0}
LENIENT = {"max_drop": 0.9, "max_compression_drop": 0.9}
GOOD, BAD, PLAIN = ["lovely", "bright", "warm"], ["dreary", "cold", "dull"], ["the", "film", "was", "a", "story"]


def write(folder: Path, row) -> Path:
    draw = random.Random(7)
    folder.mkdir()
    for split, count in (("train", 200), ("validation", 60)):
        write_jsonl(folder / f"{split}.jsonl", [row(draw) for _ in range(count)])
    return folder


def scored(draw: random.Random) -> dict:
    """A score as STS-B has it, 0 to 5: by how many of five telling words are good ones."""
    good = draw.randint(0, 5)
    words = draw.choices(GOOD, k=good) + draw.choices(BAD, k=5 - good)
    return {"sentence1": " ".join(draw.choices(PLAIN, k=3)), "sentence2": " ".join(words), "score": good + 0.25}


def judged(draw: random.Random) -> dict:
    """A pair as MRPC has it; two in three are of one label."""
    same = draw.random() < 0.67
    word = draw.choice(GOOD if same else BAD)
    texts = [" ".join(draw.choices(PLAIN, k=4)) for _ in range(2)]
    return {"sentence1": texts[0], "sentence2": f"{texts[1]} {word}", "label": "same" if same else "another"}


def way(bert: Path, data: Path, run: Path, **options) -> Path:
    """A run of every stage, as a recipe has it."""
    recipe = {
        "finetune": {"model": str(bert), "data": str(data), **FINETUNE, **options},
        "prune": {"retune_epochs": 2, "learning_rate": 1e-2, "batch_size": 16, "heads": 0.34, "neurons": 0.3},
        "validate": LENIENT,
        "benchmark": {"samples": 10, "rounds": 1, "warmup": 1, "sequence_length": 16, "threads": 1},
    }
    return dsee_compress.run(recipe, output=run)


@pytest.fixture(scope="module")
def regression(bert, tmp_path_factory) -> Path:
    root = tmp_path_factory.mktemp("regression")
    return way(bert, write(root / "scores", scored), root / "run", task="regression", label="score")


@pytest.fixture(scope="module")
def pair(bert, tmp_path_factory) -> Path:
    root = tmp_path_factory.mktemp("pair")
    return way(bert, write(root / "pairs", judged), root / "run", metric="f1", positive="same")


def result(folder: Path) -> dict:
    return json.loads((folder / "export" / "validation.json").read_text())


def labels(run: Path, column: str) -> list:
    data = Path(Manifest.read(run / "finetune").task.data)
    return [json.loads(line)[column] for line in (data / "validation.jsonl").read_text().splitlines()]


def test_regression_learns_its_scores_and_keeps_no_labels(regression):
    manifest = Manifest.read(regression / "finetune")
    assert (manifest.task.name, manifest.task.metric, manifest.task.labels) == ("regression", "pearson", [])
    assert list(manifest.metrics.validation) == ["pearson", "spearman"]
    assert manifest.metrics.validation["pearson"] > 0.8
    config = dsee_compress.load(regression / "prune").config
    assert (config.problem_type, config.num_labels) == ("regression", 1)


def test_regression_is_measured_by_both_correlations(regression):
    measured, scores = result(regression), labels(regression, "score")
    for name, entry in measured["accuracy"].items():
        predictions = measured["predictions"][name]
        assert all(isinstance(value, float) for value in predictions)
        assert entry["value"] == pytest.approx(stats.pearsonr(predictions, scores).statistic)
        assert measured["other_metrics"][name] == {
            "spearman": pytest.approx(stats.spearmanr(predictions, scores).statistic)
        }
        assert entry["ci95"][0] <= entry["value"] <= entry["ci95"][1]
    manifest = Manifest.read(regression / "prune")
    assert manifest.metrics.validation["pearson"] == pytest.approx(measured["accuracy"]["pruned"]["value"])


def test_gates_of_regression_claim_no_agreement_of_labels(regression):
    for stage in ("prune", "export", "dense"):
        assert Manifest.read(regression / stage).metrics.label_agreement is None
    assert result(regression)["parity"]["label_agreement"] is None
    assert result(regression)["parity"]["export_max_abs"] <= 1e-3


@pytest.mark.optimum
def test_optimum_and_a_pipeline_run_a_regression_unchanged(regression):
    import onnx
    from optimum.onnxruntime import ORTModelForSequenceClassification
    from transformers import AutoTokenizer, pipeline

    folder = regression / "export"
    output = onnx.load(folder / "model.onnx").graph.output[0]
    assert output.name == "logits"
    assert output.type.tensor_type.shape.dim[1].dim_value == 1
    data = Path(Manifest.read(folder).task.data)
    rows = [json.loads(line) for line in (data / "validation.jsonl").read_text().splitlines()][:8]
    answer = pipeline(
        "text-classification",
        model=ORTModelForSequenceClassification.from_pretrained(folder),
        tokenizer=AutoTokenizer.from_pretrained(folder),
    )
    answers = [answer({"text": row["sentence1"], "text_pair": row["sentence2"]}) for row in rows]
    assert {entry["label"] for entry in answers} == {"score"}
    ours = result(regression)["predictions"]["onnx_fp32"][:8]
    assert [entry["score"] for entry in answers] == pytest.approx(ours, abs=1e-4)


def test_a_regression_ruined_by_pruning_is_caught_in_the_metrics_own_unit(regression, tmp_path):
    pruned = dsee_compress.prune(regression / "finetune", output=tmp_path / "prune", weights=0.99, retune_epochs=0)
    with pytest.raises(
        GateError, match=r"the Pearson correlation of pruned is [01]\.\d{4} below that of dense_finetuned"
    ):
        dsee_compress.validate(pruned, max_compression_drop=0.1)
    assert not (pruned / "validation.json").exists()


def test_pairs_are_judged_by_f1_of_the_named_label_with_accuracy_beside_it(pair):
    task = Manifest.read(pair / "finetune").task
    assert (task.labels, task.positive, task.metric) == (["another", "same"], "same", "f1")
    measured, truth = result(pair), [task.labels.index(label) for label in labels(pair, "label")]
    for name, entry in measured["accuracy"].items():
        predictions = measured["predictions"][name]
        assert entry["value"] == pytest.approx(sklearn_metrics.f1_score(truth, predictions))
        assert measured["other_metrics"][name] == {
            "accuracy": pytest.approx(np.mean(np.array(predictions) == truth)),
            "matthews": pytest.approx(sklearn_metrics.matthews_corrcoef(truth, predictions)),
        }
    assert measured["accuracy"]["dense_finetuned"]["value"] > 0.85
    assert result(pair)["parity"]["label_agreement"] == 1.0


def test_the_metric_of_another_run_on_the_same_data_is_matthews(bert, pair, tmp_path):
    data = Manifest.read(pair / "finetune").task.data
    tuned = dsee_compress.finetune(
        model=str(bert), data=data, output=tmp_path / "tuned", metric="matthews", **FINETUNE | {"epochs": 2}
    )
    dsee_compress.validate(tuned)
    measured = json.loads((tuned / "validation.json").read_text())
    assert measured["metric"] == "matthews"
    assert list(measured["other_metrics"]["dense_finetuned"]) == ["accuracy", "f1"]


def test_reports_name_the_metric_and_write_a_correlation_as_it_is(regression, pair):
    content = json.loads((regression / "report.json").read_text())
    assert (content["task"]["kind"], content["task"]["metric"]) == ("regression", "pearson")
    value = content["accuracy"]["onnx_fp32"]["value"]
    for name in ("report.md", "report.html"):
        text = (regression / name).read_text()
        assert f"{value:.3f}" in text and "Pearson correlation" in text and "Spearman correlation" in text
        for word in ("ccuracy", "points", "of the labels agree"):
            assert word not in text.replace('id="accuracy"', ""), word
    text = (pair / "report.md").read_text()
    content = json.loads((pair / "report.json").read_text())
    assert any(f"{100 * entry['value']:.1f} % F1 (" in text for entry in content["accuracy"].values())
    assert "| model | F1 | interval | accuracy | Matthews correlation |" in text
    assert f"{content['other_metrics']['pruned']['matthews']:.3f}" in text
    assert "points" in text and "of the labels agree" in text


@pytest.mark.parametrize("command", ["validate", "finetune", "prune", "inspect"])
def test_the_screen_names_the_metric(regression, capsys, monkeypatch, command):
    """Stages that are up to date print what they would have."""
    from dsee_compress_cli import main as cli

    monkeypatch.setenv("COLUMNS", "200")
    manifest = Manifest.read(regression / "finetune")
    given = {name: value for name, value in manifest.config.items() if value not in (None, False)}
    given["targets"] = ",".join(given["targets"])
    tuned = [part for name, value in given.items() for part in (f"--{name.replace('_', '-')}", value)]
    pruned = {"heads": 0.34, "neurons": 0.3, "retune_epochs": 2, "learning_rate": 1e-2, "batch_size": 16}
    arguments = {
        "validate": [regression / "export", "--max-drop", 0.9, "--max-compression-drop", 0.9],
        "finetune": ["--output", regression / "finetune", *tuned],
        "prune": [
            *(regression / "finetune", "--output", regression / "prune"),
            *(part for name, value in pruned.items() for part in (f"--{name.replace('_', '-')}", value)),
        ],
        "inspect": [regression / "export"],
    }
    code = cli._run([command, *map(str, arguments[command])], debug=False)
    printed = capsys.readouterr()
    assert code == 0, printed.err
    assert "earson" in printed.out and "accuracy" not in printed.out
