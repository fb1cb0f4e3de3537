"""The controller's side of a session: what became of every claim, the exit code, and the reports.

The controller of pytest-xdist collects nothing and runs nothing: all it knows arrives in test reports. A claim is
missed here, whatever ate it: a worker that died, an internal error, a scheduler that gave up.
"""

import copy
import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import pytest

from bnlab.errors import BnlabError
from bnlab.plugin import pytest_html
from bnlab.plugin.session import CLAIM, OUTCOME, in_hypotheses
from bnlab.report import tables, terminal
from bnlab.report.tables import Row
from bnlab.settings import Settings

RETRIES = 2
"""How often a claim is given to another worker after its own died."""

UNSETTLED = 3
"""Exit code when a collected claim has no outcome."""


@dataclass(eq=False)
class Tally:
    """A pytest plugin that lives where results arrive."""

    config: pytest.Config
    settings: Settings
    data: Callable[[], str]
    allow_inconclusive: bool
    rows: dict[str, Row] = field(default_factory=dict)
    collected: list[str] = field(default_factory=list)
    crashes: dict[str, int] = field(default_factory=dict)
    registry: int = 0
    internal_error: bool = False
    notes: list[str] = field(default_factory=list)

    @cached_property
    def summary(self) -> tables.Summary:
        """Everything that the reports say about the session; asked for when it is over."""
        return tables.Summary.of(self.rows.values(), self.settings, self.data(), self.registry)

    def unsettled(self) -> list[str]:
        """Collected claims without an outcome."""
        return [
            nodeid
            for nodeid in self.collected
            if (nodeid in self.rows or in_hypotheses(nodeid))
            and (nodeid not in self.rows or self.rows[nodeid].status == "none")
        ]

    def pytest_collection_finish(self, session: pytest.Session) -> None:
        """Without workers, the tests are known here."""
        if session.items:
            self.collected = [item.nodeid for item in session.items]

    @pytest.hookimpl(optionalhook=True)
    def pytest_xdist_node_collection_finished(self, node: Any, ids: list[str]) -> None:
        """With workers, each of them says what it collected."""
        self.collected = list(ids)

    @pytest.hookimpl(optionalhook=True)
    def pytest_handlecrashitem(self, crashitem: str, report: Any, sched: Any) -> None:
        """A claim whose worker died is given to another worker, which resumes its training; not for ever."""
        self.crashes[crashitem] = self.crashes.get(crashitem, 0) + 1
        known = crashitem in self.rows or in_hypotheses(crashitem)
        if known and self.crashes[crashitem] <= RETRIES:
            report.outcome = "rerun"
            sched.mark_test_pending(crashitem)

    def pytest_internalerror(self) -> None:
        """pytest itself may end with exit code 0 after this under xdist."""
        self.internal_error = True

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Note what a report says about its claim."""
        properties = dict(report.user_properties)
        row = self.rows.get(report.nodeid)
        if CLAIM in properties:
            claim = json.loads(str(properties[CLAIM]))
            self.registry = max(self.registry, claim["registry"])
            row = self.rows.setdefault(report.nodeid, Row(nodeid=report.nodeid, claim=claim))
        elif row is None and report.failed and in_hypotheses(report.nodeid):
            row = self.rows[report.nodeid] = Row(nodeid=report.nodeid)
        if row is None:
            return
        if report.when == "call" and OUTCOME in properties:
            row.outcome = json.loads(str(properties[OUTCOME]))
            row.status, row.reason = row.outcome["status"], row.outcome["reason"]
        elif report.failed:
            row.status, row.reason = "error", _last_line(report)
        elif report.when == "call":
            row.status, row.reason = "error", "the claim ended without being judged"
        if report.failed and str(report.when) == "???":
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
            if not self.rows:
                pytest_html.withdraw(self.config)

    @pytest.hookimpl(tryfirst=True)
    def pytest_sessionfinish(self, session: pytest.Session, exitstatus: int) -> None:
        """Set the exit code and write the tables; the HTML page follows from pytest-html itself."""
        if not self.rows and not self.unsettled():
            return
        stopped = bool(session.shouldfail or session.shouldstop) or exitstatus in (2, 4)
        if self.internal_error or (self.unsettled() and not stopped):
            session.exitstatus = UNSETTLED
        elif exitstatus == 0 and not self._green():
            session.exitstatus = 1
        if self.rows:
            try:
                tables.write(self.summary, self.settings.root / "reports")
            except BnlabError as error:
                self.notes.append(str(error))
                session.exitstatus = UNSETTLED

    def _green(self) -> bool:
        fine = {"held"} if self.settings.protocol.judges else {"held", "exercised"}
        if self.allow_inconclusive:
            fine |= {"inconclusive", "untrained"}
        return all(row.status in fine for row in self.rows.values())

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        """How the claims stand, and one line for each that did not hold."""
        if not self.rows and not self.unsettled():
            return
        terminalreporter.section("claims")
        for line in [*terminal.summary_lines(self.summary), *self.notes]:
            terminalreporter.line(line)
        for nodeid in self.unsettled():
            terminalreporter.line(f"NO OUTCOME {nodeid}: collected and never finished", red=True)

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
        pytest_html.row(cells, report.nodeid, self.rows.get(report.nodeid))

    @pytest.hookimpl(optionalhook=True)
    def pytest_html_results_table_html(self, report: Any, data: list[str]) -> None:
        """What a row unfolds to."""
        pytest_html.details(data, self.rows.get(report.nodeid))

    @pytest.hookimpl(optionalhook=True)
    def pytest_html_results_summary(self, prefix: list[str], summary: list[str], postfix: list[str]) -> None:
        """What stands above the table."""
        prefix.extend(pytest_html.preface(self.summary))


def _last_line(report: pytest.TestReport) -> str:
    """What went wrong, in one line."""
    crash = getattr(getattr(report, "longrepr", None), "reprcrash", None)
    lines = (crash.message if crash else report.longreprtext).strip().splitlines()
    return lines[0].removeprefix("Failed: ") if lines else "failed without a word"
