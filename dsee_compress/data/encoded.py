"""Tokens of a split: written to a file that goes away, and mapped, so that memory does not grow with the rows."""

import tempfile
from collections.abc import Iterable, Iterator
from itertools import chain, islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar
from uuid import uuid4

from ..errors import UserError

if TYPE_CHECKING:
    from datasets import Dataset

_Item = TypeVar("_Item")
_BATCH = 1000


def batched(rows: Iterable[_Item]) -> Iterator[list[_Item]]:
    """Rows in lists of a thousand, in their order."""
    rows = iter(rows)
    while batch := [*islice(rows, _BATCH)]:
        yield batch


def write(batches: Iterable[dict[str, list[Any]]], description: str) -> "Dataset":
    """Rows of tokens and labels, given batch by batch, as one data set that lies on the disk.

    description: what was read, which `info.description` keeps. UserError if the temporary folder has no room.
    """
    import pyarrow
    from datasets import Dataset, DatasetInfo
    from datasets.table import InMemoryTable

    with tempfile.TemporaryDirectory(prefix="dsee-compress-") as folder:
        path = Path(folder) / "rows.arrow"
        batches = iter(batches)
        first = next(batches)
        schema = pyarrow.schema({name: _type(name, values[0]) for name, values in first.items()})
        try:
            with pyarrow.OSFile(str(path), "wb") as sink, pyarrow.ipc.new_stream(sink, schema) as writer:
                for batch in chain([first], batches):
                    writer.write_batch(pyarrow.RecordBatch.from_pydict(batch, schema))
        except OSError as error:
            raise UserError(
                f"the tokens cannot be written to {folder}: {error}; set TMPDIR to another folder"
            ) from error
        # The mapping outlives the name of its file.
        table = pyarrow.ipc.open_stream(pyarrow.memory_map(str(path))).read_all()
    # To `datasets`, what is not in a file of its cache is in memory; its own fingerprint would read it all.
    return Dataset(InMemoryTable(table), info=DatasetInfo(description=description), fingerprint=uuid4().hex)


def _type(name: str, value: Any) -> Any:
    import pyarrow

    of_masks = name in ("attention_mask", "token_type_ids")
    item = value[0] if isinstance(value, list) and value else value
    kind = pyarrow.float64() if isinstance(item, float) else pyarrow.int8() if of_masks else pyarrow.int64()
    return pyarrow.list_(pyarrow.int32() if name == "input_ids" else kind) if isinstance(value, list) else kind
