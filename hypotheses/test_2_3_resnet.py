"""§2.3  ResNet."""

import pytest

from bnlab import BATCHNORM, Definition, Equivalence, Every, ResNet, Superiority, log_ratio, log_reading, points
from bnlab.paper import BOTTLENECK, PLAIN34, SMALLEST_RATIO, arms, facts, pairs, untrained


@pytest.mark.claim("§2.3")
def test_a_block_without_its_branch_is_the_identity(judge):
    """A residual block whose convolutions give 0 passes on what it is given.

    "By modeling the residual, ResNet blocks model the identity function as 0, which may be easier to learn via
    backpropagation." (§2.3)
    """
    verdict = judge(Definition(), facts(BATCHNORM).identity_without_branch, (True, True, True, True))

    assert verdict.held, verdict.reason


@pytest.mark.claim("§2.3")
def test_batchnorm_stands_before_each_activation(judge):
    """Every ReLU of each network gets what a BatchNorm gives, in a block by way of the sum with the shortcut.

    "In addition, ResNet makes use of BatchNorm before each activation function." (§2.3)
    """
    batchnorm = facts(BATCHNORM)

    verdict = judge(Definition(), (batchnorm.activations, batchnorm.activations_after_norm), 2 * ((17, 33, 49, 100),))

    assert verdict.held, verdict.reason


@pytest.mark.claim("§2.3", reading="as written")
def test_n_is_the_number_of_convolutions(judge):
    """ResNet18, 34, 50 and 101 have 18, 34, 50 and 101 convolutions.

    "Each specific ResNet architecture is specified as "ResNet n", where n denotes the number of convolution layers in
    the ResNet." (§2.3)
    """
    verdict = judge(Definition(), facts(BATCHNORM).convolutions, (18, 34, 50, 101))

    assert verdict.held, verdict.reason


@pytest.mark.claim("§2.3", reading="corrected")
def test_n_counts_convolutions_in_a_row_and_the_last_layer(judge):
    """A ResNet n has n - 1 convolutions in a row before its last layer, and 3 or 4 more on its shortcuts."""
    batchnorm = facts(BATCHNORM)

    verdict = judge(
        Definition(),
        (batchnorm.convolutions, batchnorm.shortcut_convolutions),
        ((17 + 3, 33 + 3, 49 + 4, 100 + 4), (3, 3, 4, 4)),
    )

    assert verdict.held, verdict.reason


@pytest.mark.claim("§2.3")
def test_basic_blocks_have_two_convolutions_and_bottlenecks_three(judge):
    """ResNet18 and 34 have basic blocks of two convolutions, ResNet50 and 101 bottlenecks of three.

    "ResNet18 and ResNet34 use smaller two-convolution layer blocks called basic blocks, while ResNet50 and ResNet101
    use three-convolution layer blocks called bottleneck blocks." (§2.3)
    """
    batchnorm = facts(BATCHNORM)

    verdict = judge(
        Definition(),
        (batchnorm.block, batchnorm.block_convolutions),
        (("basic", "basic", "bottleneck", "bottleneck"), (2, 2, 3, 3)),
    )

    assert verdict.held, verdict.reason


@pytest.mark.claim("§2.3, Figure 2", reading="as written")
def test_bottlenecks_reduce_256_dimensions(judge):
    """The bottlenecks of every stage of ResNet50 and 101 reduce 256 channels to 64 and project back to 256.

    "The bottleneck blocks in ResNet50 and ResNet101 reduce the dimensionality of the 256 dimensional input before
    applying 3 × 3 convolution filters, the result of which is then projected back into 256 dimensions." (§2.3)
    """
    verdict = judge(Definition(), facts(BATCHNORM, BOTTLENECK).block_channels, 2 * (4 * ((256, 64, 256),),))

    assert verdict.held, verdict.reason


@pytest.mark.claim("§2.3, Figure 2", reading="corrected")
def test_bottlenecks_reduce_to_a_quarter(judge):
    """The bottlenecks of each stage reduce its channels, 256, 512, 1024 or 2048, to a quarter and project back."""
    stages = ((256, 64, 256), (512, 128, 512), (1024, 256, 1024), (2048, 512, 2048))

    verdict = judge(Definition(), facts(BATCHNORM, BOTTLENECK).block_channels, (stages, stages))

    assert verdict.held, verdict.reason


@pytest.mark.claim("§2.3")
def test_the_four_networks_perform_comparably_well(lab, judge):
    """With BatchNorm, any two of the four networks are about as accurate as each other, at both batch sizes.

    "Since these four architectures perform comparably well on the CIFAR datasets, they will help us to determine
    whether our empirical results are dependent on the depth of the ResNet." (§2.3)
    """
    batch20 = pairs(arms(lab, BATCHNORM, batch_sizes=20))
    batch50 = pairs(arms(lab, BATCHNORM, batch_sizes=50))

    verdict = judge(Every(Equivalence(margin=points(2.0))), batch20[0] + batch50[0], batch20[1] + batch50[1])

    assert verdict.held, verdict.reason


@pytest.mark.claim("§2.3", reading="as written")
def test_shortcuts_lengthen_the_gradient_of_the_first_layer(lab, judge):
    """In the first update, the first layer of ResNet34 gets a longer gradient with shortcuts than without them.

    "Each residual block in a ResNet has two pathways, namely, the residual mapping or an identity mapping, where the
    identity mapping implies that the block is, in effective, being skipped over, thus improving gradient flow through
    the remainder of the network." (§2.3)
    """
    length = log_reading("gradient length of the first layer", above="at_initialization/gradient/input")

    verdict = judge(
        Superiority(by=log_ratio(0.0), smallest=SMALLEST_RATIO),
        *untrained(lab, BATCHNORM, (ResNet(34), PLAIN34), length),
    )

    assert verdict.held, verdict.reason


@pytest.mark.claim("§2.3", reading="corrected")
def test_shortcuts_even_out_gradients(lab, judge):
    """In the first update, lengths of gradients differ less from layer to layer with shortcuts than without them.

    (Added when two seeds of each network had been seen: without shortcuts the first gradient is longer, not shorter.)
    """
    ratio = log_reading("gradient length, longest / shortest layer", above="at_initialization/gradient/ratio")

    verdict = judge(
        Superiority(by=log_ratio(0.0), smallest=SMALLEST_RATIO),
        *untrained(lab, BATCHNORM, (PLAIN34, ResNet(34)), ratio),
    )

    assert verdict.held, verdict.reason
