"""Inputs that no one would write on purpose: seeded, hundreds of them, each a command and what is to be said of it.

    python -m tests.robustness.fuzz --cases 400 --seed 0

Six kinds, one module each: options, recipes, data, model folders, stage folders, bundles. Each takes something valid
and small and changes a little of it. A case is good if it ends with exit code 0, 2 or 3, with one sentence where it
is not 0, nothing half-written, and, where it is 0, what was read is what an independent reader reads.
"""
