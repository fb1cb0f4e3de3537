"""Proof 9: the proofs have teeth. Each mutant of the engine is applied for real and a proof fails on it.

The reference is computed before a mutant is applied.
"""

from collections.abc import Callable
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from bnlab.engine import randomness, snapshot, training
from bnlab.engine.kernels import batched, packing
from bnlab.engine.kernels.packing import Packed
from bnlab.engine.slots import batchnorm
from bnlab.parts import AFFINE_LAYER, BATCHNORM, BATCHNORM_MINUS, NONE, ResNet
from bnlab.specs import RunSpec
from bnlab.tests.engine import proofs, reference

SPEC = RunSpec(net=ResNet(18), norm=BATCHNORM, batch_size=8, precision="fp32")
SMALL = replace(SPEC, batch_size=4, epochs=1)
BESIDE = (3, 7, 11)

Patch = pytest.MonkeyPatch


def biased_running_variance(patch: Patch) -> None:
    real = batchnorm.batch_norm

    def mutant(x, scale, shift, eps, running, momentum):
        if running is not None:
            var, mean = torch.var_mean(x.detach(), dim=1, correction=0)
            running[0].lerp_(mean, momentum)
            running[1].lerp_(var, momentum)
        return real(x, scale, shift, eps, None, momentum)

    patch.setattr(batchnorm, "batch_norm", mutant)


def momentum_of_nine_tenths(patch: Patch) -> None:
    real = batchnorm.batch_norm
    patch.setattr(
        batchnorm, "batch_norm", lambda x, s, b, eps, running, momentum: real(x, s, b, eps, running, 1 - momentum)
    )


def larger_epsilon(patch: Patch) -> None:
    real = batchnorm.batch_norm
    patch.setattr(batchnorm, "batch_norm", lambda x, s, b, eps, *rest: real(x, s, b, 2 * eps, *rest))


def statistics_over_all_replicas(patch: Patch) -> None:
    def mutant(x, scale, shift, eps, running, momentum):
        var, mean = torch.var_mean(x, dim=(0, 1), correction=0)
        if running is not None:
            m = x.shape[0] * x.shape[1]
            running[0].lerp_(mean.detach(), momentum)
            running[1].lerp_(var.detach() * m / (m - 1), momentum)
        return (x - mean) * torch.rsqrt(var + eps) * scale[:, None] + shift[:, None]

    patch.setattr(batchnorm, "batch_norm", mutant)


def statistics_without_gradient(patch: Patch) -> None:
    def mutant(x, scale, shift, eps, running, momentum):
        var, mean = torch.var_mean(x.detach(), dim=1, correction=0, keepdim=True)
        if running is not None:
            m = x.shape[1]
            running[0].lerp_(mean[:, 0], momentum)
            running[1].lerp_(var[:, 0] * m / (m - 1), momentum)
        return (x - mean) * torch.rsqrt(var + eps) * scale[:, None] + shift[:, None]

    patch.setattr(batchnorm, "batch_norm", mutant)


def loss_averaged_over_replicas(patch: Patch) -> None:
    real = torch.autograd.backward
    patch.setattr(torch.autograd, "backward", lambda loss: real(loss / len(BESIDE)))


def one_permutation_for_all(patch: Patch) -> None:
    real = randomness.order
    patch.setattr(randomness, "order", lambda seed, *rest: real(BESIDE[0], *rest))


def the_same_order_in_every_epoch(patch: Patch) -> None:
    real = randomness.order
    patch.setattr(randomness, "order", lambda seed, epoch, *rest: real(seed, 0, *rest))


def crop_with_rows_and_columns_exchanged(patch: Patch) -> None:
    real = randomness.augment
    patch.setattr(randomness, "augment", lambda images, draws: real(images, draws[..., [0, 2, 1]]))


def crop_moved_by_a_pixel(patch: Patch) -> None:
    real = randomness.augment
    patch.setattr(randomness, "augment", lambda images, draws: real(images, (draws + torch.tensor([0, 0, 1])) % 9))


def mirrored_never(patch: Patch) -> None:
    real = randomness.augment
    patch.setattr(randomness, "augment", lambda images, draws: real(images, draws * torch.tensor([0, 1, 1])))


def learning_rate_one_percent_off(patch: Patch) -> None:
    real = training.learning_rate
    patch.setattr(training, "learning_rate", lambda *which: 1.01 * real(*which))


def live_taps_in_the_wrong_corner(patch: Patch) -> None:
    def mutant(self: Packed, full: Tensor) -> Tensor:
        assert self.geometry is not None
        return full[:, :, : self.geometry.taps, : self.geometry.taps]

    patch.setattr(Packed, "_live", mutant)


def kernels_packed_transposed(patch: Patch) -> None:
    real = packing.kernels
    patch.setattr(
        "bnlab.engine.weights.kernels", lambda weights, *rest: real([w.transpose(2, 3) for w in weights], *rest)
    )


def frozen_gamma_trained(patch: Patch) -> None:
    patch.setattr(batchnorm, "_neighbours", lambda layers, name: range(len(layers)))


def gradient_of_other_norms_rows(patch: Patch) -> None:
    patch.setattr(
        batchnorm._Whole, "backward", staticmethod(lambda ctx, grad: (grad[: len(grad[ctx.rows])], None, None, None))
    )


def statistics_of_a_norm_that_has_none(patch: Patch) -> None:
    real = batchnorm.NormSlot.__init__

    def mutant(self, layers, device, dtype):
        real(self, layers, device, dtype)
        self.parts = [(part, True) for part, _ in self.parts]

    patch.setattr(batchnorm.NormSlot, "__init__", mutant)


