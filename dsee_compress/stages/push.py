"""Reported run → repository on the Hugging Face hub, with a model card."""

import json
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .. import architectures, distributed, models, tasks
from ..configs import PushConfig
from ..errors import UserError, first_line, shown
from ..exporting.layouts import LAYOUTS
from ..progress import quiet, step
from ..reporting import card
from ..store import folders, lineage, watch
from ..store.manifest import ExportManifest
from ..tasks import multi_label
from . import common
from .export import artifacts, layout_of
from .report import SCHEMA

CARD = "README.md"
REPORT = ("report.json", "report.md", "report.html")
_STEMS = {path.with_suffix("").as_posix() for layout in LAYOUTS.values() for path in layout.graphs.values()}
_ARTIFACT = re.compile(rf"({'|'.join(map(re.escape, sorted(_STEMS)))})\.(onnx|ort).*")
"""A file, of any push, that holds a model or its weights."""


@dataclass(frozen=True)
class Upload:
    """A file for the repository."""

    name: str
    """There, from its root on."""
    content: Path | bytes
    """Where it lies, or what is in it where it is not as it lies here."""

    @property
    def size(self) -> int:
        """In bytes."""
        return self.content.stat().st_size if isinstance(self.content, Path) else len(self.content)


@distributed.in_main
@watch.steady("run")
def push(run: Path, repo: str, config: PushConfig) -> str:
    """Put the files of `plan` into `repo`, all of them in one commit; returns its URL.

    Files of models that an earlier push left there and this one does not bring are removed in the same commit.
    """
    uploads = plan(run, repo, config)
    return _send(uploads, repo, _token(), config.private)


def plan(run: Path, repo: str, config: PushConfig) -> list[Upload]:
    """What is put into `repo`, the card first; nothing of it, nor a path of this machine, has left it yet.

    UserError unless `run` is a run's folder or an export folder, and reported on as it is.
    """
    _require_repository(repo)
    folder = _export_of(run)
    watch.also(folder)
    manifest = ExportManifest.read(folder)
    files = _files(folder)
    report = _report(run, folder)
    described = json.dumps(common.without_paths(manifest).model_dump(mode="json", by_alias=True), indent=1) + "\n"
    try:
        text = card.markdown(report, _facts(repo, config.license, folder, manifest))
    except (KeyError, IndexError, AttributeError, TypeError, ValueError, card.TemplateError) as error:
        raise UserError(f"{run / REPORT[0]} is damaged; run dsee-compress report {run} again") from error
    return [
        Upload(CARD, text.encode()),
        *(Upload(path.relative_to(folder).as_posix(), path) for path in files),
        Upload(folders.MANIFEST, described.encode()),
        *(Upload(name, run / name) for name in REPORT),
    ]


def card_of(uploads: list[Upload]) -> str:
    """The card among the files of a push."""
    content = uploads[0].content
    assert isinstance(content, bytes)
    return content.decode()


def _require_repository(repo: str) -> None:
    """UserError for what is no name of a repository that has an owner."""
    from huggingface_hub.errors import HFValidationError
    from huggingface_hub.utils import validate_repo_id

    try:
        validate_repo_id(repo)
    except HFValidationError as error:
        raise UserError(f"{shown(repo)} is no repository of the hub, owner/name: {first_line(error)}") from error
    if "/" not in repo:
        raise UserError(f"{shown(repo)} does not say whose repository it is; write it as owner/name")


def _export_of(run: Path) -> Path:
    """The export folder of a run, or `run` itself, if that is a stage's; UserError if it is neither."""
    if not run.is_dir():
        raise UserError(f"there is no folder {run}; give the one that dsee-compress run wrote")
    if (run / folders.MANIFEST).is_file():
        return run
    if not (run / "export").is_dir():
        raise UserError(f"{run} is not the folder of a run: it holds no export; dsee-compress run writes one")
    return run / "export"


def _files(folder: Path) -> list[Path]:
    """What the export wrote but for its manifest; UserError if something of it is gone."""
    names = folders.listed(folder)
    if names is None:
        raise UserError(f"{folder / folders.MANIFEST} lists no files, as earlier versions wrote it; export again")
    paths = [folder / name for name in sorted(names - {folders.MANIFEST})]
    for path in paths:
        if not path.is_file():
            raise UserError(f"{path} is missing; export again with --overwrite")
    return paths


