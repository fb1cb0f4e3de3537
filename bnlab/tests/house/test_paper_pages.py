"""The paper's pages of hypotheses/ against the paper: sections, tables, agreed margins."""

import re
from itertools import pairwise

import numpy as np
import pytest

from bnlab import (
    AFFINE_LAYER,
    BATCHNORM,
    BATCHNORM_MINUS,
    NONE,
    Definition,
    ResNet,
    RunSpec,
    accuracy,
    last_accuracy,
)
from bnlab.paper import published
from bnlab.plugin.items import claims as planned_claims
from bnlab.protocol import PAPER
from bnlab.specs import CIFAR10
from bnlab.stats import AllOf, Rule
from bnlab.stats.family import REGISTERED
from bnlab.tests.house.pages import HYPOTHESES, functions, of_the_paper, pages

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

SECTIONS = [
    *("§1", "§2.1", "§2.3", *(f"§2.4.{part}" for part in range(1, 14))),
    *("§3.1", "§3.2", "§3.3"),
    *("§4.1.1", "§4.1.2", "§4.2", "§4.2.1", "§4.2.2", "§4.3", "§4.4", "§5", "Beside the paper"),
]

# A paper-protocol Run of ResNet101 is a large part of a GPU-hour: a claim on arms outside the grid has to be worth it.
MOST_SPECS = 69
MOST_SPECS_OF_ONE_EPOCH = 17

LONGEST_PAGE = 150


@pytest.fixture
def claims(cases):
    """The claims on the paper's pages; a page of somebody else is none of these tests' business."""
    return of_the_paper(cases)


def section(case):
    """The section that the page is about, as its first line has it."""
    return case.item.module.__doc__.partition("  ")[0]


def expected(case):
    """The paper's numbers for what is judged, cell by cell, from its tables; None where they do not have them."""
    if not case.readings or any(
        sample.metric not in (accuracy, last_accuracy) or sample.spec not in PRINTED for sample in case.readings
    ):
        return None
    numbers = [of_cell(hypothesis, columns) for hypothesis, columns in case.cells]
    return None if None in numbers else numbers


