"""The machine and the libraries that a measurement was made with."""

import platform
from functools import cache
from typing import Any

from ..store import versions

_MACHINE = ("cpu", "cpu_flags", "usable_cores", "physical_cores", "logical_cores", "system", "gpu")
_FLAGS = ("avx2", "avx512f", "avx512_vnni", "avx_vnni", "amx_int8", "asimddp", "i8mm", "sve")


@cache
def _cpu() -> dict[str, Any]:
    import cpuinfo

    info: dict[str, Any] = cpuinfo.get_cpu_info()
    return info


def physical_cores() -> int:
    """Cores that this process may use, hyper-threads not counted."""
    import psutil

    return min(psutil.cpu_count(logical=False) or psutil.cpu_count() or 1, usable_cores())


def usable_cores() -> int:
    """Logical cores that this process may use, by its affinity and its container's quota (rounded up)."""
    import joblib

    return int(joblib.cpu_count())


def cpu_flags() -> set[str]:
    """The CPU's flags, as Linux names them."""
    return {flag.replace("avx512vnni", "avx512_vnni") for flag in _cpu().get("flags", [])}


def describe(provider: str = "cpu") -> dict[str, Any]:
    """CPU, memory, system and library versions; with the GPU, where that is what computes."""
    import psutil

    cpu = _cpu()
    return {
        "cpu": cpu.get("brand_raw", platform.processor()),
        "cpu_flags": _flags(),
        "usable_cores": usable_cores(),
        "physical_cores": physical_cores(),
        "logical_cores": psutil.cpu_count(),
        "memory_gb": round(psutil.virtual_memory().total / 2**30, 1),
        "system": _system(),
        **_gpu(provider),
        "python": platform.python_version(),
        "libraries": versions.of_libraries(),
    }


def of_latency(provider: str) -> dict[str, dict[str, Any]]:
    """`machine` and `versions`: what a latency is a figure of, and has to be measured anew without."""
    described = describe(provider)
    return {
        "machine": {name: described[name] for name in _MACHINE if name in described},
        "versions": {"python": described["python"], **_versions()},
    }


def of_answers(provider: str = "cpu") -> dict[str, dict[str, Any]]:
    """`machine` and `versions`: what an artifact's answers depend on, int8's above all, whose sums may saturate."""
    return {
        "machine": {"cpu_flags": _flags(), "system": _system(), **_gpu(provider)},
        "versions": _versions(),
    }


def _flags() -> list[str]:
    flags = cpu_flags()
    return [flag for flag in _FLAGS if flag in flags]


def _system() -> str:
    return f"{platform.system()} {platform.machine()}"


def _gpu(provider: str) -> dict[str, str]:
    if provider != "cuda":
        return {}
    import torch

    return {"gpu": torch.cuda.get_device_name() if torch.cuda.is_available() else "unknown to PyTorch"}


def _versions() -> dict[str, str]:
    """Of this program and of what runs its models."""
    computing = ("dsee-compress", "onnxruntime", "onnxruntime-gpu")
    return {name: version for name, version in versions.of_libraries().items() if name in computing}
