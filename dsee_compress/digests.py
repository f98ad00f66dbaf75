"""What tells one content of files from another."""

import hashlib
from pathlib import Path


def sha256(path: Path) -> str:
    """SHA-256 of a file's bytes, as hex."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def digest(files: list[Path], folder: Path | None = None) -> str:
    """SHA-256 over the names and bytes of `files`, in the order of their names: their paths in `folder` if given."""
    named = [(path.name if folder is None else path.relative_to(folder).as_posix(), path) for path in files]
    total = hashlib.sha256()
    for name, path in sorted(named):
        total.update(f"{name}\0{sha256(path)}\0".encode())
    return total.hexdigest()
