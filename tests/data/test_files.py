"""What is trained on is what the file says, to the letter; and mistakes in files are told with their place."""

import csv
import io
import json
import os
from pathlib import Path

import pyarrow
import pyarrow.parquet
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from transformers import AutoTokenizer

import dsee_compress
from dsee_compress import data, tasks
from dsee_compress.configs import FinetuneConfig
from dsee_compress.errors import UserError
from dsee_compress.store.manifest import Manifest

SUFFIXES = ("jsonl", "csv", "parquet")
Rows = list[dict]


@pytest.fixture(scope="module")
def tokenizer(bert):
    return AutoTokenizer.from_pretrained(bert)


def write(path: Path, rows: Rows, *, bom: bool = False, end: str = "\n") -> None:
    """Rows of strings in the format that the name of the file says."""
    if path.suffix == ".parquet":
        pyarrow.parquet.write_table(pyarrow.Table.from_pylist(rows), path)
        return
    text = io.StringIO(newline="")
    if path.suffix == ".csv":
        writer = csv.DictWriter(text, list(rows[0]), lineterminator=end, quoting=csv.QUOTE_ALL)
        writer.writeheader()
        writer.writerows(rows)
    else:
        text.writelines(json.dumps(row, ensure_ascii=len(rows) % 2 == 0) + end for row in rows)
    path.write_bytes((b"\xef\xbb\xbf" if bom else b"") + text.getvalue().encode())


def describe(folder: Path, **options):
    config = FinetuneConfig.parse({"model": "x", "data": str(folder), "max_length": 24, **options})
    return tasks.describe(str(folder), config)


def trained_on(folder: Path, tokenizer, **options) -> tuple[list, list]:
    """The tokens and the names of the labels that `finetune` trains on."""
    task = describe(folder, **options)
    rows = tasks.encode(task, "train", tokenizer)
    return list(rows["input_ids"]), [task.labels[index] for index in rows["labels"]]


def lines(folder: Path, content: str | bytes, name: str = "train.jsonl") -> Path:
    (folder / name).write_bytes(content.encode() if isinstance(content, str) else content)
    return folder


TEXTS = st.one_of(
    st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=30),
    st.sampled_from(
        [
            "01",
            "1e5",
            "1.10",
            "TRUE",
            "null",
            "NA",
            "nan",
            "2024-01-02",
            "2024-01-02T03:04:05Z",
            "12:30",
            "a,b",
            '"',
            "",
        ]
    ),
    st.text(st.sampled_from(",\";\t\n\r'\\ a1é中\u2028\ufeff"), max_size=12),
)
LABELS = TEXTS.filter(bool)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    table=st.lists(st.tuples(TEXTS, TEXTS, LABELS), min_size=2, max_size=8).filter(
        lambda t: len({r[2] for r in t}) > 1
    ),
    suffix=st.sampled_from(SUFFIXES),
    bom=st.booleans(),
    end=st.sampled_from(["\n", "\r\n"]),
    pair=st.booleans(),
)
def test_what_is_trained_on_is_what_was_written(tmp_path_factory, tokenizer, table, suffix, bom, end, pair):
    folder = tmp_path_factory.mktemp("set")
    rows = [{"text": first, "other": second, "label": label} for first, second, label in table]
    write(folder / f"train.{suffix}", rows, bom=bom, end=end)
    texts = ["text", "other"] if pair else ["text"]
    columns = [[row[name] for row in rows] for name in texts]
    expected = tokenizer(*columns, truncation=True, max_length=24)["input_ids"]
    assert trained_on(folder, tokenizer, text=texts) == (expected, [row["label"] for row in rows])


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_finetune_keeps_labels_as_they_are_written(tmp_path, bert, suffix):
    labels = ["01", "1.10", "1.1", "TRUE", "2024-01-02", "None"]
    rows = [{"text": f"the film {number}, {label}", "label": label} for number, label in enumerate(labels * 2)]
    for split in ("train", "validation"):
        write(tmp_path / f"{split}.{suffix}", rows)
    made = dsee_compress.finetune(model=str(bert), data=str(tmp_path), output=tmp_path / "out", epochs=1)
    task = Manifest.read(made).task
    assert (task.labels, task.text, task.label) == (sorted(labels), ["text"], "label")
    assert json.loads((made / "config.json").read_text())["label2id"] == {
        label: index for index, label in enumerate(sorted(labels))
    }


