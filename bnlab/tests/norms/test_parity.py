"""The layers of section 2.4 where they are one of torch's, and against their formulas in numpy elsewhere."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from bnlab.parts import BATCHNORM, Norm
from bnlab.tests.norms.families import ALL, CHANNELS, batch, made, norm, step

SN, UBN, POPULATION, GHOST = (
    "switchable:SwitchableNorm",
    "unitized:UnitizedBatchNorm",
    "population:PopulationNorm",
    "ghost:GhostBatchNorm",
)


class Parts(nn.BatchNorm2d):
    """torch's BatchNorm for two images at a time; its running statistics are the average over the parts."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        kept = [b.clone() for b in (self.running_mean, self.running_var)]
        moved, outs = [], []
        for part in x.split(2):
            own = [b.clone() for b in kept]
            outs.append(F.batch_norm(part, *own, self.weight, self.bias, self.training, self.momentum, self.eps))
            moved.append(own)
        if self.training:
            self.num_batches_tracked.add_(1)
            self.running_mean.copy_(torch.stack([m for m, _ in moved]).mean(0))
            self.running_var.copy_(torch.stack([v for _, v in moved]).mean(0))
        return torch.cat(outs)


def instance(channels: int) -> nn.InstanceNorm2d:
    return nn.InstanceNorm2d(channels, affine=True)


def one_group(channels: int) -> nn.GroupNorm:
    return nn.GroupNorm(1, channels)


@pytest.mark.parametrize(
    ("what", "torchs", "whole"),
    [
        (norm("layernorm:LayerNorm"), one_group, True),
        (norm("groupnorm:GroupNorm", groups=1), one_group, True),
        (norm(SN, among="layer"), one_group, True),
        (norm("instancenorm:InstanceNorm"), instance, True),
        (norm("groupnorm:GroupNorm", groups=CHANNELS), instance, True),
        (norm(SN, among="instance"), instance, True),
        (BATCHNORM, nn.BatchNorm2d, True),
        (norm(SN, among="batch"), nn.BatchNorm2d, True),
        (norm(UBN), nn.BatchNorm2d, True),
        (norm(GHOST, size=4), nn.BatchNorm2d, True),
        (norm(GHOST, size=5), nn.BatchNorm2d, True),
        (norm(GHOST, size=2), Parts, True),
        (norm(POPULATION, momentum=1.0), nn.BatchNorm2d, False),  # its running variance is the biased one
        (norm("lp:LpNorm", p=2.0), nn.BatchNorm2d, False),
    ],
    ids=lambda value: getattr(value, "__name__", str(value)),
)
def test_a_layer_is_torchs_where_its_options_make_it_so(
    what: Norm, torchs: Callable[[int], nn.Module], whole: bool
) -> None:
    """Outputs, gradients and running statistics over three batches, and evaluation but where `whole` says no."""
    module, other = made(what), torchs(CHANNELS).double()
    if what.keywords.get("alpha") is None and hasattr(module, "alpha"):
        nn.init.zeros_(module.alpha)
    other.load_state_dict({name: v for name, v in module.state_dict().items() if name in other.state_dict()})

    for seed in range(3):
        got, expected = step(module, batch(seed)), step(other, batch(seed))
        for name, value in expected.items():
            torch.testing.assert_close(got[name], value, rtol=0, atol=1e-10, msg=lambda m, n=name: f"{n}: {m}")
    if whole:
        torch.testing.assert_close(module.eval()(batch(7)), other.eval()(batch(7)), rtol=0, atol=1e-10)
        for name, value in other.named_buffers():
            torch.testing.assert_close(module.get_buffer(name), value, rtol=0, atol=1e-10)


def ones(values: Any) -> Any:
    """[n, c] or [c] as [..., c, 1, 1]."""
    return np.asarray(values)[..., None, None]


def lp(x: Any, p: float) -> Any:
    centred = x - x.mean((0, 2, 3), keepdims=True)
    return centred / np.power(np.mean(np.abs(centred) ** p, axis=(0, 2, 3), keepdims=True) + 1e-5, 1 / p)


def largest(x: Any) -> Any:
    centred = x - x.mean((0, 2, 3), keepdims=True)
    return centred / (np.abs(centred).max((0, 2, 3), keepdims=True) + 1e-5)


def unitized(x: Any, alpha: Any) -> Any:
    z = (x - x.mean((0, 2, 3), keepdims=True)) / np.sqrt(x.var((0, 2, 3), keepdims=True) + 1e-5)
    length = np.sqrt(np.mean(z**2, axis=(2, 3)).sum(1) + 1e-5)[:, None]
    return ones(alpha / length + 1 - alpha) * z


