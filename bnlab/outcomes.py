"""Outcome: what became of a claim, as plain values that travel between processes."""

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from bnlab.provenance import Environment, environments, mixed
from bnlab.runs import Arm
from bnlab.specs import Replicate, RunSpec
from bnlab.stats import Verdict
from bnlab.stats.basis import Basis
from bnlab.statuses import Status


@dataclass(frozen=True, kw_only=True)
class ArmRecord:
    """An Arm as a report names it: its RunSpec and, in seed order, what identifies its Runs.

    `accuracy` is the test accuracy after the last epoch in percent, None where it is not finite.
    `protocols` are the efforts under which the Runs were trained.
    """

    spec: RunSpec
    seeds: tuple[int, ...]
    accuracy: tuple[float | None, ...]
    run_keys: tuple[str, ...]
    run_digests: tuple[str, ...]
    protocols: tuple[str, ...]

    @classmethod
    def of(cls, arm: Arm) -> "ArmRecord":
        """The record of an Arm."""
        last = [run.curves["test_accuracy"][-1] for run in arm.runs]
        return cls(
            spec=arm.spec,
            seeds=tuple(run.seed for run in arm.runs),
            accuracy=tuple(value if math.isfinite(value) else None for value in last),
            run_keys=tuple(run.key for run in arm.runs),
            run_digests=tuple(run.digest for run in arm.runs),
            protocols=tuple(sorted({str(run.provenance.get("protocol")) for run in arm.runs})),
        )

    def to_json(self) -> dict[str, Any]:
        """Plain JSON values, from which `from_json` gives the record back."""
        lists = {name: list(getattr(self, name)) for name in _LISTS}
        return {"label": str(self.spec), "spec": self.spec.to_json(), **lists}

    @classmethod
    def from_json(cls, fields: Mapping[str, Any]) -> "ArmRecord":
        """The record that `to_json` described."""
        return cls(spec=RunSpec.from_json(fields["spec"]), **{name: tuple(fields[name]) for name in _LISTS})


_LISTS = ("seeds", "accuracy", "run_keys", "run_digests", "protocols")


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """What became of a claim.

    `look` is the number of seeds at which it was judged, `arms` what was compared there,
    `environments` what trained the Runs of these arms, `basis` what the verdict was computed from
    (`bnlab.stats.basis`), the samples by the number of their arm, `missing` the Runs that would have to train
    for the claim to be judged, or judged further. `exercised` is a claim that ran under a protocol
    that does not judge, `untrained` one whose Runs are missing where nothing may train. `protocol`
    is the effort, `changes` what was swapped or set in every RunSpec for it. `preview` is how an
    untrained claim leans by Runs of less effort.
    """

    status: Status
    reason: str
    verdict: Verdict | None = None
    look: int | None = None
    arms: tuple[ArmRecord, ...] = ()
    environments: tuple[Environment, ...] = ()
    basis: Basis | None = None
    missing: tuple[Replicate, ...] = ()
    protocol: str = "paper"
    changes: tuple[str, ...] = ()
    preview: "Outcome | None" = None

    @classmethod
    def on(cls, arms: Iterable[Arm], **fields: Any) -> "Outcome":
        """The outcome of a look at these Arms."""
        compared = tuple(arms)
        number = {run.digest: i for i, arm in enumerate(compared) for run in arm.runs}
        for sample in (fields.get("basis") or {}).get("samples", ()):
            sample["arm"] = number.get(sample.pop("digests")[0])
        return cls(
            **fields,
            arms=tuple(map(ArmRecord.of, compared)),
            environments=environments(run for arm in compared for run in arm.runs),
        )

    @property
    def mixed(self) -> dict[str, tuple[str, ...]]:
        """What differs between the environments that trained the Runs: name -> the values."""
        return mixed(self.environments)

    def to_json(self) -> dict[str, Any]:
        """Plain JSON values, from which `from_json` gives the outcome back."""
        return {
            "status": self.status,
            "reason": self.reason,
            "verdict": None if self.verdict is None else self.verdict.to_json(),
            "look": self.look,
            "arms": [arm.to_json() for arm in self.arms],
            "environments": [dict(found) for found in self.environments],
            "basis": self.basis,
            "missing": [
                {"spec": run.spec.to_json(), "seed": run.seed, "probes": list(run.probes)} for run in self.missing
            ],
            "protocol": self.protocol,
            "changes": list(self.changes),
            "preview": None if self.preview is None else self.preview.to_json(),
        }

    @classmethod
    def from_json(cls, fields: Mapping[str, Any]) -> "Outcome":
        """The outcome that `to_json` described."""
        return cls(
            status=fields["status"],
            reason=fields["reason"],
            verdict=None if fields["verdict"] is None else Verdict.from_json(fields["verdict"]),
            look=fields["look"],
            arms=tuple(map(ArmRecord.from_json, fields["arms"])),
            environments=tuple(fields["environments"]),
            basis=fields["basis"],
            missing=tuple(
                Replicate(RunSpec.from_json(run["spec"]), run["seed"], tuple(run["probes"]))
                for run in fields["missing"]
            ),
            protocol=fields["protocol"],
            changes=tuple(fields["changes"]),
            preview=None if fields["preview"] is None else cls.from_json(fields["preview"]),
        )
