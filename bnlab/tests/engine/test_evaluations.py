"""Evaluations are a list: what the norm offers and what the RunSpec asks for, in any order."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn

from bnlab import engine
from bnlab.data.images import Images
from bnlab.engine import evaluations
from bnlab.errors import SpecError
from bnlab.parts import BATCHNORM, NONE, Net
from bnlab.specs import Replicate, RunSpec
from bnlab.tests.engine import proofs, reference

TINY = Net(build="bnlab.nets.cifar_resnet:build", options={"depth": 8})
SPEC = RunSpec(net=TINY, norm=BATCHNORM, batch_size=8, epochs=1, precision="fp32")
HERE = "bnlab.tests.engine.evaluations_of_a_user"
DATA = reference.arrays(40, 30)


def readings(**changes):
    (trained,) = engine.train([Replicate(replace(SPEC, **changes), 3)], Images.of(DATA, "cpu"), "cpu")
    return trained


def test_a_new_evaluation_is_one_function_named_by_the_run_spec() -> None:
    plain, more = readings(), readings(evaluations=(f"{HERE}:adapted",))

    assert set(more.readings) - set(plain.readings) == {f"test_accuracy_{HERE}:adapted"}
    assert (more.weights, more.curves) == (plain.weights, plain.curves)
    assert {name: more.readings[name] for name in plain.readings} == plain.readings


def test_a_new_evaluation_in_the_table_is_a_line(monkeypatch) -> None:
    by_module = readings(evaluations=(f"{HERE}:adapted",))
    monkeypatch.setitem(evaluations.EVALUATIONS, "adapted", evaluations.evaluation(f"{HERE}:adapted"))
    by_name = readings(evaluations=("adapted",))

    assert by_name.readings["test_accuracy_adapted"] == by_module.readings[f"test_accuracy_{HERE}:adapted"]


@pytest.mark.parametrize("seeds", [(3,), (3, 7)], ids=["alone", "beside another"])
def test_adapted_statistics_are_those_of_eager_torch(seeds, monkeypatch) -> None:
    monkeypatch.setattr(evaluations, "CHUNK", 10)
    whole = proofs.training(SPEC, seeds, DATA)
    whole.epoch(0)
    got = evaluations.evaluation(f"{HERE}:adapted")(whole)

    for k in range(len(seeds)):
        model = reference.loaded(SPEC, whole.program.state_dict(k), torch.float64)
        for module in model.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.reset_running_stats()
                module.momentum = None
        with torch.no_grad():
            for chunk in np.array_split(DATA.x_test, 3):
                model.train()(reference.standardised(chunk, DATA, torch.float64))
            logits = model.eval()(reference.standardised(DATA.x_test, DATA, torch.float64))
        assert got[k] == pytest.approx(100 * (logits.argmax(1).numpy() == DATA.y_test).mean())


@pytest.mark.parametrize("norm", [BATCHNORM, reference.OWN], ids=str)
@pytest.mark.parametrize("engine_name", ["fused", "eager"])
def test_order_of_evaluations_does_not_matter(norm, engine_name) -> None:
    names = ("running", f"{HERE}:spoiling", "recalibrated", f"{HERE}:adapted", "batch")
    forwards, backwards = (readings(norm=norm, engine=engine_name, evaluations=order) for order in (names, names[::-1]))

    assert forwards.readings == backwards.readings
    assert forwards.readings["test_accuracy_running"] == forwards.curves["test_accuracy"][-1]


def test_norm_without_statistics_offers_no_other_evaluation() -> None:
    assert readings(norm=NONE).readings == {}
    assert set(readings(norm=NONE, evaluations=("running",)).readings) == {"test_accuracy_running"}


@pytest.mark.parametrize(
    ("name", "words"),
    [
        (
            "median",
            r"^unknown evaluation 'median': expected running, recalibrated, batch, or module:function",
        ),
        (
            "no_such_module:f",
            r"^the evaluation 'no_such_module:f' cannot be imported .*put its module on",
        ),
        (f"{HERE}:absent", r"cannot be imported"),
    ],
)
def test_evaluation_that_is_not_there_is_refused_with_a_clear_message(name, words) -> None:
    with pytest.raises(SpecError, match=words):
        evaluations.evaluation(name)
