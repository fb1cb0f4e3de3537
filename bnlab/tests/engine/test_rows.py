"""Rows of products end in zeros where a GPU needs whole 16 bytes: no number changes, and no state dict shows them."""

from dataclasses import replace

import pytest
import torch

from bnlab.engine.kernels import packing
from bnlab.parts import BATCHNORM, ResNet
from bnlab.specs import Penalty, RunSpec
from bnlab.tests.engine import proofs

SPEC = RunSpec(net=ResNet(18), norm=BATCHNORM, batch_size=4, precision="fp32")
SEEDS = (3, 7)
MORE = 5
"""Zeros behind every row, so that no layer is spared."""


@pytest.fixture
def wider(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(packing, "row_length", lambda width, device: width + MORE)


@pytest.mark.parametrize(("width", "on_a_gpu"), [(147, 148), (27, 28), (64, 64), (1, 4)])
def test_rows_are_whole_16_bytes_on_a_gpu_and_as_they_are_on_a_cpu(width, on_a_gpu) -> None:
    assert packing.row_length(width, torch.device("cuda:1")) == on_a_gpu
    assert packing.row_length(width, torch.device("cpu")) == width


@pytest.mark.usefixtures("wider")
@pytest.mark.parametrize("replicas", [2, 3])
def test_one_step_is_eager_torchvisions(replicas, record_property) -> None:
    got = proofs.assert_one_forced_step(replace(SPEC, batch_size=8), (3, 7, 11)[:replicas], 1)
    record_property("differences", got.loss)


@pytest.mark.usefixtures("wider")
@pytest.mark.parametrize("change", [{}, {"weight_decay": 0.1, "penalty": Penalty(p=1.0, strength=1e-3)}], ids=str)
def test_the_zeros_stay_zeros(change) -> None:
    whole = proofs.training(replace(SPEC, **change), SEEDS, proofs.FEW)
    whole.epoch(0)

    rows = [packed.leaves[0] for packed in whole.program.packed if packed.geometry is not None]
    assert len(rows) == 20
    for leaf in rows:
        assert not leaf[:, :, -MORE:].any()
        assert leaf[:, :, :-MORE].any()


@pytest.mark.usefixtures("wider")
def test_an_export_is_the_same_network_in_plain_torchvision() -> None:
    proofs.assert_export(SPEC, (3, 7), proofs.STEP, epochs=1)


@pytest.mark.usefixtures("wider")
def test_a_state_dict_begins_as_torchvisions_and_goes_back_in() -> None:
    proofs.assert_initialisation(SPEC, SEEDS)
    first, second = (proofs.training(SPEC, (seed,) * 2, proofs.FEW) for seed in SEEDS)

    first.program.load_state_dict(0, second.program.state_dict(1))

    proofs.assert_same_bits(first.program.state_dict(0), second.program.state_dict(1))
