"""The pytest plugin: options, the marker `claim`, the fixtures `lab` and `judge`, and how a claim runs.

The work is done elsewhere: `session` is one process's side, `tally` the controller's, `claims` settles a claim.
"""

import json
import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext, suppress
from typing import Any

import pytest

from bnlab import plan as plan_module
from bnlab.claims import Judge, settle
from bnlab.devices import cuda_devices
from bnlab.errors import BnlabError, SpecError
from bnlab.lab import Lab
from bnlab.report import html
from bnlab.report.terminal import Progress, Sparingly
from bnlab.session import CLAIM, OUTCOME, Bench, check_claim, claim_property, is_claim, outcome_property
from bnlab.settings import Settings
from bnlab.tally import Tally

SETTINGS = pytest.StashKey[Settings]()
DATA = pytest.StashKey[str]()
BENCH = pytest.StashKey[Bench]()
TALLY = pytest.StashKey[Tally]()
DESELECTED = pytest.StashKey[int]()
INSTEAD = pytest.StashKey[Callable[[Bench], None]]()
"""What to do with the collected claims instead of judging them, under --plan."""

_UNSOUND = ("loadscope", "loadgroup", "loadfile")

_WORDS: dict[str, tuple[str, str, tuple[str, dict[str, bool]]]] = {
    "held": ("passed", ".", ("HELD", {"green": True})),
    "refuted": ("failed", "R", ("REFUTED", {"red": True})),
    "inconclusive": ("inconclusive", "i", ("INCONCLUSIVE", {"yellow": True})),
    "exercised": ("exercised", "e", ("EXERCISED", {"blue": True})),
    "untrained": ("untrained", "u", ("UNTRAINED", {"yellow": True})),
}
"""Status of a claim -> category, letter and word of pytest; held is the only one that counts as passed."""


def pytest_addoption(parser: pytest.Parser) -> None:
    """The options of a session."""
    group = parser.getgroup("claims")
    group.addoption("--protocol", metavar="NAME", help="effort: paper (default), quick or smoke")
    group.addoption("--smoke", action="store_true", help="short for --protocol smoke: exercise every claim, judge none")
    group.addoption(
        "--data", metavar="SOURCE", help="cifar10, PATH.npz or synthetic, each with :TRAIN+TEST for a subset"
    )
    group.addoption("--store", metavar="DIR", help="folder of finished Runs (default: .bnlab/store)")
    group.addoption("--device", metavar="NAME", help="cpu, cuda or cuda:N (default: a GPU if there is one)")
    group.addoption("--seeds", type=int, metavar="N", help="stop at N seeds an arm")
    group.addoption("--no-train", action="store_true", help="judge what is recorded and train nothing")
    group.addoption("--plan", action="store_true", help="print what would train and how long it takes, and stop")
    group.addoption("--allow-inconclusive", action="store_true", help="exit 0 although claims were left undecided")


@pytest.hookimpl(tryfirst=True)
def pytest_cmdline_main(config: pytest.Config) -> None:
    """A plan needs no workers."""
    if config.getoption("plan"):
        config.option.numprocesses = 0


@pytest.hookimpl(tryfirst=True)
def pytest_configure(config: pytest.Config) -> None:
    """Check every option before a worker starts: there it could only be said unreadably."""
    config.addinivalue_line(
        "markers", "claim(place, published=None, reading=None): one statement of the paper, and where it stands"
    )
    with _usage():
        config.stash[SETTINGS] = settings = _settings(config)
        if _workerinput(config):
            config.pluginmanager.register(_Help(), "bnlab-help")
            return
        dist = config.getoption("dist", "no")
        if dist in _UNSOUND:
            raise SpecError(
                f"--dist {dist} runs a claim again and again or hangs when its worker dies (pytest-xdist 3.8): "
                "use --dist load or --dist worksteal"
            )
        if _aims_at_claims(config):
            _data(config)
            settings.recorded()
    if config.getoption("plan"):
        config.pluginmanager.register(_Instead(), "bnlab-instead")
    elif not config.getoption("collectonly"):
        config.stash[TALLY] = Tally(config, settings, lambda: _data(config), config.getoption("allow_inconclusive"))
        config.pluginmanager.register(config.stash[TALLY], "bnlab-tally")
        if _aims_at_claims(config):
            _prepare(config, settings)


