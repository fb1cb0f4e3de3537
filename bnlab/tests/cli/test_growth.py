"""`python -m bnlab bench --store DIR`: the growth curve, and the simulated nodes."""

from pathlib import Path

import pytest

from bnlab.cli import growth, main
from bnlab.cli.nodes import COHORT, TRAINING, Calls, simulate

STEPS = ["collect", "plan", "judge", "report", "lock", "status", "export"]

FREE = Calls(look=0, meet=0, take=0, publish=0)


@pytest.mark.slow
@pytest.mark.usefixtures("outside")
def test_growth_is_measured_and_nothing_of_it_is_quadratic(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    steep = set(STEPS)
    for attempt in range(3):  # a step that takes 20 ms looks steep beside busy neighbours, though not every time
        assert main(["bench", "--store", str(tmp_path / str(attempt)), "--runs", "80", "320"]) == 0

        rows = [line.split() for line in capsys.readouterr().out.splitlines()[1:]]
        assert [row[0] for row in rows] == STEPS
        steep &= {row[0] for row in rows if float(row[-1]) > 1.5}
        if not steep:
            break
    assert steep == set()


def test_exponent_is_that_of_the_growth() -> None:
    assert growth.exponent([100, 1000, 2000], [1.0, 3.0, 12.0]) == "2.00"
    assert growth.exponent([100], [1.0]) == "-"


def test_nodes_share_the_cohorts_where_calls_cost_nothing() -> None:
    found = simulate(10, 100 * COHORT, FREE)

    assert found.seconds == pytest.approx(10 * TRAINING, rel=0.1)
    assert found.idle < 0.1
    assert found.began == 0


def test_nodes_begin_one_after_the_other_where_locking_takes_time() -> None:
    found = simulate(10, 100 * COHORT, Calls(look=0, meet=0, take=1, publish=0))

    assert found.began >= 9 * COHORT


def test_nodes_are_simulated_with_the_calls_of_this_disk(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["bench", "--store", str(tmp_path), "--runs", "160", "--nodes", "1", "5"]) == 0

    *_, one, five = capsys.readouterr().out.splitlines()
    assert one.split()[2] == "1.0"
    assert float(five.split()[2]) == pytest.approx(5, rel=0.15)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("more", [["--runs", "3"], ["--nodes", "0"]])
def test_sizes_that_mean_nothing_are_told(tmp_path: Path, capsys: pytest.CaptureFixture[str], more: list[str]) -> None:
    assert main(["bench", "--store", str(tmp_path), *more]) == 2
    assert capsys.readouterr().err.startswith("bnlab: --")
