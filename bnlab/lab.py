"""The Lab: load the Runs that are there, train the ones that are missing, never one of them twice.

Any number of Labs share one store: pytest-xdist's workers, several sessions, several machines. Each
Run has a lock in the store; a Lab trains what nobody else has locked, its own claim's Runs first
and any other of the plan while it would otherwise wait. A Lab that dies leaves its finished Runs
and the snapshot of its last epoch behind.
"""

import time
import warnings
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field, replace

from bnlab.cohorts import Cohort, Trainer
from bnlab.errors import BnlabError, OtherNumbersError, SnapshotError, StoreError
from bnlab.interrupts import deferred
from bnlab.parts import versioned
from bnlab.protocol import Protocol
from bnlab.provenance import commit
from bnlab.runs import Arm, Run
from bnlab.specs import Replicate, RunSpec
from bnlab.store import DamagedError, Store
from bnlab.store.work import now
from bnlab.words import count

POLL = 0.5
"""Seconds between looks at the store while others train what this Lab waits for."""

_GATHERING = "gathering"
"""Lock of the Lab that puts a cohort together; two at a time would share its Runs between them."""

TURN = 30.0
"""Seconds that a Lab waits to put a cohort together, before it looks again what is missing."""


class UntrainedError(BnlabError):
    """Runs are missing and this Lab may not train; `missing` names them."""

    def __init__(self, missing: Sequence[Replicate]) -> None:
        self.missing = tuple(missing)
        lacking = count(len(missing), "Run that this claim needs is", "Runs that this claim needs are")
        super().__init__(f"{lacking} not recorded and nothing trains here")


