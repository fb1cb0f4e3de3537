"""§2.4.9  AutoDIAL: automatic domain alignment layers."""

import pytest

from bnlab import BATCHNORM, Definition, Norm, describe_domains

OWN, MIXED, POOLED = (
    Norm(layer="bnlab.norms.autodial:AutoDial", options={"alpha": alpha}) for alpha in (1.0, 0.75, 0.5)
)


@pytest.mark.claim("§2.4.9", reading="as written")
def test_alpha_of_one_leaves_domains_unaligned(judge):
    """AutoDIAL leaves two domains further apart at alpha = 1 than at alpha = 0.5.

    "If α = 1, then the domains are not aligned while α = 0.5 indicates that they are partially aligned." (§2.4.9)
    """
    own, pooled = describe_domains(OWN).gap, describe_domains(POOLED).gap

    verdict = judge(Definition(), own > pooled, True)

    assert verdict.held, verdict.reason


@pytest.mark.claim("§2.4.9", reading="corrected")
def test_alpha_of_one_aligns_domains(judge):
    """AutoDIAL takes both domains to the same mean at alpha = 1, and leaves them furthest apart at alpha = 0.5."""
    own, mixed, pooled = describe_domains(OWN).gap, describe_domains(MIXED).gap, describe_domains(POOLED).gap

    verdict = judge(Definition(), (own, own < mixed < pooled), (0.0, True))

    assert verdict.held, verdict.reason


@pytest.mark.claim("§2.4.9")
def test_autodial_mixes_by_a_single_parameter_between_one_batchnorm_and_two(judge):
    """At alpha = 0.5 AutoDIAL leaves domains as far apart as one BatchNorm, and at 1 not at all, as one for each would.

    "They still use BatchNorm layers to bring the two domain together but they do so via a parameter α that quantifies
    the degree of mixing of both sets of statistics." (§2.4.9)
    """
    own, pooled, batchnorm = describe_domains(OWN).gap, describe_domains(POOLED).gap, describe_domains(BATCHNORM).gap

    verdict = judge(Definition(), (pooled, own), (batchnorm, 0.0))

    assert verdict.held, verdict.reason
