"""The probes with passes of their own, against the same quantities from eager torch, scipy and closed forms."""

from copy import deepcopy
from dataclasses import replace

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from scipy.stats import wasserstein_distance

from bnlab.nets import build
from bnlab.parts import BATCHNORM, NONE, Net, Norm
from bnlab.probes import covariate_shift, loss_surface
from bnlab.probes.averages import Averages
from bnlab.probes.earth_mover import distance
from bnlab.specs import RunSpec
from bnlab.tests.engine import proofs, reference

TINY = Net(build="bnlab.nets.cifar_resnet:build", options={"depth": 8})
SPEC = RunSpec(net=TINY, norm=BATCHNORM, batch_size=4, epochs=1, optimizer="sgd", lr=0.1)
SEED = 3
DEEP = ["blocks.1.shortcut.0", "fc"]  # the middle one of eleven layers, and the last
both = pytest.mark.parametrize("norm", [BATCHNORM, NONE], ids=str)


def readings(spec, probe):
    """What the probe of the second replica read of a single step."""
    whole = proofs.training(spec, (4, SEED), reference.arrays(4, 2), probes=(probe,))
    whole.epoch(0)
    return whole.probes[1][probe].readings()


class Step:
    """The same step in eager torch: the network before and after it, and its batch."""

    def __init__(self, spec):
        data = reference.arrays(4, 2)
        solo = reference.Solo(spec, SEED, data)
        x, y = reference.batches(spec, SEED, 0, data)[0]
        self.before, self.x, self.y = deepcopy(solo.model), solo.shown(x), torch.as_tensor(y).long()
        solo._step(x, y)
        self.after = build(spec.net, spec.norm, SEED).double()
        self.after.load_state_dict(solo.state())

    def loss(self, model):
        return F.cross_entropy(deepcopy(model).train()(self.x), self.y).detach()

    def gradient(self, model, name):
        model = deepcopy(model).train()
        return torch.autograd.grad(F.cross_entropy(model(self.x), self.y), model.get_parameter(name))[0]


@both
def test_gradients_are_compared_with_those_behind_updated_layers(norm):
    step = Step(replace(SPEC, norm=norm))
    relative, uncorrelated, shifts = [], [], []
    for layer in DEEP:
        mixed, seen = deepcopy(step.before), False
        for (name, old), (_, new) in zip(mixed.named_parameters(), step.after.named_parameters(), strict=True):
            seen = seen or name == f"{layer}.weight"
            old.data.copy_(old if seen else new)
        g, moved = (step.gradient(model, f"{layer}.weight").flatten() for model in (step.before, mixed))
        shifts.append(float((g - moved).norm()))
        relative.append(float((g - moved).norm() / g.norm()))
        uncorrelated.append(1 - float(F.cosine_similarity(g, moved, dim=0)))

    got = readings(replace(SPEC, norm=norm), "covariate_shift")
    expected = {"shift": np.mean(shifts), "relative": np.mean(relative), "uncorrelated": np.mean(uncorrelated)}
    assert got == pytest.approx(expected, rel=1e-6)


def test_without_an_update_nothing_shifts_and_the_first_layer_never_does(monkeypatch):
    still = readings(replace(SPEC, lr=1e-30), "covariate_shift")
    monkeypatch.setattr(covariate_shift, "deep_layers", lambda view: view.layers[:1])
    first = readings(SPEC, "covariate_shift")

    for got in (still, first):
        assert got == pytest.approx({"shift": 0.0, "relative": 0.0, "uncorrelated": 0.0}, abs=1e-9)


@both
def test_short_steps_find_slope_and_curvature_along_the_gradient(norm, monkeypatch):
    """||change of the loss|| -> ||g||, ||change of the gradient|| -> ||H g||, H the Hessian, each over ||eta g||."""
    monkeypatch.setattr(loss_surface, "STEPS", (1e-6,))
    step = Step(replace(SPEC, norm=norm))
    model = step.before.train()
    parameters = list(model.parameters())
    g = torch.autograd.grad(F.cross_entropy(model(step.x), step.y), parameters, create_graph=True)
    along = torch.autograd.grad(sum((a * a.detach()).sum() for a in g), parameters)
    length, curved = (float(sum(a.detach().square().sum() for a in one).sqrt()) for one in (g, along))
    kernels = float(sum(p.detach().square().sum() for p in parameters if p.ndim > 1))

    got = readings(replace(SPEC, norm=norm), "loss_surface")
    assert got["lipschitz"] == pytest.approx(length, rel=1e-3)
    assert got["smoothness"] == pytest.approx(curved / length, rel=1e-3)
    assert got["scale_free"] == pytest.approx(curved / length * kernels, rel=1e-3)
    assert got["predictiveness"] == pytest.approx(1e-6 * curved, rel=1e-3)
    assert got["exploded"] == 0


