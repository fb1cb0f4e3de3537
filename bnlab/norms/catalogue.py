"""The layers of this package, and what is found out about each by making one: `python -m bnlab norms`.

Beside them stand the systems of the paper's section 2.4 that are no layer, or not alone.
"""

import importlib
import inspect
import pkgutil
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import nn

import bnlab.norms
from bnlab.norms.facts import describe_layer
from bnlab.norms.statistics import WithStatistics
from bnlab.parts import NONE, Net, Norm, Part

SMALL = {"groups": 4}
"""Options for the few channels of small networks; a layer without such an option keeps its defaults."""


@dataclass(frozen=True, kw_only=True)
class Entry:
    """One layer.

    `parameters` are the trained numbers for each channel, and those for each layer however many channels it has.
    `statistics` are the buffers that a training batch moves, its count of batches left out. `fused` says whether all
    replicas share a slot; other layers are called replica by replica, on a GPU in one `vmap` call where that agrees.
    `source` is the first work at the head of a line of its file's docstring and `place` the section of the paper there,
    each "" where there is none. A system that takes more than a layer has a `name`, and in `changes` what else its
    RunSpec says; its numbers a channel are those of each filter.
    """

    norm: Norm
    parameters: tuple[int, int]
    statistics: tuple[str, ...]
    looks_at_batch: bool
    evaluates_as_it_trains: bool
    fused: bool
    source: str
    place: str
    name: str = ""
    changes: Mapping[str, Any] = field(default_factory=dict)


def _no_layer(name: str, norm: Norm, parameters: tuple[int, int], source: str, place: str, **changes: Any) -> Entry:
    """A system that keeps no statistics, looks at no batch and trains fused."""
    return Entry(
        norm=norm,
        parameters=parameters,
        statistics=(),
        looks_at_batch=False,
        evaluates_as_it_trains=True,
        fused=True,
        source=source,
        place=place,
        name=name,
        changes=changes,
    )


_SCALARS = "bnlab.norms.scalars"
NO_LAYERS = (
    _no_layer(
        "WeightNorm",
        NONE,
        (1, 0),
        "Salimans & Kingma 2016",
        "2.4.4",
        parametrization=Part(code="torch.nn.utils.parametrizations:weight_norm"),
    ),
    _no_layer(
        "Fixup",
        Norm(layer=f"{_SCALARS}:fixup"),
        (0, 2),
        "Zhang, Dauphin & Ma 2019",
        "2.4.6",
        net=Net(build="bnlab.nets.fixup:build", options={"depth": 20}),
    ),
    _no_layer("SkipInit", Norm(layer=f"{_SCALARS}:skip_init"), (0, 1), "De & Smith 2020", "2.4.6"),
)
"""Fixup trains a number before each convolution and each ReLU, and at the end of a branch two; SkipInit has one there
and none elsewhere."""


def catalogue() -> list[Entry]:
    """Every public layer of `bnlab.norms` and `NO_LAYERS`, in the order of the paper's sections."""
    every = [*map(_entry, _layers()), *NO_LAYERS]
    return sorted(every, key=lambda entry: [int(n) for n in re.findall(r"\d+", entry.place)])


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
