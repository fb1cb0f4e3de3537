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
from bnlab.specs import Replicate, RunSpec, run_key
from bnlab.store import Store, Work

if TYPE_CHECKING:
    from bnlab.engine import Trained

Needed = tuple[RunSpec, int]
"""One Run by its RunSpec and seed."""

GPU_SNAPSHOTS = 60.0
"""Least seconds between snapshots on a GPU: an epoch of a cohort takes seconds there, and its snapshots gigabytes."""

POLL = 0.5
"""Seconds between looks at the store while others train what this Lab waits for."""


class Trainer(Protocol):
    """What trains a cohort on one device; the engine in earnest, a fake in tests."""

    def environment(self) -> Mapping[str, Any]:
        """Versions, device and threads, for the provenance of a Run."""
        ...

    def replicas(self, spec: RunSpec) -> int:
        """How many Runs like this one to train as one cohort here."""
        ...

    def epoch(self, snapshot: bytes) -> int:
        """Epochs finished in a snapshot."""
        ...

    def train(
        self,
        cohort: Sequence[Needed],
        resume: Sequence[bytes | None],
        after_epoch: Callable[[Needed, int, bytes], None],
    ) -> "Sequence[Trained]":
        """Train Runs that share a program; `after_epoch(run, epoch, snapshot)` comes for each after every epoch."""
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
    not, `replicas` how many Runs train as one cohort (None: the trainer says).
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
        return self.arm(self.protocol.apply(spec, self.data))

    def arm(self, spec: RunSpec) -> Arm:
        """The Arm of a RunSpec to which the protocol has been applied; applying it again would shorten it again."""
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
        """Train one cohort of these Runs, the first that nobody holds; False if others hold all of them.

        Where it has room left, it takes along what else the plan lacks and the same program can hold.
        """
        return any(map(self._train_cohort, _by_program(needed)))

    def open_plan(self) -> list[Needed]:
        """What the plan lacks now and this Lab could train."""
        return [run for run in self.plan() if run[0] not in self.broken]

    def help(self) -> bool:
        """Train one cohort that the plan lacks and nobody holds; False if there is none.

        What goes wrong here is not said: the claim that needs these Runs meets it itself.
        """
        for runs in _by_program(self.open_plan()):
            try:
                if self._train_cohort(runs):
                    return True
            except Exception:
                self.broken.update(spec for spec, _ in runs)
        return False

    def _load(self, spec: RunSpec, seed: int) -> Run:
        key = run_key(spec, seed)
        if key not in self.loaded:
            run = self.store.load(spec, seed) or self.recorded.get(key)
            if run is None:
                raise UntrainedError([(spec, seed)])
            self.loaded[key] = run
        return self.loaded[key]

    def _train_cohort(self, runs: Sequence[Needed]) -> bool:
        """Train Runs of one program that nobody holds and that are at the same epoch; False if others hold all."""
        if self.trainer is None:
            raise UntrainedError(runs)
        cohort: list[_Held] = []
        with ExitStack() as locks:
            finished = self._hold(runs, cohort, locks)
            if cohort and len(cohort) < self._room(cohort[0].run[0]):
                program = runs[0][0].cohort_key
                others = [run for run in self.open_plan() if run[0].cohort_key == program and run not in runs]
                self._hold(others, cohort, locks)
            if cohort:
                self._train(cohort)
        return bool(cohort) or finished

    def _room(self, spec: RunSpec) -> int:
        assert self.trainer is not None
        return self.replicas or self.trainer().replicas(spec)

    def _hold(self, runs: Sequence[Needed], cohort: list["_Held"], locks: ExitStack) -> bool:
        """Lock what is free of these Runs until the cohort is full; True if any of them turned out to be finished."""
        assert self.trainer is not None
        finished = False
        for run in runs:
            work = self.store.try_work(*run)
            if work is None:
                continue
            with ExitStack() as mine:
                mine.enter_context(work)
                if work.published:
                    finished = True
                    continue
                if cohort and work.epoch != cohort[0].epoch:
                    continue
                snapshot = work.snapshot()
                epoch = self.trainer().epoch(snapshot) if snapshot else 0
                if not cohort or epoch == cohort[0].epoch:
                    cohort.append(_Held(run, work, snapshot, epoch))
                    locks.push(mine.pop_all())
            if cohort and len(cohort) >= self._room(cohort[0].run[0]):
                break
        return finished

    def _train(self, cohort: Sequence["_Held"]) -> None:
        assert self.trainer is not None
        trainer, started = self.trainer(), _now()
        works = {held.run: held.work for held in cohort}

        def after_epoch(run: Needed, epoch: int, snapshot: bytes) -> None:
            works[run].save_snapshot(epoch, snapshot)
            spec, seed = run
            self.say(f"{spec}, seed {seed}: epoch {epoch} of {spec.epochs}")

        trained = trainer.train(list(works), [held.snapshot for held in cohort], after_epoch)
        for ((spec, seed), work), result in zip(works.items(), trained, strict=True):
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


@dataclass(frozen=True)
class _Held:
    """A Run that this Lab has locked, and where its training stands."""

    run: Needed
    work: Work
    snapshot: bytes | None
    epoch: int


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
        self._replicas: dict[RunSpec, int] = {}
        self._images = images.Images.of(sources.load(source, cache_folder), device)

    def environment(self) -> Mapping[str, Any]:
        from bnlab import engine

        return engine.environment(self._device)

    def replicas(self, spec: RunSpec) -> int:
        from bnlab import engine

        if spec.cohort_key not in self._replicas:
            self._replicas[spec.cohort_key] = engine.replicas(spec, self._images, self._device)
        return self._replicas[spec.cohort_key]

    def epoch(self, snapshot: bytes) -> int:
        from bnlab import engine

        return engine.snapshot_epoch(snapshot)

    def train(
        self,
        cohort: Sequence[Needed],
        resume: Sequence[bytes | None],
        after_epoch: Callable[[Needed, int, bytes], None],
    ) -> "Sequence[Trained]":
        from bnlab import engine

        every = 0.0 if self._device == "cpu" else GPU_SNAPSHOTS
        return engine.train(
            [Replicate(spec, seed) for spec, seed in cohort],
            self._images,
            self._device,
            resume=resume,
            after_epoch=lambda run, epoch, snapshot: after_epoch((run.spec, run.seed), epoch, snapshot),
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


def _by_program(needed: Sequence[Needed]) -> list[list[Needed]]:
    """The Runs that one program can hold together, both in the order given."""
    groups: dict[RunSpec, list[Needed]] = {}
    for run in needed:
        groups.setdefault(run[0].cohort_key, []).append(run)
    return list(groups.values())


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")
