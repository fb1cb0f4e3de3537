"""§2.4.13  Switchable normalization, which the paper calls SwitchBlade Normalization."""

import pytest

from bnlab import (
    BATCHNORM,
    Definition,
    Every,
    NonInferiority,
    Norm,
    Superiority,
    log_ratio,
    log_reading,
    points,
    replace,
    same_layer,
)
from bnlab.paper import SMALLEST_RATIO, related

SWITCHABLE = Norm(layer="bnlab.norms.switchable:SwitchableNorm", name="Switchable Norm")
LAYERNORM = Norm(layer="bnlab.norms.layernorm:LayerNorm")
INSTANCENORM = Norm(layer="bnlab.norms.instancenorm:InstanceNorm")

mean_over_instance = log_reading(
    "weight of means, batch / instance", above="learned/mean/batch", below="learned/mean/instance"
)
mean_over_layer = log_reading("weight of means, batch / layer", above="learned/mean/batch", below="learned/mean/layer")
var_over_instance = log_reading(
    "weight of variances, batch / instance", above="learned/var/batch", below="learned/var/instance"
)
var_over_layer = log_reading("weight of variances, batch / layer", above="learned/var/batch", below="learned/var/layer")


@pytest.mark.claim("§2.4.13")
def test_switchable_norm_combines_three_norms(judge):
    """With all its weight on one of the three, Switchable Norm is BatchNorm, LayerNorm or InstanceNorm.

    "SN combines InstanceNorm (to normalize across each feature), LayerNorm (to normalize across each layer), and
    BatchNorm (to normalize across each batch)." (§2.4.13)
    """
    found = (
        same_layer(replace(SWITCHABLE, options={"among": "batch"}), BATCHNORM),
        same_layer(replace(SWITCHABLE, options={"among": "layer"}), LAYERNORM),
        same_layer(replace(SWITCHABLE, options={"among": "instance"}), INSTANCENORM),
        same_layer(SWITCHABLE, BATCHNORM),
    )

    verdict = judge(Definition(), found, (True, True, True, False))

    assert verdict.held, verdict.reason


@pytest.mark.claim("§2.4.13")
def test_switchable_norm_gives_batchnorm_the_highest_weight(lab, judge):
    """On ResNet-20, Switchable Norm ends with more weight on BatchNorm than on the others, of means and of variances.

    "The authors of SN note that of the three normalizations, BatchNorm is assigned the highest weight during image
    classification tasks." (§2.4.13)
    """
    switchable = lab.train(related(SWITCHABLE), probes=("learned",))
    of_means = (switchable.measure(mean_over_instance), switchable.measure(mean_over_layer))
    of_variances = (switchable.measure(var_over_instance), switchable.measure(var_over_layer))

    verdict = judge(Every(Superiority(by=log_ratio(0.0), smallest=SMALLEST_RATIO)), (*of_means, *of_variances))

    assert verdict.held, verdict.reason


@pytest.mark.claim("§2.4.13")
def test_switchable_norm_is_as_good_as_the_best_of_its_three(lab, judge):
    """On ResNet-20, Switchable Norm is not less accurate than BatchNorm, LayerNorm or InstanceNorm.

    "The algorithm learns which of the three types of normalizations works best with the data and can "switch" between
    any combination of the three that achieves the best result." (§2.4.13)
    """
    switchable = lab.train(related(SWITCHABLE)).accuracy
    batchnorm, layernorm = lab.train(related(BATCHNORM)).accuracy, lab.train(related(LAYERNORM)).accuracy
    instancenorm = lab.train(related(INSTANCENORM)).accuracy

    verdict = judge(Every(NonInferiority(margin=points(1.0))), 3 * (switchable,), (batchnorm, layernorm, instancenorm))

    assert verdict.held, verdict.reason
