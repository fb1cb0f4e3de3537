"""The claims as a document: every page of hypotheses/ read, and every body run once on arms that only have names."""

import ast
import functools
import inspect
import re
from collections import defaultdict
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from types import SimpleNamespace

import pytest

import bnlab
from bnlab import (
    AFFINE_LAYER,
    BATCHNORM,
    BATCHNORM_MINUS,
    NONE,
    Definition,
    Metric,
    ResNet,
    RunSpec,
    accuracy,
    last_accuracy,
)

HYPOTHESES = Path(__file__).parents[2] / "hypotheses"

ARMS = (BATCHNORM, AFFINE_LAYER, BATCHNORM_MINUS, NONE)

# (batch 20, batch 50) in the order of ARMS, as the paper prints them. Table 6 is printed with the label "None" lost;
# the rows are in the order of the other tables.
TABLES = {
    18: ((0.7665, 0.7569), (0.6794, 0.6904), (0.7730, 0.7644), (0.6643, 0.6877)),  # Table 4
    50: ((0.7469, 0.7424), (0.6957, 0.6986), (0.5597, 0.6540), (0.6786, 0.6939)),  # Table 5
    34: ((0.7717, 0.7554), (0.6856, 0.6837), (0.7719, 0.7557), (0.6661, 0.6782)),  # Table 6
    101: ((0.6971, 0.6746), (0.7032, 0.6959), (0.4412, 0.4128), (0.6819, 0.6845)),  # Table 7
}
PRINTED = {
    RunSpec(net=ResNet(depth), norm=norm, batch_size=batch_size): 100 * rows[ARMS.index(norm)][column]
    for depth, rows in TABLES.items()
    for norm in ARMS
    for column, batch_size in enumerate((20, 50))
}

SECTIONS = ["§3.2", "§3.3", "§4.1.1", "§4.1.2", "§4.2", "§4.2.1", "§4.2.2", "§4.4", "§5", "Beside the paper"]

# A paper-protocol Run of ResNet101 is a large part of a GPU-hour: a claim on arms outside the grid has to be worth it.
MOST_SPECS = 48


@dataclass(frozen=True, kw_only=True)
class Reading:
    """A sample of a fake arm: what is read, not what it is."""

    spec: RunSpec
    metric: Metric


@dataclass(frozen=True, kw_only=True)
class FakeArm:
    spec: RunSpec

    def measure(self, metric):
        return Reading(spec=self.spec, metric=metric)

    @property
    def accuracy(self):
        return self.measure(accuracy)


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
    def marker(self):
        return self.item.get_closest_marker("claim")

    @property
    def section(self):
        """The section of the paper, or "Beside the paper" for a claim of our own."""
        found = re.match(r"§[\d.]*\d", self.marker.args[0])
        return found[0] if found else self.marker.args[0].partition(",")[0].capitalize()

    @property
    def published(self):
        """The marker's number for these parameters, which are its key in the order of the function's arguments."""
        numbers = self.marker.kwargs.get("published")
        values = tuple(self.item.callspec.params[name] for name in arguments(self.item.function)) if numbers else ()
        return numbers if not isinstance(numbers, dict) else numbers.get(values if len(values) > 1 else values[0])

    @property
    def expected(self):
        """The paper's number for what is judged, from its tables; None where they do not have it."""
        hypothesis, samples = self.judged[0]
        readings = [sample for sample in samples if isinstance(sample, Reading)]
        if not readings or any(r.metric not in (accuracy, last_accuracy) or r.spec not in PRINTED for r in readings):
            return None
        first, *others = (PRINTED[reading.spec] for reading in readings)
        if hypothesis.kind == "replication":
            return first
        if hypothesis.kind == "interaction":
            b, c, d = others
            return (first - b) - (c - d)
        return min(first - other for other in others)


def arguments(function):
    return [name for name in inspect.signature(function).parameters if name not in ("lab", "judge")]


