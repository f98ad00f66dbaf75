"""Where a data set is: a local folder or a hub id, one table a split."""

import logging
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .. import digests
from ..errors import UserError, first_line
from . import files
from .files import Place, Row, Table

if TYPE_CHECKING:
    from datasets import Dataset

_BATCH = 1000


def locate(data: str) -> str:
    """A folder's absolute path, or the hub id itself; UserError for a file or a folder that is not there."""
    path = Path(data)
    if path.is_dir():
        return str(path.resolve())
    if path.exists():
        raise UserError(f"data {data} is a file; give the folder that holds train and validation")
    if data.startswith((".", "/", "~")) or data.count("/") > 1:
        raise UserError(f"there is no data folder {data}")
    return data


def fingerprint(location: str, *splits: str) -> str:
    """SHA-256 of the files of a local folder's `splits`; a hub id stands for itself."""
    folder = Path(location)
    if not folder.is_dir():
        return location
    with _readable():
        return digests.digest([path for split in splits for path in _files(folder, split)])


def require_unchanged(before: str, location: str, *splits: str) -> None:
    """UserError unless the fingerprint is still that of `before`: what was read in between is then what it names."""
    if fingerprint(location, *splits) != before:
        raise UserError(f"{location} changed while it was read; run the command again when nothing writes to it")


def read_split(location: str, split: str) -> Table:
    """The rows of one split. UserError if the split or its file is missing, damaged or empty."""
    folder = Path(location)
    if not folder.is_dir():
        rows = _from_hub(location, split)
        if len(rows) == 0:
            raise UserError(f"the {split} split of {location} is empty")
        return _HubTable(rows, split)
    with _readable():
        return files.read(_files(folder, split))


@contextmanager
def _readable() -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise UserError(f"{error.filename} cannot be read: {error.strerror}") from error


def _files(folder: Path, split: str) -> list[Path]:
    """The file of a split, or the parquet files that it is cut into, in their order."""
    found = [path for suffix in files.READERS if (path := folder / f"{split}{suffix}").exists() or path.is_symlink()]
    parts = _parts(folder, split)
    names = [path.name for path in found] + [path.name for path in parts[:1]]
    if not names:
        raise UserError(f"{folder} has no {split} split; it needs {' or '.join(split + end for end in files.READERS)}")
    if len(names) > 1:
        raise UserError(f"{folder} has its {split} split twice: {' and '.join(names)}")
    for path in (found := found or parts):
        if not path.is_file():
            kind = "a folder" if path.is_dir() else "a link to nothing" if path.is_symlink() else "no ordinary file"
            raise UserError(f"{path} is {kind}; a split is a file")
        if path.stat().st_size == 0:
            raise UserError(f"{path} is empty")
    return found


def _parts(folder: Path, split: str) -> list[Path]:
    """`train-00000-of-00002.parquet` and so on, as `datasets` names them; UserError if one is missing."""
    pattern = re.compile(re.escape(split) + r"-(\d{5})-of-(\d{5})\.parquet")
    parts = sorted(path for path in folder.iterdir() if pattern.fullmatch(path.name))
    if not parts:
        return []
    count = int(parts[0].stem[-5:])
    wanted = [folder / f"{split}-{number:05}-of-{count:05}.parquet" for number in range(count)]
    if parts != wanted:
        missing = next((path.name for path in wanted if path not in parts), None)
        raise UserError(f"{folder} has no {missing}" if missing else f"{folder} has its {split} split twice")
    return parts


class _HubTable:
    """A split as the `datasets` library gives it."""

    untyped = False

    def __init__(self, rows: "Dataset", split: str) -> None:
        self._rows, self._split = rows, split
        self.columns: list[str] = rows.column_names

    def rows(self, columns: Sequence[str]) -> Iterator[Row]:
        chosen, number = self._rows.select_columns(list(dict.fromkeys(columns))), 0
        for batch in chosen.iter(_BATCH):
            for values in zip(*(batch[name] for name in columns), strict=True):
                yield Place(self._split, "row", number), values
                number += 1

    def class_names(self, column: str) -> list[str] | None:
        feature = self._rows.features[column]
        names: Any = getattr(getattr(feature, "feature", feature), "names", None)
        return names


def _from_hub(data: str, split: str) -> "Dataset":
    import datasets

    datasets.disable_progress_bars()
    datasets.logging.set_verbosity(logging.CRITICAL)
    # `glue/sst2` may be a set with a configuration, or the set of an owner.
    set_name, _, configuration = data.partition("/")
    attempts: list[tuple[str, ...]] = [(data,)]
    if configuration and not Path(set_name).exists():  # a folder of that name would be taken for the set
        attempts.append((set_name, configuration))
    for arguments in attempts:
        try:
            return datasets.load_dataset(*arguments, split=split)
        except Exception as error:  # datasets raises many kinds for a set that is not there
            cause = error
    raise UserError(f"data {data!r} is neither a folder nor to be had from the hub: {first_line(cause)}") from cause
