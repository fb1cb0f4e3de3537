"""The Plan: which Runs the claims of a session need."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace

from bnlab.claims import Claim, settle
from bnlab.errors import StoreError
from bnlab.lab import Lab
from bnlab.specs import Replicate, RunSpec


@dataclass
class Plan:
    """What the claims of a session need; the same in every process that selected the same ones.

    `failures` are the claims that could not be planned when `open` was last called, and why.
    """

    claims: tuple[Claim, ...]
    looks: tuple[int, ...]
    failures: dict[str, BaseException] = field(default_factory=dict)
    _settled: set[str] = field(default_factory=set)

    def first_look(self) -> list[Replicate]:
        """Every Run of the first look, each once, in the order of the claims."""
        return self.look_at(self.looks[0])

    def look_at(self, seeds: int) -> list[Replicate]:
        """Every Run of a look at so many seeds, whether or not its claim is decided before."""
        return merged(run for claim in self.claims for run in claim.runs(seeds))

    def open(self, lab: Lab) -> list[Replicate]:
        """The Runs that undecided claims lack now, each at its own look; every Run once.

        `lab` is one that may not train. A claim whose body is wrong needs nothing more. One that
        the store fails is planned again at the next call, since a disk may recover.
        """
        return merged(self._open(lab))

    def _open(self, lab: Lab) -> Iterator[Replicate]:
        for claim in self.claims:
            if claim.nodeid in self._settled or (not claim.needs.arms and claim.needs.error is None):
                continue
            self.failures.pop(claim.nodeid, None)
            try:
                missing = settle(claim, lab, self.looks).missing
            except KeyboardInterrupt:
                raise
            except BaseException as error:
                self.failures[claim.nodeid] = error
                if not isinstance(error, (StoreError, OSError)):
                    self._settled.add(claim.nodeid)
                continue
            if not missing:
                self._settled.add(claim.nodeid)
            yield from missing


def merged(runs: Iterable[Replicate]) -> list[Replicate]:
    """The same Runs, each once, with every probe that is asked of it."""
    found: dict[tuple[RunSpec, int], Replicate] = {}
    for run in runs:
        known = found.setdefault((run.spec, run.seed), run)
        if not set(run.probes) <= set(known.probes):
            probes = tuple(dict.fromkeys([*known.probes, *run.probes]))
            found[run.spec, run.seed] = replace(known, probes=probes)
    return list(found.values())
