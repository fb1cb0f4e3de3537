"""What a claim's body needs, found by running it once with a lab that takes notes and a judge that ends it."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, NoReturn

from bnlab.protocol import Protocol as Effort
from bnlab.runs import Metric, accuracy
from bnlab.specs import Replicate, RunSpec
from bnlab.stats import Sample

Body = Callable[[Any, Any], None]
"""`body(lab, judge)`: a test function with its parameters filled in."""


@dataclass(frozen=True, kw_only=True)
class Needs:
    """What a body asked `lab.train` for while it was planned, each Arm by its first Replicate.

    `judged` is what it handed to judge, the hypothesis first. `more` says that the body looked at Runs before it came
    to judge, so that it may ask for further Arms once they are there. `error` is what else the body raised; it raises
    the same when it is judged.
    """

    arms: tuple[Replicate, ...] = ()
    judged: tuple[Any, ...] = ()
    more: bool = False
    error: BaseException | None = None


class Ended(BaseException):
    """Ends a claim's body from inside. A BaseException, so that an `except Exception` in the body cannot catch it."""


class _Looked(Ended):
    """Ends a planned body that looks at Runs."""


class PlannedSample(Sample):
    """A sample of an Arm whose Runs are not there: whose it is, and of what. To look at its values ends the body."""

    spec: RunSpec
    metric: Metric

    def __init__(self, asked: RunSpec, trained: RunSpec, metric: Metric) -> None:
        vars(self).update(spec=asked, metric=metric, label=trained.label, unit=metric.unit)

    __eq__ = object.__eq__
    __hash__ = object.__hash__

    def __repr__(self) -> str:
        return self.label

    def __getattr__(self, name: str) -> NoReturn:
        raise _Looked


@dataclass(frozen=True)
class _PlannedArm:
    """An Arm before its Runs are there, by the RunSpec that was asked for and the one that trains."""

    asked: RunSpec
    spec: RunSpec

    @property
    def runs(self) -> NoReturn:
        raise _Looked

    def measure(self, metric: Metric) -> PlannedSample:
        return PlannedSample(self.asked, self.spec, metric)

    @property
    def accuracy(self) -> PlannedSample:
        return self.measure(accuracy)


@dataclass
class _Recorder:
    """What a body gets as `lab` while it is planned: notes what it asks for and gives Arms without Runs."""

    protocol: Effort
    data: str
    arms: dict[RunSpec, Replicate] = field(default_factory=dict)
    judged: tuple[Any, ...] = ()

    def train(self, asked: RunSpec, probes: Sequence[str] = ()) -> _PlannedArm:
        spec = self.protocol.apply(asked, self.data)
        known = self.arms[spec].probes if spec in self.arms else ()
        self.arms[spec] = Replicate(spec, 0, tuple(dict.fromkeys([*known, *probes])))
        return _PlannedArm(asked, spec)

    def judge(self, *hypothesis_and_samples: Any) -> NoReturn:
        self.judged = hypothesis_and_samples
        raise Ended


def needs(body: Body, protocol: Effort, data: str) -> Needs:
    """What a claim's body asks for, found by running it with a lab that records and a judge that stops.

    A planned body may do everything but look at the Runs of an Arm: that ends it, and it is run again when they are
    there. Any other exception would come with Runs as well, since a body sees the same of `lab` then.
    """
    recorder, more, error = _Recorder(protocol, data), False, None
    try:
        body(recorder, recorder.judge)
    except Ended as ended:
        more = isinstance(ended, _Looked)
    except KeyboardInterrupt:
        raise
    except BaseException as raised:  # pytest.skip and sys.exit too are the claim's business, not the collection's
        error = raised
    return Needs(arms=tuple(recorder.arms.values()), judged=recorder.judged, more=more, error=error)
