"""A second stream of a GPU, for what nothing waits for until the step ends: gradients of weights, and the optimizer.

The chain of a backward pass (gradients of maps, folds, norms) is a queue of short kernels. What the side does fills the
gaps between them. Both streams are captured in the same graph.
"""

import weakref
from collections.abc import Callable
from functools import partial
from typing import TypeVar

import torch
from torch import Tensor

from bnlab.engine.fallbacks import uses

_T = TypeVar("_T")

PIECE = 128 * 65536
"""Least elements that the optimizer steps at a time: torch's fused kernels take 64 Ki a block, and a GPU has some 130
processors."""


class Side:
    """The stream beside the one that a step is on; once given up, nothing is beside it any more."""

    def __init__(self, device: torch.device) -> None:
        self.stream = torch.cuda.Stream(device)  # type: ignore[no-untyped-call]
        self.main = torch.cuda.current_stream(device)
        self._busy, self._read = False, list[Tensor]()

    def begin(self) -> None:
        """A step begins on the current stream. Backward passes have threads of their own, where it is another."""
        self.main = torch.cuda.current_stream(self.stream.device)
        self._done()  # a step that failed may have left something

    def run(self, work: Callable[[], _T], *read: Tensor) -> _T:
        """Do `work` beside what the step is told from now on, and after all that it was told before.

        What it gives may be used on the side, or after `join`. The tensors that it reads are held until then, so that
        the step does not use their memory again.
        """
        if not uses("side"):
            return work()
        self._busy = True
        self._read += read
        self.stream.wait_stream(self.main)
        with torch.cuda.stream(self.stream):
            return work()

    def join(self) -> None:
        """Let the step wait for all that the side was told."""
        if self._busy:  # a capture cannot wait for a stream that is no part of it
            self.main.wait_stream(self.stream)
        self._done()

    def _done(self) -> None:
        self._busy = False
        self._read.clear()


class EarlySteps:
    """Makes every backward pass step each parameter group on the side as soon as the group has its gradients.

    A gradient is there when nothing of the backward pass reads its parameter any more, so the step may change it.
    """

    def __init__(self, optimizer: torch.optim.Optimizer, side: Side) -> None:
        self.optimizer, self.side = optimizer, side
        self.arrived: list[list[Tensor]] = [[] for _ in optimizer.param_groups]
        own = weakref.proxy(self)  # a leaf that held its optimizer would be freed late, and a GPU's memory with it
        for number, group in enumerate(optimizer.param_groups):
            for leaf in group["params"]:
                leaf.register_post_accumulate_grad_hook(partial(EarlySteps._arrives, own, number))

    def begin(self) -> None:
        """A step begins: no gradient is there, whatever a step that failed has left."""
        self.side.begin()
        for arrived in self.arrived:
            arrived.clear()

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