def test_a_file_is_read_anew_though_its_date_is_the_same(tmp_path, tokenizer):
    for label in ("old", "new"):
        write(tmp_path / "train.jsonl", [{"text": "a", "label": label}, {"text": "b", "label": "other"}])
        os.utime(tmp_path / "train.jsonl", (1_700_000_000,) * 2)
        assert describe(tmp_path).labels == sorted([label, "other"])


@pytest.mark.parametrize("name", ["set[12]", "a?b", "a*b", "$HOME", "a::b", "a b", "{x}", "%20", "-x", "ü"])
@pytest.mark.parametrize("suffix", SUFFIXES)
def test_the_name_of_a_folder_is_no_pattern(tmp_path, tokenizer, name, suffix):
    for other in ("set1", "axb", name):
        (tmp_path / other).mkdir(exist_ok=True)
        write(
            tmp_path / other / f"train.{suffix}",
            [{"text": text, "label": f"{other} {text}"} for text in "ab"],
        )
    assert describe(tmp_path / name).labels == [f"{name} a", f"{name} b"]


def test_a_csv_of_many_rows_has_one_type(tmp_path):
    codes = [f"film {row},{'x' if row == 10_500 else ('01', '02')[row % 2]}" for row in range(10_600)]
    assert describe(lines(tmp_path, "\n".join(["text,label", *codes]), "train.csv")).labels == ["01", "02", "x"]


def test_splits_in_different_formats_agree(tmp_path, tokenizer):
    rows = [{"text": "a", "label": "false"}, {"text": "b", "label": "true"}]
    write(tmp_path / "train.csv", rows)
    lines(tmp_path, '{"text": "a", "label": true}\n{"text": "b", "label": false}\n', "validation.jsonl")
    task = describe(tmp_path)
    assert task.labels == ["false", "true"]
    assert list(tasks.encode(task, "validation", tokenizer)["labels"]) == [1, 0]


@pytest.mark.parametrize(
    "labels, names",
    [
        ([10, 9, 2], ["2", "9", "10"]),
        ([1.0, 0.0], ["0", "1"]),
        ([True, False], ["false", "true"]),
        ([2**70, -3], ["-3", str(2**70)]),
        (["2024-05-06T07:08:09", "b"], ["2024-05-06T07:08:09", "b"]),
    ],
)
def test_labels_of_jsonl(tmp_path, labels, names):
    content = "".join(json.dumps({"text": "a", "label": label}) + "\n" for label in labels)
    assert describe(lines(tmp_path, content)).labels == names


def test_a_class_label_of_parquet_is_its_name(tmp_path, tokenizer):
    from datasets import ClassLabel, Dataset, Features, Value

    features = Features({"text": Value("large_string"), "label": ClassLabel(names=["good", "bad"])})
    rows = Dataset.from_dict({"text": ["a", "b", "c"], "label": [1, 0, 1]}, features=features)
    rows.to_parquet(tmp_path / "train.parquet")
    assert trained_on(tmp_path, tokenizer)[1] == ["bad", "good", "bad"]
    assert describe(tmp_path).labels == ["good", "bad"]
    Dataset.from_dict({"text": ["a", "b"], "label": [0, -1]}, features=features).to_parquet(tmp_path / "train.parquet")
    with pytest.raises(UserError, match=r"the train split of .*train.parquet, row 1 has no label \(-1\)"):
        describe(tmp_path)


def test_columns_of_other_types_in_parquet(tmp_path, tokenizer):
    table = pyarrow.table(
        {
            "text": pyarrow.array(["a film", "a town", "a film"]).dictionary_encode(),
            "label": pyarrow.array([0.0, 1.0, 1.0]),
            "when": pyarrow.array([0, 1, 2], pyarrow.timestamp("ns")),
        }
    )
    pyarrow.parquet.write_table(table, tmp_path / "train.parquet", row_group_size=2)
    expected = tokenizer(["a film", "a town", "a film"])["input_ids"]
    assert trained_on(tmp_path, tokenizer) == (expected, ["0", "1", "1"])
    with pytest.raises(UserError, match=r"values of the type .* as labels \(train.parquet, row 0\)"):
        describe(tmp_path, label="when")


