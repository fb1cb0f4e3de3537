"""The Lab: load the Runs that are there, train the ones that are missing, never one of them twice.

Any number of Labs share one store: pytest-xdist's workers, several sessions, several machines. Each Run has a lock in
the store; a Lab trains what nobody holds, its own claim's Runs first and any other of the plan while it would
otherwise wait. A Lab that dies leaves its finished Runs and the snapshot of its last epoch behind.
"""

import subprocess
import time
import warnings
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from bnlab.errors import BnlabError, DeviceError
from bnlab.protocol import Protocol as Effort
from bnlab.runs import Arm, Run
from bnlab.specs import RunSpec, run_key
from bnlab.store import Store, Work

if TYPE_CHECKING:
    from bnlab.engine import Trained

Needed = tuple[RunSpec, int]
"""One Run by its RunSpec and seed."""

GPU_SNAPSHOTS = 60.0
"""Seconds between snapshots on a GPU: an epoch of a cohort takes a few seconds there, and its snapshots gigabytes."""

POLL = 0.5
"""Seconds between looks at the store while others train what this Lab waits for."""


class Trainer(Protocol):
    """What trains a cohort on one device; the engine in earnest, a fake in tests."""

    def environment(self) -> Mapping[str, Any]:
        """Versions, device and threads, for the provenance of a Run."""
        ...

    def replicas(self, spec: RunSpec) -> int:
        """How many seeds of this RunSpec to train as one cohort here."""
        ...

    def epoch(self, snapshot: bytes) -> int:
        """Epochs finished in a snapshot."""
        ...

    def train(
        self,
        spec: RunSpec,
        seeds: Sequence[int],
        resume: Sequence[bytes | None],
        after_epoch: Callable[[int, int, bytes], None],
    ) -> "Sequence[Trained]":
        """Train one cohort; `after_epoch(seed, epoch, snapshot)` is called for every seed after every epoch."""
        ...


class UntrainedError(BnlabError):
    """Runs are missing and this Lab may not train; `missing` names them."""

    def __init__(self, missing: Sequence[Needed]) -> None:
        self.missing = tuple(missing)
        super().__init__(f"{len(self.missing)} Runs that this claim needs are not recorded and nothing trains here")


@dataclass(frozen=True, kw_only=True)
class Lab:
    """Gives Arms: `lab.train(spec)` loads what is stored, trains what is missing and returns an Arm.

    `seeds` is the number of Runs in every Arm, `data` the content digest of the images, `recorded` a read-only layer
    of Runs beneath the store, `loaded` the Runs read so far, `broken` what this Lab tried to train for others and could
    not, `replicas` how many seeds of one RunSpec train as one cohort (None: the trainer says).
    `trainer` opens what trains, on first use, and is None where nothing may train. `plan` names what else the session
    needs.
    """

    store: Store
    protocol: Effort
    data: str
    seeds: int
    recorded: Mapping[str, Run] = field(default_factory=dict)
    loaded: dict[str, Run] = field(default_factory=dict)
    broken: set[RunSpec] = field(default_factory=set)
    trainer: Callable[[], Trainer] | None = None
    plan: Callable[[], Sequence[Needed]] = tuple
    replicas: int | None = 1
    worker: str = "main"
    say: Callable[[str], None] = lambda line: None

    def at(self, seeds: int) -> "Lab":
        """The same Lab at a look with so many seeds."""
        return replace(self, seeds=seeds)

    def train(self, spec: RunSpec) -> Arm:
        """The Arm of this RunSpec under the protocol: seeds 0 to n - 1, trained where they are missing."""
        spec = self.protocol.apply(spec, self.data)
        needed = [(spec, seed) for seed in range(self.seeds)]
        self.complete(needed)
        return Arm(spec=spec, runs=tuple(self._load(*run) for run in needed))

    def has(self, spec: RunSpec, seed: int) -> bool:
        """Whether this Run is finished, here or among the recorded ones."""
        key = run_key(spec, seed)
        return key in self.loaded or key in self.recorded or self.store.has(spec, seed)

    def missing(self, needed: Sequence[Needed]) -> list[Needed]:
        """Those of the Runs that are not finished, in the same order."""
        return [run for run in needed if not self.has(*run)]

    def complete(self, needed: Sequence[Needed]) -> None:
        """Return when all these Runs are finished, by this Lab or by others; UntrainedError where nothing may train."""
        while missing := self.missing(needed):
            if self.trainer is None:
                raise UntrainedError(missing)
            if not self.train_one(missing) and not self.help():
                time.sleep(POLL)

    def train_one(self, needed: Sequence[Needed]) -> bool:
        """Train one cohort of these Runs, the first that nobody holds; False if others hold all of them."""
        return any(self._train_cohort(spec, seeds) for spec, seeds in _by_spec(needed).items())

    def open_plan(self) -> list[Needed]:
        """What the plan lacks now and this Lab could train."""
        return [run for run in self.plan() if run[0] not in self.broken]

    def help(self) -> bool:
        """Train one cohort that the plan lacks and nobody holds; False if there is none.

        What goes wrong here is not said: the claim that needs these Runs meets it itself.
        """
        for spec, seeds in _by_spec(self.open_plan()).items():
            try:
                if self._train_cohort(spec, seeds):
                    return True
            except Exception:
                self.broken.add(spec)
        return False

    def _load(self, spec: RunSpec, seed: int) -> Run:
        key = run_key(spec, seed)
        if key not in self.loaded:
            run = self.store.load(spec, seed) or self.recorded.get(key)
            if run is None:
                raise UntrainedError([(spec, seed)])
            self.loaded[key] = run
        return self.loaded[key]

    def _train_cohort(self, spec: RunSpec, seeds: Sequence[int]) -> bool:
        """Lock up to `replicas` of these seeds, those at the same epoch, and train them; False if all are held."""
        if self.trainer is None:
            raise UntrainedError([(spec, seed) for seed in seeds])
        with ExitStack() as held:
            cohort: list[tuple[int, Work, bytes | None]] = []
            epoch, most, finished = 0, self.replicas, False
            for seed in seeds:
                if len(cohort) == most:
                    break
                work = self.store.try_work(spec, seed)
                if work is None:
                    continue
                with ExitStack() as mine:
                    mine.enter_context(work)
                    if work.published:
                        finished = True
                        continue
                    if cohort and work.epoch != epoch:
                        continue
                    trainer = self.trainer()
                    most = most or trainer.replicas(spec)
                    snapshot = work.snapshot()
                    at = trainer.epoch(snapshot) if snapshot else 0
                    if not cohort:
                        epoch = at
                    if at == epoch:
                        cohort.append((seed, work, snapshot))
                        held.push(mine.pop_all())
            if cohort:
                self._train(trainer, spec, cohort)
            return bool(cohort) or finished

    def _train(self, trainer: Trainer, spec: RunSpec, cohort: Sequence[tuple[int, Work, bytes | None]]) -> None:
        works = {seed: work for seed, work, _ in cohort}
        started = _now()

        def after_epoch(seed: int, epoch: int, snapshot: bytes) -> None:
            works[seed].save_snapshot(epoch, snapshot)
            self.say(f"{spec}, seed {seed}: epoch {epoch} of {spec.epochs}")

        trained = trainer.train(spec, list(works), [snapshot for _, _, snapshot in cohort], after_epoch)
        for (seed, work, _), result in zip(cohort, trained, strict=True):
            provenance = {
                **trainer.environment(),
                "protocol": self.protocol.name,
                "commit": commit(),
                "worker": self.worker,
                "cohort": len(cohort),
                "wall_s": float(result.wall_s),
                "images_per_s": float(result.images_per_s),
                "resumes": list(work.history),
                "started": started,
                "finished": _now(),
            }
            run = Run(
                spec=spec,
                seed=seed,
                curves={name: tuple(map(float, values)) for name, values in result.curves.items()},
                readings={name: float(value) for name, value in result.readings.items()},
                weights=result.weights,
                diverged_at=result.diverged_at,
                provenance=provenance,
            )
            published = work.publish(run)
            if work.warning:
                warnings.warn(work.warning, stacklevel=2)
            self.loaded[published.key] = published


