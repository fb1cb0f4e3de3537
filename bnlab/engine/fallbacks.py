"""The slower ways round what a GPU, its driver or its Triton refuses, and how to recognise that memory ran out.

`BNLAB_TRITON=0` computes with torch's own kernels, `BNLAB_SIDE=0` puts all that a step does on one stream, and
`BNLAB_CAPTURE=0` gives the device every step anew instead of replaying one CUDA graph. Each also happens by itself, for
the rest of the process, where the faster way fails.
"""

import os
from typing import Literal

import torch

Faster = Literal["triton", "side", "capture"]

_SLOWER: dict[Faster, str] = {
    "triton": "going on with torch's own kernels",
    "side": "going on with one stream",
    "capture": "going on without a CUDA graph",
}
_failed: set[Faster] = set()


def uses(faster: Faster) -> bool:
    """Whether the faster way is taken: neither its variable is 0 nor has it failed in this process."""
    return faster not in _failed and os.environ.get(f"BNLAB_{faster.upper()}") != "0"


def give_up(faster: Faster, error: Exception) -> str:
    """Take the slower way from now on; the sentence that says so."""
    _failed.add(faster)
    return f"{faster} failed ({in_a_line(error)}): {_SLOWER[faster]}"


def in_a_line(error: Exception) -> str:
    """The kind of an error and the first line of its words."""
    return f"{type(error).__name__}: {next(iter(str(error).splitlines()), '')[:200]}"


def slower_ways() -> str:
    """What this process does without, for the provenance of a Run: "" or names such as "triton, capture"."""
    return ", ".join(faster for faster in _SLOWER if not uses(faster))


def out_of_memory(error: BaseException | None) -> bool:
    """Whether torch ran out of memory; on a CPU it says so in a RuntimeError's words only.

    Where that happens while a graph is captured, ending the capture fails too, and memory is only the context of that
    second error.
    """
    seen: list[BaseException] = []
    while error is not None and error not in seen:
        if isinstance(error, torch.OutOfMemoryError) or "can't allocate memory" in str(error):
            return True
        seen.append(error)
        error = error.__cause__ or error.__context__
    return False
