"""A trainer that trains nothing: deterministic numbers in no time, and a log of every epoch that it was asked for."""

import hashlib
import json
import os
import random
import signal
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from bnlab.parts import AFFINE_LAYER, AFFINE_PER_LAYER, BATCHNORM, BATCHNORM_MINUS, GAMMA_ONLY, NONE
from bnlab.runs import Run
from bnlab.specs import Replicate, RunSpec

ACCURACY = {BATCHNORM: (70.0, 0.2), BATCHNORM_MINUS: (70.0, 0.2), AFFINE_LAYER: (60.0, 0.2), NONE: (50.0, 0.2)}
"""Mean and sd of an arm's accuracy; any other norm is as noisy as GAMMA_ONLY."""
NOISY = (70.0, 1.5)
assert GAMMA_ONLY not in ACCURACY

COLLAPSES = AFFINE_PER_LAYER
"""A norm whose Runs of odd seeds stay at chance."""

LOG = Path("epochs.jsonl")
"""One line an epoch in the current folder: run key, seed, epoch, process."""


@dataclass
class FakeTrainer:
    """`seconds` an epoch; kills its own process once, at the end of epoch `kill_at` and before its snapshot.

    `room` is the size of a cohort; finding it out takes `measuring` seconds.
    """

    log: Path = LOG
    seconds: float = 0.0
    kill_at: int | None = None
    device: str = "fake"
    room: int = 2
    measuring: float = 0.0

    def replicas(self, spec: RunSpec) -> int:
        time.sleep(self.measuring)
        return self.room

    def epoch(self, snapshot: bytes) -> int:
        return int(json.loads(snapshot)["epoch"])

    def train(
        self,
        cohort: Sequence[Replicate],
        resume: Sequence[bytes | None],
        after_epoch: Callable[[Replicate, int, bytes], None],
    ) -> list[Run]:
        first = self.epoch(resume[0]) if resume[0] else 0
        epochs = cohort[0].spec.epochs
        for epoch in range(first + 1, epochs + 1):
            time.sleep(self.seconds)
            for run in cohort:
                line = json.dumps({"spec": run.spec.key, "seed": run.seed, "epoch": epoch, "pid": os.getpid()}) + "\n"
                with self.log.open("a") as log:
                    log.write(line)
                if epoch == self.kill_at and not Path("killed").exists():
                    Path("killed").touch()
                    os.kill(os.getpid(), signal.SIGKILL)
                if epoch < epochs:
                    after_epoch(run, epoch, json.dumps({"epoch": epoch}).encode())
        return list(map(self._trained, cohort))

    def _trained(self, replicate: Replicate) -> Run:
        spec, seed = replicate.spec, replicate.seed
        mean, sd = ACCURACY.get(spec.norm, NOISY)
        noise = random.Random(f"{spec.key}-{seed}")
        final = 10.0 if spec.norm == COLLAPSES and seed % 2 else mean + sd * noise.gauss(0, 1)
        environment = {"torch": "0.0", "device": self.device, "threads": 1, "cuda": None}
        return Run(
            spec=spec,
            seed=seed,
            curves={"train_loss": (1.0,) * spec.epochs, "test_accuracy": (final,) * spec.epochs},
            readings={},
            probes={probe: {"seed": float(seed)} for probe in replicate.probes},
            weights=hashlib.sha256(f"{spec.key}-{seed}".encode()).hexdigest(),
            provenance={**environment, "wall_s": 0.5, "images_per_s": 200.0},
        )


def epochs(log: Path = LOG) -> list[tuple[str, int, int]]:
    """(spec key, seed, epoch) of every epoch that a FakeTrainer went through, in order."""
    if not log.exists():
        return []
    lines = [json.loads(line) for line in log.read_text().splitlines()]
    return [(line["spec"], line["seed"], line["epoch"]) for line in lines]
