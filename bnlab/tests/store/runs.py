"""Runs that nobody trained, for the tests of the store."""

import math
from dataclasses import replace

import numpy

from bnlab.parts import BATCHNORM, ResNet
from bnlab.runs import Run
from bnlab.specs import Replicate, RunSpec

SPEC = RunSpec(net=ResNet(18), norm=BATCHNORM, batch_size=50, epochs=3)


def replicate(seed=0, *probes, **changes):
    """A Replicate of SPEC with these probes."""
    return Replicate(replace(SPEC, **changes), seed, probes)


def run(seed=0, loss=0.1, **fields):
    """A Run of SPEC, diverged at that, with every kind of value that a Run may hold."""
    made = {
        "spec": SPEC,
        "seed": seed,
        "curves": {"train_loss": (2.3, loss, math.nan), "test_accuracy": (10.0, 1 / 3, 72.25)},
        "readings": {"test_accuracy_batch": 71.5, "infinite": -math.inf},
        "weights": "ab" * 32,
        "diverged_at": 2001,
        "provenance": {"torch": "2.15.0", "wall_s": 1.5, "resumes": [{"epoch": 1, "at": "then"}]},
    }
    return Run(**{**made, **fields})


def readings(last=4.0):
    """What a probe may read: a number that is not finite, and arrays of every type."""
    return {
        "spread/early": 0.25,
        "none": -math.inf,
        "curve": numpy.array([1.0, 2.0, last], dtype=numpy.float32),
        "surface": numpy.arange(6.0).reshape(2, 3),
        "counts": numpy.array([2**40, -1]),
    }


def contents(folder):
    """Every file under a folder but locks, by its path."""
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file() and path.suffix != ".lock"
    }


def folder_of(store, run):
    """Where a store keeps a finished Run."""
    return store.path / "runs" / run.key[:2] / run.key


def flip(path, place):
    """Change one bit of a file."""
    data = bytearray(path.read_bytes())
    data[place] ^= 1
    path.write_bytes(data)
