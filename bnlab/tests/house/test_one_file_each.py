"""A new norm, network, depth, initialisation, parametrization, evaluation or probe is one new file and no edit."""

import sys
from dataclasses import replace
from pathlib import Path
from textwrap import dedent
from types import SimpleNamespace

import numpy as np
import pytest

from bnlab.data.catalogue import Catalogue
from bnlab.engine.reader import read
from bnlab.engine.trainer import EngineTrainer
from bnlab.nets import build
from bnlab.parts import BATCHNORM, Net, Norm, Part
from bnlab.protocol import SMOKE
from bnlab.specs import Replicate, RunSpec

SPEC = RunSpec(net=Net(build="bnlab.nets.cifar_resnet:build", options={"depth": 8}), norm=BATCHNORM, batch_size=10)

NORM = """
    from torch import nn

    class Halving(nn.Module):
        def __init__(self, channels, by=2.0):
            super().__init__()
            self.by = by

        def forward(self, x):
            return x / self.by
    """
NET = """
    from torch import nn

    def build(*, norm, classes, width=6):
        return nn.Sequential(nn.Conv2d(3, width, 3, 2), norm(width), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(),
                             nn.Linear(width, classes))
    """
INIT = """
    from torch import nn

    def constant(network, value):
        for module in network.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.constant_(module.weight, value)
    """
PARAMETRIZATION = """
    from torch import nn
    from torch.nn.utils import parametrize

    class Centred(nn.Module):
        def forward(self, weight):
            return weight - weight.mean((1, 2, 3), keepdim=True)

    def centred(conv):
        parametrize.register_parametrization(conv, "weight", Centred())
    """
EVALUATION = """
    from bnlab.engine.evaluations import accuracy

    def upside_down(training):
        return accuracy(training, "eval")
    """
PROBE = """
    import numpy as np
    from bnlab.probes import Probe

    class Logits(Probe):
        found = None

        def wants(self, moment):
            return moment.step == 0

        def before(self, moment, view):
            self.found = view.logits("train", view.batch.images).double().numpy()

        def readings(self):
            return {"first": self.found, "largest": float(self.found.max())}
    """

CASES = {
    "norm": (NORM, {"norm": Norm(layer="one_file:Halving", options={"by": 4.0}, name="Halving")}),
    "net": (NET, {"net": Net(build="one_file:build", options={"width": 7}, name="Tiny")}),
    "init": (INIT, {"init": Part(code="one_file:constant", options={"value": 0.01})}),
    "parametrization": (PARAMETRIZATION, {"parametrization": Part(code="one_file:centred")}),
    "evaluation": (EVALUATION, {"evaluations": ("one_file:upside_down",)}),
    "probe": (PROBE, {}),
}


@pytest.fixture
def train(tmp_path, monkeypatch):
    """Trains a RunSpec under protocol smoke with this text as the module `one_file`."""
    monkeypatch.syspath_prepend(tmp_path)

    def run(text: str, changes: dict[str, object], probes: tuple[str, ...] = ()):
        (tmp_path / "one_file.py").write_text(dedent(text))
        spec = SMOKE.apply(replace(SPEC, **changes), "")
        trainer = EngineTrainer("synthetic:20+10", Path(tmp_path), "cpu", 1, catalogue=Catalogue(tmp_path))
        (trained,) = trainer.train([Replicate(spec, 3, probes)], [None], lambda *kept: None)
        return trained

    yield run
    sys.modules.pop("one_file", None)


@pytest.mark.parametrize("kind", [kind for kind in CASES if kind != "probe"])
def test_a_run_with_one_new_file_is_another_run(train, kind):
    usual, changed = train("", {}), train(*CASES[kind])

    assert changed.key != usual.key
    if kind == "evaluation":
        assert changed.weights == usual.weights
        assert changed.readings["test_accuracy_one_file:upside_down"] == changed.curves["test_accuracy"][-1]
    else:
        assert changed.weights != usual.weights


def test_a_probe_of_one_new_file_keeps_an_array_and_leaves_the_run_alone(train):
    usual, probed = train("", {}), train(*CASES["probe"], probes=("one_file:Logits",))

    (found,) = (SimpleNamespace(**read) for read in probed.probes.values())
    assert np.shape(found.first) == (10, 10)
    assert found.largest == found.first.max()
    assert (probed.key, probed.weights, probed.curves) == (usual.key, usual.weights, usual.curves)


def test_a_depth_that_no_claim_names_is_an_option():
    net = Net(build="bnlab.nets.resnet:build", options={"depth": 152})

    assert sum(op.kind == "conv" for op in read(build(net, BATCHNORM, 0), 32)) == 151 + 4
