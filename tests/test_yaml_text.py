"""YAML that means one thing, and no more than options need."""

import pytest

from dsee_compress import yaml_text
from dsee_compress.yaml_text import from_yaml


@pytest.mark.parametrize(
    "text, value",
    [
        ("", None),
        ("0.5", 0.5),
        ("{a: [1, two], b: {c: true}}", {"a": [1, "two"], "b": {"c": True}}),
        ("a: &x [1, 2]\nb: *x", {"a": [1, 2], "b": [1, 2]}),
        ("a: &x {p: 1, q: 2}\nb: {<<: *x, q: 3}", {"a": {"p": 1, "q": 2}, "b": {"p": 1, "q": 3}}),
        ("a: {x: 1}\nb: {x: 1}", {"a": {"x": 1}, "b": {"x": 1}}),
    ],
)
def test_values(text, value):
    assert from_yaml(text) == value


@pytest.mark.parametrize(
    "text, sentence",
    [
        ("a: 1\nb: 2\na: 3", "'a' stands twice, on lines 1 and 3"),
        ("finetune:\n  rank: 1\n  'rank': 2", "'rank' stands twice, on lines 2 and 3"),
        ("[{a: 1, a: 1}]", "'a' stands twice, on lines 1 and 1"),
        ("[" * 500 + "]" * 500, "line 1: it is more than 20 levels deep"),
        ("\n" + "- " * 30, "line 2: it is more than 20 levels deep"),
        ("a: &x [1, *x]", "line 1: it holds itself"),
        ("x" * 100_001, "it has 100,001 characters, and 100,000 is the most"),
        ("[" + "1," * 20_000 + "]", "it holds more than 2,000 values"),
        ("!!python/object/apply:os.system [ls]", "could not determine a constructor"),
        ("2024-13-45", "month must be in 1..12"),
        ("!!bool maybe", "'maybe'"),
        ("!!timestamp never", "no attribute"),
        ("!!int ''", "index out of range"),
        ("a: [", "expected the node content"),
        ("a: 1\n---\nb: 2", "expected a single document"),
        ("a\0b", "special characters are not allowed"),
        ("9" * 5000, "digits"),
    ],
)
def test_what_is_refused_is_told_in_one_line(text, sentence):
    with pytest.raises(ValueError, match=r"^[^\n]+$") as told:
        from_yaml(text)
    assert sentence in str(told.value)


def test_aliases_of_aliases_are_counted_before_they_are_written_out():
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{level}: &a{level} [{', '.join([f'*a{level - 1}'] * 9)}]" for level in range(1, 9)]
    with pytest.raises(ValueError, match=r"^line \d: it holds more than 2,000 values$"):
        from_yaml("\n".join(lines))


def test_deepest_and_longest():
    assert from_yaml("[" * yaml_text.DEEPEST + "]" * yaml_text.DEEPEST)
    assert from_yaml("x" * yaml_text.LONGEST)
