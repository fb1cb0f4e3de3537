"""§4.3  Weights and gradients in the first epoch of ResNet18."""

import pytest

from bnlab import (
    AFFINE_LAYER,
    BATCHNORM,
    BATCHNORM_MINUS,
    NONE,
    Equivalence,
    Every,
    Superiority,
    log_ratio,
    log_reading,
)
from bnlab.paper import FACTOR_OF_TWO, SMALLEST_RATIO, first_epoch

EARLY, LATE = "first_epoch/input/gradient/early/deviation", "first_epoch/input/gradient/late/deviation"
narrowing = log_reading("input gradient, spread early / late", above=EARLY, below=LATE)
widening = log_reading("input gradient, spread late / early", above=LATE, below=EARLY)
settled = log_reading(
    "input gradient, spread in updates 40 to 59 / late", above="first_epoch/input/gradient/blocks/2", below=LATE
)
more_than_nothing = Superiority(by=log_ratio(0.0), smallest=SMALLEST_RATIO)

arms_of_figure_3 = pytest.mark.parametrize("norm", [BATCHNORM, AFFINE_LAYER], ids=str)


@pytest.mark.claim("§4.3, Figure 3", reading="as written")
@arms_of_figure_3
def test_weights_change_modestly_from_input_early_to_final_late(lab, judge, norm):
    """The spread of the first layer's early weights and that of the last layer's late ones are within a factor of two.

    "In Figure 3(a), we see that the weight distribution changes from input-early to final-late are fairly modest for
    BatchNorm, while Figure 3(b) yields the same conclusion for AffineLayer." (§4.3)
    """
    early, late = "first_epoch/input/weight/early/deviation", "first_epoch/final/weight/late/deviation"
    change = log_reading("weight spread, final late / input early", above=late, below=early)

    verdict = judge(Every(Equivalence(margin=FACTOR_OF_TWO)), first_epoch(lab, norm, change))

    assert verdict.held, verdict.reason


@pytest.mark.claim("§4.3, Figure 3", reading="corrected")
@arms_of_figure_3
def test_weights_of_the_first_layer_change_modestly_over_the_epoch(lab, judge, norm):
    """The spread of the first layer's weights is late in the epoch within a factor of two of what it was early."""
    early, late = "first_epoch/input/weight/early/deviation", "first_epoch/input/weight/late/deviation"
    change = log_reading("input weight spread, late / early", above=late, below=early)

    verdict = judge(Every(Equivalence(margin=FACTOR_OF_TWO)), first_epoch(lab, norm, change))

    assert verdict.held, verdict.reason


@pytest.mark.claim("§4.3, Figure 3")
@pytest.mark.parametrize("kind", ["weight", "gradient"])
def test_final_layers_end_alike(lab, judge, kind):
    """Late in the epoch the last layer's entries spread within a factor of two with BatchNorm and AffineLayer.

    "We see that the weights and gradients behave similarly, and hence whatever is causing BatchNorm to outperform
    AffineLayer does not appear to be distinguishable through this weight and gradient distribution comparison. The
    bottom line here is that AffineLayer has a similar effect on the gradients as BatchNorm, at least in the
    all-important first epoch." (§4.3)
    """
    spread = log_reading(f"final {kind} spread, late", above=f"first_epoch/final/{kind}/late/deviation")

    verdict = judge(
        Every(Equivalence(margin=FACTOR_OF_TWO)),
        first_epoch(lab, BATCHNORM, spread),
        first_epoch(lab, AFFINE_LAYER, spread),
    )

    assert verdict.held, verdict.reason


@pytest.mark.claim("§4.3, Figure 4")
def test_gradients_of_batchnorm_focus(lab, judge):
    """With BatchNorm, the first layer's gradient is less spread late in the epoch than early.

    "We observe from Figure 4(a) that for BatchNorm, the gradient starts spread out and become more tightly focused,
    whereas Figure 4(b) shows the opposite behavior for the AffineLayer gradient." (§4.3)
    """
    verdict = judge(Every(more_than_nothing), first_epoch(lab, BATCHNORM, narrowing))

    assert verdict.held, verdict.reason


@pytest.mark.claim("§4.3, Figure 4", reading="as written")
def test_gradients_of_affine_layer_spread(lab, judge):
    """With AffineLayer, the first layer's gradient is more spread late in the epoch than early.

    "... Figure 4(b) shows the opposite behavior for the AffineLayer gradient." (§4.3)
    """
    verdict = judge(Every(more_than_nothing), first_epoch(lab, AFFINE_LAYER, widening))

    assert verdict.held, verdict.reason


@pytest.mark.claim("§4.3, Figure 4", reading="control")
def test_gradients_of_none_spread(lab, judge):
    """With None, as with AffineLayer, the first layer's gradient is more spread late in the epoch than early."""
    verdict = judge(Every(more_than_nothing), first_epoch(lab, NONE, widening))

    assert verdict.held, verdict.reason


@pytest.mark.claim("§4.3, Figure 4", "§4.4")
def test_gradients_of_batchnorm_minus_focus_too(lab, judge):
    """With BatchNorm-minus, the first layer's gradient is less spread late in the epoch than early.

    "Since BatchNorm-minus normalizes the weights similarly to BatchNorm, this is consistent with the results in Figure
    4, above." (§4.4)
    """
    verdict = judge(Every(more_than_nothing), first_epoch(lab, BATCHNORM_MINUS, narrowing))

    assert verdict.held, verdict.reason


@pytest.mark.claim("§4.3, Figure 4", "§2.4.6", reading="control")
def test_gradients_of_batchnorm_have_focused_after_forty_updates(lab, judge):
    """With BatchNorm, the first layer's gradient is by update 40 about as spread as at the end of the epoch.

    "Figure 4 provides additional evidence that it is the weight normalization at the beginning of each epoch that is
    causing the observed performance differences ..." (§4.3; nothing happens to weights where an epoch begins, so asked
    here is how long the focusing takes)
    """
    verdict = judge(Every(Equivalence(margin=FACTOR_OF_TWO)), first_epoch(lab, BATCHNORM, settled))

    assert verdict.held, verdict.reason