def switched(x: Any, means: Any, variances: Any) -> Any:
    axes = ((2, 3), (1, 2, 3), (0, 2, 3))
    mean = sum(w * x.mean(a, keepdims=True) for w, a in zip(means, axes, strict=True))
    var = sum(w * x.var(a, keepdims=True) for w, a in zip(variances, axes, strict=True))
    return (x - mean) / np.sqrt(var + 1e-5)


def softmax(logits: torch.Tensor) -> Any:
    weights = np.exp(logits.detach().numpy())
    return weights / weights.sum()


@pytest.mark.parametrize(
    ("what", "formula"),
    [
        (ALL["LpNorm 1"], lambda x, module: lp(x, 1)),
        (ALL["LpNorm 3"], lambda x, module: lp(x, 3)),
        (ALL["LpNorm inf"], lambda x, module: largest(x)),
        (ALL["UnitizedBatchNorm"], lambda x, module: unitized(x, module.alpha.detach().numpy())),
        (ALL["SwitchableNorm"], lambda x, m: switched(x, softmax(m.mean_logits), softmax(m.var_logits))),
    ],
    ids=["LpNorm 1", "LpNorm 3", "LpNorm inf", "UnitizedBatchNorm", "SwitchableNorm"],
)
def test_a_training_batch_is_normalised_by_the_formula(what: Norm, formula: Callable[[Any, Any], Any]) -> None:
    module, x = made(what), batch(0, n=5)

    gamma, beta = (ones(p.detach().numpy()) for p in (module.weight, module.bias))
    expected = gamma * formula(x.numpy(), module) + beta
    np.testing.assert_allclose(module(x).detach().numpy(), expected, rtol=0, atol=1e-10)


def test_unitized_images_have_a_length_of_one_at_alpha_one() -> None:
    module = made(norm(UBN))
    with torch.no_grad():
        module.weight.fill_(1), module.bias.zero_(), module.alpha.fill_(1)

    for training in (True, False):
        y = module.train(training)(batch(0))
        torch.testing.assert_close(y.square().mean((2, 3)).sum(1), torch.ones(4).double(), rtol=0, atol=1e-5)


def population(x: list[torch.Tensor], through_batch: bool) -> tuple[Any, dict[str, torch.Tensor]]:
    module = made(norm(POPULATION, through_batch=through_batch))
    return module, [step(module, one) for one in x][-1]


def test_a_population_is_the_average_of_the_batches_and_its_numbers_are_evaluations() -> None:
    """At first all batches count equally; an output does not depend on the gradient's way."""
    batches = [batch(seed) for seed in range(3)]
    (module, through), (other, constants) = (population(batches, way) for way in (True, False))

    mean = torch.stack([x.mean((0, 2, 3)) for x in batches]).mean(0)
    var = torch.stack([x.var((0, 2, 3), correction=0) for x in batches]).mean(0)
    torch.testing.assert_close(module.running_mean, mean, rtol=0, atol=1e-12)
    torch.testing.assert_close(module.running_var, var, rtol=0, atol=1e-12)
    torch.testing.assert_close(through["y"], module.eval()(batches[-1]), rtol=0, atol=1e-12)
    torch.testing.assert_close(through["y"], constants["y"], rtol=0, atol=1e-12)
    torch.testing.assert_close(constants["y"], other.eval()(batches[-1]), rtol=0, atol=1e-12)


def test_a_population_of_constants_lets_a_bias_grow_and_a_gradient_through_the_batch_does_not() -> None:
    """A bias in front of the layer is taken away again, which its gradient has to know."""
    batches = [batch(seed) for seed in range(3)]

    through, constants = (population(batches, way)[1]["gradient of x"].sum((0, 2, 3)) for way in (True, False))
    assert float(through.abs().max()) < 1e-10
    assert float(constants.abs().min()) > 1e-3


def test_a_population_gives_the_gradient_of_batchnorm_times_the_ratio_of_standard_deviations() -> None:
    """For x, Ioffe 2017, with the batch's standard deviation over the population's held constant."""
    batches = [batch(seed) for seed in range(3)]
    module, got = population(batches, True)
    plain = nn.BatchNorm2d(CHANNELS).double()
    plain.load_state_dict({name: v for name, v in module.state_dict().items() if name in plain.state_dict()})

    expected = step(plain, batches[-1])["gradient of x"]
    ratio = ((batches[-1].var((0, 2, 3), correction=0) + 1e-5) / (module.running_var + 1e-5)).sqrt()
    torch.testing.assert_close(got["gradient of x"], expected * ratio[:, None, None], rtol=0, atol=1e-10)


def test_weights_of_switchable_norm_start_equal_and_sum_to_one() -> None:
    module = made(norm(SN))
    nn.init.ones_(module.mean_logits)

    learned = module.learned()
    assert [learned[f"mean/{kind}"] for kind in ("instance", "layer", "batch")] == pytest.approx(3 * [1 / 3])
    assert sum(learned[f"var/{kind}"] for kind in ("instance", "layer", "batch")) == pytest.approx(1)
