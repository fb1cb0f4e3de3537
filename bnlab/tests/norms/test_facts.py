"""What is read off layers for the definitional claims."""

import pytest
import torch
from torch import nn

from bnlab.norms.facts import describe_layer, same_layer
from bnlab.parts import AFFINE_LAYER, BATCHNORM, BATCHNORM_MINUS, NONE, Norm
from bnlab.tests.nets.test_facts import DOUBLED
from bnlab.tests.norms.families import norm


def test_batchnorm_is_found_to_be_one_and_its_double_is_not() -> None:
    ours, doubled = describe_layer(BATCHNORM), describe_layer(DOUBLED)

    assert (ours.computes_batchnorm, ours.restores_input, ours.evaluates_with_running_statistics) == (True, True, True)
    assert (doubled.computes_batchnorm, doubled.restores_input, doubled.evaluates_with_running_statistics) == (
        (False, False, False)
    )
    assert not same_layer(BATCHNORM, DOUBLED)


@pytest.mark.parametrize(
    ("layer", "found"),
    [
        (BATCHNORM, "looks_at_batch ignores_scale_of_channels"),
        (BATCHNORM_MINUS, "looks_at_batch ignores_scale_of_channels"),
        (AFFINE_LAYER, "is_identity evaluates_as_it_trains"),
        (NONE, "is_identity evaluates_as_it_trains"),
        (DOUBLED, "looks_at_batch ignores_scale_of_channels"),
        (norm("layernorm:LayerNorm"), "evaluates_as_it_trains ignores_scale_of_images"),
        (norm("groupnorm:GroupNorm", groups=2), "evaluates_as_it_trains ignores_scale_of_images"),
        (
            norm("instancenorm:InstanceNorm"),
            "evaluates_as_it_trains ignores_scale_of_channels ignores_scale_of_images ignores_scale_of_maps "
            "centres_maps",
        ),
        (norm("switchable:SwitchableNorm"), "looks_at_batch"),
        (norm("unitized:UnitizedBatchNorm", alpha=1.0), "looks_at_batch ignores_scale_of_channels"),
        (norm("ghost:GhostBatchNorm", size=4), "looks_at_batch ignores_scale_of_channels"),
        (norm("lp:LpNorm", p="inf"), "looks_at_batch ignores_scale_of_channels"),
        (norm("population:PopulationNorm", momentum=1.0), "looks_at_batch ignores_scale_of_channels"),
        (norm("autodial:AutoDial"), "looks_at_batch ignores_scale_of_channels"),
        (norm("mean_only:MeanOnlyBatchNorm"), "looks_at_batch"),
        (norm("whitening:DecorrelatedBatchNorm", group_size=1), "looks_at_batch ignores_scale_of_channels"),
        (norm("whitening:DecorrelatedBatchNorm", group_size=4), "looks_at_batch"),
        (norm("whitening:IterNorm", group_size=4), "looks_at_batch"),
        (Norm(layer=f"{__name__}:Louder"), "evaluates_as_it_trains raises_contrast"),
    ],
    ids=str,
)
def test_a_layer_is_found_to_do_what_it_does(layer: Norm, found: str) -> None:
    facts = vars(describe_layer(layer))
    names = list(facts)[1 : list(facts).index("computes_batchnorm")]

    assert [name for name in names if facts[name]] == found.split()


class Louder(nn.Module):
    """Twice what it is given."""

    def __init__(self, channels: int) -> None:
        super().__init__()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return 2 * x
