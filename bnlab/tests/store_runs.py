"""Runs that nobody trained, for the tests of the store."""

import math

from bnlab.parts import BATCHNORM, ResNet
from bnlab.runs import Run
from bnlab.specs import RunSpec

SPEC = RunSpec(net=ResNet(18), norm=BATCHNORM, batch_size=50, epochs=3)


def run(seed=0, loss=0.1, **fields):
    """A Run of SPEC, diverged at that, with every kind of value that a Run may hold."""
    made = {
        "spec": SPEC,
        "seed": seed,
        "curves": {"train_loss": (2.3, loss, math.nan), "test_accuracy": (10.0, 1 / 3, 72.25), "none": ()},
        "readings": {"test_accuracy_batch": 71.5, "infinite": -math.inf},
        "weights": "ab" * 32,
        "diverged_at": 2001,
        "provenance": {"torch": "2.15.0", "wall_s": 1.5, "resumes": [{"epoch": 1, "at": "then"}]},
    }
    return Run(**{**made, **fields})
