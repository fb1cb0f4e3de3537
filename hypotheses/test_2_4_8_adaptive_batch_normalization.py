"""§2.4.8  Adaptive batch normalization."""

import pytest

from bnlab import (
    BATCHNORM,
    NONE,
    Definition,
    Equivalence,
    Ordering,
    Superiority,
    batch_accuracy,
    describe_domains,
    last_accuracy,
    points,
    reading,
)
from bnlab.formulas import merged_in_batches, variance_after_division
from bnlab.paper import related

SOURCE, *ADAPTED = (f"bnlab.engine.adabn:{name}" for name in ("source", "adapted_10", "adapted_100", "adapted"))
FROM_10, FROM_100, FROM_1000 = (reading(f"test_accuracy_{name}", unit="points") for name in ADAPTED)
SHIFTED = related(BATCHNORM, evaluations=(SOURCE, *ADAPTED))


@pytest.mark.claim("§2.4.8", reading="as written")
def test_adabn_combines_statistics_with_what_weights_learned_of_the_target(judge):
    """Adapting to a target moves the weights of BatchNorm and leaves its statistics.

    "AdaBN uses the BatchNorm statistics and combines them with weight statistics, with the rationale being that
    BatchNorm statistics provide information about the source, while the weight statistics provide information about the
    target." (§2.4.8)
    """
    verdict = judge(Definition(), describe_domains(BATCHNORM).moved, ("bias", "weight"))

    assert verdict.held, verdict.reason


@pytest.mark.claim("§2.4.8", reading="corrected")
def test_adabn_takes_statistics_from_the_target_and_weights_from_the_source(judge):
    """Adapting moves nothing but the statistics of BatchNorm, which then standardize the target; nothing of None."""
    batchnorm, none = describe_domains(BATCHNORM), describe_domains(NONE)

    verdict = judge(
        Definition(),
        (batchnorm.moved, batchnorm.adapted, none.moved, none.adapted),
        (("num_batches_tracked", "running_mean", "running_var"), True, (), False),
    )

    assert verdict.held, verdict.reason


@pytest.mark.claim("§2.4.8", reading="as written")
def test_dividing_by_the_variance_standardizes(judge):
    """A sample with standard deviation 2 has variance 1 after division by its variance.

    "... where μ_j^t and α_j^t are, respectively, the mean and variance of the outputs of the neuron in the target
    domain." (§2.4.8, of y_j = γ_j (x_j − μ_j^t) / α_j^t + β_j)
    """
    verdict = judge(Definition(), variance_after_division(2.0), 1.0)

    assert verdict.held, verdict.reason


@pytest.mark.claim("§2.4.8", reading="corrected")
def test_dividing_by_the_standard_deviation_standardizes(judge):
    """A sample with standard deviation 2 has variance 1 after division by it, and 1/4 by its variance."""
    verdict = judge(Definition(), (variance_after_division(1.0), variance_after_division(2.0)), (1.0, 0.25))

    assert verdict.held, verdict.reason


@pytest.mark.claim("§2.4.8", reading="control")
def test_statistics_of_target_batches_merge_exactly(judge):
    """Mean and variance, merged batch after batch, are those of all numbers of the target."""
    verdict = judge(Definition(), merged_in_batches(1, 9, 290, 600, 100), merged_in_batches(1000))

    assert verdict.held, verdict.reason


@pytest.mark.claim("§2.4.8")
def test_adabn_improves_on_batchnorm_in_another_domain(lab, judge):
    """On darkened, noisy test images, ResNet-20 with the statistics of 1,000 of them is more accurate than without.

    "Adaptive Batch Normalization (AdaBN) improves on BatchNorm in transfer learning applications [16]." (§2.4.8)
    """
    batchnorm = lab.train(SHIFTED)

    verdict = judge(
        Superiority(),
        batchnorm.measure(FROM_1000),
        batchnorm.measure(reading(f"test_accuracy_{SOURCE}", unit="points")),
    )

    assert verdict.held, verdict.reason


@pytest.mark.claim("§2.4.8", reading="control")
def test_adabn_gains_with_the_images_that_it_sees(lab, judge):
    """On darkened, noisy test images, statistics of 1,000 of them are better than those of 100, and these of 10."""
    batchnorm = lab.train(SHIFTED)
    most, some, few = batchnorm.measure(FROM_1000), batchnorm.measure(FROM_100), batchnorm.measure(FROM_10)

    verdict = judge(Ordering(), most, some, few)

    assert verdict.held, verdict.reason


@pytest.mark.claim("§2.4.8", reading="control")
def test_adabn_changes_little_without_another_domain(lab, judge):
    """On the test images as they are, statistics of batches of 500 of them are as good as those of training."""
    batchnorm = lab.train(related(BATCHNORM))

    verdict = judge(
        Equivalence(margin=points(1.0)), batchnorm.measure(batch_accuracy), batchnorm.measure(last_accuracy)
    )

    assert verdict.held, verdict.reason
