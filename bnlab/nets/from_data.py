"""Initialisation from data: every convolution and linear layer starts with outputs of mean 0 and variance 1.

Salimans & Kingma 2016, "Weight Normalization", section 3; the paper's section 2.4.4.
"""

from copy import deepcopy

import torch
from torch import Tensor, nn


@torch.no_grad()
def initialise(model: nn.Module, *, spread: float = 0.05, images: Tensor) -> None:
    """Draw v ~ N(0, spread^2), and set w = v / (|v| sigma) and b = -mu / sigma, layer after layer.

    mu and sigma are the mean and the standard deviation of v'x / |v| in each channel over `images` [n, 3, 32, 32], with
    the layers before as they then are. A layer without a bias keeps its mean, and one whose outputs are all the same
    its scale. A weight normalisation that is registered afterwards starts with the length g = 1 / sigma.
    """
    kept = deepcopy(model.state_dict())
    layers = {name: one for name, one in model.named_modules() if isinstance(one, (nn.Conv2d, nn.Linear))}
    hooks = []

    def fit(layer: nn.Module, args: tuple[Tensor]) -> None:
        assert isinstance(layer, (nn.Conv2d, nn.Linear))
        nn.init.normal_(layer.weight, std=spread)
        layer.weight /= layer.weight.flatten(1).norm(dim=1).view(-1, *[1] * (layer.weight.dim() - 1))
        if layer.bias is not None:
            layer.bias.zero_()
        rows = layer.forward(args[0]).transpose(0, 1).flatten(1)
        sigma, mu = torch.std_mean(rows, dim=1, correction=0)
        sigma = torch.where(sigma > 0, sigma, torch.ones_like(sigma))
        layer.weight /= sigma.view(-1, *[1] * (layer.weight.dim() - 1))
        if layer.bias is not None:
            layer.bias.copy_(-mu / sigma)

    for layer in layers.values():
        hooks.append(layer.register_forward_pre_hook(fit))
    model.train()(images)
    for hook in hooks:
        hook.remove()
    fitted = {f"{name}.{own}" for name, layer in layers.items() for own, _ in layer.named_parameters()}
    model.load_state_dict({name: kept[name] if name not in fitted else v for name, v in model.state_dict().items()})
