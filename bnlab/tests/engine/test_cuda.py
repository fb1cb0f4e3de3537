"""Proof 10: what the CPU's proofs cannot reach, where there is a GPU."""

from collections.abc import Sequence
from dataclasses import asdict, replace

import pytest
import torch

from bnlab.parts import AFFINE_LAYER, BATCHNORM, NONE, Norm, ResNet
from bnlab.specs import RunSpec
from bnlab.tests.engine import proofs, reference

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no CUDA device here")

# a learning rate that single precision holds exactly, since a captured step reads it from the device
SPEC = RunSpec(net=ResNet(18), norm=BATCHNORM, batch_size=8, precision="fp32", lr=2**-10)
SEEDS = (3, 7, 11)
MIXED = (NONE, BATCHNORM, AFFINE_LAYER)
NOISY = Norm(layer="bnlab.norms.noisy:NoisyBatchNorm")


@pytest.mark.parametrize("norm", reference.NORMS, ids=str)
def test_one_step_on_the_device_is_eager_torchvisions(norm: Norm, record_property) -> None:
    got = proofs.assert_one_forced_step(replace(SPEC, norm=norm), SEEDS, 1, device="cuda")
    record_property("differences", asdict(got))


def test_one_step_of_resnet50_on_the_device_is_eager_torchvisions(record_property) -> None:
    got = proofs.assert_one_forced_step(replace(SPEC, net=ResNet(50)), SEEDS, 1, device="cuda")
    record_property("differences", asdict(got))


@pytest.mark.parametrize("slot", range(len(MIXED)), ids=[str(norm) for norm in MIXED])
def test_one_step_on_the_device_beside_other_norms_is_eager_torchvisions(slot: int, record_property) -> None:
    got = proofs.assert_one_forced_step(SPEC, SEEDS, slot, device="cuda", norms=MIXED)
    record_property("differences", asdict(got))


def test_one_step_in_single_precision_on_the_device_is_eager_torchvisions_to_its_digits(record_property) -> None:
    within = proofs.Within(loss=1e-5, gradients=1e-3, parameters=1e-3, statistics=1e-4)
    got = proofs.assert_one_forced_step(SPEC, SEEDS, 1, within=within, dtype=torch.float32, device="cuda")
    record_property("differences", asdict(got))


def test_ten_steps_in_float64_on_the_device_end_where_eager_torchvision_ends(record_property) -> None:
    got = proofs.assert_free_steps(SPEC, SEEDS, 1, proofs.FEW, epochs=5, within=1e-8, device="cuda")
    record_property("differences", got)


@pytest.mark.parametrize("norms", [MIXED, [NOISY] * 3], ids=["mixed norms", "a norm that draws"])
def test_a_captured_epoch_is_the_epoch_that_was_not_captured(norms: Sequence[Norm]) -> None:
    runs = []
    for captured in (True, False):
        whole = proofs.training(SPEC, SEEDS, proofs.FEW, dtype=torch.float32, device="cuda", norms=norms)
        if not captured:
            whole.started = True  # without a graph
        for number in range(2):
            whole.epoch(number)
        losses = {"losses": whole.losses.cpu()}
        runs.append([whole.program.state_dict(k) | losses for k in range(len(SEEDS))])

    for captured, plain in zip(*runs, strict=True):
        proofs.assert_same_bits(captured, plain)


def test_the_same_seeds_give_the_same_bits_twice_and_a_poisoned_slot_changes_none_of_the_others() -> None:
    clean, again = (proofs.bits_of_slots(SPEC, SEEDS, proofs.FEW, device="cuda") for _ in range(2))
    ill = proofs.bits_of_slots(SPEC, SEEDS, proofs.FEW, poisoned=7, device="cuda")

    assert ill[7]["losses"].isnan().all()
    for seed in SEEDS:
        proofs.assert_same_bits(again[seed], clean[seed])
    for seed in (3, 11):
        proofs.assert_same_bits(ill[seed], clean[seed])


def test_a_step_hardly_depends_on_how_many_replicas_there_are(record_property) -> None:
    """The library may choose another product for another K: bits are recorded, the first step's digits are held."""
    alone, many = (proofs.bits_of_slots(SPEC, seeds, proofs.STEP, device="cuda")[7] for seeds in ((7,), (3, 5, 11, 7)))
    same = all(torch.equal(alone[name], many[name]) for name in alone)
    record_property("bitwise", same)

    proofs.assert_near(many["losses"], alone["losses"], 1e-5, "the first loss", relative=True)
    for name in alone:
        if name.endswith(("running_mean", "running_var")):
            proofs.assert_near(many[name], alone[name], 1e-4, name, relative=True)
