"""Records of claims that nobody judged, for the tests of the reports."""

from typing import Any

from bnlab.lab import replicates
from bnlab.outcomes import ArmRecord, Outcome
from bnlab.parts import BATCHNORM, NONE, ResNet
from bnlab.report.records import ClaimRecord, Summary
from bnlab.specs import CIFAR10, RunSpec
from bnlab.stats import ArmSummary, Verdict
from bnlab.statuses import Status

SPECS = [RunSpec(net=ResNet(18), norm=norm, batch_size=50) for norm in (BATCHNORM, NONE)]


def verdict(**figures: Any) -> Verdict:
    """A verdict that held, with every kind of figure that a verdict may have."""
    given = {
        "kind": "superiority",
        "status": "held",
        "reason": "why",
        "unit": "points",
        "level": 0.99,
        "n": (4, 4),
        "p_hold": 0.01,
        "p_refute": 0.99,
        "margins": {0.5: "held", 1.0: "inconclusive"},
        "arms": (ArmSummary(label="A", n=4, mean=70.5, sd=None),),
    }
    return Verdict(**{**given, **figures})


def arm(spec: RunSpec, seeds: int = 2) -> ArmRecord:
    """An arm as it was judged."""
    return ArmRecord(
        spec=spec,
        seeds=tuple(range(seeds)),
        accuracy=(*(70.5,) * (seeds - 1), None),
        run_keys=("ab" * 32,) * seeds,
        run_digests=("cd" * 32,) * seeds,
        protocols=("paper",),
    )


def outcome(*devices: str, status: Status = "held", **figures: Any) -> Outcome:
    """An outcome whose Runs were trained on these devices."""
    return Outcome(
        status=status,
        reason="why",
        verdict=verdict(**figures),
        look=4,
        arms=tuple(map(arm, SPECS)),
        environments=tuple({"device": device, "threads": 1} for device in devices),
    )


def judged(nodeid: str, *devices: str, status: Status = "held", **figures: Any) -> ClaimRecord:
    """A claim with that outcome."""
    return ClaimRecord(nodeid=nodeid, sentence=nodeid, outcome=outcome(*devices, status=status, **figures))


def untrained(nodeid: str, *specs: RunSpec) -> ClaimRecord:
    """A claim whose Runs are missing."""
    missing = tuple(run for spec in specs for run in replicates(spec, 4))
    return ClaimRecord(nodeid=nodeid, outcome=Outcome(status="untrained", reason="not judged", missing=missing))


def summary(*claims: ClaimRecord, registered: int = 1) -> Summary:
    """A session of these claims under protocol paper."""
    return Summary(
        claims=claims,
        protocol="paper",
        looks=(4, 8, 16),
        source="cifar10",
        data=CIFAR10,
        device=None,
        registered=registered,
    )
