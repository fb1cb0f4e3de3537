"""The agreed effort: how many seeds, epochs and which data, fixed before anything trains."""

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from fractions import Fraction

from bnlab.changes import Changes
from bnlab.errors import SpecError
from bnlab.parts import versioned
from bnlab.specs import RunSpec


@dataclass(frozen=True, kw_only=True)
class Protocol:
    """Seeds, epochs and data of a session.

    `looks` are the seed counts at which a claim is judged, `effort` the share of a RunSpec's epochs that is trained (at
    least one), `data` the source that is taken when `--data` names none, `resolve` gives the content digest of a source
    that a RunSpec names. `changes` swap or set something in every RunSpec. Under a protocol that does not judge,
    claims are only exercised.
    """

    name: str
    looks: tuple[int, ...]
    effort: Fraction
    data: str
    judges: bool
    resolve: Callable[[str], str] = field(default=lambda data: data, compare=False)
    changes: Changes = field(default_factory=Changes)

    @property
    def registered(self) -> bool:
        """Whether its answers are verdicts; else claims lean at most."""
        return self.judges and self.effort == 1 and self.changes == Changes()

    def below(self) -> list["Protocol"]:
        """The protocols that judge with less effort, the highest effort first."""
        lower = [other for other in _PROTOCOLS.values() if other.judges and other.effort < self.effort]
        return [
            replace(self, name=other.name, looks=other.looks, effort=other.effort, data=other.data)
            for other in sorted(lower, key=lambda other: -other.effort)
        ]

    def apply(self, spec: RunSpec, data: str) -> RunSpec:
        """The RunSpec that is trained for a claim's: the share of its epochs and warm-up, on data with this digest.

        A RunSpec that names its own data keeps it, by its digest. Code of a user gets the digest of its source.
        """
        spec = self.changes.apply(spec)
        parts = {
            name: part.sourced()
            for name in ("net", "norm", "init", "parametrization")
            if (part := getattr(spec, name)) is not None
        }
        epochs = max(1, round(spec.epochs * self.effort))
        return replace(
            spec,
            **parts,
            epochs=epochs,
            warmup=round(spec.warmup * self.effort),
            evaluations=tuple(map(versioned, spec.evaluations)),
            data=self.resolve(spec.data) or data,
        )

    def with_seeds(self, seeds: int) -> "Protocol":
        """The same protocol that stops at this many seeds, its last look."""
        if not 2 <= seeds <= 10_000:
            raise SpecError(f"--seeds {seeds}: an interval takes at least 2 seeds; ask for 2 to 10000")
        return replace(self, looks=(*(look for look in self.looks if look < seeds), seeds))


PAPER = Protocol(name="paper", looks=(4, 8, 16), effort=Fraction(1), data="cifar10", judges=True)
QUICK = Protocol(name="quick", looks=(4, 8), effort=Fraction(1, 3), data="cifar10", judges=True)
SMOKE = Protocol(name="smoke", looks=(2,), effort=Fraction(0), data="synthetic:100+100", judges=False)

_PROTOCOLS = {protocol.name: protocol for protocol in (PAPER, QUICK, SMOKE)}


def protocol(name: str) -> Protocol:
    """The protocol of this name; any other name is a SpecError that lists them."""
    if name not in _PROTOCOLS:
        raise SpecError(f"unknown protocol {name!r}: expected one of {', '.join(_PROTOCOLS)}")
    return _PROTOCOLS[name]
