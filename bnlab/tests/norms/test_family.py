"""A norm family is one file: written beside the claims, it is named in a RunSpec, trained, judged and told apart."""

import subprocess
import sys
from pathlib import Path

import pytest

from bnlab import engine
from bnlab.data.images import Images
from bnlab.data.sources import load
from bnlab.errors import SpecError
from bnlab.norms import layer
from bnlab.parts import Norm
from bnlab.specs import Replicate, RunSpec
from bnlab.tests.norms.tiny import TINY

ROOT = Path(__file__).parents[3]

FAMILY = '''
import warnings

import torch
from torch import nn


class MeanOnly(nn.Module):
    """y = x - running mean of x, per channel, with a little noise while training."""

    evaluations = ("recalibrated",)

    def __init__(self, channels, noise=0.1, place=None):
        super().__init__()
        self.noise, self.size, self.momentum = noise, place.size, 0.1
        self.register_buffer("running_mean", torch.zeros(channels))
        warnings.warn("this layer warns", DeprecationWarning)

    def reset_running_stats(self):
        self.running_mean.zero_()

    def forward(self, x, generator):
        if not self.training:
            return x - self.running_mean[:, None, None]
        mean = x.mean((0, 2, 3))
        self.running_mean.lerp_(mean.detach(), self.momentum)
        return x - mean[:, None, None] + self.noise * torch.rand(x.shape, generator=generator, device=x.device)
'''

CLAIM = '''
import pytest
from bnlab import BATCHNORM, Equivalence, Net, Norm, RunSpec, points, replace


@pytest.mark.claim("my notes")
def test_mean_only_is_as_accurate(lab, judge):
    """MeanOnly is as accurate as BatchNorm."""
    mine = RunSpec(net=Net(build="bnlab.tests.norms.tiny:build"), batch_size=20,
                   norm=Norm(layer="my_norms:MeanOnly", options={"noise": 0.2}, name="mean only"))
    verdict = judge(Equivalence(margin=points(1.0)), lab.train(mine).accuracy,
                    lab.train(replace(mine, norm=BATCHNORM)).accuracy)
    assert verdict.held, verdict.reason
'''


@pytest.mark.filterwarnings("ignore:this layer warns")
def test_a_family_in_one_file_trains_through_the_engine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "my_family.py").write_text(FAMILY, encoding="utf-8")
    monkeypatch.syspath_prepend(tmp_path)
    norm = Norm(layer="my_family:MeanOnly", options={"noise": 0.2})
    spec = RunSpec(net=TINY, norm=norm, batch_size=20, epochs=2, precision="fp32")
    images = Images.of(load("synthetic:60+40", tmp_path), "cpu")

    one, other = (engine.train([Replicate(spec, 3)], images, "cpu")[0] for _ in range(2))

    assert one.weights == other.weights
    assert list(one.readings) == ["test_accuracy_recalibrated"]
    with pytest.raises(SpecError, match="has no option 'nois': it has noise; did you mean 'noise'"):
        layer(Norm(layer="my_family:MeanOnly", options={"nois": 0.2}), 8)


@pytest.mark.slow
def test_a_family_is_claimed_about_and_an_edit_of_its_file_trains_it_again(tmp_path: Path, outside: None) -> None:
    """Its warning is no error under the repository's pytest.ini."""
    (tmp_path / "hypotheses").mkdir()
    for name in ("conftest.py", "pytest.ini"):
        (tmp_path / name).write_text((ROOT / name).read_text(encoding="utf-8"), encoding="utf-8")
    (tmp_path / "my_norms.py").write_text(FAMILY, encoding="utf-8")
    (tmp_path / "hypotheses" / "test_mine.py").write_text(CLAIM, encoding="utf-8")

    runs = [exercised(tmp_path), exercised(tmp_path)]
    (tmp_path / "my_norms.py").write_text(FAMILY.replace("rand(", "randn("), encoding="utf-8")
    runs.append(exercised(tmp_path))

    mine, batchnorm = 2, 2  # seeds of each arm
    assert runs == [mine + batchnorm, mine + batchnorm, 2 * mine + batchnorm]


def exercised(folder: Path) -> int:
    """Exercise the claim; how many Runs the store then has."""
    ran = subprocess.run(
        [sys.executable, "-m", "pytest", "hypotheses", "--smoke", "-q"],
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
    )
    assert ran.returncode == 0, ran.stdout + ran.stderr
    assert "1 exercised" in ran.stdout
    return len(list((folder / ".bnlab" / "store").rglob("DONE.json")))
