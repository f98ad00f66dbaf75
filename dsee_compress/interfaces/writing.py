"""What a report says of a decoder alone: how it wrote, what it remembers of a token, and some of its texts."""

from itertools import islice
from math import ceil
from typing import Any

from .. import data
from ..configs import DecodingConfig
from ..errors import UserError
from ..store.manifest import ExportManifest, Manifest
from ..tasks import Spec, generation

EXAMPLES = 5


def describe(tuned: Manifest, pruned: Manifest, exported: ExportManifest, validation: dict[str, Any]) -> dict[str, Any]:
    """The `writing` of report.json."""
    final = exported.metrics.memory_bytes_per_token
    assert final is not None
    before, after = (sum(manifest.structure.head_counts) for manifest in (tuned, pruned))
    return {
        "decoding": {name: validation["key"]["config"][name] for name in DecodingConfig.model_fields},
        "memory_bytes_per_token": {"dense": final * before // after, "final": final},
        "examples": _examples(tuned.task, validation),
    }


def _examples(task: Spec, validation: dict[str, Any]) -> list[dict[str, Any]]:
    """Sources of the split at equal distances, with their references and every model's text.

    None where the data is no longer what it was: texts without their sources say nothing.
    """
    where, split = validation["key"]["config"]["data"], validation["split"]
    try:
        if data.fingerprint(where, split) != validation["key"]["data"]:
            return []
        found = generation.references(task.model_copy(update={"data": where}), split)
    except UserError:
        return []
    chosen = islice(enumerate(found.items()), 0, None, ceil(len(found) / EXAMPLES))
    return [
        {
            "source": source,
            "references": references,
            "texts": {name: texts[index] for name, texts in validation["predictions"].items()},
        }
        for index, (source, references) in chosen
    ]
