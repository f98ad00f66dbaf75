"""Read a data set: a local folder or a hub id, one table a split."""

import logging
from pathlib import Path
from typing import TYPE_CHECKING

from .. import checkpoint
from ..configs import nearest
from ..errors import UserError, first_line

if TYPE_CHECKING:
    from datasets import Dataset

FORMATS = {".jsonl": "json", ".csv": "csv", ".parquet": "parquet"}
TEXT_COLUMNS = (("sentence1", "sentence2"), ("premise", "hypothesis"), ("question1", "question2"))
SINGLE_TEXT_COLUMNS = ("sentence", "text")


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
    return checkpoint.digest([_file(folder, split) for split in splits])


def read_split(location: str, split: str) -> "Dataset":
    """The rows of one split. UserError if the split or its file is missing, damaged or empty."""
    import datasets

    datasets.disable_progress_bars()
    datasets.logging.set_verbosity(logging.CRITICAL)
    if Path(location).is_dir():
        path = _file(Path(location), split)
        try:
            # A csv cell that says "None" or "NA" is a text, not a missing value.
            options = {"keep_default_na": False} if path.suffix == ".csv" else {}
            rows = datasets.load_dataset(FORMATS[path.suffix], data_files=str(path), split="train", **options)
        except Exception as error:  # each format's reader has its own
            cause = first_line(error.__cause__ or error)
            if "corresponds to no data" in cause:
                raise UserError(f"{path} has no rows") from error
            raise UserError(f"{path} cannot be read as {path.suffix[1:]}: {cause}") from error
    else:
        rows = _from_hub(location, split)
    if len(rows) == 0:
        raise UserError(f"the {split} split of {location} is empty")
    return rows


def find_text(columns: list[str], given: list[str] | None, where: str) -> list[str]:
    """The text column, or the two of a pair: as given, else by the usual names."""
    if given is not None:
        for name in given:
            if name not in columns:
                raise UserError(f"{where} has no column {name!r}; {nearest(name, columns)}")
        if not 1 <= len(given) <= 2:
            raise UserError(f"{where}: one text column or two, not {len(given)}")
        return given
    for pair in TEXT_COLUMNS:
        if set(pair) <= set(columns):
            return list(pair)
    for name in SINGLE_TEXT_COLUMNS:
        if name in columns:
            return [name]
    raise UserError(f"{where} has no text column among {', '.join(columns)}; name it with --text")


def find_label(columns: list[str], given: str | None, where: str) -> str:
    """The label column: as given, else `label`."""
    name = given or "label"
    if name not in columns:
        raise UserError(f"{where} has no label column {name!r} among {', '.join(columns)}; name it with --label")
    return name


def _file(folder: Path, split: str) -> Path:
    found = [folder / f"{split}{suffix}" for suffix in FORMATS if (folder / f"{split}{suffix}").is_file()]
    if not found:
        names = " or ".join(f"{split}{suffix}" for suffix in FORMATS)
        raise UserError(f"{folder} has no {split} split; it needs {names}")
    if len(found) > 1:
        raise UserError(f"{folder} has its {split} split twice: {' and '.join(path.name for path in found)}")
    if found[0].stat().st_size == 0:
        raise UserError(f"{found[0]} is empty")
    return found[0]


def _from_hub(data: str, split: str) -> "Dataset":
    import datasets

    # `glue/sst2` may be a set with a configuration, or the set of an owner.
    set_name, _, configuration = data.partition("/")
    attempts = [(data,), (set_name, configuration)] if configuration else [(data,)]
    for arguments in attempts:
        try:
            return datasets.load_dataset(*arguments, split=split)
        except Exception as error:  # datasets raises many kinds for a set that is not there
            cause = error
    raise UserError(f"data {data!r} is neither a folder nor to be had from the hub: {first_line(cause)}") from cause
