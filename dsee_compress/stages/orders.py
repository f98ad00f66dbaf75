"""What a device allows, as a budget that pruning keeps to: milliseconds, times as fast, megabytes.

The table that says what structures cost is kept in `ADAPTER.tables`, beside the adapter that is pruned, and is used
again on the same machine.
"""

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter
from transformers import PretrainedConfig

from .. import architectures, distributed, interfaces, targets
from ..configs import ExportConfig, Precision, PruneConfig
from ..costs.table import Table
from ..errors import UserError
from ..evaluation import environment, session
from ..evaluation.latency import Setting
from ..exporting.skeleton import UnlikeGraphsError
from ..progress import step, tell
from ..pruning import selection
from ..pruning.selection import Goal
from ..store import folders
from ..store.stage_metrics import OrderMetrics
from ..store.structure import Structure
from ..targets import Target
from . import cost_table, export

_CALLS: dict[str, Any] = {"samples": 24, "rounds": 3, "warmup": 1, "seed": 0}
"""Of each graph that a table is measured with, at most."""


@dataclass(frozen=True)
class Order:
    """A goal of a device, and what it was made of."""

    goal: Goal
    dense: float
    """What the whole model costs, in the table's unit."""
    told: dict[str, Any]
    """Precision, batch and so on."""

    def metrics(self, structure: Structure) -> OrderMetrics:
        """What a manifest says of it, with what the table says of a structure."""
        return OrderMetrics(
            unit=self.goal.table.unit,
            budget=self.goal.budget,
            dense=self.dense,
            predicted=self.goal.table.of(structure),
            **self.told,
        )


@dataclass(frozen=True)
class _Place:
    """Where and how the model is called."""

    exported: ExportConfig
    """Of one precision."""
    target: Target
    precision: Precision


def require_possible(config: PruneConfig, model: PretrainedConfig) -> None:
    """UserError where what `config` orders, if anything, cannot be measured for such a model or on this machine."""
    if config.order is not None:
        _place(config.order, config, model)


def of(config: PruneConfig, model: PretrainedConfig, adapter: Path) -> Order | None:
    """The order that `config` is, if it is one, for models of a pretrained config; its table is kept beside `adapter`.

    UserError as of `require_possible`, or where the goal is out of reach.
    """
    name = config.order
    if name is None:
        return None
    place = _place(name, config, model)
    called = _called(config, place.target) if name != "size" else {}
    table = _table(model, place, called, adapter.with_name(f"{adapter.name}.tables"))
    dense = table.of(selection.whole(architectures.blank(model)))
    budget = {"latency": config.latency, "size": config.size}.get(name) or dense / (config.speedup or 1)
    _require_reachable(name, getattr(config, name), table, dense, budget)
    told = {"order": name, "target": place.exported.target, "precision": place.precision, **called}
    return Order(Goal(table, budget), dense, told)


def _place(name: str, config: PruneConfig, model: PretrainedConfig) -> _Place:
    if len(interfaces.of(model.model_type).PHASES) > 1:
        raise UserError(f"{name} is for models that answer in one call; use flops_saved for {model.model_type}")
    exported, target = export.resolve(ExportConfig(target=config.target))
    assert exported.precision is not None
    precision = config.precision or usual(exported.precision)
    export.require_precisions([precision], model.model_type)
    if precision == "int8_static":
        raise UserError(f"{name} cannot be told of int8_static, whose weights decide what stays in fp32; order int8")
    if name != "size" and (obstacle := targets.obstacle(target)):
        raise UserError(f"{name} cannot be measured here: the target is {exported.target}; {obstacle}")
    session.require_provider(target.provider)
    return _Place(exported.model_copy(update={"precision": [precision]}), target, precision)


def usual(precisions: list[Precision]) -> Precision:
    """Which of a target's precisions is meant where none is named."""
    return "int8" if "int8" in precisions else precisions[-1]


def _called(config: PruneConfig, target: Target) -> dict[str, Any]:
    """How the model is called on the target."""
    return {
        "provider": target.provider,
        "threads": config.threads or target.threads or environment.physical_cores(),
        "batch": config.batch,
        "sequence_length": config.sequence_length,
    }


def _require_reachable(name: str, asked: float, table: Table, dense: float, budget: float) -> None:
    if table.least > budget:
        fastest = {
            "latency": f"the fastest structure takes {table.least:.3g} ms, the whole model {dense:.3g}",
            "speedup": f"the fastest structure is {dense / table.least:.3g} times as fast",
            "size": f"the smallest structure takes {table.least:.3g} MB, the whole model {dense:.3g}",
        }
        raise UserError(f"{name} {asked:g} is out of reach: {fastest[name]}")
    if dense <= budget:
        tell(f"{name} {asked:g} is what the whole model keeps to, with {dense:.3g} {table.unit}")


@distributed.in_main
def _table(model: PretrainedConfig, place: _Place, called: dict[str, Any], folder: Path) -> Table:
    """The table in `folder` that was made for the same model on this machine, or a new one, which is kept there.

    Of milliseconds, where it says how the model is called; of megabytes, if not.
    """
    exported, target, precision = place.exported, place.target, place.precision
    rules = export.rules_of(exported, target)
    whole = architectures.layers(architectures.blank(model))
    key = {
        "model": {
            "family": model.model_type,
            "head": architectures.head_of(model),
            "layers": [[layer.heads, layer.neurons] for layer in whole],
            "head_size": whole[0].head_size,
            "hidden_size": model.hidden_size,
            "vocabulary": model.vocab_size,
        },
        "graph": [exported.graph, exported.opset, precision, asdict(rules)],
        "called": called,
        **(environment.of_latency(target.provider) if called else {}),
    }
    shape = "-{batch}x{sequence_length}-{threads}threads-{provider}".format_map(called) if called else ""
    file = folder / f"{'latency' if called else 'size'}-{precision}{shape}.json"
    if (found := _kept(file, key)) is not None:
        return found
    with step(f"measure what layers cost in {precision}"):
        try:
            drawn = cost_table.Drawn.of(model, exported, rules, target.provider)
        except UnlikeGraphsError as error:
            raise UserError(
                f"what layers cost cannot be measured for {model.model_type} in {precision} ({error}); use flops_saved"
            ) from error
        table = drawn.milliseconds(Setting(**called, **_CALLS)) if called else drawn.megabytes()
    folder.mkdir(parents=True, exist_ok=True)
    folders.write_json(file, {"key": key, "table": asdict(table)})
    return table


def _kept(file: Path, key: dict[str, Any]) -> Table | None:
    """The table in a file, if it is one with this key."""
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
        return TypeAdapter(Table).validate_python(content["table"]) if content["key"] == key else None
    except FileNotFoundError:
        return None
    except (OSError, ValueError, TypeError, KeyError, RecursionError):
        tell(f"{file} is damaged; the table is made anew")
        return None
