"""The slot of a custom norm: a torch module that the engine knows nothing about."""

import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from copy import deepcopy
from functools import partial

import torch
from torch import Tensor, nn
from torch.func import functional_call, vmap

from bnlab.engine.randomness import seed_of
from bnlab.engine.slots.base import Mode, Slot, State, finish
from bnlab.engine.slots.trial import Call, Findings, agree, can_be_recalibrated, examine, plain_values, step
from bnlab.errors import SpecError
from bnlab.norms import draws, use_generator

TRIED = 4096
"""Numbers of a channel on which a layer is tried, where its first batch has more."""


class CustomSlot(Slot):
    """A torch module that keeps the contract of `bnlab.norms`, one copy a replica, called on [b, c, h, w].

    Calling each replica's own copy is correct for any such module. On a GPU, where that is K times the launches, one
    `vmap` call serves all replicas if two copies give the same numbers on the first batch both ways; this does not
    depend on K. `name` is that of the layer in the network.
    """

    def __init__(self, layers: list[nn.Module], device: torch.device, dtype: torch.dtype, name: str = "") -> None:
        # single precision becomes the program's, any other type is the layer's own choice
        self.layers = layers
        for layer in layers:
            layer._apply(partial(_moved, device=device, dtype=dtype))  # type: ignore[no-untyped-call]
        kind = type(layers[0])
        self.name, self.norm = name, f"the norm '{kind.__module__}:{kind.__qualname__}'"
        self._generators = [torch.Generator(device) for layer in layers if draws(layer)]
        for layer, generator in zip(layers, self._generators, strict=False):
            use_generator(layer, generator)  # where the layer's own network calls it
        self.findings: Findings | None = None
        self.can_vmap, self.vmapped = device.type == "cuda", False
        # maps come with channels last in memory, which most layers are faster on; some take a view over channels
        self.contiguous = False
        self.calibrated = 0

    def __call__(self, x: Tensor, mode: Mode, residual: Tensor | None = None, *, relu: bool = False) -> Tensor:
        """Call each replica's module on its own x[k], or all of them in one `vmap` call."""
        maps = x.permute(0, 1, 4, 2, 3)
        if self.findings is None:
            self.examine(maps[0].detach())
        if mode == "calibrate":
            self.next_calibration_batch()
        # while calibrating, momentum is a plain value of every copy, and vmap knows the first copy only
        call = self._vmapped if self.vmapped and mode != "calibrate" else self._each
        if mode == "batch":
            with self.buffers_kept():
                y = call(self.layers, maps, True)
        else:
            y = call(self.layers, maps, mode != "eval")
        return finish(y.permute(0, 1, 3, 4, 2), residual, relu)

    def examine(self, x: Tensor) -> None:
        """Try the layer on its first batch x [n, c, h, w], on copies; a SpecError if it breaks the contract.

        Of large maps a few images are enough, and their number stays even where the batch's is.
        """
        x = x[: 2 * max(1, TRIED // (2 * x[0, 0].numel()))]
        states = [generator.get_state() for generator in self._generators]
        try:
            self.findings = examine(self.layers[0], x, self._each_seeded, self._who)
        except SpecError as error:
            if "view size is not compatible" not in str(error.__cause__):
                raise
            self.contiguous = True
            self.findings = examine(self.layers[0], x, self._each_seeded, self._who)
        self.vmapped = self.can_vmap and self._vmap_agrees(torch.stack([x, 0.5 * x.flip(0) + 0.1]))
        for generator, state in zip(self._generators, states, strict=True):
            generator.set_state(state)
        if "recalibrated" in getattr(self.layers[0], "evaluations", ()) and self._not_recalibrated:
            raise SpecError(
                f"{self._who} names the evaluation 'recalibrated', but nothing resets its {self._not_recalibrated[0]!r}"
                ": give the module that holds it reset_running_stats(), or leave the evaluation out"
            )

    def examine_when_called(self) -> None:
        """Examine the layer on the first maps that its own network gives it."""

        def first(module: nn.Module, args: tuple[Tensor, ...]) -> None:
            handle.remove()
            self.examine(args[0].detach())

        handle = self.layers[0].register_forward_pre_hook(first)

    def _each(self, layers: list[nn.Module], x: Tensor, training: bool) -> Tensor:
        # x[k] and not a loop over x, whose parts no module may change in place
        maps = [x[k].contiguous() if self.contiguous else x[k] for k in range(len(layers))]
        return torch.stack([self._call(k, layer, maps[k], training) for k, layer in enumerate(layers)])

    def _each_seeded(self, layers: list[nn.Module], x: Tensor, training: bool) -> Tensor:
        for generator in self._generators:
            generator.manual_seed(0)
        return self._each(layers, x, training)

    def _call(self, k: int, layer: nn.Module, x: Tensor, training: bool) -> Tensor:
        """Replica k's output for x [n, c, h, w]; a SpecError names norm, layer and shape where that fails."""
        shape, dtype = list(x.shape), x.dtype
        layer.train(training)
        try:
            y = layer(x, generator=self._generators[k]) if self._generators else layer(x)
        except Exception as error:
            # a cohort that does not fit is trained in halves
            if isinstance(error, RuntimeError) and "memory" in str(error):
                raise
            reason = f"{type(error).__name__}: {(str(error).splitlines() or [''])[0]}"
            raise SpecError(f"{self._who} fails on maps of {shape} ({reason}): take another layer") from error
        if not isinstance(y, Tensor) or list(y.shape) != shape or y.dtype != dtype:
            got = f"{list(y.shape)} of {y.dtype}" if isinstance(y, Tensor) else f"a {type(y).__name__}"
            raise SpecError(f"{self._who} gave {got} for maps of {shape} of {dtype}: expected the same shape and type")
        return y

    @property
    def _who(self) -> str:
        return f"{self.norm} at {self.name}" if self.name else self.norm

    def _vmapped(self, layers: list[nn.Module], x: Tensor, training: bool) -> Tensor:
        """All replicas in one call of the first copy; buffers are written back to every copy."""
        module = layers[0]
        module.train(training)
        names, kept = ([name for name, _ in part] for part in (module.named_parameters(), module.named_buffers()))
        parameters = {name: torch.stack([one.get_parameter(name) for one in layers]) for name in names}
        buffers = {name: torch.stack([one.get_buffer(name) for one in layers]) for name in kept}

        def call(parameters: State, buffers: State, x: Tensor) -> Tensor:
            out: Tensor = functional_call(module, (parameters, buffers), (x,))
            return out

        outs: Tensor = vmap(call)(parameters, buffers, x.contiguous() if self.contiguous else x)
        with torch.no_grad():
            for name, moved in buffers.items():
                for layer, value in zip(layers, moved, strict=True):
                    layer.get_buffer(name).copy_(value)
        return outs

    def _vmap_agrees(self, x: Tensor) -> bool:
        """Whether `vmap` gives two copies on x [2, n, c, h, w] the outputs, gradients and buffers of a call each."""
        values = [plain_values(layer) for layer in self.layers]
        if self._generators or any(one != values[0] for one in values):
            return False  # vmap calls the first copy only: its draws and its plain values would serve all
        each, together = (self._results(call, x) for call in (self._each, self._vmapped))
        return each is not None and together is not None and agree(each, together)

    def _results(self, call: Call, x: Tensor) -> dict[str, Tensor | None] | None:
        """A training step and an evaluation of two copies, or None where the call fails."""
        layers = [deepcopy(self.layers[0]) for _ in x]
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("error")  # vmap warns where it has no rule and would call one by one
                numbers = step(layers, x, call)
                with torch.no_grad():
                    return {**numbers, "evaluation": call(layers, x.clone(), False)}
        except Exception:
            return None  # a look at numbers, or a Function without a rule: a call for each copy can have them

    @contextmanager
    def buffers_kept(self) -> Iterator[None]:
        """Put every buffer back afterwards, replaced ones too."""
        modules = [module for layer in self.layers for module in layer.modules()]
        kept = [(module, name, b, b.clone()) for module in modules for name, b in module.named_buffers(recurse=False)]
        yield
        for module, name, buffer, value in kept:
            with torch.no_grad():
                module._buffers[name] = buffer.copy_(value)

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

    def evaluations(self, k: int) -> tuple[str, ...]:
        """Those that the layer names, or those that make sense for the running statistics that it keeps."""
        declared = getattr(self.layers[k], "evaluations", None)
        if declared is not None:
            return tuple(declared)
        if not self._moved:
            return ()
        if not self._not_recalibrated:
            return ("recalibrated", "batch")
        warnings.warn(
            f"{self.norm} gets no recalibrated test accuracy, since nothing resets its {self._not_recalibrated[0]!r}: "
            "give the module that holds it reset_running_stats()",
            stacklevel=2,
        )
        return ("batch",)

    @property
    def _moved(self) -> list[str]:
        """Buffers that training moves; all where no batch has shown it yet."""
        names = [name for name, _ in self.layers[0].named_buffers()]
        return names if self.findings is None else [name for name in names if name in self.findings.moved]

    @property
    def _not_recalibrated(self) -> list[str]:
        return [name for name in self._moved if not can_be_recalibrated(self.layers[0], name)]

    def start_calibration(self) -> None:
        """Reset the running statistics of every module that can."""
        self.calibrated = 0
        for module in self._with_statistics():
            module.reset_running_stats()  # type: ignore[operator]

    def next_calibration_batch(self) -> None:
        """Batch i moves the running statistics by 1/i, which makes them the average over the batches."""
        self.calibrated += 1
        for module in self._with_statistics():
            if hasattr(module, "momentum"):
                module.momentum = 1 / self.calibrated  # type: ignore[assignment]

    def _with_statistics(self) -> list[nn.Module]:
        return [
            m for layer in self.layers for m in layer.modules() if callable(getattr(m, "reset_running_stats", None))
        ]

    def seed(self, moments: Sequence[str]) -> None:
        """Seed each replica's generator from its moment and the layer's name."""
        for generator, moment in zip(self._generators, moments, strict=False):
            generator.manual_seed(seed_of(f"norm/{self.name}/{moment}"))

    def generators(self) -> list[torch.Generator]:
        """One a replica, if the layer draws."""
        return self._generators

    def uncapturable(self) -> str:
        """What the first batch has shown."""
        return self.findings.uncapturable if self.findings else ""


def _moved(tensor: Tensor, device: torch.device, dtype: torch.dtype) -> Tensor:
    return tensor.to(device, dtype if tensor.dtype == torch.float32 else tensor.dtype)
