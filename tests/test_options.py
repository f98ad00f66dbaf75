"""A type checker refuses what the configs refuse, before anything runs."""

import re
import subprocess
import sys
from functools import reduce
from operator import or_
from pathlib import Path
from types import UnionType
from typing import Annotated, Any, Union, Unpack, get_args, get_origin, get_type_hints

import pytest

import dsee_compress
from dsee_compress import configs, options

ROOT = Path(__file__).parents[1]
FUNCTIONS = {
    "finetune": (configs.FinetuneConfig, options.FinetuneOptions),
    "import_peft": (configs.ImportPeftConfig, options.ImportPeftOptions),
    "prune": (configs.PruneConfig, options.PruneOptions),
    "export": (configs.ExportConfig, options.ExportOptions),
    "validate": (configs.ValidateConfig, options.ValidateOptions),
    "benchmark": (configs.BenchmarkConfig, options.BenchmarkOptions),
    "bundle": (configs.BundleConfig, options.BundleOptions),
    "push": (configs.PushConfig, options.PushOptions),
    "generate": (configs.GenerateConfig, options.GenerateOptions),
}
PROGRAM = """
from pathlib import Path

from dsee_compress import benchmark, bundle, export, finetune, generate, import_peft, prune, push, validate
from dsee_compress.store.manifest import ExportManifest, PruneManifest

finetune(model="m", data="d", output="out", epochs=3, targets=["query", "value"], rank_pattern={"query": 4})
finetune(modle="m", data="d", output="out")  # error
finetune(data="d", output="out")  # error
finetune(model="m", data="d", output="out", epochs="x")  # error
finetune(model="m", data="d", output="out", targets=["nothing"])  # error
import_peft("lora", model="m", data="d", output=Path("out"), batch_size=8)
import_peft("lora", model="m", data="d", output="out", rank=8)  # error
prune("in", output="out", flops_saved=0.25, criterion="taylor", distill=True)
prune("in", output="out", criterion="magic")  # error
export(Path("in"), output="out", precision="int8", target="arm64")
export("in", output="out", precision=["fp32", "int9"])  # error
validate("in", split="test", beams=4, overwrite=True)
validate("in", split="train")  # error
benchmark("in", batch=[1, 8], sequence_length=32)
benchmark("in", batch="many")  # error
bundle("in", output="out", precision="int8")
bundle("in", output="out", precisions="int8")  # error
generate("in", ["a"], temperature=0.8, top_p=0.9)
generate("in", ["a"], top_k=5)  # error
push("run", "owner/name", license="mit", private=True)
push("run", "owner/name", public=True)  # error
PruneManifest.read(Path("in")).metrics.merge_max_abs + 1.0
PruneManifest.read(Path("in")).metrics.merge_max + 1.0  # error
ExportManifest.read(Path("in")).metrics.fp32.attention + 1
ExportManifest.read(Path("in")).metrics.int8.reduce_range  # error
"""
"""As a user would write it; one line in two is wrong. int8 need not be among an export's precisions."""


def test_mypy_refuses_unknown_and_ill_typed_options_and_figures(tmp_path):
    program = tmp_path / "program.py"
    program.write_text(PROGRAM)
    mypy = [sys.executable, "-m", "mypy", "--config-file", ROOT / "pyproject.toml", "--no-error-summary", program]
    found = subprocess.run(mypy, cwd=ROOT, capture_output=True, text=True, check=False)
    lines = {int(line) for line in re.findall(r"program\.py:(\d+): error", found.stdout)}
    wrong = {number for number, line in enumerate(PROGRAM.splitlines(), 1) if line.endswith("# error")}
    assert lines == wrong, found.stdout + found.stderr


@pytest.mark.parametrize("name", FUNCTIONS)
def test_the_types_are_those_of_the_config(name):
    config, typed = FUNCTIONS[name]
    assert get_type_hints(getattr(dsee_compress, name))["options"] == Unpack[typed]
    fields = config.model_fields
    assert {name: plain(hint) for name, hint in get_type_hints(typed).items()} == {
        name: plain(field.annotation, several=True) for name, field in fields.items()
    }
    assert typed.__required_keys__ == {name for name, field in fields.items() if field.is_required()}


def plain(hint: Any, several: bool = False) -> Any:
    """A type without what pydantic checks beside it. several: one value stands for a list of it, too."""
    origin, arguments = get_origin(hint), get_args(hint)
    if origin is Annotated:
        return plain(arguments[0], several)
    if origin in (Union, UnionType):
        return reduce(or_, (plain(argument, several) for argument in arguments))
    if origin is list:
        (item,) = map(plain, arguments)
        return item | list[item] if several else list[item]
    if origin is dict:
        return dict[tuple(map(plain, arguments))]
    return hint
