"""Beside the paper  The engine."""

import pytest

from bnlab import BATCHNORM, Equivalence, ResNet, RunSpec, points, replace


@pytest.mark.claim("beside the paper, engine")
def test_fused_training_matches_eager_torchvision(lab, judge):
    """On ResNet18, seeds that train as one cohort are as accurate as seeds that train alone in a plain torch loop."""
    # a learning rate that ends at zero: the last epoch's accuracy is then not that of wherever the last steps jumped
    fused = RunSpec(net=ResNet(18), norm=BATCHNORM, batch_size=50, precision="fp32", schedule="cosine")
    eager = replace(fused, engine="eager")

    verdict = judge(Equivalence(margin=points(1.0)), lab.train(fused).accuracy, lab.train(eager).accuracy)

    assert verdict.held, verdict.reason
