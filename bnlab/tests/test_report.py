"""What is told of claims: on the page, in the tables, on the terminal."""

import json
from pathlib import Path

import numpy as np
import pytest

from bnlab.errors import StoreError
from bnlab.parts import BATCHNORM, NONE, ResNet
from bnlab.protocol import PAPER
from bnlab.report import html, table, terminal
from bnlab.report.table import Row, Summary
from bnlab.session import plain
from bnlab.settings import Settings
from bnlab.specs import CIFAR10, RunSpec
from bnlab.store import Store

CELLS = ["<td>Passed</td>", "<td>a::b</td>", "<td>1 ms</td>", "<td></td>"]
SPECS = [RunSpec(net=ResNet(18), norm=norm, batch_size=50) for norm in (BATCHNORM, NONE)]


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings(root=tmp_path, protocol=PAPER, source="cifar10", store=tmp_path / "store", device=None)


def judged(nodeid: str, **figures) -> Row:
    verdict = {"unit": "points", "level": 0.99, "n": [4, 4], "p_hold": 0.01, "p_refute": 0.99, **figures}
    return Row(nodeid=nodeid, claim={"sentence": nodeid}, outcome={"verdict": verdict}, status="held", reason="why")


def untrained(nodeid: str, *specs: RunSpec) -> Row:
    missing = [{"spec": spec.to_json(), "seed": seed} for spec in specs for seed in range(4)]
    return Row(nodeid=nodeid, outcome={"missing": missing}, status="untrained", reason="not judged")


@pytest.mark.parametrize(
    "row",
    [judged("held", estimate=1.0, low=0.5, high=1.5), judged("identity", n=None), Row(nodeid="none"), None],
    ids=["held", "identity", "no outcome", "no claim"],
)
def test_every_row_has_as_many_cells_as_the_header(row: Row | None) -> None:
    head = ["<th>Result</th>", "<th>Test</th>", "<th>Duration</th>", "<th>Links</th>"]
    cells = list(CELLS)

    html.header(head)
    html.row(cells, "a::b", row)

    assert len(cells) == len(head) == 10


def test_estimates_sort_as_numbers_where_cells_are_compared_as_texts() -> None:
    def cell(estimate: float) -> str:
        cells = list(CELLS)
        html.row(cells, "a::b", judged("a", estimate=estimate, low=0.0, high=0.0))
        return cells[5]

    numbers = [-70.0, -9.0, -0.5, 0.0, 0.25, 9.0, 70.0]

    assert [cell(number) for number in numbers] == sorted(cell(number) for number in numbers)


def test_a_mixed_environment_is_told_on_the_page_and_on_the_terminal(settings: Settings) -> None:
    row = judged("a", estimate=1.0)
    row.outcome["mixed"] = {"device": ["A100", "H100"]}
    data: list[str] = []

    html.details(data, row)
    said = terminal.summary_lines(Summary.of([row], settings, CIFAR10, 1))

    assert "trained on several device: A100, H100" in data[0]
    assert "1 claims compare Runs that were not trained alike: see mixed (device)" in said


def test_what_was_not_trained_counts_a_shared_run_once(settings: Settings) -> None:
    rows = [untrained("a", *SPECS), untrained("b", SPECS[0])]

    sentence = table.not_trained(rows, settings)

    assert sentence is not None
    assert sentence.startswith("8 Runs that 2 claims need were not trained here")
    assert table.not_trained([judged("c")], settings) is None


def test_a_family_is_as_large_as_its_registry(settings: Settings) -> None:
    rows = [judged("a"), untrained("b", *SPECS)]

    Summary.of(rows, settings, CIFAR10, 3)

    assert rows[0].q == pytest.approx(3 * 16 * 0.01)  # at 4 seeds a p-value counts 16 times, for the looks
    assert rows[1].q is None


def test_tables_that_cannot_be_written_are_an_error_in_words(settings: Settings, tmp_path: Path) -> None:
    (tmp_path / "reports").touch()

    with pytest.raises(StoreError, match="cannot write the tables of claims"):
        table.write(Summary.of([judged("a")], settings, CIFAR10, 1), tmp_path / "reports")


def test_tables_are_strict_json_and_csv(settings: Settings, tmp_path: Path) -> None:
    row = judged('a["x, y"]', estimate=1.0)
    row.outcome["mixed"] = {"device": ["A100", "H100"]}

    table.write(Summary.of([row], settings, CIFAR10, 1), tmp_path)

    def refuse(constant: str) -> None:
        raise AssertionError(constant)

    content = json.loads((tmp_path / "claims.json").read_text(), parse_constant=refuse)
    assert content["claims"][0]["mixed"] == {"device": ["A100", "H100"]}
    assert content["note"] == table.ONE_TEST_SET
    assert len((tmp_path / "claims.csv").read_text().splitlines()) == 2


def test_progress_names_who_is_in_training(tmp_path: Path) -> None:
    store = Store.open(tmp_path / "store")
    assert terminal.in_training(store) is None

    with store.try_work(SPECS[0], 3) as work:
        work.save_snapshot(2, b"state")
        assert terminal.in_training(store) == (
            "in training: ResNet18, BatchNorm, batch 50, 15 epochs, seed 3 (2 finished)"
        )
    assert terminal.in_training(store) is None


def test_what_travels_to_the_controller_is_plain_json() -> None:
    value = {1: np.float64(0.5), "runs": (np.int64(3), float("nan")), "net": ResNet(18)}

    assert json.dumps(plain(value)) == '{"1": 0.5, "runs": [3, null], "net": "ResNet18"}'


def test_numbers_of_a_claim_that_was_only_exercised_are_not_shown() -> None:
    exercised = judged("a", estimate=-64.9)
    exercised.status = "exercised"

    assert html.texts_of(exercised)["estimate"] == ""
