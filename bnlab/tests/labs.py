"""A Lab with a fake trainer, and claims to be settled in it."""

from dataclasses import replace
from pathlib import Path

from bnlab.claims import Claim
from bnlab.lab import Lab
from bnlab.needs import Body, needs
from bnlab.parts import BATCHNORM, ResNet
from bnlab.protocol import QUICK, Protocol
from bnlab.specs import CIFAR10, RunSpec
from bnlab.store import Store
from bnlab.tests.fakes import FakeTrainer

SPEC = RunSpec(net=ResNet(18), norm=BATCHNORM, batch_size=50)
QUICK_SPEC = QUICK.apply(SPEC, CIFAR10)


def new_lab(folder: Path, trainer: FakeTrainer | None, protocol: Protocol = QUICK) -> Lab:
    """A Lab at the first look on a store in this folder; without a trainer it may not train."""
    return Lab(
        store=Store.open(folder / "store"),
        protocol=protocol,
        data=CIFAR10,
        seeds=protocol.looks[0],
        trainer=None if trainer is None else lambda: trainer,
    )


def other_numbers(log: Path) -> FakeTrainer:
    """A trainer that gives other weights than the FakeTrainer does."""

    class Other(FakeTrainer):
        def _trained(self, replicate):
            return replace(super()._trained(replicate), weights="ab" * 32)

    return Other(log)


def claim(body: Body, protocol: Protocol = QUICK, nodeid: str = "claim") -> Claim:
    """A claim with this body, planned."""
    return Claim(nodeid=nodeid, sentence="", place="", body=body, needs=needs(body, protocol, CIFAR10))


def compare(hypothesis, *norms) -> Body:
    """A body that compares norms."""

    def body(lab, judge):
        arms = [lab.train(replace(SPEC, norm=norm)).accuracy for norm in norms]
        verdict = judge(hypothesis, *arms)
        assert verdict.held, verdict.reason

    return body
