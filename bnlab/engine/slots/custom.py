"""The slot of a custom norm: a torch module that the engine knows nothing about."""

import warnings
from copy import deepcopy

import torch
from torch import Tensor, nn
from torch.func import functional_call, vmap

from bnlab.engine.slots.base import IdentitySlot, Mode, State, finish


class CustomSlot(IdentitySlot):
    """Somebody's own torch module, one copy a replica, called on [b, c, h, w].

    Replica by replica this is right for whatever the module does, since each is alone in its copy. On a GPU, where that
    is K times the launches, all are called at once by torch.func wherever the first batch shows that it comes to the
    same.
    """

    def __init__(self, layers: list[nn.Module], device: torch.device, dtype: torch.dtype) -> None:
        self.layers = [layer.to(device, dtype) for layer in layers]
        self.at_once: bool | None = None if device.type == "cuda" and len(layers) > 1 else False

    def __call__(self, x: Tensor, mode: Mode, residual: Tensor | None = None, *, relu: bool = False) -> Tensor:
        """Call each replica's module on its own x[k], or all at once."""
        if self.at_once is None and mode == "train":
            self.at_once = self._comes_to_the_same(x)
        # torch's cumulative average looks at numbers, which torch.func cannot
        at_once = self.at_once and mode != "calibrate"
        return finish((self._call_at_once if at_once else self._call_each)(x, mode), residual, relu)

    def _call_each(self, x: Tensor, mode: Mode) -> Tensor:
        outs = []
        for k, layer in enumerate(self.layers):
            kept = [buffer.clone() for buffer in layer.buffers()] if mode == "batch" else []
            # x[k] and not a loop over x, whose parts no module may change in place
            outs.append(layer.train(mode != "eval")(x[k].permute(0, 3, 1, 2)))
            for buffer, before in zip(layer.buffers(), kept, strict=False):
                buffer.copy_(before)
        return torch.stack(outs).permute(0, 1, 3, 4, 2)

    def _call_at_once(self, x: Tensor, mode: Mode) -> Tensor:
        module = self.layers[0].train(mode != "eval")
        names = [name for name, _ in module.named_parameters()]
        parameters = {name: torch.stack([layer.get_parameter(name) for layer in self.layers]) for name in names}
        names = [name for name, _ in module.named_buffers()]
        buffers = {name: torch.stack([layer.get_buffer(name) for layer in self.layers]) for name in names}

        def call(parameters: State, buffers: State, x: Tensor) -> Tensor:
            out: Tensor = functional_call(module, (parameters, buffers), (x,))
            return out

        outs: Tensor = vmap(call)(parameters, buffers, x.permute(0, 1, 4, 2, 3))
        if mode != "batch":
            with torch.no_grad():
                for name, moved in buffers.items():
                    for layer, value in zip(self.layers, moved, strict=True):
                        layer.get_buffer(name).copy_(value)
        return outs.permute(0, 1, 3, 4, 2)

    def _comes_to_the_same(self, x: Tensor) -> bool:
        """Whether a call of all replicas at once gives the numbers and buffers of a call each, tried on copies."""
        each, at_once = deepcopy(self), deepcopy(self)
        try:
            with torch.no_grad(), warnings.catch_warnings():
                warnings.simplefilter("error")  # vmap warns where it has no rule and would call replica by replica
                got, expected = at_once._call_at_once(x.clone(), "train"), each._call_each(x.clone(), "train")
        except Exception:
            return False  # random numbers, a look at numbers, a Function without a rule: each call alone can have them
        if each._plain_values() != self._plain_values():
            return False  # the module counts or remembers in Python, where only the first copy would be called
        pairs = [(got, expected), *zip(at_once.statistics(), each.statistics(), strict=True)]
        return all(torch.allclose(one, other, rtol=1e-4, atol=1e-5, equal_nan=True) for one, other in pairs)

    def _plain_values(self) -> list[object]:
        """What the first copy's modules hold beside tensors and modules, but for whether they train."""
        held = (pair for module in self.layers[0].modules() for pair in vars(module).items())
        return [pair for pair in held if pair[0] != "training" and isinstance(pair[1], (bool, int, float, str))]

    def parameters(self) -> dict[str, list[Tensor]]:
        """The module's trained parameters, one leaf a replica."""
        names = [name for name, parameter in self.layers[0].named_parameters() if parameter.requires_grad]
        return {name: [layer.get_parameter(name) for layer in self.layers] for name in names}

    def buffers(self, k: int) -> State:
        """The rest of the module's state dict."""
        trained = self.parameters()
        return {name: tensor for name, tensor in self.layers[k].state_dict().items() if name not in trained}

    def statistics(self) -> list[Tensor]:
        """The modules' buffers."""
        return [buffer for layer in self.layers for buffer in layer.buffers()]

    def start_calibration(self) -> None:
        """Forget running statistics where the module keeps torch's kind."""
        for layer in self.layers:
            for module in layer.modules():
                if isinstance(module, nn.modules.batchnorm._NormBase):
                    module.reset_running_stats()
                    module.momentum = None

    def running(self, k: int) -> bool:
        """Whether any part of the module keeps torch's kind of running statistics."""
        return any(name.endswith("running_mean") for name, _ in self.layers[k].named_buffers())