def _prepare(config: pytest.Config, settings: Settings) -> None:
    """What a session that will judge claims has beside the terminal: a store, a page, and news of its workers."""
    with _usage():
        store = settings.session_store()
    if not config.getoption("htmlpath", None):
        config.option.htmlpath = str(settings.root / "reports" / "report.html")
        config.option.self_contained_html = True
        config.stash[html.UNASKED] = True
    if config.getoption("tx", None) and config.getoption("dist", "no") != "no":
        progress = Progress(store, lambda line: _write(config, line))
        progress.start()
        config.add_cleanup(progress.stop)


@pytest.hookimpl(optionalhook=True)
def pytest_configure_node(node: Any) -> None:
    """Tell a worker the digest of the data, so that it need not read the data to plan."""
    if DATA in node.config.stash:
        node.workerinput["bnlab_data"] = node.config.stash[DATA]


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_auto_num_workers(config: pytest.Config) -> int | None:
    """`-n auto` is one worker for each GPU, where GPUs train claims."""
    with suppress(BnlabError):
        if _aims_at_claims(config) and (_settings(config).device or "").startswith("cuda"):
            return cuda_devices()
    return None


def pytest_deselected(items: Sequence[pytest.Item]) -> None:
    """Claims that were not selected still belong to the family."""
    if items:
        stash = items[0].config.stash
        stash[DESELECTED] = stash.get(DESELECTED, 0) + sum(map(is_claim, items))


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Learn which RunSpecs the selected claims compare."""
    if any(map(is_claim, items)) and not config.getoption("collectonly"):
        with _usage():
            _bench(config).collect(items, config.stash.get(DESELECTED, 0))


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item: pytest.Item) -> None:
    """Say what is wrong with a claim before anything trains for it."""
    if not is_claim(item):
        return
    bench = _bench(item.config)
    item.user_properties.append(claim_property(bench, bench.claims[item.nodeid]))
    try:
        check_claim(item)
    except BnlabError as error:
        raise pytest.fail.Exception(str(error), pytrace=False) from None


@pytest.hookimpl(tryfirst=True)
def pytest_pyfunc_call(pyfuncitem: pytest.Function) -> bool | None:
    """Settle a claim: held passes, refuted fails, anything else ends as a skip with a status of its own."""
    if not is_claim(pyfuncitem):
        return None
    bench = _bench(pyfuncitem.config)
    try:
        outcome = settle(bench.claims[pyfuncitem.nodeid], bench.lab, bench.settings.protocol.looks)
    except BnlabError as error:
        raise pytest.fail.Exception(str(error), pytrace=False) from None
    pyfuncitem.user_properties.append(outcome_property(outcome))
    if outcome.status == "refuted":
        pytest.fail(outcome.reason, pytrace=False)
    if outcome.status != "held":
        pytest.skip(outcome.reason)
    return True


@pytest.hookimpl(tryfirst=True)
def pytest_report_teststatus(report: Any) -> tuple[str, str, tuple[str, dict[str, bool]]] | None:
    """Outcomes of our own: HELD, REFUTED, INCONCLUSIVE, EXERCISED, UNTRAINED; and RETRIED for a worker that died."""
    properties = dict(getattr(report, "user_properties", ()))
    if str(report.when) == "???" and report.outcome == "rerun":
        return "retried", "r", ("RETRIED", {"yellow": True})
    if report.when == "call" and OUTCOME in properties:
        return _WORDS[json.loads(properties[OUTCOME])["status"]]
    if report.failed and (str(report.when) == "???" or (report.when == "call" and CLAIM in properties)):
        return "error", "E", ("ERROR", {"red": True})
    return None


@pytest.fixture
def lab(request: pytest.FixtureRequest) -> Lab:
    """`lab.train(spec) -> Arm`: the Runs of a RunSpec, loaded or trained. A claim's body gets it at each look."""
    return _bench_of_claim(request).lab


@pytest.fixture
def judge(request: pytest.FixtureRequest) -> Judge:
    """`judge(hypothesis, *samples) -> Verdict`, called once in a claim; its body gets a new one at each look."""
    return Judge(judges=_bench_of_claim(request).settings.protocol.judges)


