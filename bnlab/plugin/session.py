"""One process of a session: its settings, the claims that were collected, and its Lab."""

import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from functools import cached_property

import pytest

from bnlab import cost, live
from bnlab.claims import Claim
from bnlab.cohorts import Trainer
from bnlab.data import sources
from bnlab.devices import for_worker, lock_name, threads
from bnlab.errors import BnlabError
from bnlab.lab import POLL, Lab
from bnlab.plan import Plan
from bnlab.plugin.items import claims, is_claim
from bnlab.plugin.pulse import heard
from bnlab.settings import Settings
from bnlab.specs import Replicate
from bnlab.store.beats import Pulse, planned
from bnlab.words import count


class CollectionError(BnlabError):
    """The claims could not be collected."""


@dataclass(frozen=True)
class Worker:
    """One of the processes that share a session: its name, and its number among so many."""

    name: str = "main"
    number: int = 0
    of: int = 1


@dataclass(kw_only=True)
class Session:
    """The claims of a session and the Lab that answers them.

    `data` is the digest of the images, `registered` the number of claims that there are, selected
    or not. `replicas` is how many Runs train as one cohort (None: the trainer decides), `progress`
    takes lines on what happens, `pulse` tells everybody else what this process does.
    """

    settings: Settings
    data: str
    claims: Mapping[str, Claim]
    registered: int
    worker: Worker = Worker()
    replicas: int | None = None
    progress: Callable[[str], None] = lambda line: None
    pulse: Pulse | None = None
    said: set[str] = field(default_factory=set)

    @cached_property
    def plan(self) -> Plan:
        """What the claims need."""
        return Plan(claims=tuple(self.claims.values()), looks=self.settings.protocol.looks)

    @cached_property
    def lab(self) -> Lab:
        """The Lab at the first look."""
        protocol = self.settings.protocol
        reading = Lab(
            store=self.settings.session_store(),
            protocol=protocol,
            data=self.data,
            seeds=protocol.looks[0],
            recorded=self.settings.recorded,
            worker=self.worker.name,
            progress=self.say,
            replicas=self.replicas,
            mends=self.settings.device is not None,
        )
        if self.settings.device is None:
            return reading
        device = lock_name(for_worker(self.settings.device, self.worker.number))
        return replace(
            reading,
            trainer=lambda: self._trainer,
            plan=lambda: self.plan.open(reading),
            probes={run.spec: run.probes for run in self.plan.first_look()},
            device=device,
        )

    @cached_property
    def _trainer(self) -> Trainer:
        self.say(sources.waiting(self.settings.source, self.settings.cache))
        trainer = open_trainer(self)
        return heard(trainer, self.pulse) if self.pulse else trainer

    def say(self, line: str) -> None:
        """Tell what happens now; whoever reads along hears of the same thing once."""
        if self.pulse is not None:
            self.pulse.say(line)
        if line not in self.said:
            self.said.add(line)
            self.progress(line)

    def passed(self, epoch: int, images: int) -> None:
        """A cohort has finished so many epochs, and was shown so many images in the last."""
        if self.pulse is not None:
            self.pulse.passed(epoch, images)

    def begin(self, block: Sequence[Replicate] | None = None) -> Pulse:
        """Tell everybody that this process trains, the first look or a block, until the pulse is closed."""
        self.pulse = Pulse(self.lab.store, self.worker.name.removeprefix("main"))
        with suppress(BnlabError, OSError):  # what cannot be planned, a claim will say
            needed = self.plan.first_look() if block is None else block
            self.pulse.plan(planned(self.lab.store, needed, self.lab.missing(needed)))
        return self.pulse

    @contextmanager
    def shown(self, block: Sequence[Replicate] | None = None) -> Iterator[None]:
        """Tell and show how far this process is, and what is kept if it is interrupted."""
        with self.begin(block), live.display() as show:
            watch = live.Watch(self.lab.store, show)
            watch.start()
            try:
                yield
            except KeyboardInterrupt:
                watch.stop()
                for line in watch.kept():
                    self.progress(line)
                raise
            finally:
                watch.stop()

    def drain(self) -> None:
        """Train what undecided claims lack, look by look, until they lack nothing.

        Other processes may share the work. The claims that could not be planned are in
        `plan.failures` afterwards; a failure of the disk may pass, so it has to come twice.
        """
        failed: set[str] = set()
        with self.shown():
            while True:
                if needed := self.lab.plan():
                    if not self.lab.train_one(needed):
                        time.sleep(POLL)
                elif failed == set(self.plan.failures):
                    return
                failed = set(self.plan.failures)

    def help(self) -> None:
        """Train what other workers' claims lack; errors are left to the claims themselves."""
        while self.lab.open_plan():
            if not self.lab.help():
                time.sleep(POLL)

    def train(self, block: Sequence[Replicate]) -> None:
        """Train these Runs where they are missing or damaged, and nothing beside them."""
        with self.shown(block):
            replace(self.lab, plan=lambda: self.lab.missing(block)).runs(block)

    def plan_text(self, block: Sequence[Replicate] | None = None) -> list[str]:
        """What is finished of the first look or a block, what would train, how long; what could not be planned."""
        settings, needed = self.settings, self.plan.first_look() if block is None else block
        missing = self.lab.missing(needed)
        timed = [*self.lab.store.runs(), *self.lab.recorded.values()] if missing else []
        speeds = cost.Speeds(settings.device or "cuda", timed)
        total = speeds.cost(missing, settings.train_images if missing else 0)
        text = cost.plan_text(needed, missing, settings.protocol.looks, total, settings.device)
        more = sum(claim.needs.more for claim in self.claims.values())
        if more:
            look = count(more, "claim looks at Runs before it judges", "claims look at Runs before they judge")
            text.append(f"{look}, and may need further ones then")
        if missing:
            text.append(cost.disk_text(missing, settings.store))
        return text + self.not_planned()

    def not_planned(self) -> list[str]:
        """One line for each claim that its body or the store kept from being planned."""
        broken = {claim.nodeid: claim.needs.error for claim in self.claims.values() if claim.needs.error}
        return [
            f"NOT PLANNED {nodeid}: {type(error).__name__}: {' '.join(str(error).split())}"
            for nodeid, error in {**broken, **self.plan.failures}.items()
        ]


