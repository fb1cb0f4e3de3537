"""The whole engine on the Triton kernels: interpreted where there is no GPU."""

from dataclasses import asdict, replace
from types import SimpleNamespace

import pytest
import torch

from bnlab.engine import adam, optim
from bnlab.engine.kernels import batched
from bnlab.engine.slots import batchnorm
from bnlab.parts import AFFINE_LAYER, BATCHNORM, BATCHNORM_MINUS, NONE
from bnlab.tests.engine import proofs
from bnlab.tests.engine.test_triton import DEVICE, SMALL, kernels

assert kernels, "a fixture of another file"

PLAIN = replace(SMALL, optimizer="sgd")
"""Without the kernel of Adam, which takes the interpreter a third of a step and has tests of its own."""
NORMS = (NONE, BATCHNORM_MINUS, BATCHNORM, AFFINE_LAYER)


@pytest.fixture
def engine_on_kernels(kernels: SimpleNamespace, monkeypatch: pytest.MonkeyPatch) -> None:
    """The whole engine on the kernels, as a GPU has it."""
    for module in (batched, batchnorm):
        monkeypatch.setattr(module, "fused_kernels", lambda x, of: kernels)
    if DEVICE.type == "cpu":  # where an optimizer is torch's own
        monkeypatch.setattr(adam, "fused_kernels", lambda leaf, of: kernels.adam)
        monkeypatch.setattr(torch.optim, "Adam", adam.Adam)
        monkeypatch.setattr(optim, "_rate", lambda lr, program: torch.tensor(lr))


@pytest.mark.slow
@pytest.mark.usefixtures("engine_on_kernels")
def test_one_step_of_the_engine_on_these_kernels_is_eager_torchvisions(record_property) -> None:
    got = proofs.assert_one_forced_step(
        SMALL,
        (3, 5, 7, 11),
        2,
        data=proofs.SMALL_STEP,
        norms=NORMS,
        device=DEVICE.type,
    )
    record_property("differences", asdict(got))


@pytest.mark.slow
@pytest.mark.usefixtures("engine_on_kernels")
def test_a_replica_on_these_kernels_has_the_same_bits_beside_another_norm_and_in_another_slot() -> None:
    mixed = proofs.bits_of_slots(PLAIN, (3, 5), proofs.SMALL_STEP, norms=(NONE, BATCHNORM), device=DEVICE.type)
    own = proofs.bits_of_slots(PLAIN, (5, 13), proofs.SMALL_STEP, device=DEVICE.type)
    proofs.assert_same_bits(mixed[5], own[5])


@pytest.mark.slow
@pytest.mark.usefixtures("engine_on_kernels")
def test_an_export_of_the_engine_on_these_kernels_is_the_same_network_in_plain_torchvision() -> None:
    proofs.assert_export(PLAIN, (3,), proofs.STEP, epochs=1, device=DEVICE.type)
