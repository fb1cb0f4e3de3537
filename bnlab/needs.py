"""What a claim needs, found by running its body on a lab that only takes notes."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, NoReturn

from bnlab.parts import versioned
from bnlab.protocol import Protocol as Effort
from bnlab.runs import Arm, Metric, measured
from bnlab.specs import Replicate, RunSpec

Body = Callable[[Any, Any], None]
"""`body(lab, judge)`: a test function with its parameters filled in."""


@dataclass(frozen=True, kw_only=True)
class Needs:
    """What a body asked `lab.train` for while it was planned, each Arm by its first Replicate.

    `more` says that the body looked at Runs before it came to judge, so that it may ask for further
    Arms once they are there. `error` is what else the body raised; it raises the same when it is
    judged. `judged` are the hypothesis and the samples that it gave to `judge`, samples without
    values.
    """

    arms: tuple[Replicate, ...] = ()
    more: bool = False
    error: BaseException | None = None
    judged: tuple[Any, ...] = ()


class Ended(BaseException):
    """Ends a claim's body from inside; a body's `except Exception` does not catch it."""


class _Looked(Ended):
    """Ends a planned body that looks at Runs."""


@dataclass(frozen=True)
class PlannedSample:
    """A sample before its Runs are there: what is measured of which RunSpec, to hand to `judge`."""

    spec: RunSpec
    metric: Metric

    @property
    def label(self) -> str:
        """The label of the sample."""
        return measured(self.spec, self.metric)

    @property
    def unit(self) -> str:
        """The unit of the metric."""
        return self.metric.unit

    def __getattr__(self, name: str) -> NoReturn:
        raise _Looked


class _PlannedArm(Arm):
    """An Arm before its Runs are there."""

    def __init__(self, spec: RunSpec) -> None:
        object.__setattr__(self, "spec", spec)

    def __getattribute__(self, name: str) -> Any:
        if name == "runs":
            raise _Looked
        return super().__getattribute__(name)

    def measure(self, metric: Metric) -> Any:
        return PlannedSample(self.spec, metric)


@dataclass
class _Recorder:
    """The `lab` of a planned body: notes what it asks for and gives Arms without Runs."""

    protocol: Effort
    data: str
    arms: dict[RunSpec, Replicate] = field(default_factory=dict)

    def train(self, spec: RunSpec, probes: Sequence[str] = ()) -> _PlannedArm:
        spec = self.protocol.apply(spec, self.data)
        known = self.arms[spec].probes if spec in self.arms else ()
        self.arms[spec] = Replicate(spec, 0, tuple(dict.fromkeys([*known, *map(versioned, probes)])))
        return _PlannedArm(spec)


def needs(body: Body, protocol: Effort, data: str) -> Needs:
    """What a claim's body asks for, found by running it on a lab that only takes notes.

    A planned body may do everything but look at the Runs of an Arm. That ends it, and it is run
    again when they are there. Any other exception would come with Runs as well, since a body sees
    the same of `lab` then.
    """
    recorder, more, error = _Recorder(protocol, data), False, None
    judged: tuple[Any, ...] = ()

    def note(*hypothesis_and_samples: Any) -> NoReturn:
        nonlocal judged
        judged = hypothesis_and_samples
        raise Ended

    try:
        body(recorder, note)
    except Ended as ended:
        more = isinstance(ended, _Looked)
    except KeyboardInterrupt:
        raise
    except BaseException as raised:  # the claim fails, not the collection, by pytest.skip and sys.exit too
        error = raised
    return Needs(arms=tuple(recorder.arms.values()), more=more, error=error, judged=judged)
