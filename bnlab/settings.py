"""What a session was asked to do, checked before anything starts: protocol, data, store, device."""

import hashlib
import re
import shlex
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path

from bnlab import devices
from bnlab.changes import Changes
from bnlab.cost import CIFAR10_TRAIN_IMAGES
from bnlab.data import sources
from bnlab.data.catalogue import Catalogue
from bnlab.errors import SpecError, StoreError
from bnlab.protocol import Protocol, protocol
from bnlab.runs import Run
from bnlab.specs import CIFAR10
from bnlab.store import Store
from bnlab.store.transfer import recorded_runs


@dataclass(frozen=True, kw_only=True)
class Settings:
    """The options of the command line, checked; every bad one is a BnlabError from `of`.

    `device` is None where nothing may train. `root` is the folder that holds `.bnlab/` and
    `reports/`. `catalogue` knows the sources that RunSpecs name as their data.
    """

    root: Path
    protocol: Protocol
    source: str
    store: Path
    device: str | None
    catalogue: Catalogue = field(default_factory=lambda: Catalogue(sources.default_cache()), compare=False)

    @classmethod
    def of(
        cls,
        *,
        root: Path,
        protocol_name: str = "paper",
        data: str | None = None,
        store: str | None = None,
        device: str | None = None,
        seeds: int | None = None,
        swap: Sequence[str] = (),
        recipe: Sequence[str] = (),
        train: bool = True,
        elsewhere: bool = False,
    ) -> "Settings":
        """The settings that these options mean; None stands for an option that was not given.

        `elsewhere` says that other machines train, so that this one needs no GPU.
        """
        for option, value in {
            "--protocol": protocol_name,
            "--data": data,
            "--store": store,
            "--device": device,
        }.items():
            if value is not None and not (value.strip() and value.isprintable()):
                raise SpecError(f"{option} {value!r} is empty or cannot be printed: name one, or leave the option out")
        chosen = protocol(protocol_name)
        gpus_of_others = elsewhere and device in (None, "cuda")
        found = "cuda" if gpus_of_others else devices.choose(device, fall_back_to_cpu=not chosen.judges)
        catalogue = Catalogue(sources.default_cache(), data or chosen.data)
        # a protocol that judges nothing trains everything on its own small data
        resolve = catalogue.resolve if chosen.judges else lambda named: ""
        chosen = replace(chosen, resolve=resolve, changes=Changes.of(swap, recipe))
        return cls(
            root=root,
            catalogue=catalogue,
            protocol=chosen if seeds is None else chosen.with_seeds(seeds),
            source=data or chosen.data,
            store=Path(store) if store else root / ".bnlab" / "store",
            device=found if train else None,
        )

    @property
    def options(self) -> list[str]:
        """The options of pytest, but for the device, that lead to these settings."""
        own, options = protocol(self.protocol.name), []
        if own.name != "paper":
            options.append(f"--protocol {own.name}")
        if self.source != own.data:
            options.append(f"--data {shlex.quote(self.source)}")
        if self.store != self.root / ".bnlab" / "store":
            options.append(f"--store {shlex.quote(str(self.store))}")
        if self.protocol.looks != own.looks:
            options.append(f"--seeds {self.protocol.looks[-1]}")
        changes = self.protocol.changes
        options += [f"--swap {shlex.quote(swap)}" for swap in changes.said[: len(changes.swaps)]]
        options += [f"--set {shlex.quote(setting)}" for setting in changes.said[len(changes.swaps) :]]
        return options

    @cached_property
    def reports(self) -> Path:
        """The folder of this session's reports: that of the full page, or one of its own for less.

        Only the paper's protocol on the registered images at the registered looks writes to `reports/` itself.
        """
        own, folder = protocol(self.protocol.name), self.root / "reports"
        parts = [] if own.registered else [own.name]
        if self.source != own.data and self.data != CIFAR10:
            parts.append(f"data-{self.data[:8]}")
        if self.protocol.looks != own.looks:
            parts.append(f"seeds-{self.protocol.looks[-1]}")
        if said := " ".join(self.protocol.changes.said):
            parts.append(
                f"{re.sub(r'[^A-Za-z0-9.+-]+', '_', said)[:80]}-{hashlib.sha256(said.encode()).hexdigest()[:8]}"
            )
        return folder / "-".join(parts) if parts else folder

    @property
    def cache(self) -> Path:
        """Where downloaded data lies."""
        return sources.default_cache()

    @cached_property
    def data(self) -> str:
        """The content digest of the data; CIFAR-10 is not read for it."""
        return sources.digest(self.source, self.cache)

    @cached_property
    def train_images(self) -> int:
        """How many training images the data has."""
        return CIFAR10_TRAIN_IMAGES if self.data == CIFAR10 else len(sources.load(self.source, self.cache).y_train)

    def check(self) -> None:
        """Read the data's digest and the recorded Runs, and find the layers to swap, now, so that errors come first."""
        _ = self.data, self.recorded
        for _, norm in self.protocol.changes.swaps:
            norm.sourced()

    def open_store(self) -> Store:
        """The store of finished Runs, to be written to; made where it is missing."""
        return Store.open(self.store)

    def session_store(self) -> Store:
        """The store of a session that judges: written to if it may train, else only read.

        The store that nobody named need not be there: a fresh checkout has recorded Runs only.
        """
        if self.device is not None:
            return self.open_store()
        missing = self.store == self.root / ".bnlab" / "store" and not self.store.exists()
        return Store(self.store) if missing else Store.read(self.store)

    @cached_property
    def recorded(self) -> Mapping[str, Run]:
        """The Runs in `reports/runs/*.jsonl` by key; a StoreError if two files disagree."""
        return recorded_runs(self.root / "reports" / "runs")

    def runs(self) -> dict[str, Run]:
        """Every recorded Run and every finished one of the store that can be read, with its probes, by key."""
        known = dict(self.recorded)
        with suppress(StoreError):
            known |= {run.key: run for run in self.session_store().runs(skipped=[])}
        return known
