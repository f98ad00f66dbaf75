"""The machine and the libraries that a measurement was made with."""

import os
import platform
from functools import cache
from typing import Any

from .. import checkpoint

_FLAGS = ("avx2", "avx512f", "avx512_vnni", "avx_vnni", "amx_int8", "asimddp", "i8mm", "sve")


@cache
def _cpu() -> dict[str, Any]:
    import cpuinfo

    info: dict[str, Any] = cpuinfo.get_cpu_info()
    return info


def physical_cores() -> int:
    """Cores that this process may use, hyper-threads not counted."""
    import psutil

    cores = psutil.cpu_count(logical=False) or psutil.cpu_count() or 1
    allowed = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else cores
    return min(cores, allowed)


def cpu_flags() -> set[str]:
    """The CPU's flags, as Linux names them."""
    return {flag.replace("avx512vnni", "avx512_vnni") for flag in _cpu().get("flags", [])}


def describe() -> dict[str, Any]:
    """CPU, memory, system and library versions."""
    import psutil

    cpu = _cpu()
    flags = cpu_flags()
    return {
        "cpu": cpu.get("brand_raw", platform.processor()),
        "cpu_flags": [flag for flag in _FLAGS if flag in flags],
        "physical_cores": physical_cores(),
        "logical_cores": psutil.cpu_count(),
        "memory_gb": round(psutil.virtual_memory().total / 2**30, 1),
        "system": f"{platform.system()} {platform.machine()}",
        "python": platform.python_version(),
        "libraries": checkpoint.library_versions(),
    }
