"""What a device is, and what a process takes of it."""

from __future__ import annotations

import os
import platform
import sys
from importlib import metadata
from pathlib import Path
from typing import Any

LIBRARIES = ("numpy", "onnxruntime", "tokenizers")
CPU_FLAGS = ("avx2", "avx512f", "avx512_vnni", "avx_vnni", "amx_int8", "asimddp", "i8mm", "sve")


def peak_rss_mb() -> float:
    """Peak resident memory of this process in MB (10⁶ bytes).

    Linux's VmHWM starts anew with the program; ru_maxrss still holds that of the process which started it.
    """
    status = Path("/proc/self/status")
    lines = status.read_text(encoding="utf-8").splitlines() if status.exists() else []
    peaks = [int(line.split()[1]) for line in lines if line.startswith("VmHWM")]
    if peaks:
        return peaks[0] * 1024 / 1e6
    import resource

    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 1e6


def physical_cores() -> int:
    """Cores that this process may use, hyper-threads not counted where the system tells them apart."""
    siblings = Path("/sys/devices/system/cpu").glob("cpu[0-9]*/topology/thread_siblings_list")
    cores = len({path.read_text(encoding="utf-8") for path in siblings}) or os.cpu_count() or 1
    return min(cores, len(os.sched_getaffinity(0))) if hasattr(os, "sched_getaffinity") else cores


def environment(threads: int) -> dict[str, Any]:
    """CPU, memory, system and library versions; `threads` of a call."""
    facts = _cpu_facts()
    flags = {flag.replace("avx512vnni", "avx512_vnni") for flag in facts.get("flags", "").split()}
    flags |= set(facts.get("Features", "").split())
    name = facts.get("model name") or facts.get("Model") or platform.processor() or platform.machine()
    return {
        "cpu": name,
        "cpu_flags": [flag for flag in CPU_FLAGS if flag in flags],
        "physical_cores": physical_cores(),
        "logical_cores": os.cpu_count(),
        "memory_gb": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30, 1),
        "system": f"{platform.system()} {platform.machine()}",
        "python": platform.python_version(),
        "libraries": {library: _version(library) for library in LIBRARIES},
        "provider": "cpu",
        "threads": threads,
    }


def _version(library: str) -> str:
    """Of what is imported here its own word: it may be installed under another name, as onnxruntime-gpu is."""
    try:
        return str(sys.modules[library].__version__) if library in sys.modules else metadata.version(library)
    except metadata.PackageNotFoundError:
        return "unknown"


def _cpu_facts() -> dict[str, str]:
    """What Linux says of the CPU: `model name` and `flags` on x86, `Model` of the board and `Features` on ARM."""
    path = Path("/proc/cpuinfo")
    if not path.exists():
        return {}
    pairs = [line.partition(":") for line in path.read_text(encoding="utf-8").splitlines()]
    return {name.strip(): value.strip() for name, _, value in pairs}
