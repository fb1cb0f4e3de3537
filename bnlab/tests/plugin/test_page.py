"""Our part of the page that pytest-html writes."""

import sys
from html import unescape

import pytest

from bnlab.plugin import pytest_html
from bnlab.report.records import ClaimRecord
from bnlab.tests.conftest import REPOSITORY
from bnlab.tests.plugin.claims_folder import CPU, HELD, make
from bnlab.tests.report.samples import judged

pytest_plugins = ["pytester"]

CELLS = ["<td>Passed</td>", "<td>a::b</td>", "<td>1 ms</td>", "<td></td>"]


@pytest.mark.parametrize(
    "claim",
    [judged("held", estimate=1.0, low=0.5, high=1.5), judged("identity", n=None), ClaimRecord(nodeid="none"), None],
    ids=["held", "identity", "no outcome", "no claim"],
)
def test_every_row_has_as_many_cells_as_the_header(claim: ClaimRecord | None) -> None:
    head = ["<th>Result</th>", "<th>Test</th>", "<th>Duration</th>", "<th>Links</th>"]
    cells = list(CELLS)

    pytest_html.header(head)
    pytest_html.row(cells, "a::b", claim)

    assert len(cells) == len(head) == 10


def test_estimates_sort_as_numbers_where_cells_are_compared_as_texts() -> None:
    def cell(estimate: float) -> str:
        cells = list(CELLS)
        pytest_html.row(cells, "a::b", judged("a", estimate=estimate, low=0.0, high=0.0))
        return cells[5]

    numbers = [-70.0, -9.0, -0.5, 0.0, 0.25, 9.0, 70.0]

    assert [cell(number) for number in numbers] == sorted(cell(number) for number in numbers)


def test_a_mixed_environment_is_told_in_the_row() -> None:
    data: list[str] = []

    pytest_html.details(data, judged("a", "H100", "A100", estimate=1.0))

    assert "trained on several device: A100, H100" in data[0]


def test_numbers_of_a_claim_that_was_only_exercised_are_not_shown() -> None:
    exercised = judged("a", status="exercised", estimate=-64.9)

    assert "estimate" not in pytest_html.texts_of(exercised)


@pytest.mark.usefixtures("outside")
def test_claims_are_judged_without_the_plugin_that_writes_the_page(pytester: pytest.Pytester) -> None:
    make(pytester, HELD)
    pytester.makeini((REPOSITORY / "pytest.ini").read_text())

    result = pytester.run(sys.executable, "-m", "pytest", "hypotheses", *CPU, "-p", "no:html", "-p", "no:metadata")

    result.stdout.fnmatch_lines(["verdicts: 1 held*"])
    assert result.ret == 0
    assert not (pytester.path / "reports" / "tests.html").exists()


@pytest.mark.usefixtures("outside")
def test_the_page_opens_in_the_order_of_the_paper_with_its_reasons_folded_away(pytester: pytest.Pytester) -> None:
    make(pytester, HELD)
    pytester.makeini((REPOSITORY / "pytest.ini").read_text())

    pytester.run(sys.executable, "-m", "pytest", "hypotheses", *CPU)

    page = unescape((pytester.path / "reports" / "tests.html").read_text())
    assert '"renderCollapsed": ["all"]' in page
    assert '"initialSort": "original"' in page
