"""The paper's pages of hypotheses/ against the paper: sections, tables, agreed margins."""

import re
from itertools import pairwise

import pytest

from bnlab import AFFINE_LAYER, BATCHNORM, BATCHNORM_MINUS, NONE, Definition, ResNet, RunSpec, accuracy, last_accuracy
from bnlab.plugin.items import claims as planned_claims
from bnlab.protocol import PAPER
from bnlab.specs import CIFAR10
from bnlab.stats.family import REGISTERED
from bnlab.tests.house.pages import functions, of_the_paper

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


@pytest.fixture
def claims(cases):
    """The claims on the paper's pages; a page of somebody else is none of these tests' business."""
    return of_the_paper(cases)


def expected(case):
    """The paper's number for what is judged, from its tables; None where they do not have it."""
    hypothesis, _ = case.judged[0]
    if not case.readings or any(
        r.metric not in (accuracy, last_accuracy) or r.spec not in PRINTED for r in case.readings
    ):
        return None
    first, *others = (PRINTED[reading.spec] for reading in case.readings)
    if hypothesis.kind == "replication":
        return first
    if hypothesis.kind == "interaction":
        b, c, d = others
        return (first - b) - (c - d)
    return min(first - other for other in others)


def test_every_claim_names_the_section_of_its_page(claims):
    assert [case.name for case in claims if not case.item.module.__doc__.startswith(f"{case.section}  ")] == []


def test_pages_are_the_sections_in_the_order_of_the_paper(claims):
    assert list(dict.fromkeys(case.section for case in claims)) == SECTIONS


def test_tables_of_the_sections_are_all_cited(claims):
    cited = " ".join(case.marker.args[0] for case in claims)

    assert [table for table in (1, 4, 5, 6, 7) if not re.search(rf"Table[s \d,and]* {table}\b", cited)] == []


def test_published_numbers_are_those_of_the_tables(claims):
    wrong = [
        (case.name, case.published, expected(case))
        for case in claims
        if (case.published is None) != (expected(case) is None)
        or case.published != pytest.approx(expected(case), abs=1e-9)
    ]

    assert wrong == []


def test_published_numbers_each_belong_to_a_case(claims):
    stale = [
        group[0].name
        for group in functions(claims)
        if isinstance(numbers := group[0].marker.kwargs.get("published"), dict) and len(numbers) != len(group)
    ]

    assert stale == []


def test_margins_are_the_agreed_ones(claims):
    """ "As well" is 1 point, "marginal" 2, "clearly" 3, and "more" is more than 0."""
    hypotheses = [case.judged[0][0] for case in claims]
    margins = {str(getattr(h, "margin", getattr(h, "by", None))) for h in hypotheses if not isinstance(h, Definition)}

    assert margins == {"0 points", "1 point", "2 points", "3 points", "0 nats", "0.2 nats"}


def test_the_registered_family_is_what_the_pages_compare(claims):
    planned = planned_claims([case.item for case in claims], PAPER, CIFAR10).values()

    assert len({claim.contrast for claim in planned} - {None}) == REGISTERED


def test_every_cell_of_the_paper_is_read_at_the_paper_s_own_protocol(claims):
    trained = {spec for case in claims for spec in case.trained}

    assert [str(spec) for spec in PRINTED if spec not in trained] == []


def test_distinct_trainings_stay_few(claims):
    assert len({spec for case in claims for spec in case.trained}) <= MOST_SPECS


def test_as_written_readings_stand_directly_above_their_corrected_twins(claims):
    readings = [
        (group[0].item.module.__name__, group[0].marker.kwargs.get("reading"), group[0].name)
        for group in functions(claims)
    ]

    assert {reading for _, reading, _ in readings} == {None, "as written", "corrected"}
    for (page, reading, name), (next_page, next_reading, next_name) in pairwise([*readings, ("", None, "")]):
        if reading == "as written":
            assert (next_page, next_reading) == (page, "corrected"), f"{name} has no corrected twin below it"
        if next_reading == "corrected":
            assert page == next_page, f"{next_name} has no reading as written above it"
            assert reading is not None, f"{next_name} has no reading as written above it"


def test_twins_are_judged_on_the_same_runs(claims):
    """One reads arms of the paper that the other reads; controls are the corrected one's own."""

    def printed(group):
        return {spec for case in group for spec in case.trained if spec in PRINTED}

    apart, written = [], set()
    for group in functions(claims):
        if group[0].marker.kwargs.get("reading") == "as written":
            written = printed(group)
        if group[0].marker.kwargs.get("reading") == "corrected":
            corrected = printed(group)
            apart += [group[0].name] * (not (corrected <= written or written <= corrected))
    assert apart == []
