"""§2.4.3  Regularization and BatchNorm."""

import pytest

from bnlab import (
    BATCHNORM,
    NONE,
    Definition,
    Equivalence,
    Norm,
    Penalty,
    Superiority,
    generalization_gap,
    points,
)
from bnlab.formulas import noise_of_batches
from bnlab.paper import related

POPULATION = Norm(layer="bnlab.norms.population:PopulationNorm", name="population statistics")
GAMMA_DECAY = Penalty(2.0, 1e-4, "*bn?.weight")
L2 = Penalty(2.0, 1e-4)


@pytest.mark.claim("§2.4.3")
def test_population_statistics_do_as_well_as_those_of_large_batches(lab, judge):
    """On ResNet-20 at batch 100, normalizing by the population's statistics is as accurate as by the batch's.

    "In these experiments, it was noted that for batches of size larger than 32, the population statistics function as
    well as the batch statistics." (§2.4.3)
    """
    population, batchnorm = lab.train(related(POPULATION)).accuracy, lab.train(related(BATCHNORM)).accuracy

    verdict = judge(Equivalence(margin=points(1.0)), population, batchnorm)

    assert verdict.held, verdict.reason


@pytest.mark.claim("§2.4.3")
def test_population_statistics_with_a_decay_of_gamma_are_comparable(lab, judge):
    """On ResNet-20, the population's statistics and a penalty on gamma are about as accurate as BatchNorm.

    "The algorithm in [18] produces accuracies that are comparable to BatchNorm ..." (§2.4.3)
    """
    decayed = lab.train(related(POPULATION, penalty=GAMMA_DECAY)).accuracy
    batchnorm = lab.train(related(BATCHNORM)).accuracy

    verdict = judge(Equivalence(margin=points(2.0)), decayed, batchnorm)

    assert verdict.held, verdict.reason


@pytest.mark.claim("§2.4.3")
def test_batch_statistics_are_noisy_as_a_gaussian(judge):
    """Means and variances of batches of 100 scatter as a Gaussian does, the means with 1 / 100 of the variance.

    "It was also noted that BatchNorm introduces Gaussian noise into the mean and variance parameters." (§2.4.3)
    """
    means, variances = noise_of_batches(100, "mean"), noise_of_batches(100, "variance")

    verdict = judge(Definition(), (means.gaussian, means.scatter, variances.gaussian), (True, 1.0, True))

    assert verdict.held, verdict.reason


@pytest.mark.claim("§2.4.3", reading="as written")
def test_batchnorm_regularizes_as_a_penalty_on_weights_does(lab, judge):
    """On ResNet-20, training exceeds test accuracy with BatchNorm by about as much as with None and an L2 penalty.

    "They also state that BatchNorm has very similar effects to L^p norm regularization ..." (§2.4.3)
    """
    batchnorm = lab.train(related(BATCHNORM)).measure(generalization_gap)
    penalised = lab.train(related(NONE, penalty=L2)).measure(generalization_gap)

    verdict = judge(Equivalence(margin=points(2.0)), batchnorm, penalised)

    assert verdict.held, verdict.reason


@pytest.mark.claim("§2.4.3", reading="control")
def test_a_penalty_on_weights_does_not_replace_batchnorm(lab, judge):
    """On ResNet-20, BatchNorm is clearly more accurate than None with an L2 penalty.

    "If L^p norm regularization was sufficient, there would be no need for an optimization such as BatchNorm ..."
    (§2.4.3)
    """
    batchnorm = lab.train(related(BATCHNORM)).accuracy
    penalised = lab.train(related(NONE, penalty=L2)).accuracy

    verdict = judge(Superiority(by=points(3.0)), batchnorm, penalised)

    assert verdict.held, verdict.reason