def test_parquet_in_parts(tmp_path, tokenizer):
    for part in range(2):
        write(tmp_path / f"train-0000{part}-of-00002.parquet", [{"text": f"{part}", "label": f"l{part}"}])
    assert trained_on(tmp_path, tokenizer)[1] == ["l0", "l1"]
    before = data.fingerprint(str(tmp_path), "train")
    write(tmp_path / "train-00001-of-00002.parquet", [{"text": "1", "label": "l2"}])
    assert data.fingerprint(str(tmp_path), "train") != before
    (tmp_path / "train-00000-of-00002.parquet").unlink()
    with pytest.raises(UserError, match=r"has no train-00000-of-00002.parquet"):
        describe(tmp_path)


def test_a_csv_with_an_index_empty_lines_and_line_ends_in_cells(tmp_path, tokenizer):
    content = '\ufeff,text,label\r\n\r\n0,"a\r\nfilm, ""good""",x\r\n1,,y\r\n\r\n'
    found = trained_on(lines(tmp_path, content, "train.csv"), tokenizer)
    assert found == (tokenizer(['a\r\nfilm, "good"', ""])["input_ids"], ["x", "y"])


def test_numbers_of_a_csv_are_written_as_numbers(tmp_path, tokenizer):
    folder = lines(
        tmp_path, "text,label\n" + "".join(f"a,{cell}\n" for cell in ["1", "-2.5", "+.5", "1e2", "3."]), "train.csv"
    )
    task = describe(folder, task="regression")
    assert list(tasks.encode(task, "train", tokenizer)["labels"]) == [1.0, -2.5, 0.5, 100.0, 3.0]
    for cell in ("1_000", " 1", "nan", "inf", "0x10", "1,5", "٣", "true", "", "1e999"):
        lines(tmp_path, f'text,label\na,1\nb,"{cell}"\n', "train.csv")
        with pytest.raises(UserError, match=r"in 'label', row 1; regression needs numbers \(train.csv, line 3\)"):
            describe(folder, task="regression")


GOOD = '{"text": "a", "label": "x"}\n'
OTHER = '{"text": "b", "label": "y"}\n'


