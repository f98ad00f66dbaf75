"""Many processes on one recipe, as torchrun and accelerate launch start them.

All of them train; the first decides what is up to date, prints and writes. The processes need the same folders.
"""

import atexit
import functools
import os
from collections.abc import Callable
from datetime import timedelta
from typing import Any, ParamSpec, TypeVar, cast

PATIENCE = timedelta(hours=6)
"""For how long processes wait for the first one, which may be measuring; launchers end the others when one dies."""

_Parameters = ParamSpec("_Parameters")
_Result = TypeVar("_Result")
_alone = False


def processes() -> int:
    """Processes that work together at this point; one, where only the first is at work."""
    launched = "LOCAL_RANK" in os.environ and "RANK" in os.environ
    return int(os.environ.get("WORLD_SIZE", 1)) if launched and not _alone else 1


def is_main() -> bool:
    """Whether this is the process that prints and writes."""
    return processes() == 1 or os.environ["RANK"] == "0"


def in_main(function: Callable[_Parameters, _Result]) -> Callable[_Parameters, _Result]:
    """Run `function` in the first process alone, while the others wait; all get its result, or raise its error."""

    @functools.wraps(function)
    def wrapper(*args: _Parameters.args, **kwargs: _Parameters.kwargs) -> _Result:
        if processes() == 1:
            return function(*args, **kwargs)
        outcome = _broadcast(_outcome(lambda: function(*args, **kwargs)) if is_main() else None)
        if isinstance(outcome[1], Exception):
            raise outcome[1]
        return cast(_Result, outcome[0])

    return wrapper


def wait() -> None:
    """Return when every process has come here."""
    if processes() > 1:
        import torch

        _group().all_reduce(torch.zeros(1))  # unlike barrier(), never on a CUDA device that is not chosen yet


def _outcome(function: Callable[[], Any]) -> tuple[Any, Exception | None]:
    global _alone
    _alone = True
    try:
        return function(), None
    except Exception as error:
        return None, error
    finally:
        _alone = False


def _broadcast(value: Any) -> Any:
    box = [value]
    _group().broadcast_object_list(box, src=0)
    return box[0]


def _group() -> Any:
    """torch.distributed with a group that both tensors on the CPU and on CUDA can use; accelerate takes it as it is."""
    import torch.distributed

    if not torch.distributed.is_initialized():
        backend = "cpu:gloo,cuda:nccl" if torch.cuda.is_available() else "gloo"
        torch.distributed.init_process_group(backend, timeout=PATIENCE)
        atexit.register(torch.distributed.destroy_process_group)
    return torch.distributed
