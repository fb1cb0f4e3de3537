"""The layers of this package, and what is found out about each by making one: `python -m bnlab norms`."""

import importlib
import inspect
import pkgutil
import re
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import nn

import bnlab.norms
from bnlab.norms.facts import describe_layer
from bnlab.norms.statistics import WithStatistics
from bnlab.parts import Norm

SMALL = {"groups": 4}
"""Options for the few channels of small networks; a layer without such an option keeps its defaults."""


@dataclass(frozen=True, kw_only=True)
class Entry:
    """One layer.

    `parameters` are the trained numbers for each channel, and those for each layer however many channels it has.
    `statistics` are the buffers that a training batch moves, its count of batches left out. `fused` says whether all
    replicas share a slot; other layers are called replica by replica, on a GPU in one `vmap` call where that agrees.
    `source` is the first work at the head of a line of its file's docstring and `place` the section of the paper there,
    each "" where there is none.
    """

    norm: Norm
    parameters: tuple[int, int]
    statistics: tuple[str, ...]
    looks_at_batch: bool
    evaluates_as_it_trains: bool
    fused: bool
    source: str
    place: str


def catalogue() -> list[Entry]:
    """Every public layer of `bnlab.norms`, in the order of the paper's sections."""
    return sorted(map(_entry, _layers()), key=lambda entry: [int(n) for n in re.findall(r"\d+", entry.place)])


def _layers() -> Iterator[type[nn.Module]]:
    for found in pkgutil.iter_modules(bnlab.norms.__path__):
        module = importlib.import_module(f"bnlab.norms.{found.name}")
        for name, value in vars(module).items():
            own = inspect.isclass(value) and issubclass(value, nn.Module) and value.__module__ == module.__name__
            if own and not name.startswith("_") and value is not WithStatistics:
                yield value


def _entry(kind: type[nn.Module]) -> Entry:
    signature = inspect.signature(kind).parameters
    options = {name: value for name, value in SMALL.items() if name in signature}
    norm = Norm(layer=f"{kind.__module__}:{kind.__name__}", options=options)
    facts, words = describe_layer(norm), inspect.getdoc(inspect.getmodule(kind)) or ""
    source = re.search(r"^[A-Z][^.\n]*? \d{4}", words, re.MULTILINE)
    place = re.search(r"paper[^.]*?sections?\s+([\d.]*\d)", words)
    few, many = (_trained(norm, channels) for channels in (8, 16))
    return Entry(
        norm=norm,
        parameters=((many - few) // 8, 2 * few - many),
        statistics=_moved(norm),
        looks_at_batch=facts.looks_at_batch,
        evaluates_as_it_trains=facts.evaluates_as_it_trains,
        fused="slot" in vars(kind),
        source=source[0] if source else "",
        place=place[1] if place else "",
    )


def _trained(norm: Norm, channels: int) -> int:
    return sum(p.numel() for p in bnlab.norms.layer(norm, channels).parameters() if p.requires_grad)


def _moved(norm: Norm) -> tuple[str, ...]:
    module = bnlab.norms.layer(norm, 8)
    before = {name: buffer.clone() for name, buffer in module.named_buffers()}
    module.train()(torch.randn(4, 8, 2, 2, generator=torch.Generator().manual_seed(0)))
    after = dict(module.named_buffers())
    return tuple(name for name, b in before.items() if b.is_floating_point() and not torch.equal(b, after[name]))
