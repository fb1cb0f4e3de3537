"""The pytest plugin: options, the marker `claim`, the fixtures `lab` and `judge`.

The work is done elsewhere: `options` are those of the command line, `items` reads tests as claims,
`session` is one process of a session, `messages` is what it tells the controller, `controller`
gathers that, `reports` adds what earlier sessions found, and `bnlab.claims` settles a claim.
PYTEST_DONT_REWRITE, since the command line imports this package before pytest does.
"""

import os
import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

import pytest

from bnlab import devices
from bnlab.claims import Judge, answer, judge_of
from bnlab.errors import BnlabError, SpecError
from bnlab.lab import Lab
from bnlab.live import Watch, lines
from bnlab.plugin import pytest_html
from bnlab.plugin.controller import Controller
from bnlab.plugin.fleet import Fleet, FleetError
from bnlab.plugin.items import Census, check_claim, claims, is_claim
from bnlab.plugin.messages import (
    COLLECTED,
    SELECTED,
    claim_property,
    crashed,
    outcome_property,
    read_status,
)
from bnlab.plugin.options import allowed, pytest_addoption, settings_of
from bnlab.plugin.reports import check_reports
from bnlab.plugin.session import Session, Worker
from bnlab.plugin.stopping import Stopping, leave_to_the_controller
from bnlab.plugin.terminal import writer
from bnlab.settings import Settings
from bnlab.statuses import PASSED, STATUSES

__all__ = ["pytest_addoption"]

SETTINGS = pytest.StashKey[Settings]()
DATA = pytest.StashKey[str]()
CENSUS = pytest.StashKey[Census]()
SESSION = pytest.StashKey[Session]()

_UNSOUND = ("loadscope", "loadgroup", "loadfile")


@pytest.hookimpl(tryfirst=True)
def pytest_cmdline_main(config: pytest.Config) -> None:
    """A plan needs no workers."""
    if config.getoption("plan"):
        config.option.numprocesses = 0


@pytest.hookimpl(tryfirst=True)
def pytest_configure(config: pytest.Config) -> None:
    """Check every option before a worker starts, since errors of a worker are unreadable."""
    config.addinivalue_line(
        "markers", "claim(*places, published=None, reading=None): one statement of the paper, and its places there"
    )
    census = config.stash[CENSUS] = Census()
    config.pluginmanager.register(census, "bnlab-census")
    with _as_usage_error():
        settings = config.stash[SETTINGS] = settings_of(config)
        # as `python -m pytest` has it: a layer to swap may lie where the session was started
        sys.path += [path for path in map(str, (config.invocation_params.dir, settings.root)) if path not in sys.path]
        if hasattr(config, "workerinput"):
            # or torch takes every core in each worker, and they wait for one another
            os.environ["OMP_NUM_THREADS"] = str(devices.threads(config.workerinput["workercount"]))
            config.pluginmanager.register(_Help(), "bnlab-help")
            return
        dist = config.getoption("dist", "no")
        if dist in _UNSOUND:
            raise SpecError(
                f"--dist {dist} runs a claim again and again or hangs when its worker dies (pytest-xdist 3.8): "
                "use --dist load or --dist worksteal"
            )
        if config.getoption("collectonly"):
            return
        if _aims_at_claims(config):
            settings.check()
    if config.getoption("plan"):
        config.pluginmanager.register(_PrintPlan(), "bnlab-plan")
        return
    if config.getoption("engine") and settings.device is not None:
        config.pluginmanager.register(_OnRay(), "bnlab-ray")
    controller = Controller(config, settings, census, lambda: _data(config), allowed(config))
    config.pluginmanager.register(controller, "bnlab-controller")
    if _aims_at_claims(config):
        _prepare(config, settings, controller)


def _prepare(config: pytest.Config, settings: Settings, controller: Controller) -> None:
    """Give a session that judges claims its store, its page and news of its workers."""
    with _as_usage_error():
        store = settings.session_store()
        check_reports(settings.reports)
    if not config.getoption("htmlpath", None):
        config.option.htmlpath = str(settings.reports / "tests.html")
        config.option.self_contained_html = True
        config.stash[pytest_html.UNASKED] = True
    if settings.device is not None:
        config.pluginmanager.register(Stopping(writer(config)), "bnlab-stopping")
        controller.watch = Watch(store, lines(writer(config)))
        controller.watch.start()
        config.add_cleanup(controller.watch.stop)


