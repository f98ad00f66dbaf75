"""Values of options that no one means: too large, of the wrong type, endless to match or to show."""

import time
from typing import Any, get_args

import pytest

import dsee_compress
from dsee_compress import configs
from dsee_compress.configs import (
    BenchmarkConfig,
    BundleConfig,
    ExportConfig,
    FinetuneConfig,
    GenerateConfig,
    ImportPeftConfig,
    PruneConfig,
    ValidateConfig,
)
from dsee_compress.errors import UserError, one_line, shown
from dsee_compress.option_types import pattern_error
from dsee_compress.strict import StrictConfig

CONFIGS = (
    FinetuneConfig,
    ImportPeftConfig,
    PruneConfig,
    ExportConfig,
    ValidateConfig,
    BenchmarkConfig,
    BundleConfig,
    GenerateConfig,
)
NEEDED = {"model": "m", "data": "d"}


def parse(config: type[StrictConfig], **options: Any) -> StrictConfig:
    return config.parse((NEEDED if "model" in config.model_fields else {}) | options)


def kinds(annotation: Any) -> set[Any]:
    parts = get_args(annotation)
    return {annotation}.union(*map(kinds, parts)) if parts else {annotation}


NUMBERS = [
    (config, name)
    for config in CONFIGS
    for name, field in config.model_fields.items()
    if {int, float} & kinds(field.annotation)
]


@pytest.mark.parametrize("config, name", NUMBERS, ids=lambda part: getattr(part, "__name__", part))
def test_every_number_has_an_end_and_is_no_switch(config, name):
    by_pattern = name.endswith("_pattern")
    for value in (1e308, 10**30, 10**5000, float("nan"), float("inf"), True):
        with pytest.raises(UserError, match=f"^{name}[^\n]{{1,300}}$"):
            parse(config, **{name: {"query": value} if by_pattern else value})


@pytest.mark.parametrize("name", ["model", "data", "target", "trim_vocabulary", "keep_texts", "baseline", "compare"])
def test_paths_that_no_system_has(name):
    config = next(config for config in CONFIGS if name in config.model_fields)
    for path in ("a\0b", "x" * 300, "x/" * 3000, "\udcff") + ("",) * (name != "compare"):
        with pytest.raises(UserError, match=rf"^{name}[^\n]{{1,500}}$"):
            parse(config, **{name: path})


@pytest.mark.parametrize(
    "options, sentence",
    [
        ({"label": ""}, "label: string should have at least 1 character, got ''"),
        ({"model_sha256": "abc"}, "model_sha256: string should match pattern"),
        ({"rank_pattern": "query=1,query=2"}, "rank_pattern: 'query' has two values"),
        ({"rank_pattern": "a{99999999999}=2"}, "rank_pattern: 'a{99999999999}' is no regular expression"),
        ({"rank_pattern": {"(": 2}}, "rank_pattern: '(' is no regular expression"),
        ({"positive": True}, "positive: input should be a valid string, got True"),
        ({"text": ["a", True]}, "text.1: input should be a valid string, got True"),
    ],
)
def test_one_sentence(options, sentence):
    with pytest.raises(UserError) as told:
        parse(FinetuneConfig, **options)
    assert sentence in str(told.value)


def test_patterns_of_semi_structured():
    for value in (True, 10**5000, -1, "2:99999999999", "٢:٤"):
        with pytest.raises(UserError, match=r"^semi_structured"):
            parse(PruneConfig, semi_structured=value)


def test_grids_of_too_many_settings():
    with pytest.raises(UserError, match=r"^batch: value should have at most 64 items"):
        parse(BenchmarkConfig, batch=[1] * 65)


@pytest.mark.parametrize(
    "pattern",
    ["query", r"3\.query", "[0-2].value", "(?:[0-9]|1[01]).(query|key)", r"\d+\..*", "layer.[*+?{]", r"\)*", ""],
)
def test_patterns_that_are_soon_matched(pattern):
    assert not pattern_error(pattern)


@pytest.mark.parametrize(
    "pattern",
    [
        *(
            "(a+)+$",
            "(.|.|.)*x",
            "(.*)*",
            "(?:.|.){20}",
            "((.|.)*)",
            ".*" * 7,
            ".?" * 30,
            "(?x)(.|.) *x",
            "(.|.)(?#c)*x",
        ),
        *(r"[\]](.|.)+x", "[]](.|.)+x", "(.|.)*?x", "a{99999999999}", "(" * 5000 + ")" * 5000),
    ],
)
def test_patterns_that_could_take_for_ever(pattern):
    assert pattern_error(pattern)


def test_what_is_shown_is_short_and_plain():
    bomb: list[Any] = ["x"] * 9
    for _ in range(12):
        bomb = [bomb] * 9
    start = time.process_time()
    for value in (bomb, {"a": bomb}, "x" * 10**7, 10**10_000, ["\x1b[31m"], "\u202e"):
        text = shown(value)
        assert len(text) < 2000 and text.isprintable()
    assert time.process_time() - start < 1
    assert shown("two words") == "'two words'" and shown(8) == "8"
    assert one_line("a\n b\x1b[31m\u202e\udcff") == r"a b\x1b[31m\u202e\udcff"
    assert len(one_line("x" * 10**6)) < 1010


def test_recipes_as_python_hold_the_same(tmp_path):
    loop: dict[str, Any] = {}
    loop["rank"] = loop
    with pytest.raises(UserError, match=r"^finetune\.rank: input should be a valid integer"):
        dsee_compress.run({"finetune": NEEDED | loop}, output=tmp_path / "run")
    with pytest.raises(UserError):
        configs.RunConfig.parse({1: 2, "finetune": NEEDED})
