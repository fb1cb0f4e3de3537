"""Where numbers come from: commit, versions, and whether Runs were trained alike."""

import json
import os
import subprocess
from collections.abc import Iterable, Mapping
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from bnlab.runs import Run

Environment = Mapping[str, object]
"""What trained a Run: versions, device and threads, as plain JSON values."""

NOT_ENVIRONMENT = frozenset(
    {"protocol", "commit", "worker", "cohort", "wall_s", "images_per_s", "resumes", "started", "finished"}
)
"""Provenance that may differ between comparable Runs; the rest is their environment."""


@cache
def commit() -> str | None:
    """The git commit of this bnlab, `-dirty` after changes; None outside a git checkout.

    Where .git does not travel, BNLAB_COMMIT names it.
    """
    home = Path(__file__).resolve().parents[1]
    if not (home / ".git").exists():
        return os.environ.get("BNLAB_COMMIT") or None
    command = ["git", "-C", str(home), "describe", "--always", "--dirty", "--abbrev=40", "--exclude=*"]
    try:
        found = subprocess.run(command, capture_output=True, text=True, timeout=10, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return found.stdout.strip() or None


def versions() -> dict[str, str]:
    """Versions of the code that judges; bnlab's is its git commit, if there is one."""
    found = {name: version(name) for name in ("numpy", "scipy", "pytest")}
    try:
        installed = version("bnlab")
    except PackageNotFoundError:
        installed = "not installed"
    return {"bnlab": commit() or installed, **found}


def environments(runs: Iterable[Run]) -> tuple[Environment, ...]:
    """Each environment that trained some of these Runs, once; on a GPU the size of the cohort is part of it."""
    return distinct(
        {
            name: value
            for name, value in run.provenance.items()
            if name not in NOT_ENVIRONMENT or (name == "cohort" and run.provenance.get("cuda"))
        }
        for run in runs
    )


def distinct(found: Iterable[Environment]) -> tuple[Environment, ...]:
    """The same environments, each once and in an order that does not depend on theirs."""
    return tuple(map(json.loads, sorted({json.dumps(one, sort_keys=True, default=str) for one in found})))


def mixed(found: Iterable[Environment]) -> dict[str, tuple[str, ...]]:
    """What differs between environments (GPU, versions, threads): name -> the values.

    By which file a Run came does not count: it says nothing of how it was trained.
    """
    values: dict[str, set[str]] = {}
    for environment in found:
        for name, value in environment.items():
            if name != "imported":
                values.setdefault(name, set()).add(str(value))
    return {name: tuple(sorted(several)) for name, several in sorted(values.items()) if len(several) > 1}