@both
def test_losses_are_those_at_the_four_steps(norm):
    step = Step(replace(SPEC, norm=norm))
    losses = [float(step.loss(step.before))]
    for eta in (0.05, 0.1, 0.2, 0.4):
        moved = deepcopy(step.before)
        for name, parameter in moved.named_parameters():
            parameter.data.sub_(eta * step.gradient(step.before, name))
        losses.append(float(step.loss(moved)))

    assert readings(replace(SPEC, norm=norm), "loss_surface")["variation"] == pytest.approx(max(losses) - min(losses))


def test_steps_that_explode_are_counted_and_left_out(monkeypatch):
    monkeypatch.setattr(loss_surface, "STEPS", (0.05, 1e300))
    with_it = readings(replace(SPEC, norm=NONE), "loss_surface")
    monkeypatch.setattr(loss_surface, "STEPS", (0.05,))
    without = readings(replace(SPEC, norm=NONE), "loss_surface")

    assert with_it == without | {"exploded": 1.0}


X, Y = np.random.default_rng(0).normal(size=(2, 500))


@pytest.mark.parametrize(
    ("one", "other", "expected"),
    [
        (X, Y, wasserstein_distance(X, Y)),
        (Y, X, wasserstein_distance(X, Y)),
        (X, X + 3, 3.0),
        (X, 2.5 * X, 1.5 * np.abs(X).mean()),
        (X, X[::-1], 0.0),
    ],
    ids=["scipy", "the other way round", "shifted", "scaled", "shuffled"],
)
def test_distance_of_samples_is_the_earth_mover_s(one, other, expected):
    assert distance(one, other) == pytest.approx(expected, abs=1e-12)


@both
def test_outputs_and_gradients_are_compared_before_and_after_the_update(norm):
    step = Step(replace(SPEC, norm=norm))
    expected = {"gradient": [], "output": []}
    for layer in DEEP:
        ends = {"gradient": [], "output": []}
        for model in (step.before, step.after):
            ends["gradient"].append(step.gradient(model, f"{layer}.weight").flatten().numpy())
            model.get_submodule(layer).register_forward_hook(lambda m, x, y, e=ends: e["output"].append(y.detach()))
            step.loss(model)
        for kind, (one, other) in ends.items():
            one, other = (np.asarray(values).ravel() for values in (one, other))
            expected[kind].append(wasserstein_distance(one, other) / one.std())

    got = readings(replace(SPEC, norm=norm), "earth_mover")
    assert got == pytest.approx({kind: np.mean(values) for kind, values in expected.items()}, rel=1e-6)


@pytest.mark.parametrize(
    ("layer", "names"),
    [
        ("unitized:UnitizedBatchNorm", ["alpha"]),
        (
            "switchable:SwitchableNorm",
            [f"{m}/{kind}" for m in ("mean", "var") for kind in ("batch", "instance", "layer")],
        ),
        ("batchnorm:BatchNorm", []),
    ],
)
def test_layers_are_asked_what_they_learned(layer, names):
    """After the last step, the mean over the nine norms."""
    spec = replace(SPEC, norm=Norm(layer=f"bnlab.norms.{layer}"))
    whole = proofs.training(spec, (4, SEED), reference.arrays(4, 2), probes=("learned",))
    whole.epoch(0)
    got, state = whole.probes[1]["learned"].readings(), whole.program.state_dict(1)

    assert list(got) == names
    if "alpha" in got:
        sizes = [float(value.abs().mean()) for name, value in state.items() if name.endswith("alpha")]
        assert (len(sizes), got["alpha"]) == (9, pytest.approx(np.mean(sizes)))
    if "var/batch" in got:
        shares = [float(v.softmax(0)[2]) for name, v in state.items() if name.endswith("var_logits")]
        assert (len(shares), got["var/batch"]) == (9, pytest.approx(np.mean(shares)))


def test_averages_go_on_from_their_state():
    one, other = Averages(), Averages()
    one.note(a=1.0, b=5.0)
    other.restore(one.state())
    other.note(a=3.0)

    assert other.readings() == {"a": 2.0, "b": 5.0}
    assert one.readings() == {"a": 1.0, "b": 5.0}
