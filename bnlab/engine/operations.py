"""The operations of a network, and the savings that are found among them before it runs."""

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from torch import Tensor


@dataclass(frozen=True, kw_only=True)
class Op:
    """One operation: `kind`, the values it takes by number, and the number of the value it gives.

    `module` names the layer that it applies, if any. A map has `size` x `size` pixels; a vector has size 0.
    `relu` and a second input are what a norm slot adds behind itself. `apply` is a function of every number, or, of
    kind `images`, of maps [n, c, h, w] image by image.
    """

    kind: str
    inputs: tuple[int, ...]
    output: int
    channels: int
    size: int
    module: str = ""
    relu: bool = False
    window: tuple[int, int, int] = (0, 0, 0)
    apply: Callable[[Tensor], Tensor] | None = None


def fused(ops: Sequence[Op]) -> list[Op]:
    """The same operations, a norm slot taking in the addition and the ReLU behind it: one pass over the map, not three.

    So it is only where nobody else reads what the slot gives.
    """
    readers = Counter(number for op in ops for number in op.inputs)
    slots: dict[int, Op] = {}
    result: list[Op] = []
    for op in ops:
        open_slots = [slots[n] for n in op.inputs if n in slots and readers[n] == 1 and not slots[n].relu]
        if op.kind == "add":
            open_slots = [slot for slot in open_slots if len(slot.inputs) == 1]
        if open_slots and op.kind in ("add", "relu"):
            slot = open_slots[0]
            result.remove(slot)  # it moves here, behind the residual, which may be computed later than the norm
            residual = tuple(number for number in op.inputs if number != slot.output)
            op = replace(slot, inputs=slot.inputs + residual, output=op.output, relu=op.kind == "relu")
        if op.kind == "slot":
            slots[op.output] = op
        result.append(op)
    return result


def last_uses(ops: Sequence[Op]) -> list[list[int]]:
    """After each operation the values that nobody reads any more, so that evaluation keeps few of them."""
    last = {number: i for i, op in enumerate(ops) for number in op.inputs}
    return [[number for number in dict.fromkeys(op.inputs) if last[number] == i] for i, op in enumerate(ops)]