@dataclass(frozen=True, kw_only=True)
class Lab:
    """Gives Arms: `lab.train(spec)` loads what is stored and trains what is missing.

    `seeds` is the number of Runs in every Arm, `data` the content digest of the images, `recorded`
    a read-only layer of Runs beneath the store, `loaded` the Runs read so far, `broken` the
    RunSpecs that this Lab failed to train for others, `replicas` how many Runs train as one cohort
    (None: the trainer decides). `device` names what trains one cohort at a time, whichever process
    asks, and is "" where cohorts may train side by side. `trainer` opens what trains, on first use,
    and is None where nothing may train. `plan` names what else the session needs. `probes` are those
    that its claims ask for, by RunSpec: a Run is trained with all of them at once. `mends` says
    whether a damaged Run is set aside to be trained again. `progress` is told of it.
    """

    store: Store
    protocol: Protocol
    data: str
    seeds: int
    recorded: Mapping[str, Run] = field(default_factory=dict)
    loaded: dict[str, Run] = field(default_factory=dict)
    broken: set[RunSpec] = field(default_factory=set)
    trainer: Callable[[], Trainer] | None = None
    plan: Callable[[], Sequence[Replicate]] = tuple
    probes: Mapping[RunSpec, Sequence[str]] = field(default_factory=dict)
    replicas: int | None = 1
    device: str = ""
    worker: str = "main"
    mends: bool = False
    progress: Callable[[str], None] = lambda line: None

    def at(self, seeds: int) -> "Lab":
        """The same Lab at a look with so many seeds."""
        return replace(self, seeds=seeds)

    def train(self, spec: RunSpec, probes: Sequence[str] = ()) -> Arm:
        """The Arm of this RunSpec under the protocol: seeds 0 to n - 1, missing ones trained.

        A Run that lacks what one of the `probes` reads is missing as well: it is trained again, has
        to give the same numbers, and keeps the readings. A recorded one of another device, or of a
        GPU, is trained anew for the store, and a stored one is an OtherNumbersError before it trains.
        """
        spec = self.protocol.apply(spec, self.data)
        return Arm(spec=spec, runs=self.runs(replicates(spec, self.seeds, probes)))

    def runs(self, needed: Sequence[Replicate]) -> tuple[Run, ...]:
        """These Runs, trained where they are missing."""
        while True:
            self.complete(needed)
            try:
                return tuple(map(self.load, needed))
            except UntrainedError as error:
                if self.trainer is None or not self.missing(error.missing):
                    raise
                # a damaged Run was set aside, so it is missing now

    def has(self, run: Replicate) -> bool:
        """Whether this Run is finished with its probes, here or among the recorded ones."""
        return self._known(run) is not None or self.store.has(run)

    def _known(self, run: Replicate) -> Run | None:
        """The Run with its probes, if it need not be read from the store."""
        key = run.key
        for known in (self.loaded.get(key), self.recorded.get(key)):
            if known is not None and known.probes.keys() >= set(run.probes):
                return known
        return None

    def missing(self, needed: Iterable[Replicate]) -> list[Replicate]:
        """Those of the Runs that are not finished, in the same order."""
        return [run for run in needed if not self.has(run)]

    def load(self, run: Replicate) -> Run:
        """A finished Run with its probes, checked; UntrainedError if it is missing.

        A damaged one is a StoreError, or is set aside and missing where this Lab `mends` the store.
        """
        known = self.loaded.get(run.key)
        if known is not None and known.probes.keys() >= set(run.probes):
            return _with_probes(known, run)
        try:
            found = self.store.load(run) or self._known(run)
        except DamagedError:
            told = self.store.set_aside(run) if self.mends else None
            if told is None:
                raise
            self.progress(told)
            found = self._known(run)
        if found is None:
            raise UntrainedError([run])
        if run.key in self.recorded and self.recorded[run.key].digest != found.digest:
            warnings.warn(f"{run}, is judged as the store has it; reports/runs/ has other numbers", stacklevel=2)
        self.loaded[run.key] = found
        return _with_probes(found, run)

    def complete(self, needed: Sequence[Replicate]) -> None:
        """Return once this Lab or others finished these Runs; UntrainedError if none may train."""
        while missing := self.missing(needed):
            if self.trainer is None:
                raise UntrainedError(missing)
            if not self.train_one(missing) and not self.help():
                time.sleep(POLL)

    def train_one(self, needed: Sequence[Replicate]) -> bool:
        """Train one cohort of these Runs that nobody else has locked; False if there is none.

        Spare places are filled with other missing Runs of the plan that can share the program. Runs
        of which a probe cannot be read here are an OtherNumbersError when nothing else is left.
        """
        refused: OtherNumbersError | None = None
        for runs in cohorts([self._with_probes_of_others(run) for run in needed]):
            try:
                if self._train_cohort(runs):
                    return True
            except OtherNumbersError as error:
                refused = error
        if refused is not None:
            raise refused
        return False

    def _with_probes_of_others(self, run: Replicate) -> Replicate:
        """The Run with the probes that other claims ask of it too, but a user's, whose faults are the claim's own."""
        others = [probe for probe in self.probes.get(run.spec, ()) if "@" not in probe]
        return replace(run, probes=tuple(dict.fromkeys([*run.probes, *others])))

    def open_plan(self) -> list[Replicate]:
        """The missing Runs of the plan that this Lab has not failed to train."""
        return [run for run in self.plan() if run.spec not in self.broken]

    def help(self) -> bool:
        """Train one cohort that the plan lacks and nobody else has locked; False if there is none.

        Errors are ignored here; the claim that needs these Runs will raise them.
        """
        for runs in cohorts(self.open_plan()):
            try:
                if self._train_cohort(runs):
                    return True
            except Exception:
                self.broken.update(run.spec for run in runs)
        return False

    def _train_cohort(self, runs: Sequence[Replicate]) -> bool:
        """Train those of one epoch that are free.

        False if others have locked all of them, or the device, or put cohorts together for too long.
        """
        if self.trainer is None:
            raise UntrainedError(runs)
        with ExitStack() as locks:
            if self.device and not self._enter(self.device, locks):
                return False
            trainer = self.trainer()
            # may take a while, and is asked before anything else is locked
            room = self.replicas or trainer.replicas(runs[0].spec)
            cohort = Cohort(self.store, trainer, self.recorded, room, locks)
            with ExitStack() as gathering:
                if not self._enter(_GATHERING, gathering, patience=TURN):
                    return False
                finished = cohort.add(runs)
                if 0 < len(cohort.works) < room:
                    own = {(run.spec, run.seed) for run in runs}
                    key = runs[0].cohort_key
                    plan = self.open_plan()
                    others = [run for run in plan if run.cohort_key == key and (run.spec, run.seed) not in own]
                    cohort.add(others)
                cohort.leave_out_other_numbers()
            if cohort.works:
                with deferred(self.progress) as stop:
                    self._train(cohort, stop)
            return bool(cohort.works) or finished

    def _enter(self, name: str, locks: ExitStack, **patience: float) -> bool:
        """Take a lock that the processes of the store share; False if somebody else keeps it."""
        lock = self.store.try_lock(name, **patience)
        if lock is not None:
            locks.enter_context(lock)
        return lock is not None

    def _train(self, cohort: Cohort, stop: Callable[[], None]) -> None:
        """Train, keep a snapshot of every Run after each epoch, and publish; `stop` is called when all are kept."""
        started = now()
        works = {work.replicate: work for work in cohort.works}
        kept: dict[Replicate, int] = {}

        def after_epoch(run: Replicate, epoch: int, snapshot: bytes) -> None:
            works[run].save_snapshot(epoch, snapshot)
            kept[run] = epoch
            if len(kept) == len(works) and set(kept.values()) == {epoch}:
                stop()

        try:
            trained = cohort.trainer.train(list(works), cohort.snapshots, after_epoch)
        except SnapshotError as error:
            works[error.replicate].refuse_snapshot(error.why)
            return
        errors: list[StoreError] = []
        for work, run in zip(works.values(), trained, strict=True):
            provenance = {
                **run.provenance,
                "protocol": self.protocol.name,
                "commit": commit(),
                "worker": self.worker,
                "cohort": len(works),
                "resumes": list(work.history),
                "started": started,
                "finished": now(),
            }
            try:
                self.loaded[run.key] = work.publish(replace(run, provenance=provenance))
                if work.warning:
                    warnings.warn(work.warning, stacklevel=2)
            except StoreError as error:
                errors.append(error)  # the others of the cohort are kept all the same
        for first in errors:
            raise first


def replicates(spec: RunSpec, seeds: int, probes: Sequence[str] = ()) -> list[Replicate]:
    """The Runs of an Arm with so many seeds; a probe of a user is asked for in the version that its source has."""
    asked = tuple(map(versioned, probes))
    return [Replicate(spec, seed, asked) for seed in range(seeds)]


def _with_probes(found: Run, asked: Replicate) -> Run:
    """The Run with the probes that were asked for and no others, such as an earlier version of one."""
    if found.probes.keys() == set(asked.probes):
        return found
    return replace(found, probes={probe: found.probes[probe] for probe in asked.probes})


def cohorts(needed: Sequence[Replicate]) -> list[list[Replicate]]:
    """The Runs that one program can hold together, both in the order given."""
    groups: dict[RunSpec, list[Replicate]] = {}
    for run in needed:
        groups.setdefault(run.cohort_key, []).append(run)
    return list(groups.values())