def of_cell(hypothesis, columns):
    printed = [[PRINTED[sample.spec] for sample in column] for column in columns]
    kind = getattr(hypothesis, "hypothesis", hypothesis).kind
    longest = max(map(len, printed))
    rows = list(zip(*(column * (longest // len(column)) for column in printed), strict=True))
    if kind == "replication" or len(printed) == 1:
        return rows[0][0]
    if kind == "stability":
        return None
    if len(printed) == 4 and kind in ("interaction", "equivalence"):
        return sum((a - b) - (c - d) for a, b, c, d in rows) / len(rows)
    return min(sum(row[0] - row[other] for row in rows) / len(rows) for other in range(1, len(printed)))


def contrasts(case):
    """What is compared, whatever is asked of it: every contrast of a claim, up to its sign."""
    hypothesis, columns = case.judged[0]
    if isinstance(hypothesis, Definition):
        return None
    samples, tester = hypothesis.bind(*columns)
    return frozenset(each(tester, samples))


def each(tester, samples):
    if isinstance(tester, AllOf):
        for part, own in tester.parts:
            yield from each(part, [samples[index] for index in own])
    elif isinstance(tester, Rule):
        for weights in tester.weights:
            named = {(s.spec, s.metric.name): w for s, w in zip(samples, weights, strict=True) if w}
            sign = np.sign(first_of(named))
            yield frozenset((*key, round(sign * weight, 6)) for key, weight in named.items())
    else:
        yield type(tester), frozenset((s.spec, s.metric.name) for s in samples)


def first_of(named):
    return min(named.items(), key=lambda entry: (str(entry[0][0]), entry[0][1]))[1]


def test_every_claim_names_the_section_of_its_page(claims):
    assert [case.name for case in claims if not f"{case.section}.".startswith(f"{section(case)}.")] == []


def test_pages_are_the_sections_in_the_order_of_the_paper(claims):
    paged = {section(case): [int(number) for number in re.findall(r"\d+", case.page.name)] for case in claims}

    assert sorted(paged, key=paged.__getitem__) == SECTIONS


def test_pages_are_short(claims):
    lines = {page.name: len(page.read_text(encoding="utf-8").splitlines()) for page in pages(claims)}

    assert {name: count for name, count in lines.items() if count > LONGEST_PAGE} == {}


def test_tables_of_the_sections_are_all_cited(claims):
    cited = " ".join(place for case in claims for place in case.marker.args)

    assert [table for table in range(1, 8) if not re.search(rf"Table[s \d,andto]* {table}\b", cited)] == []


def test_published_numbers_are_those_of_the_tables(claims):
    wrong = []
    for case in claims:
        hypothesis, columns = case.judged[0]
        numbers = published(hypothesis, *columns)
        numbers = None if numbers is None else np.atleast_1d(numbers)
        if (numbers is None) != (expected(case) is None) or (
            numbers is not None and numbers.tolist() != pytest.approx(expected(case), abs=1e-4)
        ):
            wrong.append((case.name, numbers, expected(case)))

    assert wrong == []


def test_most_claims_on_accuracy_have_a_published_number(claims):
    assert sum(expected(case) is not None for case in claims) >= 40


def test_no_two_claims_compare_the_same(claims):
    compared = [(contrasts(case), case) for case in claims]

    twice = [
        (first.name, second.name)
        for i, (what, first) in enumerate(compared)
        for other, second in compared[:i]
        if what is not None and what == other
    ]
    assert twice == []


def test_margins_are_the_agreed_ones(claims):
    """ "As well" is 1 point, "marginal" 2, "clearly" 3, "similar" a factor of 2, and "more" is more than 0."""
    hypotheses = [getattr(hypothesis, "hypothesis", hypothesis) for case in claims for hypothesis, _ in case.cells]
    margins = {str(getattr(h, "margin", getattr(h, "by", None))) for h in hypotheses if h.kind != "stability"}

    assert margins == {"0 points", "1 point", "2 points", "3 points", "0.2 nats", "0 log ratio", "0.693147 log ratio"}


def test_the_registered_family_is_what_the_pages_compare(claims):
    planned = planned_claims([case.item for case in claims], PAPER, CIFAR10).values()

    assert len({claim.contrast for claim in planned} - {None}) == REGISTERED


def test_every_cell_of_the_paper_is_read_at_the_paper_s_own_protocol(claims):
    trained = {spec for case in claims for spec in case.trained}

    assert [str(spec) for spec in PRINTED if spec not in trained] == []


def test_distinct_trainings_stay_few(claims):
    trained = {spec for case in claims for spec in case.trained}
    short = {spec for spec in trained if spec.epochs == 1}

    assert (len(trained - short), len(short)) == (MOST_SPECS, MOST_SPECS_OF_ONE_EPOCH)


def test_the_paper_s_words_stand_under_every_sentence_of_its_own(claims):
    """A page of the paper quotes it, with the place, under every sentence but corrected ones and our own controls."""
    bare = [
        case.name
        for case in claims
        if section(case) != "Beside the paper" and not re.search(r'" \((§|its|head)', " ".join(case.doc.split()))
    ]

    assert [case.name for case in claims if case.name in bare and case.reading in (None, "as written")] == []


def test_a_corrected_twin_or_control_stands_below_its_sentence(claims):
    """A sentence as written is followed by a twin or control, and these follow a sentence on the same page."""
    readings = [(group[0].page, {case.reading for case in group}, group[0].name) for group in functions(claims)]

    assert set.union(*(found for _, found, _ in readings)) == {None, "as written", "corrected", "control"}
    for (page, found, name), (next_page, following, next_name) in pairwise([*readings, (None, {None}, "")]):
        if found == {"as written"}:
            assert page == next_page, f"{name} has no twin below it"
            assert following & {"corrected", "control"}, f"{name} has no twin below it"
        if following == {"corrected"}:
            assert page == next_page, f"{next_name} has no sentence above it"
            assert "as written" in found, f"{next_name} has no sentence as written above it"


def test_twins_are_judged_on_the_same_runs(claims):
    """One reads arms of the paper that the other reads; controls are the corrected one's own."""

    def printed(group):
        return {spec for case in group for spec in case.trained if spec in PRINTED}

    apart, written = [], set()
    for group in functions(claims):
        readings = {case.reading for case in group}
        if "as written" in readings:
            written = printed(group)
        if readings == {"corrected"}:
            corrected = printed(group)
            apart += [group[0].name] * (not (corrected <= written or written <= corrected))
    assert apart == []


def test_the_protocol_page_names_every_claim_and_no_other(claims):
    page = (HYPOTHESES.parent / "docs" / "protocol.md").read_text(encoding="utf-8")

    assert set(re.findall(r"`(test_\w+)`", page)) == {case.item.originalname or case.item.name for case in claims}