def _bench_of_claim(request: pytest.FixtureRequest) -> Bench:
    if not is_claim(request.node):
        pytest.fail(f"{request.node.nodeid} is no claim, and lab and judge are for claims: mark it", pytrace=False)
    return _bench(request.config)


class _Help:
    """A worker without claims of its own trains what the others' claims lack."""

    @pytest.hookimpl(wrapper=True)
    def pytest_runtestloop(self, session: pytest.Session) -> Iterator[None]:
        done = yield
        bench = session.config.stash.get(BENCH, None)
        if bench and not (session.shouldstop or session.shouldfail):
            bench.help()
        return done


class _Instead:
    """Does something else with the collected claims than to judge them; prints their plan unless told otherwise."""

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtestloop(self, session: pytest.Session) -> bool:
        with _usage():
            bench = _bench(session.config)
            session.config.stash.get(INSTEAD, print_plan)(bench)
        session.config.option.verbose = -2  # or pytest ends with "no tests ran", as if something were amiss
        return True


def print_plan(bench: Bench) -> None:
    """What would train, what is finished, and how long the rest takes."""
    settings, needed = bench.settings, bench.plan.first_look()
    missing = bench.lab.missing(needed)
    timed = [*bench.lab.store.runs(), *bench.lab.recorded.values()]
    images = settings.train_images(bench.data) if missing else 0
    total = plan_module.cost(missing, images, settings.device or "cuda", timed)
    for line in plan_module.lines(needed, missing, settings.protocol.looks, total, settings.device):
        bench.say(line)


def _settings(config: pytest.Config) -> Settings:
    name = config.getoption("protocol")
    if config.getoption("smoke"):
        if name not in (None, "smoke"):
            raise SpecError(f"--smoke and --protocol {name} were both given: choose one")
        name = "smoke"
    return Settings.of(
        root=config.rootpath,
        protocol_name="paper" if name is None else name,
        data=config.getoption("data"),
        store=config.getoption("store"),
        device=config.getoption("device"),
        seeds=config.getoption("seeds"),
        train=not config.getoption("no_train"),
    )


def _data(config: pytest.Config) -> str:
    """The content digest of the session's data, found once."""
    if DATA not in config.stash:
        known = _workerinput(config).get("bnlab_data")
        config.stash[DATA] = known or config.stash[SETTINGS].digest()
    return config.stash[DATA]


def _bench(config: pytest.Config) -> Bench:
    """This process's Bench, made on first use."""
    if BENCH not in config.stash:
        worker = _workerinput(config)
        name = worker.get("workerid", "main")
        planning = config.getoption("plan")
        config.stash[BENCH] = Bench(
            settings=config.stash[SETTINGS],
            data=_data(config),
            worker=name,
            worker_number=int(re.sub(r"\D", "", name) or 0),
            workers=worker.get("workercount", 1),
            say=_silent if worker else _writer(config) if planning else Sparingly(_writer(config)),
        )
    return config.stash[BENCH]


def _workerinput(config: pytest.Config) -> dict[str, Any]:
    """What the controller told this xdist worker; empty in any other process."""
    return getattr(config, "workerinput", {})


def _aims_at_claims(config: pytest.Config) -> bool:
    """Whether the paths on the command line can hold claims."""
    paths = [config.invocation_params.dir / arg.partition("::")[0] for arg in config.args]
    return any("hypotheses" in path.parts or (path / "hypotheses").is_dir() for path in paths)


def _silent(line: str) -> None:
    """A worker has no terminal; its controller reads the store."""


def _writer(config: pytest.Config) -> Callable[[str], None]:
    return lambda line: _write(config, line)


def _write(config: pytest.Config, line: str) -> None:
    """A line on the terminal, past pytest's capturing."""
    reporter = config.pluginmanager.get_plugin("terminalreporter")
    capture = config.pluginmanager.get_plugin("capturemanager")
    if reporter is None or config.option.verbose < -1:
        return
    with capture.global_and_fixture_disabled() if capture else nullcontext():
        if config.get_terminal_writer().width_of_current_line:
            reporter.line("")
        reporter.line(line)


@contextmanager
def _usage() -> Iterator[None]:
    """A BnlabError as pytest's own one-line complaint about how it was called."""
    try:
        yield
    except BnlabError as error:
        raise pytest.UsageError(str(error)) from None
