"""A second stream of a GPU, for what nothing waits for until the step ends: gradients of weights, and the optimizer.

The chain of a backward pass (gradients of maps, folds, norms) is a queue of short kernels. What the side does fills the
gaps between them. Both streams are captured in the same graph.
"""

from collections.abc import Callable
from functools import partial
from typing import TypeVar

import torch
from torch import Tensor

_T = TypeVar("_T")

PIECE = 128 * 65536
"""Least elements that the optimizer steps at a time: torch's fused kernels take 64 Ki a block, and a GPU has some 130
processors."""


class Side:
    """The stream beside the one that a step is on."""

    def __init__(self, device: torch.device) -> None:
        self.stream = torch.cuda.Stream(device)  # type: ignore[no-untyped-call]
        self.main = torch.cuda.current_stream(device)
        self._read: list[Tensor] = []

    def begin(self) -> None:
        """A step begins on the current stream. Backward passes have threads of their own, where it is another."""
        self.main = torch.cuda.current_stream(self.stream.device)

    def run(self, work: Callable[[], _T], *read: Tensor) -> _T:
        """Do `work` beside what the step is told from now on, and after all that it was told before.

        What it gives may be used on the side, or after `join`. The tensors that it reads are held until then, so that
        the step does not use their memory again.
        """
        self._read += read
        self.stream.wait_stream(self.main)
        with torch.cuda.stream(self.stream):
            return work()

    def join(self) -> None:
        """Let the step wait for all that the side was told."""
        self.main.wait_stream(self.stream)
        self._read.clear()


class EarlySteps:
    """Makes every backward pass step each parameter group on the side as soon as the group has its gradients.

    A gradient is there when nothing of the backward pass reads its parameter any more, so the step may change it.
    """

    def __init__(self, optimizer: torch.optim.Optimizer, side: Side) -> None:
        self.optimizer, self.side = optimizer, side
        self.arrived: list[list[Tensor]] = [[] for _ in optimizer.param_groups]
        for number, group in enumerate(optimizer.param_groups):
            for leaf in group["params"]:
                leaf.register_post_accumulate_grad_hook(partial(self._arrives, number))

    def finish(self) -> None:
        """After the backward pass: step the groups of which a parameter had no gradient, and wait for the side."""
        self.side.join()
        for number, arrived in enumerate(self.arrived):
            if arrived:
                self._step(number)

    def _arrives(self, number: int, leaf: Tensor) -> None:
        self.arrived[number].append(leaf)
        if len(self.arrived[number]) == len(self.optimizer.param_groups[number]["params"]):
            self.side.run(partial(self._step, number))

    def _step(self, number: int) -> None:
        groups = self.optimizer.param_groups
        self.arrived[number].clear()
        self.optimizer.param_groups = [groups[number]]
        try:
            self.optimizer.step()
        finally:
            self.optimizer.param_groups = groups


def pieces(leaves: list[Tensor], times: int = 1) -> list[list[Tensor]]:
    """The leaves in the order of a backward pass, last first, cut into pieces of PIECE elements or somewhat more.

    A leaf counts `times` its elements.
    """
    cut: list[list[Tensor]] = [[]]
    for leaf in reversed(leaves):
        if times * sum(one.numel() for one in cut[-1]) >= PIECE:
            cut.append([])
        cut[-1].append(leaf)
    return cut
