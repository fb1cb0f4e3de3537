"""What a network is and does, read off one that was built and fed: the definitional claims ask for this."""

import copy
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache
from typing import Any

import torch
from torch import Tensor, fx, nn
from torch.nn import functional as F

from bnlab.nets import build, convolutions, norm_slots
from bnlab.parts import Net, Norm


@dataclass(frozen=True, kw_only=True)
class NetFacts:
    """Counts read off a built ResNet, and what it does with one training batch.

    `parameters` and `trainable` count numbers, `affine_parameters` the trained scales and shifts among them and
    `frozen_parameters` those that are not trained; `norm_layers`, `convolutions` and `blocks` count modules.
    `other_parameters` lie outside the norm layers, `affine_share` is affine_parameters in percent of trainable.
    `affine_sizes` are the trained scales and shifts of each norm layer, `norm_channels` the channels of all norm layers
    together. `shortcut_convolutions` lie beside the blocks, `block_convolutions` in one block. `block_channels` are the
    channels into, inside and out of the second block of each stage, `widths` those out of each stage.
    `heavier_than_kernels` is the smallest batch whose images give the norm layers more numbers to normalize than the
    convolutions have weights.
    `activations` counts ReLUs, `activations_after_norm` those fed by a norm layer or by the sum of one and a shortcut.
    `normalizes`: every norm layer left the batch with mean 0 and variance 1 in each channel.
    `identity_without_branch`: a block without its branch gives what it was given.
    `frozen_scale` and `frozen_shift` are the distinct values that are not trained, after one step of training.
    """

    parameters: int
    trainable: int
    affine_parameters: int
    frozen_parameters: int
    other_parameters: int
    affine_share: float
    affine_sizes: tuple[int, ...]
    norm_layers: int
    norm_channels: int
    heavier_than_kernels: int
    convolutions: int
    shortcut_convolutions: int
    conv_biases: int
    blocks: int
    block: str
    block_convolutions: int
    block_channels: tuple[tuple[int, int, int], ...]
    widths: tuple[int, ...]
    activations: int
    activations_after_norm: int
    has_running_statistics: bool
    normalizes: bool
    identity_without_branch: bool
    frozen_scale: tuple[float, ...]
    frozen_shift: tuple[float, ...]


@cache
def describe(net: Net, norm: Norm) -> NetFacts:
    """Build a ResNet once, feed it random images, and say what was found; what is frozen is read after one step."""
    model = build(net, norm, seed=0)
    slots = [model.get_submodule(name) for name in norm_slots(model)]
    stages = [model.get_submodule(f"layer{stage}") for stage in range(1, 5)]
    second = [convolutions(stage.get_submodule("1")) for stage in stages]
    affine = [parameter for slot in slots for parameter in slot.parameters()]
    activations, after_norm = _activations(model)
    outputs = _outputs(model, slots)
    identity = _is_identity_without_branch(copy.deepcopy(stages[0].get_submodule("1")))
    if not all(parameter.requires_grad for parameter in affine):
        _train_one_step(model)
    parameters, trainable = list(model.parameters()), [p for p in model.parameters() if p.requires_grad]
    trained_affine = [p for p in affine if p.requires_grad]
    return NetFacts(
        parameters=_count(parameters),
        trainable=_count(trainable),
        affine_parameters=_count(trained_affine),
        frozen_parameters=_count(affine) - _count(trained_affine),
        other_parameters=_count(parameters) - _count(affine),
        affine_share=round(100 * _count(trained_affine) / _count(trainable), 3),
        affine_sizes=tuple(_count(p for p in slot.parameters() if p.requires_grad) for slot in slots),
        norm_layers=len(slots),
        norm_channels=sum(output.shape[1] for output in outputs),
        heavier_than_kernels=1 + _count(c.weight for c in convolutions(model)) // _count(y[0] for y in outputs),
        convolutions=len(convolutions(model)),
        shortcut_convolutions=sum("downsample" in name for name, m in model.named_modules() if _is_convolution(m)),
        conv_biases=sum(conv.bias is not None for conv in convolutions(model)),
        blocks=sum(len(list(stage.children())) for stage in stages),
        block="basic" if type(stages[0].get_submodule("0")).__name__ == "BasicBlock" else "bottleneck",
        block_convolutions=len(second[0]),
        block_channels=tuple((convs[0].in_channels, convs[0].out_channels, convs[-1].out_channels) for convs in second),
        widths=tuple(convs[-1].out_channels for convs in second),
        activations=activations,
        activations_after_norm=after_norm,
        has_running_statistics=any(name.endswith("running_mean") for name, _ in model.named_buffers()),
        normalizes=all(_is_normal(output) for output in outputs),
        identity_without_branch=identity,
        frozen_scale=_frozen(slots, "weight"),
        frozen_shift=_frozen(slots, "bias"),
    )