class Collected:
    """A pytest plugin that keeps the items and runs none of them."""

    items: list[pytest.Function]

    def pytest_collection_finish(self, session):
        self.items = list(session.items)


@pytest.fixture(scope="module")
def cases():
    collected = Collected()
    options = ["--collect-only", "-qq", "--noconftest", "-p", "no:cacheprovider", "-o", "markers=claim: a claim"]
    assert pytest.main([str(HYPOTHESES), *options], plugins=[collected]) == 0
    described = functools.cache(bnlab.describe)
    return [read(item, described) for item in collected.items]


def read(item, describe):
    """Run a body with arms that only have names, and a judge to whom every claim holds."""
    trained, judged = [], []

    def train(spec):
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
        item.function(**wanted, **parameters)
    return Case(item=item, trained=tuple(trained), judged=tuple(judged))


def functions(cases):
    """One list of cases per function, in the order of the page."""
    grouped = defaultdict(list)
    for case in cases:
        grouped[case.item.module.__name__, case.item.originalname].append(case)
    return list(grouped.values())


def pages():
    return [pytest.param(path, id=path.stem) for path in sorted(HYPOTHESES.glob("test_*.py"))]


def test_every_claim_judges_exactly_once(cases):
    assert [case.name for case in cases if len(case.judged) != 1] == []


def test_every_claim_is_one_sentence(cases):
    sentences = {case.name: inspect.getdoc(case.item.function) or "" for case in cases}

    assert [name for name, sentence in sentences.items() if not re.fullmatch(r"[A-Z][^\n]*[^.\n]\.", sentence)] == []
    assert [name for name, sentence in sentences.items() if re.search(r"[.;!?] [A-Z]", sentence)] == []


def test_no_two_claims_are_the_same_sentence(cases):
    sentences = [inspect.getdoc(group[0].item.function) for group in functions(cases)]

    assert sorted({sentence for sentence in sentences if sentences.count(sentence) > 1}) == []


def test_every_claim_names_the_section_of_its_page(cases):
    assert [case.name for case in cases if not case.item.module.__doc__.startswith(f"{case.section}  ")] == []


def test_pages_are_the_sections_in_the_order_of_the_paper(cases):
    assert list(dict.fromkeys(case.section for case in cases)) == SECTIONS


def test_tables_of_the_sections_are_all_cited(cases):
    cited = " ".join(case.marker.args[0] for case in cases)

    assert [table for table in (1, 4, 5, 6, 7) if not re.search(rf"Table[s \d,and]* {table}\b", cited)] == []


def test_published_numbers_are_those_of_the_tables(cases):
    wrong = [
        (case.name, case.published, case.expected)
        for case in cases
        if (case.published is None) != (case.expected is None)
        or case.published != pytest.approx(case.expected, abs=1e-9)
    ]

    assert wrong == []


def test_published_numbers_each_belong_to_a_case(cases):
    stale = [
        group[0].name
        for group in functions(cases)
        if isinstance(numbers := group[0].marker.kwargs.get("published"), dict) and len(numbers) != len(group)
    ]

    assert stale == []


def test_definitional_claims_hold(cases):
    judged = [(case, *case.judged[0]) for case in cases if isinstance(case.judged[0][0], Definition)]

    assert [(case.name, what) for case, identity, what in judged if not identity.judge(*what).held] == []
    assert [case.name for case, *_ in judged if case.trained] == []


def test_what_is_trained_is_what_is_judged(cases):
    unread = [
        case.name
        for case in cases
        if case.trained and {reading.spec for reading in case.judged[0][1]} != set(case.trained)
    ]

    assert unread == []
    assert [case.name for case in cases if len(set(case.trained)) != len(case.trained)] == []


def test_metrics_of_the_running_statistics_are_asked_of_arms_that_keep_them(cases):
    asked = [
        (case.name, str(sample.spec.norm))
        for case in cases
        for sample in case.judged[0][1]
        if isinstance(sample, Reading)
        and "statistics" in sample.metric.name
        and sample.spec.norm.layer != BATCHNORM.layer
    ]

    assert asked == []