def _report(run: Path, folder: Path) -> dict[str, Any]:
    """The content of the run's report.json; UserError if it, or what goes with it, is missing or of another export."""
    for name in REPORT:
        if not (run / name).is_file():
            raise UserError(f"{run} has no {name}; run dsee-compress report {run} first")
    path = run / REPORT[0]
    try:
        content: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        schema, export = content["schema"], content["export"]
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise UserError(f"{path} is damaged; run dsee-compress report {run} again") from error
    if schema != SCHEMA or export != lineage.fingerprint(folder):
        raise UserError(f"{path} is of an earlier export or version; run dsee-compress report {run} again")
    return content


def _facts(repo: str, license_id: str | None, folder: Path, manifest: ExportManifest) -> card.Facts:
    """What the card says beside the report."""
    task, config = tasks.of(manifest.task), models.config_of(folder)
    first = lineage.to_first(folder, manifest)[0][1]
    return card.Facts(
        repo=repo,
        license=license_id,
        base=_hub_id(first.config["model"]) if first.stage == "finetune" else None,
        data=_hub_id(manifest.task.data),
        pipeline_tag=task.pipeline_tag,
        pipeline_options=task.pipeline_options,
        pair=len(manifest.task.text) == 2,
        threshold=getattr(config, multi_label.THRESHOLD, None),
        layout=layout_of(manifest),
        loader=architectures.auto_class(config).__name__.replace("Auto", "ORT", 1),
        files={
            precision: path.relative_to(folder).as_posix() for precision, path in artifacts(folder, manifest).items()
        },
    )


def _hub_id(location: str) -> str | None:
    """A model or a set as a stage found it, if that was on the hub: a folder has an absolute path."""
    return None if Path(location).is_absolute() else location


def _token() -> str:
    """The token that huggingface_hub finds; UserError without one, or where the hub is not to be asked."""
    from huggingface_hub import constants, get_token

    if constants.HF_HUB_OFFLINE:
        raise UserError("HF_HUB_OFFLINE is set, and a push needs the hub; unset it, or look at it with --dry-run")
    token: str | None = get_token()
    if not token:
        raise UserError("there is no token for the hub; log in with hf auth login, or set HF_TOKEN")
    return token


def _send(uploads: list[Upload], repo: str, token: str, private: bool) -> str:
    """Make `repo` if it is not there, and commit; returns the commit's URL. UserError for whatever goes wrong."""
    from huggingface_hub import CommitOperationAdd, CommitOperationDelete, HfApi

    api = HfApi(token=token)
    try:
        with step(f"push {len(uploads)} files to {repo}"), quiet("huggingface_hub"), _without_bars():
            api.create_repo(repo, private=private or None, exist_ok=True)
            old = {name for name in api.list_repo_files(repo) if _ARTIFACT.fullmatch(name)}
            gone = sorted(old - {upload.name for upload in uploads})
            watch.require_steady()
            commit = api.create_commit(
                repo,
                [
                    *(CommitOperationAdd(upload.name, upload.content) for upload in uploads),
                    *(CommitOperationDelete(name) for name in gone),
                ],
                commit_message="Push a run of dsee-compress",
            )
    except UserError:
        raise
    except Exception as error:  # its HTTP library, of which versions have their own, raises what it likes
        raise UserError(_sentence(error, repo, api.endpoint)) from error
    return commit.commit_url


def _sentence(error: BaseException, repo: str, endpoint: str) -> str:
    """What went wrong with a push."""
    from huggingface_hub.errors import HfHubHTTPError

    causes = [error]
    while (cause := causes[-1].__cause__ or causes[-1].__context__) is not None:
        causes.append(cause)
    refusal = next((cause for cause in causes if isinstance(cause, HfHubHTTPError)), None)
    if refusal is None:
        return f"the push to {repo} on {endpoint} failed: {first_line(causes[-1])}; run the command again"
    status = refusal.response.status_code
    reason = " ".join((refusal.server_message or first_line(refusal)).split())
    if status == 401:
        return f"the hub does not take the token ({reason}); log in with hf auth login, or set HF_TOKEN"
    if status == 403:
        return f"the token may not write to {repo} ({reason}); use one that may, or another repository"
    return f"the hub refused the push to {repo}, of which nothing is there now: {reason} ({status})"


@contextmanager
def _without_bars() -> Iterator[None]:
    """Without the bars that huggingface_hub shows of each file."""
    from huggingface_hub import utils

    shown_before = not utils.are_progress_bars_disabled()
    utils.disable_progress_bars()
    try:
        yield
    finally:
        if shown_before:
            utils.enable_progress_bars()
