"""torch's Adam, whose step on a GPU is one launch for each parameter group, however many leaves it has."""

from collections.abc import Callable
from types import ModuleType
from typing import Any

import torch
from torch import Tensor

from bnlab.engine.fallbacks import uses
from bnlab.engine.kernels.batched import fused_kernels


class Adam(torch.optim.Adam):
    """The groups, states and formula of torch's own; `BNLAB_ADAM=0` takes its kernels as well.

    A launch finds the leaves by a table on the device. That of a step that is being captured is filled by `settle`,
    which has to be called before the graph is replayed: a capture allows no copy from the host. Its memory is older
    than the capture, which needs a step before it: what is taken during one, every replay may write over.
    """

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self._tables: dict[tuple[int, bool], tuple[Tensor, list[list[int]]]] = {}

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> float | None:  # type: ignore[override]
        """Step every group, with one kernel where all of its leaves lie on a GPU side by side."""
        groups = self.param_groups
        try:
            for group in groups:
                kernels = _kernels(group)
                if kernels is None:
                    self.param_groups = [group]
                    super().step()
                else:
                    self._launch(kernels, group)
        finally:
            self.param_groups = groups
        return None

    def settle(self) -> None:
        """Fill the tables of steps that were captured."""
        for (_, captured), (table, rows) in self._tables.items():
            if captured and rows:
                table.copy_(torch.tensor(rows))

    def _launch(self, kernels: ModuleType, group: dict[str, Any]) -> None:
        columns: list[list[Tensor]] = [[] for _ in range(6)]
        self._init_group(group, *columns)  # type: ignore[no-untyped-call]
        weights, gradients, moments, squares, _, counts = columns
        if not weights:
            return
        torch._foreach_add_(counts, 1)
        rows = kernels.rows(list(zip(weights, gradients, moments, squares, counts, strict=True)))
        table = self._table(group, rows, weights[0].device)
        how = (group["betas"], group["eps"], group["weight_decay"])
        kernels.step(table, rows, group["lr"], weights[0].dtype, *how)

    def _table(self, group: dict[str, Any], rows: list[list[int]], device: torch.device) -> Tensor:
        """The table of a group with these rows; one of its own for the step that is captured."""
        captured = _capturing(device)
        table, known = self._tables.get((id(group), captured), (None, None))
        if table is None or table.shape[1] != len(rows[0]):
            if captured:
                raise RuntimeError("Adam was captured before it took a step with these leaves")
            table, known = torch.empty(2, len(rows), len(rows[0]), dtype=torch.int64, device=device), None
            self._tables[id(group), True] = table[1], []
            table = table[0]
        if known != rows and not captured:
            table.copy_(torch.tensor(rows))
        self._tables[id(group), captured] = table, rows
        return table


def _capturing(device: torch.device) -> bool:
    return device.type == "cuda" and torch.cuda.is_current_stream_capturing()


def _kernels(group: dict[str, Any]) -> ModuleType | None:
    """The kernel for this group, or None where torch's own has to do."""
    given = [leaf for leaf in group["params"] if leaf.grad is not None]
    alike = len({leaf.dtype for leaf in given}) == 1 and isinstance(group["lr"], Tensor) and uses("adam")
    if not alike or not all(one.is_contiguous() and one.grad.is_contiguous() for one in given):
        return None
    return fused_kernels(given[0], "adam")