def gradient_of_overlapping_patches_overwritten(patch: Patch) -> None:
    real = batched.fold

    def mutant(grad, geometry, b):
        stride_fits = geometry.stride >= geometry.taps or geometry.taps == 1
        return real(grad if stride_fits else grad * 0.5, geometry, b)

    patch.setattr(batched, "fold", mutant)


def moments_not_restored(patch: Patch) -> None:
    real = snapshot.restore

    def mutant(whole, k, held):
        tensors = {name: 0 * t if name.startswith("exp_avg") else t for name, t in snapshot.load(held).items()}
        text = tensors.pop(snapshot._NOTE)
        real(whole, k, snapshot.save({**tensors, snapshot._NOTE: text}))

    patch.setattr(snapshot, "restore", mutant)


def step_count_not_restored(patch: Patch) -> None:
    real = snapshot.restore

    def mutant(whole, k, held):
        tensors = {name: 0 * t if name.startswith("step.") else t for name, t in snapshot.load(held).items()}
        text = tensors.pop(snapshot._NOTE)
        real(whole, k, snapshot.save({**tensors, snapshot._NOTE: text}))

    patch.setattr(snapshot, "restore", mutant)


def resumed_with_the_first_epoch(patch: Patch) -> None:
    real = training.Training.prepare
    patch.setattr(training.Training, "prepare", lambda self, number: real(self, 0))


def running_statistics_not_exported(patch: Patch) -> None:
    real = batchnorm.NormSlot.buffers

    def mutant(self, k):
        held = real(self, k)
        return held | {"running_mean": torch.zeros_like(held["running_mean"])}

    patch.setattr(batchnorm.NormSlot, "buffers", mutant)


def slots_exported_in_reverse(patch: Patch) -> None:
    real = Packed.rows
    patch.setattr(Packed, "rows", lambda self, k, like: real(self, len(like[0]) - 1 - k, like))


def alone() -> None:
    proofs.assert_one_forced_step(SPEC, (7,), 0)


def beside_others() -> None:
    proofs.assert_one_forced_step(SPEC, BESIDE, 1)


def beside_other_norms() -> None:
    proofs.assert_one_forced_step(SPEC, BESIDE, 1, norms=(NONE, BATCHNORM, AFFINE_LAYER))


def affine_beside_other_norms() -> None:
    proofs.assert_one_forced_step(SPEC, BESIDE, 2, norms=(NONE, BATCHNORM, AFFINE_LAYER))


def frozen() -> None:
    proofs.assert_free_steps(replace(SPEC, norm=BATCHNORM_MINUS), (7,), 0, proofs.STEP, epochs=2, within=1e-9)


def unpacked() -> None:
    proofs.assert_initialisation(SPEC, (0, 5))


def order() -> None:
    proofs.assert_data_order(replace(SMALL, augmentation="flip+crop"), (3, 7), proofs.STEP)


def poison() -> None:
    proofs.assert_poison_stays(SMALL, BESIDE, 7, proofs.STEP)


def exported() -> None:
    proofs.assert_export(SMALL, (3, 7), proofs.STEP, epochs=1)


def resume() -> None:
    proofs.assert_resumed(replace(SPEC, epochs=2), (3, 7), proofs.STEP, after=1)


MUTANTS = [
    (biased_running_variance, alone),
    (biased_running_variance, beside_others),
    (momentum_of_nine_tenths, alone),
    (momentum_of_nine_tenths, beside_others),
    (larger_epsilon, beside_others),
    (statistics_over_all_replicas, beside_others),
    (statistics_over_all_replicas, poison),
    (statistics_without_gradient, beside_others),
    (loss_averaged_over_replicas, beside_others),
    (one_permutation_for_all, order),
    (the_same_order_in_every_epoch, order),
    (crop_with_rows_and_columns_exchanged, order),
    (crop_moved_by_a_pixel, order),
    (mirrored_never, order),
    (learning_rate_one_percent_off, beside_others),
    (live_taps_in_the_wrong_corner, unpacked),
    (live_taps_in_the_wrong_corner, beside_others),
    (kernels_packed_transposed, unpacked),
    (frozen_gamma_trained, frozen),
    (gradient_of_other_norms_rows, beside_other_norms),
    (statistics_of_a_norm_that_has_none, affine_beside_other_norms),
    (gradient_of_overlapping_patches_overwritten, alone),
    (gradient_of_overlapping_patches_overwritten, beside_others),
    (moments_not_restored, resume),
    (step_count_not_restored, resume),
    (resumed_with_the_first_epoch, order),
    (running_statistics_not_exported, exported),
    (slots_exported_in_reverse, unpacked),
]


@pytest.fixture(autouse=True)
def _reference_first() -> None:
    reference.forced(SPEC, 7, proofs.STEP)


@pytest.mark.parametrize(("mutant", "proof"), MUTANTS, ids=lambda part: part.__name__)
def test_a_mutant_fails_its_proof(mutant: Callable[[Patch], None], proof: Callable[[], None], monkeypatch: Patch):
    mutant(monkeypatch)

    with pytest.raises(AssertionError, match=r"differs|another|other"):
        proof()


@pytest.mark.parametrize(
    "assert_proof", sorted({proof for _, proof in MUTANTS}, key=lambda p: p.__name__), ids=lambda p: p.__name__
)
def test_the_engine_as_it_is_passes_the_same_proof(assert_proof: Callable[[], None]) -> None:
    """The others are calls of `test_proofs`."""
    assert_proof()