def _count(parameters: Iterable[Tensor]) -> int:
    return sum(parameter.numel() for parameter in parameters)


def _images() -> Tensor:
    return torch.randn(16, 3, 32, 32, generator=torch.Generator().manual_seed(0))


@torch.no_grad()
def _outputs(model: nn.Module, parts: list[nn.Module]) -> list[Tensor]:
    """What every part makes of a training batch, in the order of the network, before a ReLU overwrites it."""
    outputs: list[Tensor] = []
    hooks = [part.register_forward_hook(lambda _, __, output: outputs.append(output.clone())) for part in parts]
    model.train()(_images())
    for hook in hooks:
        hook.remove()
    return outputs


def _train_one_step(model: nn.Module) -> None:
    """One step of Adam, as in the paper's section 3.2."""
    labels = torch.arange(16) % 10
    optimizer = torch.optim.Adam([p for p in model.parameters() if p.requires_grad], lr=1e-3)
    loss: Any = F.cross_entropy(model.train()(_images()), labels)
    loss.backward()
    optimizer.step()


def _is_convolution(module: nn.Module) -> bool:
    return isinstance(module, nn.Conv2d)


def _is_normal(x: Tensor) -> bool:
    """Whether every channel of [n, c, h, w] has mean 0 and variance 1, but for eps beside a small variance."""
    var, mean = torch.var_mean(x, dim=(0, 2, 3), correction=0)
    return bool((mean.abs() < 1e-3).all() and (var - 1).abs().lt(0.05).all())


@torch.no_grad()
def _is_identity_without_branch(block: nn.Module) -> bool:
    """Whether the block passes on what it is given, never below 0 behind a ReLU, when its convolutions give 0."""
    branch = convolutions(block)
    for conv in branch:
        nn.init.zeros_(conv.weight)
    x = torch.rand(4, branch[0].in_channels, 8, 8, generator=torch.Generator().manual_seed(0))
    return torch.equal(block.train()(x), x)


class _Tracer(fx.Tracer):
    def __init__(self, whole: set[str]) -> None:
        super().__init__()
        self.whole = whole

    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        return module_qualified_name in self.whole or super().is_leaf_module(m, module_qualified_name)


def _activations(model: nn.Module) -> tuple[int, int]:
    """How many ReLUs there are, and how many of them a norm feeds, itself or through the sum with a shortcut."""
    norms = set(norm_slots(model))
    relus = [
        node
        for node in _Tracer(norms).trace(model).nodes
        if node.op == "call_module" and isinstance(model.get_submodule(str(node.target)), nn.ReLU)
    ]
    fed = [relu.all_input_nodes[0] for relu in relus]
    return len(relus), sum(any(part.target in norms for part in (node, *node.all_input_nodes)) for node in fed)


def _frozen(slots: list[nn.Module], name: str) -> tuple[float, ...]:
    held = [getattr(slot, name, None) for slot in slots]
    return tuple(sorted({float(v) for p in held if p is not None and not p.requires_grad for v in p.unique()}))
