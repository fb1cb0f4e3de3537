"""How long it takes to train Runs."""

from dataclasses import replace

import pytest

from bnlab.cost import cost, how_to_train, plan_text
from bnlab.lab import replicates
from bnlab.protocol import PAPER, QUICK, SMOKE
from bnlab.tests.report.samples import SPECS


def test_what_was_not_trained_counts_a_shared_run_once() -> None:
    missing = [run for spec in (*SPECS, SPECS[0]) for run in replicates(spec, 4)]

    sentence = how_to_train(missing, 2, PAPER, [])

    assert sentence.startswith("8 Runs that 2 claims need were not trained here")


@pytest.mark.parametrize(("protocol", "epochs"), [(PAPER, 15), (QUICK, 5), (SMOKE, 1)], ids=["paper", "quick", "smoke"])
def test_advice_is_priced_at_the_epochs_of_protocol_quick(protocol, epochs) -> None:
    missing = [run for spec in SPECS for run in replicates(replace(spec, epochs=epochs), 4)]
    quick = [run for spec in SPECS for run in replicates(replace(spec, epochs=5), 4)]
    expected = cost(quick, 50_000, "cpu", []).duration

    assert f"(about {expected} for 4 seeds, at an assumed speed)" in how_to_train(missing, 1, protocol, [])


def test_a_plan_of_one_run_is_said_in_the_singular() -> None:
    (run,) = replicates(SPECS[0], 1)

    first, last = plan_text([run], [run], (1,), cost([run], 1000, "cpu", []), "cpu")

    assert first.endswith(": 1 Run, 0 finished")
    assert "1 RunSpec, 1 Run, 0 finished, 1 to train, 15,000 training images, about" in last
