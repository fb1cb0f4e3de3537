"""A cohort's programs, and the settings of the process that they change for a while."""

from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from torch.cuda._utils import _get_device_index
from torch.overrides import TorchFunctionMode

from bnlab.engine import bench, loop, profile
from bnlab.engine.eager import network
from bnlab.engine.programs import Programs, networks, precision, programs
from bnlab.parts import AFFINE_LAYER, BATCHNORM, BATCHNORM_MINUS, NONE, Net, Part
from bnlab.specs import Replicate, RunSpec
from bnlab.tests.engine import proofs

TINY = Net(build="bnlab.nets.cifar_resnet:build", options={"depth": 8})
SPEC = RunSpec(net=TINY, norm=BATCHNORM, batch_size=4, epochs=1)
COHORT = [Replicate(replace(SPEC, norm=n), seed) for n in (NONE, BATCHNORM, AFFINE_LAYER) for seed in (0, 1)]


def flags() -> tuple[bool, bool]:
    return torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32


def small(members):
    spec = members[0].spec
    norms = [member.spec.norm for member in members]
    return proofs.training(spec, [member.seed for member in members], proofs.FEW, norms=norms)


def test_one_program_holds_all_and_finds_each_again() -> None:
    parts = Programs.one_program(COHORT, small)

    (whole,) = parts.trainings
    for member in COHORT:
        training, k = parts.place(member)
        assert training is whole
        assert (training.cohort[k], training.seeds[k]) == (member, member.seed)


def test_norms_that_train_a_scale_stand_together_in_any_order() -> None:
    norms = (AFFINE_LAYER, BATCHNORM_MINUS, BATCHNORM, NONE, AFFINE_LAYER)
    parts = Programs.one_program([Replicate(replace(SPEC, norm=n), s) for s, n in enumerate(norms)], small)

    trained = [member.spec.norm in (AFFINE_LAYER, BATCHNORM) for member in parts.trainings[0].cohort]
    assert sorted(trained) in (trained, trained[::-1])


def test_one_after_another_and_one_per_thread_have_a_program_a_replica() -> None:
    with programs(COHORT, bench.noise(16, "cpu"), torch.device("cpu")) as parts:
        assert parts.pool is not None
        assert [training.cohort for training in parts.trainings] == [[member] for member in COHORT]
        assert parts.map(lambda training: training.seeds) == [[member.seed] for member in COHORT]
    alone = Programs.one_after_another(COHORT, small)
    assert [alone.place(member) for member in COHORT] == [(training, 0) for training in alone.trainings]


@pytest.mark.parametrize(("name", "tf32"), [("tf32", True), ("fp32", False)])
def test_precision_is_that_of_the_run_spec_while_its_programs_are_open_and_no_longer(name, tf32) -> None:
    with precision("fp32" if tf32 else "tf32"):
        before = flags()
        spec = replace(SPEC, precision=name)
        with programs([Replicate(spec, 0)], bench.noise(16, "cpu"), torch.device("cpu")):
            assert flags() == (tf32, tf32)
        assert flags() == before != (tf32, tf32)


def test_precision_is_put_back_after_an_error() -> None:
    before = flags()
    with pytest.raises(RuntimeError, match="out of luck"), precision("tf32"), precision("fp32"):
        raise RuntimeError("out of luck")

    assert flags() == before


ROUND = bench.Ceiling(bytes_per_s=1.0, flop_per_s=1.0, adam_bytes_per_s=1.0)
WAYS = {
    "train": lambda member: loop.train([member], bench.noise(16, "cpu"), "cpu"),
    "rehearse": lambda member: loop.rehearse(member.spec, bench.noise(16, "cpu"), "cpu"),
    "compare": lambda member: bench.compare([member], "cpu", steps=1, rounds=1, ceiling=ROUND, against=["eager"]),
    "where": lambda member: profile.where([member], "cpu"),
    "ceiling": lambda member: bench.ceiling("cpu"),
}


@pytest.mark.parametrize("way", WAYS)
def test_whatever_trains_or_is_timed_has_the_precision_of_the_run_spec_and_leaves_the_processs_own(
    way, monkeypatch
) -> None:
    seen = []

    def watch(where, name) -> None:
        real = getattr(where, name)
        monkeypatch.setattr(where, name, lambda *how, **more: (seen.append(flags()), real(*how, **more))[1])

    watch(loop.Training, "step")
    watch(bench, "_ceiling")
    watch(F, "cross_entropy")  # ours and the rivals'
    with precision("fp32"):
        WAYS[way](Replicate(replace(SPEC, precision="tf32"), 0))
        assert flags() == (False, False)

    assert set(seen) == {(True, True)}


@pytest.mark.parametrize(("device", "asked"), [("cuda", []), ("cuda:0", [0]), ("cuda:1", [1])])
def test_current_device_is_set_by_its_index_only(device, asked, monkeypatch) -> None:
    """`cuda` without an index is the current device, and torch refuses to set it."""
    given = []
    monkeypatch.setattr(torch.cuda, "set_device", lambda where: given.append(_get_device_index(where)))
    monkeypatch.setattr("bnlab.engine.programs._fused", lambda members, **how: small(members))

    with programs([Replicate(SPEC, 0)], bench.noise(16, "cpu"), torch.device(device)):
        pass

    assert given == asked


class Draws(TorchFunctionMode):
    """Counts the tensors that are filled with random numbers."""

    count = 0

    def __torch_function__(self, func, types, args=(), kwargs=None):
        self.count += func in (torch.Tensor.normal_, torch.Tensor.uniform_)
        return func(*args, **(kwargs or {}))


def test_networks_of_a_mixed_cohort_begin_as_each_alone_and_are_drawn_once_a_seed() -> None:
    with Draws() as alone:
        expected = [network(member).state_dict() for member in COHORT]
    with Draws() as together:
        got = networks(COHORT)

    assert alone.count == 3 * together.count > 0
    for one, state in zip(got, expected, strict=True):
        proofs.assert_same_bits(one.state_dict(), state)


def test_programs_of_a_cohort_draw_a_network_once_a_seed() -> None:
    with Draws() as together:
        networks(COHORT)
    with Draws() as programmed, programs(COHORT, bench.noise(16, "cpu"), torch.device("cpu")):
        pass

    assert programmed.count == together.count


def shaken(network: torch.nn.Module) -> None:
    """An initialisation that draws."""
    for parameter in network.parameters():
        torch.nn.init.normal_(parameter)


@pytest.mark.parametrize("part", ["init", "parametrization"])
def test_networks_with_an_initialisation_or_parametrization_of_their_own_begin_as_each_alone(part) -> None:
    code = {"init": f"{__name__}:shaken", "parametrization": "torch.nn.utils.parametrizations:weight_norm"}
    spec = replace(SPEC, **{part: Part(code=code[part])})
    cohort = [Replicate(replace(spec, norm=norm), 0) for norm in (BATCHNORM, NONE)]

    for one, member in zip(networks(cohort), cohort, strict=True):
        proofs.assert_same_bits(one.state_dict(), network(member).state_dict())
