"""The controller's side of a session: what became of every claim, the exit code, and the reports.

The controller of pytest-xdist collects nothing and runs nothing: all it knows arrives in test
reports. A claim without an outcome is noticed here, whatever the cause: a worker that died, an
internal error, a plugin that dropped it.
"""

import copy
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

import pytest

from bnlab.errors import BnlabError
from bnlab.live import Watch
from bnlab.plugin import pytest_html
from bnlab.plugin.items import Census, in_hypotheses
from bnlab.plugin.messages import (
    COLLECTED,
    SELECTED,
    crashed,
    for_junit,
    read_claim,
    read_outcome,
)
from bnlab.plugin.options import said_of
from bnlab.plugin.reports import advice, in_order, with_earlier
from bnlab.report import terminal
from bnlab.report.page import PAGE, write_report
from bnlab.report.records import ClaimRecord, Summary
from bnlab.settings import Settings
from bnlab.statuses import STATUSES, exit_code
from bnlab.words import count

RETRIES = 2
"""How often a claim is given to another worker after its own died."""

UNSETTLED = 3
"""Exit code when a collected claim has no outcome, or a report could not be written."""


@dataclass(eq=False)
class Controller:
    """A pytest plugin that lives where results arrive.

    `census` knows the claims that were collected in this process, `data` gives the digest of the
    images, `allowed` are the exit codes that the user takes for 0. Of the workers, `known` has all
    claims that they collected and `collected` those that were selected.
    """

    config: pytest.Config
    settings: Settings
    census: Census
    data: Callable[[], str]
    allowed: frozenset[int]
    records: dict[str, ClaimRecord] = field(default_factory=dict)
    known: dict[str, None] = field(default_factory=dict)
    collected: dict[str, None] = field(default_factory=dict)
    crashes: dict[str, int] = field(default_factory=dict)
    registered: int = 0
    failed: set[str] = field(default_factory=set)
    internal_error: bool = False
    notes: list[str] = field(default_factory=list)
    session: pytest.Session | None = None
    watch: Watch | None = None

    @cached_property
    def summary(self) -> Summary:
        """What this session found, in the order of the paper; asked for when it is over."""
        settings, found = self.settings, self._found()
        return Summary(
            claims=tuple(self.records[nodeid] for nodeid in in_order(self.records, [found])),
            protocol=settings.protocol.name,
            looks=settings.protocol.looks,
            source=settings.source,
            data=self.data(),
            device=settings.device,
            registered=self.registered,
            advice=advice(self.records.values(), settings),
        )

    @cached_property
    def page(self) -> Summary:
        """The same with the rows that an earlier session left in the folder of the reports."""
        settings, whole = self.settings, not any("::" in argument for argument in self.config.args)
        together = with_earlier(self.summary, settings.reports, self._found(), settings.root, whole)
        return replace(together, advice=advice(together.claims, settings))

    def _found(self) -> list[str]:
        """Every claim that was collected, selected or not."""
        return list(self.census.collected | self.known | self.collected)

    def unsettled(self) -> list[str]:
        """Collected claims without an outcome."""
        expected = dict.fromkeys([*self.collected, *self.census.selected])
        return [nodeid for nodeid in expected if nodeid not in self.records or self.records[nodeid].status == "none"]

    def pytest_sessionstart(self, session: pytest.Session) -> None:
        """An error in writing the page must not end the session."""
        self.session = session
        pytest_html.guard(self.config, self._failed, lambda: len(self.records) >= len(self.page.claims))

    def pytest_collectreport(self, report: pytest.CollectReport) -> None:
        """What cannot be collected fails the session."""
        if report.failed:
            self.failed.add(report.nodeid)

    @pytest.hookimpl(optionalhook=True)
    def pytest_xdist_node_collection_finished(self, node: Any, ids: list[str]) -> None:
        """A worker says what is left of what it collected."""
        self.collected |= dict.fromkeys(filter(in_hypotheses, ids))

    @pytest.hookimpl(optionalhook=True)
    def pytest_testnodedown(self, node: Any, error: object) -> None:
        """A worker that ends says which claims it collected, whatever became of them."""
        told = getattr(node, "workeroutput", {})
        self.collected |= dict.fromkeys(told.get(SELECTED, []))
        self.known |= dict.fromkeys(told.get(COLLECTED, []))

    @pytest.hookimpl(optionalhook=True)
    def pytest_handlecrashitem(self, crashitem: str, report: Any, sched: Any) -> None:
        """Give the claim of a dead worker to another one, which resumes its training."""
        self.crashes[crashitem] = self.crashes.get(crashitem, 0) + 1
        known = crashitem in self.records or in_hypotheses(crashitem)
        if known and self.crashes[crashitem] <= RETRIES:
            report.outcome = "rerun"
            sched.mark_test_pending(crashitem)

    def pytest_internalerror(self) -> None:
        """pytest itself may end with exit code 0 after this under xdist."""
        self.internal_error = True

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Note what a report says about its claim."""
        if report.failed:
            self.failed.add(report.nodeid)
        record = self.records.get(report.nodeid)
        if (told := read_claim(report)) is not None:
            self.registered = max(self.registered, told[1])
            record = record or told[0]
        elif record is None and report.failed and in_hypotheses(report.nodeid):
            record = ClaimRecord(nodeid=report.nodeid)
        if record is None:
            return
        if (outcome := read_outcome(report)) is not None:
            record = replace(record, outcome=outcome, error=None)
        elif report.failed:
            record = replace(record, error=_last_line(report))
        elif report.when == "call":
            record = replace(record, error="the claim ended without being judged")
        self.records[report.nodeid] = record
        if report.when == "teardown":
            report.user_properties = for_junit(record, report)
        if report.failed and crashed(report):
            self._feed_html(report)

    def _feed_html(self, report: pytest.TestReport) -> None:
        """pytest-html makes a row at teardown, which a dead worker never reports."""
        for plugin in pytest_html.report_plugins(self.config):
            for when in ("call", "teardown"):
                part: Any = copy.copy(report)
                part.when = when
                plugin.pytest_runtest_logreport(report=part)

    @pytest.hookimpl(wrapper=True)
    def pytest_runtestloop(self) -> Iterator[None]:
        """No page for a session that ran no claim; it has to go before the session finishes."""
        try:
            return (yield)
        finally:
            if not self.records:
                pytest_html.withdraw(self.config)

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_sessionfinish(self, session: pytest.Session, exitstatus: int) -> Iterator[None]:
        """Set the exit code, write the reports, let everybody else finish, and say the answer last."""
        pytest_html.escape_environment(self.config)
        about_claims = bool(self.records or self.unsettled())
        if about_claims:
            self._set_exit_code(session, exitstatus)
        if self.records:
            settings = self.settings
            try:
                write_report(self.page, settings.runs(), settings.reports, settings.root)
            except BnlabError as error:
                self._failed(str(error))
            except Exception as error:  # verdicts are not lost in the traceback of a page
                self._failed(
                    f"the report could not be made ({type(error).__name__}: {error}): nothing of it was written"
                )
        done = yield
        if self.watch is not None:
            self.watch.stop()
        if about_claims:
            self._answer(session)
        elif exitstatus == pytest.ExitCode.NO_TESTS_COLLECTED:
            self._none_selected()
        return done

    def _none_selected(self) -> None:
        """What to do where there are claims and `-k` or the like matched none."""
        reporter, claims = self.config.pluginmanager.get_plugin("terminalreporter"), self._found()
        if reporter is not None and claims:
            listed = "pytest hypotheses/ --collect-only -q lists them"
            reporter.line(f"none of {count(len(claims), 'claim')} was selected: {listed}")

    def _set_exit_code(self, session: pytest.Session, exitstatus: int) -> None:
        stopped = bool(session.shouldfail or session.shouldstop) or exitstatus in (2, 4)
        if self.internal_error or (self.unsettled() and not stopped):
            session.exitstatus = UNSETTLED
        elif exitstatus == 0 or (exitstatus == 1 and not stopped and self._only_informing()):
            asked = {exit_code(row.status, decides=row.decides, allowed=self.allowed) for row in self.records.values()}
            session.exitstatus = 1 if 1 in asked else max(asked, default=0)

    def _failed(self, note: str) -> None:
        """Note that a report could not be written; the terminal shows the verdicts all the same."""
        self.notes.append(note)
        if self.session is not None:
            self.session.exitstatus = UNSETTLED

    def _only_informing(self) -> bool:
        """Whether all that failed in this session are refuted claims that decide nothing."""
        refuted = {node for node, record in self.records.items() if record.status == "refuted"}
        return self.failed <= {node for node in refuted if not self.records[node].decides}

    def _answer(self, session: pytest.Session) -> None:
        """How the claims stand: the last lines of the terminal."""
        reporter = self.config.pluginmanager.get_plugin("terminalreporter")
        if reporter is None or self.config.option.verbose < -1:
            return
        reporter.section("claims")
        page = os.path.relpath(self.settings.reports / PAGE, self.config.invocation_params.dir)
        stopped = session.exitstatus == pytest.ExitCode.INTERRUPTED
        if stopped:
            reporter.line(f"stopped before {count(len(self.unsettled()), 'claim was', 'claims were')} judged")
            for line in [] if self.watch is None else self.watch.kept():
                reporter.line(line)
        for nodeid in [] if stopped else self.unsettled():
            reporter.line(f"{STATUSES['none'].word} {nodeid}: collected and never finished", red=True)
        code = said_of(int(session.exitstatus))
        for line in [*terminal.answer(self.summary, page), *self.notes, *([code] if code else [])]:
            reporter.line(line)

    @pytest.hookimpl(optionalhook=True)
    def pytest_html_report_title(self, report: Any) -> None:
        """The page's title."""
        report.title = "The claims and their verdicts"

    @pytest.hookimpl(optionalhook=True)
    def pytest_html_results_table_header(self, cells: list[str]) -> None:
        """Columns of our own."""
        pytest_html.header(cells)

    @pytest.hookimpl(optionalhook=True)
    def pytest_html_results_table_row(self, report: Any, cells: list[str]) -> None:
        """The same columns in every row."""
        pytest_html.row(cells, report.nodeid, self.records.get(report.nodeid))

    @pytest.hookimpl(optionalhook=True)
    def pytest_html_results_table_html(self, report: Any, data: list[str]) -> None:
        """What a row unfolds to."""
        pytest_html.details(data, self.records.get(report.nodeid))

    @pytest.hookimpl(optionalhook=True)
    def pytest_html_results_summary(self, prefix: list[str], summary: list[str], postfix: list[str]) -> None:
        """What stands above the table."""
        prefix.extend(pytest_html.preface(self.summary))


def _last_line(report: pytest.TestReport) -> str:
    """What went wrong, in one line."""
    crash = getattr(getattr(report, "longrepr", None), "reprcrash", None)
    lines = (crash.message if crash else report.longreprtext).strip().splitlines()
    return lines[0].removeprefix("Failed: ") if lines else "failed without a message"