@pytest.hookimpl(optionalhook=True)
def pytest_configure_node(node: Any) -> None:
    """Tell a worker the digest of the data, so that it need not read the data to plan."""
    if DATA in node.config.stash:
        node.workerinput["bnlab_data"] = node.config.stash[DATA]


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_auto_num_workers(config: pytest.Config) -> int | None:
    """`-n auto` is one worker for each GPU, where GPUs train claims."""
    with suppress(BnlabError):
        if _aims_at_claims(config) and (settings_of(config).device or "").startswith("cuda"):
            return devices.cuda_devices()
    return None


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Learn which RunSpecs the selected claims compare."""
    if any(map(is_claim, items)) and not config.getoption("collectonly"):
        with _as_usage_error():
            session = config.stash[SESSION] = _new_session(config, items)
        if hasattr(config, "workerinput") and session.settings.device is not None:
            leave_to_the_controller()


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item: pytest.Item) -> None:
    """Say what is wrong with a claim before anything trains for it."""
    if not is_claim(item):
        return
    session = item.config.stash[SESSION]
    item.user_properties.append(claim_property(session.claims[item.nodeid], session.registered))
    if session.settings.device is not None and session.pulse is None:
        item.config.add_cleanup(session.begin().close)
    with _as_failure():
        check_claim(item)


@pytest.hookimpl(tryfirst=True)
def pytest_pyfunc_call(pyfuncitem: pytest.Function) -> bool | None:
    """Settle a claim: held passes, refuted fails, all else is a skip with its own word."""
    if not is_claim(pyfuncitem):
        return None
    session = pyfuncitem.config.stash[SESSION]
    with _as_failure():
        outcome = answer(session.claims[pyfuncitem.nodeid], session.lab)
    pyfuncitem.user_properties.append(outcome_property(outcome))
    if outcome.status == "refuted":
        pytest.fail(outcome.reason, pytrace=False)
    if outcome.status not in PASSED:
        pytest.skip(outcome.reason)
    return True


@pytest.hookimpl(tryfirst=True)
def pytest_report_teststatus(report: Any) -> tuple[str, str, tuple[str, dict[str, bool]]] | None:
    """The words of `statuses` for claims, and RETRIED for one whose worker died."""
    if crashed(report) and report.outcome == "rerun":
        return "retried", "r", ("RETRIED", {"yellow": True})
    if (status := read_status(report)) is None:
        return None
    shown = STATUSES[status]
    return shown.category, shown.letter, (shown.word, {shown.ink: True})


@pytest.fixture
def lab(request: pytest.FixtureRequest) -> Lab:
    """`lab.train(spec) -> Arm`: the Runs of a RunSpec, loaded or trained."""
    return _session_of_claim(request).lab


@pytest.fixture
def judge(request: pytest.FixtureRequest) -> Judge:
    """`judge(hypothesis, *samples) -> Verdict`, once in a claim; new at each look."""
    return judge_of(_session_of_claim(request).settings.protocol)


def _session_of_claim(request: pytest.FixtureRequest) -> Session:
    if not is_claim(request.node):
        pytest.fail(f"{request.node.nodeid} is no claim, and lab and judge are for claims: mark it", pytrace=False)
    return request.config.stash[SESSION]


class _Help:
    """What an xdist worker does beside running claims."""

    @pytest.hookimpl(wrapper=True)
    def pytest_runtestloop(self, session: pytest.Session) -> Iterator[None]:
        """Train what the others' claims lack when there is no claim left for this worker."""
        done = yield
        own = session.config.stash.get(SESSION, None)
        if own and not (session.shouldstop or session.shouldfail):
            own.help()
        return done

    def pytest_sessionfinish(self, session: pytest.Session) -> None:
        """Tell the controller, which collects nothing, what was collected here."""
        config: Any = session.config
        config.workeroutput[SELECTED] = config.stash[CENSUS].selected
        config.workeroutput[COLLECTED] = list(config.stash[CENSUS].collected)


class _OnRay:
    """Trains on a Ray cluster what the selected claims lack, before the first one is judged."""

    @pytest.hookimpl(wrapper=True)
    def pytest_runtestloop(self, session: pytest.Session) -> Iterator[None]:
        config = session.config
        if own := config.stash.get(SESSION, None):
            try:
                Fleet(address=config.getoption("ray_address")).drain(own)
            except FleetError as error:  # what is there is judged, and the rest trained here
                writer(config)(str(error))
        return (yield)


class _PrintPlan:
    """Prints what the collected claims need instead of judging them."""

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtestloop(self, session: pytest.Session) -> bool:
        config = session.config
        with _as_usage_error():
            own = config.stash.get(SESSION, None) or _new_session(config, [])
            for line in own.plan_text():
                writer(config)(line)
        session.testsfailed += len(own.not_planned())
        reporter = config.pluginmanager.get_plugin("terminalreporter")
        if reporter is not None:
            reporter.stats["planned"] = list(session.items)  # the last line counts them
        return True


def _data(config: pytest.Config) -> str:
    """The content digest of the data; the controller finds it and tells its workers."""
    if DATA not in config.stash:
        told = getattr(config, "workerinput", {}).get("bnlab_data")
        config.stash[DATA] = told or config.stash[SETTINGS].data
    return config.stash[DATA]


def _new_session(config: pytest.Config, items: list[pytest.Item]) -> Session:
    """This process's part of the session, with the claims among these tests."""
    settings, data = config.stash[SETTINGS], _data(config)
    told = getattr(config, "workerinput", {})
    name = told.get("workerid", "main")
    worker = Worker(name, number=int(re.sub(r"\D", "", name) or 0), of=told.get("workercount", 1))
    return Session(
        settings=settings,
        data=data,
        claims=claims(items, settings.protocol, data),
        registered=config.stash[CENSUS].registered,
        worker=worker,
        progress=_silent if told else writer(config),
    )


def _aims_at_claims(config: pytest.Config) -> bool:
    """Whether the paths on the command line can hold claims; they do where this plugin was asked for by name."""
    if "bnlab.plugin" in config.known_args_namespace.plugins:
        return True
    paths = [config.invocation_params.dir / arg.partition("::")[0] for arg in config.args]
    return any("hypotheses" in path.parts or (path / "hypotheses").is_dir() for path in paths)


def _silent(line: str) -> None:
    """A worker has no terminal; its controller reads the store."""


@contextmanager
def _as_usage_error() -> Iterator[None]:
    """A BnlabError as pytest's own one-line complaint about how it was called."""
    try:
        yield
    except BnlabError as error:
        raise pytest.UsageError(str(error)) from None


@contextmanager
def _as_failure() -> Iterator[None]:
    """A BnlabError as a failure of the test, without a traceback."""
    try:
        yield
    except BnlabError as error:
        raise pytest.fail.Exception(str(error), pytrace=False) from None
