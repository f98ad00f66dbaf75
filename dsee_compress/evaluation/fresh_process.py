"""Run one artifact: a line at its first answer, then this process's peak resident memory in MB.

`python -m` with the arguments of latency.fresh_process.
"""

import resource
import sys
from pathlib import Path

from .inputs import INPUTS, random_batches
from .session import Session


def peak_mb() -> float:
    """Peak resident memory of this process in MB.

    Linux's VmHWM starts anew with the program; ru_maxrss still holds that of the process which started it.
    """
    status = Path("/proc/self/status")
    if status.exists():
        line = next(line for line in status.read_text().splitlines() if line.startswith("VmHWM"))
        return int(line.split()[1]) * 1024 / 1e6
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 1e6


if __name__ == "__main__":
    path, vocabulary, batch, length, threads, provider = sys.argv[1:]
    with Session(Path(path), provider, int(threads)) as session:
        names = [name for name in session.inputs if name in INPUTS]
        for inputs in random_batches([(int(batch), int(length))], int(vocabulary), names):
            whole = inputs | session.of_a_prompt(int(batch))
            session.forward(whole)
            print("answered", flush=True)
            for _ in range(2):
                session.forward(whole)
        print(peak_mb())
