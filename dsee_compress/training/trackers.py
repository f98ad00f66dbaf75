"""Who is told of a training as it goes on, beside the terminal: transformers' own integrations."""

from importlib.util import find_spec
from pathlib import Path

from transformers import TrainerCallback

from .. import distributed
from ..configs import Tracker
from ..errors import UserError
from ..progress import tell
from ..store import folders


def require(trackers: list[Tracker] | None) -> None:
    """UserError for one whose package is not installed."""
    for name in trackers or []:
        if find_spec(name) is None:
            raise UserError(f"report_to {name} needs a package that is not installed; pip install {name}")


def folder_of(output: Path) -> Path:
    """Where tensorboard's files of a stage go: `OUTPUT.tensorboard`, which stays when the checkpoints go."""
    place = folders.real(output)
    return place.with_name(f"{place.name}.tensorboard")


def callbacks(trackers: list[Tracker] | None, logs: Path | None) -> list[TrainerCallback]:
    """Those that the Trainer does not make by itself: its tensorboard would write among the checkpoints."""
    if logs is None or "tensorboard" not in (trackers or []) or not distributed.is_main():
        return []
    from torch.utils.tensorboard import SummaryWriter
    from transformers.integrations import TensorBoardCallback

    tell(f"tensorboard --logdir {logs} shows this training")
    return [TensorBoardCallback(SummaryWriter(str(logs)))]


def made_by_trainer(trackers: list[Tracker] | None) -> list[Tracker]:
    """The others."""
    return [name for name in trackers or [] if name != "tensorboard"]