def test_margins_are_in_the_unit_of_the_metric(cases):
    wrong = [
        case.name
        for case in cases
        for sample in case.judged[0][1]
        if isinstance(sample, Reading) and sample.metric.unit != case.judged[0][0].unit
    ]

    assert wrong == []


def test_margins_are_the_agreed_ones(cases):
    """ "As well" is 1 point, "marginal" 2, "clearly" 3, and "more" is more than 0."""
    hypotheses = [case.judged[0][0] for case in cases]
    margins = {str(getattr(h, "margin", getattr(h, "by", None))) for h in hypotheses if not isinstance(h, Definition)}

    assert margins == {"0 points", "1 point", "2 points", "3 points", "0 nats", "0.2 nats"}


def test_every_cell_of_the_paper_is_read_at_the_paper_s_own_protocol(cases):
    trained = {spec for case in cases for spec in case.trained}

    assert [str(spec) for spec in PRINTED if spec not in trained] == []


def test_distinct_trainings_stay_few(cases):
    assert len({spec for case in cases for spec in case.trained}) <= MOST_SPECS


def test_as_written_readings_stand_directly_above_their_corrected_twins(cases):
    readings = [
        (group[0].item.module.__name__, group[0].marker.kwargs.get("reading"), group[0].name)
        for group in functions(cases)
    ]

    assert {reading for _, reading, _ in readings} == {None, "as written", "corrected"}
    for (page, reading, name), (next_page, next_reading, next_name) in pairwise([*readings, ("", None, "")]):
        if reading == "as written":
            assert (next_page, next_reading) == (page, "corrected"), f"{name} has no corrected twin below it"
        if next_reading == "corrected":
            assert page == next_page, f"{next_name} has no reading as written above it"
            assert reading is not None, f"{next_name} has no reading as written above it"


def test_twins_are_judged_on_the_same_runs(cases):
    """One reads among the arms of the paper that the other reads; control arms are the corrected one's own."""

    def of_the_paper(group):
        return {spec for case in group for spec in case.trained if spec in PRINTED}

    apart, written = [], set()
    for group in functions(cases):
        if group[0].marker.kwargs.get("reading") == "as written":
            written = of_the_paper(group)
        if group[0].marker.kwargs.get("reading") == "corrected":
            corrected = of_the_paper(group)
            apart += [group[0].name] * (not (corrected <= written or written <= corrected))
    assert apart == []


def test_ids_are_plain_enough_for_every_report(cases):
    ids = [case.item.callspec.id for case in cases if hasattr(case.item, "callspec")]

    assert [text for text in ids if not re.fullmatch(r"[A-Za-z0-9_.=-]+", text)] == []


@pytest.mark.parametrize("page", pages())
def test_page_imports_only_pytest_and_the_package_root(page):
    imported = [node for node in ast.walk(ast.parse(page.read_text())) if isinstance(node, ast.Import | ast.ImportFrom)]
    names = {node.module if isinstance(node, ast.ImportFrom) else node.names[0].name for node in imported}

    assert names == {"pytest", "bnlab"}


@pytest.mark.parametrize("page", pages())
def test_body_is_a_methods_sentence(page):
    """No loop, branch or helper; it ends with the verdict, and the function fits on a screen."""
    tree = ast.parse(page.read_text())
    bodies = [node for node in tree.body if isinstance(node, ast.FunctionDef)]
    winding = (ast.For, ast.While, ast.If, ast.IfExp, ast.Try, ast.With, ast.comprehension, ast.Lambda, ast.FunctionDef)

    assert [body.name for body in bodies if any(isinstance(node, winding) for node in list(ast.walk(body))[1:])] == []
    assert [body.name for body in bodies if ast.unparse(body.body[-1]) != "assert verdict.held, verdict.reason"] == []
    assert [body.name for body in bodies if body.end_lineno - body.lineno > 25] == []
    assert [body.name for body in bodies if not body.name.startswith("test_")] == []