def open_trainer(session: Session) -> Trainer:
    """The engine on the device of this session; imports torch."""
    from bnlab.engine.trainer import EngineTrainer

    settings, worker = session.settings, session.worker
    device = for_worker(settings.device, worker.number)
    assert device is not None
    return EngineTrainer(
        settings.source, settings.cache, device, threads(worker.of), session.say, settings.catalogue, session.passed
    )


def collect_session(
    settings: Settings,
    *,
    worker: Worker = Worker(),
    replicas: int | None = None,
    progress: Callable[[str], None] = print,
) -> Session:
    """The session of all claims in `hypotheses/` under `settings.root`.

    pytest collects them and runs none. CollectionError if there is no claim or a page has an error.
    """
    folder = settings.root / "hypotheses"
    if not folder.is_dir():
        raise CollectionError(f"there is no hypotheses/ in {settings.root}: run this in a checkout of bnlab")
    collected = _Collected()
    options = ["--collect-only", f"--rootdir={settings.root}", "-p", "bnlab.plugin", "-n0"]
    pytest.main([str(folder), *options], plugins=[collected])
    sys.path[:] = collected.path or sys.path  # pytest takes back what its option pythonpath added, and claims need it
    if collected.errors:
        raise CollectionError("\n".join(collected.errors))
    if not collected.items:
        raise CollectionError(f"pytest found no claim in {folder}: run pytest {folder} --collect-only to see why")
    return Session(
        settings=settings,
        data=settings.data,
        claims=claims(collected.items, settings.protocol, settings.data),
        registered=len(collected.items),
        worker=worker,
        replicas=replicas,
        progress=progress,
    )


class _Collected:
    """A pytest plugin that keeps what was collected, and keeps pytest from printing it."""

    def __init__(self) -> None:
        self.items: list[pytest.Item] = []
        self.errors: list[str] = []
        self.path: list[str] = []

    @pytest.hookimpl(trylast=True)
    def pytest_configure(self, config: pytest.Config) -> None:
        config.pluginmanager.unregister(name="terminalreporter")

    def pytest_collectreport(self, report: pytest.CollectReport) -> None:
        if report.failed:
            self.errors.append(report.longreprtext)

    def pytest_collection_finish(self, session: pytest.Session) -> None:
        self.items = [item for item in session.items if is_claim(item)]
        self.path = list(sys.path)
