"""What layers do to the convolution before them, to two domains and at the start: facts that are known of each."""

import math

import pytest

from bnlab.nets.effects import Effects, domains, effects, start
from bnlab.parts import AFFINE_LAYER, BATCHNORM, BATCHNORM_MINUS, NONE, Net, Norm, Part
from bnlab.tests.norms.families import norm

WEIGHT_NORM = Part(code="torch.nn.utils.parametrizations:weight_norm")
MEAN_ONLY = norm("mean_only:MeanOnlyBatchNorm")
WHITENED = norm("whitening:DecorrelatedBatchNorm", group_size=4)

KNOWN = {
    "None": (NONE, None, "keeps_variance"),
    "AffineLayer": (AFFINE_LAYER, None, "keeps_variance"),
    "WeightNorm": (NONE, WEIGHT_NORM, "keeps_variance ignores_length gradient_is_orthogonal"),
    "BatchNorm": (
        BATCHNORM,
        None,
        "depends_on_batch centres standardises centres_gradient ignores_length gradient_is_orthogonal",
    ),
    "BatchNorm-minus": (
        BATCHNORM_MINUS,
        None,
        "depends_on_batch centres standardises centres_gradient ignores_length gradient_is_orthogonal",
    ),
    "mean-only": (MEAN_ONLY, None, "depends_on_batch centres keeps_variance centres_gradient"),
    "mean-only, WeightNorm": (
        MEAN_ONLY,
        WEIGHT_NORM,
        "depends_on_batch centres keeps_variance centres_gradient ignores_length gradient_is_orthogonal",
    ),
    # a group can trade lengths between its filters, so the gradient is orthogonal to the group alone
    "whitened": (
        WHITENED,
        None,
        "depends_on_batch centres standardises decorrelates centres_gradient ignores_length",
    ),
    "GroupNorm": (norm("groupnorm:GroupNorm", groups=2), None, "ignores_length"),
}


@pytest.mark.parametrize(("what", "parametrization", "known"), KNOWN.values(), ids=KNOWN)
def test_a_layer_does_what_is_known_of_it(what: Norm, parametrization: Part | None, known: str) -> None:
    found: Effects = effects(what, parametrization)

    assert {name for name, value in vars(found).items() if value is True} == set(known.split())
    assert (found.noise > 0) == ("depends_on_batch" in known)


def test_domains_lie_apart_by_as_much_as_a_pooled_variance_leaves() -> None:
    assert domains(NONE).gap == 5
    assert domains(BATCHNORM).gap == pytest.approx(5 / math.sqrt(1 + 2.5**2), abs=1e-3)
    assert domains(norm("autodial:AutoDial")).gap == 0


def test_a_batch_of_the_target_moves_statistics_alone() -> None:
    assert domains(BATCHNORM).moved == ("num_batches_tracked", "running_mean", "running_var")
    assert (domains(NONE).moved, domains(AFFINE_LAYER).moved) == ((), ())
    assert [domains(what).adapted for what in (BATCHNORM, WHITENED, NONE)] == [True, True, False]


def test_a_start_tells_a_network_that_learns_at_once_from_one_that_learns_part_by_part() -> None:
    small = {"options": {"depth": 8}}
    fixup = start(Net(build="bnlab.nets.fixup:build", **small), norm("scalars:fixup"))
    batchnorm = start(Net(build="bnlab.nets.cifar_resnet:build", **small), BATCHNORM)

    assert (fixup.largest_logit, fixup.loss) == (0, pytest.approx(math.log(10), abs=1e-6))
    assert fixup.reached == (("head",), ("ends", "stem"), ("insides",))
    assert batchnorm.largest_logit > 0.1
    assert batchnorm.reached == (("ends", "head", "insides", "stem"), (), ())
    assert (fixup.scalars, batchnorm.scalars) == (3 * 5 + 2, 2 * (3 * 16 + 3 * 32 + 3 * 64))