OURS = frozenset({"protocol", "commit", "worker", "cohort", "wall_s", "images_per_s", "resumes", "started", "finished"})
"""Provenance that may differ between comparable Runs; everything else is the environment that trained them."""


def mixed_environment(runs: Sequence[Run]) -> dict[str, list[str]]:
    """What differs in the environments (GPU, versions, threads) that trained these Runs: name -> the values."""
    values: dict[str, set[str]] = {}
    for run in runs:
        for name, value in run.provenance.items():
            if name not in OURS:
                values.setdefault(name, set()).add(str(value))
    return {name: sorted(found) for name, found in sorted(values.items()) if len(found) > 1}


def open_trainer(source: str, cache_folder: Path, device: str, threads: int, say: Callable[[str], None]) -> Trainer:
    """The engine on one device with the images of one source; imports torch."""
    return _EngineTrainer(source, cache_folder, device, threads, say)


class _EngineTrainer:
    """`bnlab.engine` with its images already on the device."""

    def __init__(self, source: str, cache_folder: Path, device: str, threads: int, say: Callable[[str], None]) -> None:
        import torch

        from bnlab.data import images, sources

        if device.startswith("cuda") and not torch.cuda.is_available():
            raise DeviceError(
                f"a GPU is there, but this PyTorch ({torch.__version__}) cannot use it: "
                "install a build of PyTorch with CUDA, or train with --device cpu"
            )
        torch.set_num_threads(threads)
        self._device, self._say = device, say
        self._images = images.Images.of(sources.load(source, cache_folder), device)

    def environment(self) -> Mapping[str, Any]:
        from bnlab import engine

        return engine.environment(self._device)

    def replicas(self, spec: RunSpec) -> int:
        from bnlab import engine

        return engine.replicas(spec, self._images, self._device)

    def epoch(self, snapshot: bytes) -> int:
        from bnlab import engine

        return engine.snapshot_epoch(snapshot)

    def train(
        self,
        spec: RunSpec,
        seeds: Sequence[int],
        resume: Sequence[bytes | None],
        after_epoch: Callable[[int, int, bytes], None],
    ) -> "Sequence[Trained]":
        from bnlab import engine

        every = 0.0 if self._device == "cpu" else GPU_SNAPSHOTS
        return engine.train(
            spec,
            seeds,
            self._images,
            self._device,
            resume=resume,
            after_epoch=after_epoch,
            snapshot_every=every,
            say=self._say,
        )


@cache
def commit() -> str | None:
    """The git commit of this bnlab, `-dirty` if it was changed since; None outside a git checkout."""
    home = Path(__file__).resolve().parents[1]
    if not (home / ".git").exists():
        return None
    command = ["git", "-C", str(home), "describe", "--always", "--dirty", "--abbrev=40", "--exclude=*"]
    try:
        found = subprocess.run(command, capture_output=True, text=True, timeout=10, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return found.stdout.strip() or None


def _by_spec(needed: Sequence[Needed]) -> dict[RunSpec, list[int]]:
    """The seeds of each RunSpec, both in the order given."""
    seeds: dict[RunSpec, list[int]] = {}
    for spec, seed in needed:
        seeds.setdefault(spec, []).append(seed)
    return seeds


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")
