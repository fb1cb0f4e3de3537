"""A folder of claims for tests: a conftest with the fake trainer, and bodies."""

from pathlib import Path

import pytest

CONFTEST = """
import os
import bnlab.plugin.session
from bnlab.tests.fakes import FakeTrainer
pytest_plugins = ["bnlab.plugin"]
os.fsync = lambda descriptor: None
bnlab.plugin.session.open_trainer = lambda session: FakeTrainer({trainer})
"""

HEAD = """
import pytest
from bnlab import *
SPEC = RunSpec(net=ResNet(18), norm=BATCHNORM, batch_size=50)
def arm(lab, norm):
    return lab.train(replace(SPEC, norm=norm)).accuracy
"""

HELD = '''
@pytest.mark.claim("§4.1.1, Table 4", published=+0.65)
def test_held(lab, judge):
    """BatchNorm is more accurate than None."""
    verdict = judge(Superiority(by=points(3.0)), arm(lab, BATCHNORM), arm(lab, NONE))
    assert verdict.held, verdict.reason
'''

REFUTED = '''
@pytest.mark.claim("§4.1.2", reading="as written")
def test_refuted(lab, judge):
    """None is more accurate than BatchNorm."""
    verdict = judge(Superiority(by=points(3.0)), arm(lab, NONE), arm(lab, BATCHNORM))
    assert verdict.held, verdict.reason
'''

INCONCLUSIVE = '''
@pytest.mark.claim("§4.4")
def test_inconclusive(lab, judge):
    """Gamma alone is as accurate as beta alone."""
    verdict = judge(Equivalence(margin=points(1.0)), arm(lab, GAMMA_ONLY), arm(lab, BETA_ONLY))
    assert verdict.held, verdict.reason
'''

REPLICATION = '''
@pytest.mark.claim("§4.1.1, Table 4")
def test_replication(lab, judge):
    """BatchNorm reaches the accuracy that Table 4 gives for it."""
    verdict = judge(Every(Replication(published=76.65)), arm(lab, BATCHNORM))
    assert verdict.held, verdict.reason
'''

IDENTITY = '''
@pytest.mark.claim("§3.2")
def test_identity(judge):
    """Two is two."""
    verdict = judge(Definition(), 2, 2)
    assert verdict.held, verdict.reason
'''

GRID = '''
@pytest.mark.claim("§4.1")
@pytest.mark.parametrize("norm", [AFFINE_LAYER, BATCHNORM_MINUS, BATCHNORM, NONE], ids=str)
@pytest.mark.parametrize("net", [ResNet(18), ResNet(34)], ids=str)
def test_grid(lab, judge, net, norm):
    """Every arm is better than None with a bias, or not worse."""
    spec = replace(SPEC, net=net)
    biased = replace(SPEC, net=ResNet(net.layers, conv_bias=True), norm=NONE)
    first, second = (lab.train(s).accuracy for s in (replace(spec, norm=norm), biased))
    verdict = judge(NonInferiority(margin=points(40.0)), first, second)
    assert verdict.held, verdict.reason
'''

CPU = ("--device=cpu",)


def make(pytester: pytest.Pytester, *bodies: str, trainer: str = "", head: str = HEAD) -> Path:
    """hypotheses/test_paper.py with these bodies, in the current folder of `pytester`."""
    pytester.makeconftest(CONFTEST.format(trainer=trainer))
    pytester.makeini("[pytest]\nstrict = true\nfilterwarnings = error\n")
    folder = pytester.mkdir("hypotheses")
    (folder / "test_paper.py").write_text(head + "".join(bodies), encoding="utf-8")
    return folder
