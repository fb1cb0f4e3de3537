"""The claims of a folder, read: every body run once on arms that only have names."""

import functools
import inspect
import re
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace

import pytest

import bnlab
from bnlab import Definition, Every, RunSpec, accuracy
from bnlab.needs import PlannedSample

HYPOTHESES = Path(__file__).parents[3] / "hypotheses"


class LooksAtRunsError(Exception):
    """A body does more with an arm than to measure it, and cannot be read without Runs."""


@dataclass(frozen=True, kw_only=True)
class FakeArm:
    spec: RunSpec

    def measure(self, metric):
        return PlannedSample(self.spec, metric)

    @property
    def accuracy(self):
        return self.measure(accuracy)

    @property
    def runs(self):
        raise LooksAtRunsError


@dataclass(frozen=True, kw_only=True)
class Case:
    """One claim with its parameters filled in, and what its body asked of lab and judge."""

    item: pytest.Function
    trained: tuple[RunSpec, ...]
    judged: tuple[tuple[object, tuple[object, ...]], ...]

    @property
    def name(self):
        return self.item.nodeid.rpartition("/")[2]

    @property
    def page(self):
        return self.item.path

    @property
    def marker(self):
        return self.item.get_closest_marker("claim")

    @property
    def section(self):
        """The section of the paper, or "Beside the paper" for a claim of our own."""
        found = re.match(r"§[\d.]*\d", self.marker.args[0])
        return found[0] if found else self.marker.args[0].partition(",")[0].capitalize()

    @property
    def reading(self):
        """As written, corrected, control or None, for these parameters."""
        told = self.marker.kwargs.get("reading")
        return told[self.item.callspec.params["metric"]] if isinstance(told, dict) else told

    @property
    def sentence(self):
        return " ".join(self.doc.split("\n\n")[0].split())

    @property
    def doc(self):
        return inspect.getdoc(self.item.function) or ""

    @property
    def cells(self):
        """What is judged, cell by cell: a hypothesis that is no `Every`, and a column of samples for each it takes."""
        hypothesis, columns = self.judged[0]
        return [] if isinstance(hypothesis, Definition) else split(hypothesis, columns)

    @property
    def readings(self):
        """The samples that were judged, each once."""
        return list(dict.fromkeys(sample for _, columns in self.cells for column in columns for sample in column))


def split(hypothesis, columns):
    """The cells of an `Every`, apart; anything else as it is, a lone sample as a column of one."""
    if not isinstance(hypothesis, Every):
        return [(hypothesis, [(c,) if isinstance(c, PlannedSample) else tuple(c) for c in columns])]
    return [cell for stated in hypothesis.cells(*columns) for cell in split(stated.hypothesis, stated.samples)]


def cases_of(folder: Path) -> list[Case]:
    """The claims of a folder that can be read without Runs, in the order of pytest."""
    collected = Collected()
    options = ["--collect-only", "-qq", "--noconftest", "-p", "no:cacheprovider", "-o", "markers=claim: a claim"]
    assert pytest.main([str(folder), *options], plugins=[collected]) == 0
    described = functools.cache(bnlab.describe)
    return [case for item in collected.items if (case := read(item, described)) is not None]


def of_the_paper(cases: Sequence[Case]) -> list[Case]:
    """The claims on pages named after a section of the paper, `test_<section>_<title>.py`."""
    return [case for case in cases if re.fullmatch(r"test(_\d+)+_[a-z]\w*\.py", case.page.name)]


def functions(cases: Sequence[Case]) -> list[list[Case]]:
    """One list of cases per function, in the order of the page."""
    grouped = defaultdict(list)
    for case in cases:
        grouped[case.page, case.item.originalname].append(case)
    return list(grouped.values())


def pages(cases: Sequence[Case]) -> list[Path]:
    """The files of these claims."""
    return list(dict.fromkeys(case.page for case in cases))


class Collected:
    """A pytest plugin that keeps the items and runs none of them."""

    items: list[pytest.Function]

    def pytest_collection_finish(self, session):
        self.items = list(session.items)


def read(item, describe):
    """Run a body on arms without Runs and a judge to whom all holds; None if it needs Runs."""
    trained, judged = [], []

    def train(spec, probes=()):
        trained.append(spec)
        return FakeArm(spec=spec)

    def judge(hypothesis, *samples):
        judged.append((hypothesis, samples))
        return SimpleNamespace(held=True, reason="")

    fixtures = {"lab": SimpleNamespace(train=train), "judge": judge}
    wanted = {name: fixtures[name] for name in inspect.signature(item.function).parameters if name in fixtures}
    parameters = item.callspec.params if hasattr(item, "callspec") else {}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(item.module, "describe", describe, raising=False)
        try:
            item.function(**wanted, **parameters)
        except LooksAtRunsError:
            return None
    return Case(item=item, trained=tuple(trained), judged=tuple(judged))