@pytest.mark.parametrize(
    "content, sentence",
    [
        (f"{GOOD}null\n", "train.jsonl cannot be read as jsonl: line 2 is null, not an object"),
        ("[1]\n", "line 1 is a list, not an object"),
        (f"{GOOD}\n3\n", "line 3 is a number, not an object"),
        (f"{GOOD}{{'text': 1}}\n", "line 2 is not JSON"),
        (GOOD.encode() + "ü".encode("latin-1"), r"line 2 is not UTF-8 \(byte 0xfc\)"),
        ("\ufeff".encode("utf-16"), "line 1 is not UTF-8"),
        ('{"text": "a", "text": "b", "label": "x"}\n', "line 1 names 'text' twice"),
        ('{"text": "a", "label": ' + "[" * 100_000 + "\n", "line 1 is nested too deeply"),
        (f'{GOOD}{{"text": "\\ud83d", "label": "y"}}\n', r"'text' has half a character, .*\(train.jsonl, line 2\)"),
        (f'{GOOD}{{"text": "b", "label": "\\ud83d"}}\n', "train.jsonl, line 2 has .* which is no text"),
        (f'{GOOD}{{"text": "b", "label": 1}}\n', r"'label': 'x' \(train.jsonl, line 1\) and 1 \(train.jsonl, line 2\)"),
        ('{"text": "b", "label": true}\n{"text": "b", "label": 1}\n', "types in 'label': true .* and 1 "),
        ('{"text": "b", "label": "1"}\n{"text": "b", "label": 1}\n', "types in 'label': '1' .* and 1 "),
        (f'{GOOD}{{"text": "b", "label": null}}\n', r"without a 'label'; the first is train.jsonl, line 2"),
        (f'{GOOD}{{"text": "b"}}\n', r"without a 'label'; the first is train.jsonl, line 2"),
        (f'{GOOD}{{"text": "b", "label": ""}}\n', r"without a 'label'; the first is train.jsonl, line 2"),
        ('{"text": "b", "label": NaN}\n', r"without a 'label'; the first is train.jsonl, line 1"),
        (f'{GOOD}{{"text": "b", "label": ["x"]}}\n', r"lists or objects in 'label' \(train.jsonl, line 2\)"),
        (f'{GOOD}{{"label": "y"}}\n', r"column 'text' has None where a text should be \(train.jsonl, line 2\)"),
        (f'{GOOD}{{"text": 3, "label": "y"}}\n', r"column 'text' has 3 where a text should be \(train.jsonl, line 2\)"),
        ("\n \n", "has no rows"),
        (f"{GOOD}{{\"text\": \"b\", \"label\": {'9' * 5000}}}\n", "line 2 is not JSON"),
    ],
)  # fmt: skip
def test_mistakes_in_jsonl_are_told_with_their_line(tmp_path, tokenizer, content, sentence):
    with pytest.raises(UserError, match=sentence) as error:
        trained_on(lines(tmp_path, content), tokenizer)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    "content, sentence",
    [
        ("text,label\na,x\nb, really,y\n", "line 3 has 3 fields and the header 2; put a text with commas into double"),
        ('text,label\n"a\nb",x\nb\n', "line 4 has 1 fields and the header 2"),
        ("text;label\na;x\n", "its header is one column, 'text;label'; separate columns by commas"),
        ("text\tlabel\na\tx\n", "separate columns by commas"),
        ("text,text,label\na,b,x\n", "two columns are called 'text'"),
        ("text,label\na\0,x\n", "line 2 holds a NUL"),
        ('text,label\na,x\n"b,y\n', "the record at line 3: unexpected end of data"),
        ('text,label\n"a"b,x\n', "the record at line 2"),
        ("text,label\na,x\nü,y\n".encode("latin-1"), r"line 3 is not UTF-8 \(byte 0xfc\)"),
        ("text,label\na,\nb,x\n", "has rows without a 'label'; the first is train.csv, line 2"),
        ("text,label\n", "train.csv has no rows"),
        ("\n", "train.csv has no rows"),
    ],
)
def test_mistakes_in_csv_are_told_with_their_line(tmp_path, tokenizer, content, sentence):
    with pytest.raises(UserError, match=sentence) as error:
        trained_on(lines(tmp_path, content, "train.csv"), tokenizer)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("damage", [slice(0, 40), slice(4, None)])
def test_a_damaged_parquet(tmp_path, damage):
    write(tmp_path / "train.parquet", [{"text": "a", "label": "x"}, {"text": "b", "label": "y"}])
    lines(tmp_path, (tmp_path / "train.parquet").read_bytes()[damage], "train.parquet")
    with pytest.raises(UserError, match=r"train\.parquet cannot be read as parquet: ") as error:
        describe(tmp_path)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    "make, sentence",
    [
        (os.mkfifo, "is no ordinary file; a split is a file"),
        (os.mkdir, "is a folder; a split is a file"),
        (lambda path: path.symlink_to("nowhere"), "is a link to nothing; a split is a file"),
    ],
)
def test_a_split_that_is_no_file(tmp_path, make, sentence):
    make(tmp_path / "train.jsonl")
    with pytest.raises(UserError, match=sentence):
        data.fingerprint(str(tmp_path), "train")


def test_a_link_to_a_file_is_read(tmp_path):
    (tmp_path / "set").mkdir()
    lines(tmp_path, GOOD + OTHER, "elsewhere")
    (tmp_path / "set" / "train.jsonl").symlink_to(tmp_path / "elsewhere")
    assert describe(tmp_path / "set").labels == ["x", "y"]


def test_a_file_that_changes_between_its_hash_and_its_reading(tmp_path, bert, monkeypatch):
    for split in ("train", "validation"):
        lines(tmp_path, GOOD + OTHER, f"{split}.jsonl")
    own = tasks.describe

    def describe_later(*arguments):
        lines(tmp_path, GOOD + OTHER + OTHER)
        return own(*arguments)

    monkeypatch.setattr(tasks, "describe", describe_later)
    with pytest.raises(UserError, match="changed while it was read; run the command again"):
        dsee_compress.finetune(model=str(bert), data=str(tmp_path), output=tmp_path / "out")
    assert not (tmp_path / "out").exists()
