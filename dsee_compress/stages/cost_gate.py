"""Gate "cost": what the table said of a model, against what is measured of its artifact."""

from pathlib import Path
from typing import Any

import numpy as np

from ..errors import GateError
from ..evaluation import latency
from ..evaluation.bootstrap import Interval
from ..store import lineage
from ..store.manifest import ExportManifest, PruneManifest
from ..store.stage_metrics import OrderMetrics

LIMIT = 0.10
"""How far, relative to it, a figure may be from the predicted one."""
_CALLED = ("provider", "threads", "batch", "sequence_length")


def order_of(folder: Path, manifest: ExportManifest) -> OrderMetrics | None:
    """What the model of an export folder was ordered to keep to, if it was and the pruned folder is still there."""
    made = {described.stage: path for path, described in lineage.to_first(folder, manifest)}
    return PruneManifest.read(made["prune"]).metrics.order if "prune" in made else None


def require(order: OrderMetrics, rows: list[dict[str, Any]], sizes: dict[str, float]) -> dict[str, Any] | None:
    """Predicted and measured figures of what was ordered; None if it was not measured. GateError if they are apart.

    rows: of benchmark.json, of every setting; sizes: MB of each artifact. Where the dense model in the same precision
    took its turns beside the pruned one, milliseconds are compared as shares of its own, which the machine's mood does
    not change. They are apart where the whole 95 % interval is beyond the limit.
    """
    names = {kind: f"{kind}_{order.precision}" for kind in ("dense", "pruned")}
    if order.unit == "MB":
        found = sizes.get(names["pruned"])
        measured = None if found is None else Interval(found, found, found)
    else:
        asked = [getattr(order, name) for name in _CALLED]
        called = {row["artifact"]: row for row in rows if [row[name] for name in _CALLED] == asked}
        measured = _milliseconds(order, called.get(names["pruned"]), called.get(names["dense"]))
    if measured is None:
        return None
    off = [figure / order.predicted - 1 for figure in (measured.value, measured.low, measured.high)]
    if min(off[1:]) > LIMIT or max(off[1:]) < -LIMIT:
        raise GateError(
            f"gate 'cost' failed: {names['pruned']} takes {measured.value:.3g} {order.unit} ({measured.low:.3g} to "
            f"{measured.high:.3g}), and the table said {order.predicted:.3g} (limit {LIMIT:.0%}); measure again on a "
            "quiet machine, or remove the table beside the adapter and prune again"
        )
    return {"order": order.model_dump(), "measured": measured.as_json(), "off": off[0]}


def _milliseconds(order: OrderMetrics, pruned: dict[str, Any] | None, dense: dict[str, Any] | None) -> Interval | None:
    """Of the pruned artifact, at the pace that the table was measured at where the dense one tells of it."""
    if pruned is None:
        return None
    if dense is None:
        own = latency.speedup(np.array(pruned["raw_ms"]), np.array(pruned["raw_ms"]))
        return Interval(*(pruned["p50_ms"] * figure for figure in (1.0, own.low, own.high)))
    share = latency.speedup(np.array(pruned["raw_ms"]), np.array(dense["raw_ms"]))
    return Interval(*(order.dense * figure for figure in (share.value, share.low, share.high)))
