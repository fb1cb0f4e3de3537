"""torchvision's ResNets with a slot for the norm.

The paper's section 3.3 names PyTorch's ResNet builder, which takes the layer to normalise with as an argument; so the
network is torchvision's own, for 32x32 images and ten classes, and the same seed gives its initialisation to the bit.
"""

from dataclasses import dataclass
from functools import cache, partial

import torch
import torchvision
from torch import nn

from bnlab.norms import layer
from bnlab.specs import Norm, ResNet

CLASSES = 10


def build(net: ResNet, norm: Norm, seed: int) -> torchvision.models.ResNet:
    """The network, initialised from the seed; the ambient random state is left as it was.

    A convolution bias (Norm.conv_bias) starts at zero and draws nothing, so all arms of a seed share their weights.
    """
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)  # what manual_seed does on a CPU, without touching the GPUs' state
        model: torchvision.models.ResNet = getattr(torchvision.models, f"resnet{net.depth}")(
            num_classes=CLASSES, norm_layer=partial(layer, norm)
        )
    if norm.conv_bias:
        for conv in _convolutions(model):
            conv.bias = nn.Parameter(torch.zeros(conv.out_channels))
    return model


@dataclass(frozen=True, kw_only=True)
class NetFacts:
    """Counts read off a built network.

    `parameters` and `trainable` count numbers, `affine_parameters` the trained scales and shifts among them and
    `frozen_parameters` those kept at their initial value; `norm_layers`, `convolutions` and `blocks` count modules;
    `widths` are the output channels of the four stages; `normalizes` says whether batch statistics are used.
    """

    parameters: int
    trainable: int
    affine_parameters: int
    frozen_parameters: int
    norm_layers: int
    convolutions: int
    conv_biases: int
    blocks: int
    block: str
    widths: tuple[int, ...]
    has_running_statistics: bool
    normalizes: bool
    frozen_scale: tuple[float, ...]
    frozen_shift: tuple[float, ...]


@cache
def describe(net: ResNet, norm: Norm) -> NetFacts:
    """Build the network once and count what is in it; `frozen_scale` and `frozen_shift` are the distinct values met."""
    model = build(net, norm, seed=0)
    slots = [module for name, module in model.named_modules() if _is_slot(name)]
    stages = [getattr(model, f"layer{stage}") for stage in range(1, 5)]
    affine = [parameter for slot in slots for parameter in slot.parameters()]
    return NetFacts(
        parameters=sum(p.numel() for p in model.parameters()),
        trainable=sum(p.numel() for p in model.parameters() if p.requires_grad),
        affine_parameters=sum(p.numel() for p in affine if p.requires_grad),
        frozen_parameters=sum(p.numel() for p in affine if not p.requires_grad),
        norm_layers=len(slots),
        convolutions=len(_convolutions(model)),
        conv_biases=sum(conv.bias is not None for conv in _convolutions(model)),
        blocks=sum(len(stage) for stage in stages),
        block="basic" if type(stages[0][0]).__name__ == "BasicBlock" else "bottleneck",
        widths=tuple([m for m in stage.modules() if isinstance(m, nn.Conv2d)][-1].out_channels for stage in stages),
        has_running_statistics=any(name.endswith("running_mean") for name, _ in model.named_buffers()),
        normalizes=norm.normalizes,
        frozen_scale=_frozen(slots, "weight"),
        frozen_shift=_frozen(slots, "bias"),
    )


def _convolutions(model: nn.Module) -> list[nn.Conv2d]:
    return [module for module in model.modules() if isinstance(module, nn.Conv2d)]


def _is_slot(name: str) -> bool:
    """Whether torchvision put the norm layer at this place: bn1, layerS.B.bnI or layerS.B.downsample.1."""
    last = name.rpartition(".")[2]
    return last.startswith("bn") or name.endswith("downsample.1")


def _frozen(slots: list[nn.Module], name: str) -> tuple[float, ...]:
    held = [getattr(slot, name, None) for slot in slots]
    return tuple(sorted({float(v) for p in held if p is not None and not p.requires_grad for v in p.unique()}))
