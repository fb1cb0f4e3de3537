"""Proofs 1 to 8 that a fused replica is the solo run, the run being plain eager torchvision.

Programs of one replica take torch's own kernels on a CPU, larger ones the batched products that a GPU takes: both are
held against the reference.
"""

from collections.abc import Callable, Sequence
from dataclasses import asdict, replace

import pytest
import torch
from safetensors.torch import load

from bnlab import engine
from bnlab.data.images import Images
from bnlab.engine import programs, snapshot
from bnlab.parts import AFFINE_LAYER, BATCHNORM, BATCHNORM_MINUS, BETA_ONLY, GAMMA_ONLY, NONE, Net, Norm, ResNet
from bnlab.specs import Replicate, RunSpec
from bnlab.tests.engine import proofs, reference

SPEC = RunSpec(net=ResNet(18), norm=BATCHNORM, batch_size=8, precision="fp32")
SMALL = replace(SPEC, batch_size=4, epochs=1)
ALONE, BESIDE_OTHERS = ((7,), 0), ((3, 7, 11), 1)
FORMS = pytest.mark.parametrize(("seeds", "slot"), [ALONE, BESIDE_OTHERS], ids=["alone", "beside others"])

Note = Callable[[str, object], None]


@pytest.mark.parametrize("depth", [18, 50])
def test_every_replica_starts_as_torchvision_under_its_seed(depth: int) -> None:
    proofs.assert_initialisation(replace(SPEC, net=ResNet(depth)), (0, 5))


@pytest.mark.parametrize("seeds", [(7,), (7, 3), (1, 2, 7)], ids=str)
@pytest.mark.parametrize("augmentation", ["none", "flip", "flip+crop"])
def test_every_replica_sees_the_images_of_its_seed_in_the_order_of_its_seed(augmentation: str, seeds) -> None:
    proofs.assert_data_order(replace(SMALL, augmentation=augmentation), seeds, proofs.STEP)


def test_every_epoch_and_every_seed_has_an_order_of_its_own() -> None:
    orders = [tuple(proofs.batches(SMALL, seed, epoch)) for seed in (0, 1, 2) for epoch in (0, 1, 2)]

    assert all(len(set(order)) == 16 for order in orders)
    assert len(set(orders)) == 9


@FORMS
@pytest.mark.parametrize("norm", reference.NORMS, ids=str)
def test_one_step_from_a_mid_training_state_is_eager_torchvisions(norm: Norm, seeds, slot, record_property: Note):
    record_property("differences", asdict(proofs.assert_one_forced_step(replace(SPEC, norm=norm), seeds, slot)))


@pytest.mark.parametrize(
    ("norm", "seeds", "slot"),
    [
        pytest.param(BATCHNORM, (3, 7), 1, id="BatchNorm beside another"),
        pytest.param(BATCHNORM, *ALONE, id="BatchNorm alone", marks=pytest.mark.slow),
        pytest.param(AFFINE_LAYER, (3, 7), 1, id="AffineLayer beside another", marks=pytest.mark.slow),
        pytest.param(reference.OWN, (3, 7), 1, id="one's own beside another", marks=pytest.mark.slow),
    ],
)
def test_one_step_of_resnet50_is_eager_torchvisions(norm: Norm, seeds, slot, record_property: Note) -> None:
    spec = replace(SPEC, net=ResNet(50), norm=norm)
    record_property("differences", asdict(proofs.assert_one_forced_step(spec, seeds, slot)))


@FORMS
@pytest.mark.parametrize("norm", [BATCHNORM, AFFINE_LAYER], ids=str)
def test_one_step_in_single_precision_is_eager_torchvisions_to_its_digits(norm: Norm, seeds, slot, record_property):
    """The kernels that train are those of fp32, which float64 does not reach on a CPU."""
    within = proofs.Within(loss=1e-5, gradients=1e-3, parameters=1e-3, statistics=1e-4)
    spec = replace(SPEC, norm=norm)
    got = proofs.assert_one_forced_step(spec, seeds, slot, within=within, dtype=torch.float32)
    record_property("differences", asdict(got))


@pytest.mark.parametrize("norm", [BATCHNORM, reference.OWN], ids=str)
def test_the_eager_engine_is_eager_torchvision_too(norm: Norm, record_property: Note) -> None:
    spec = replace(SPEC, norm=norm, engine="eager")
    record_property("differences", asdict(proofs.assert_one_forced_step(spec, (7,), 0)))


@FORMS
def test_ten_steps_in_float64_end_where_eager_torchvision_ends(seeds, slot, record_property: Note) -> None:
    got = proofs.assert_free_steps(SPEC, seeds[:2], slot, proofs.FEW, epochs=5, within=1e-9)
    record_property("differences", got)


@pytest.mark.slow
@FORMS
def test_three_steps_of_resnet50_in_float64_end_where_eager_torchvision_ends(seeds, slot, record_property: Note):
    got = proofs.assert_free_steps(replace(SPEC, net=ResNet(50)), seeds[:2], slot, proofs.STEP, epochs=3, within=1e-7)
    record_property("differences", got)


MIXED = (NONE, BATCHNORM_MINUS, BETA_ONLY, BATCHNORM, AFFINE_LAYER, GAMMA_ONLY)
"""One of every norm that shares a program, in an order in which those that train a parameter are neighbours."""


@pytest.mark.parametrize("slot", range(len(MIXED)), ids=[str(norm) for norm in MIXED])
def test_one_step_beside_replicas_of_other_norms_is_eager_torchvisions(slot: int, record_property: Note) -> None:
    got = proofs.assert_one_forced_step(SPEC, (3, 5, 7, 11, 2, 6), slot, norms=MIXED)
    record_property("differences", asdict(got))


def test_a_replica_has_the_same_bits_beside_other_norms_as_beside_its_own() -> None:
    seeds = (3, 5, 7, 11, 2, 6)
    mixed = proofs.bits_of_slots(SMALL, seeds, proofs.FEW, norms=MIXED)
    for norm, seed in zip(MIXED, seeds, strict=True):
        own = proofs.bits_of_slots(replace(SMALL, norm=norm), (seed, 13), proofs.FEW)
        proofs.assert_same_bits(mixed[seed], own[seed])


def test_a_poisoned_replica_of_one_norm_changes_no_bit_of_the_others() -> None:
    seeds = (3, 5, 7, 11, 2, 6)
    clean, ill = (proofs.bits_of_slots(SMALL, seeds, proofs.FEW, norms=MIXED, poisoned=p) for p in (None, 7))

    assert ill[7]["losses"].isnan().all()
    for seed in set(seeds) - {7}:
        proofs.assert_same_bits(ill[seed], clean[seed])


def test_a_snapshot_taken_beside_other_norms_is_that_of_a_program_of_its_own() -> None:
    seeds = (3, 5, 7, 11, 2, 6)
    tiny = replace(SPEC, net=Net(build="bnlab.nets.cifar_resnet:build", options={"depth": 8}))
    mixed = proofs.training(tiny, seeds, proofs.STEP, norms=MIXED)
    mixed.epoch(0)
    for k, (norm, seed) in enumerate(zip(MIXED, seeds, strict=True)):
        held = snapshot.take(mixed, k, {})
        own = proofs.training(replace(tiny, norm=norm), (seed, 13), proofs.STEP)
        own.epoch(0)
        snapshot.restore(own, 1, held)
        for slot in (0, 1):
            proofs.assert_same_bits(by_name(held), by_name(snapshot.take(own, slot, {})))


def test_norms_that_train_a_parameter_apart_from_each_other_are_refused() -> None:
    with pytest.raises(ValueError, match="no neighbours"):
        proofs.training(SPEC, (3, 5, 7), proofs.STEP, norms=(BATCHNORM, NONE, BATCHNORM))


def test_a_seed_has_the_same_bits_in_a_fused_program_of_any_size_and_in_any_slot() -> None:
    proofs.assert_neighbours_do_not_matter(SMALL, 7, [(7, 3), (3, 7, 11, 5), (11, 3, 7)], proofs.FEW)


def test_permuting_the_slots_permutes_the_bits() -> None:
    seeds = (3, 7, 11)
    before, after = (proofs.bits_of_slots(SMALL, part, proofs.FEW) for part in (seeds, (11, 3, 7)))

    for seed in seeds:
        proofs.assert_same_bits(after[seed], before[seed])
    assert len({state["losses"].numpy().tobytes() for state in before.values()}) == 3


def test_a_seed_is_the_same_run_in_a_cohort_of_any_size_and_in_any_slot() -> None:
    alone, pair, four = (cohort(SMALL, seeds) for seeds in ((7,), (7, 3), (5, 3, 11, 7)))

    assert four[7] == pair[7] == alone[7]
    assert four[3] == pair[3]
    assert len({numbers[2] for numbers in four.values()}) == 4


def test_a_cohort_of_several_norms_as_one_program_gives_each_its_own_run(monkeypatch: pytest.MonkeyPatch) -> None:
    """The way of a GPU, on the CPU: one program, in the order that it needs; resumed half-way in another order."""
    one = programs.Programs.one_program
    monkeypatch.setattr(programs.Programs, "one_per_thread", lambda cohort, make, pool: one(cohort, make))
    spec = replace(SMALL, epochs=2)
    cohort = [
        Replicate(replace(spec, norm=norm), seed) for norm in (BATCHNORM, NONE, BATCHNORM_MINUS) for seed in (3, 7)
    ]
    kept: dict[tuple[RunSpec, int], bytes] = {}
    images = Images.of(proofs.FEW, "cpu")
    keep = {"after_epoch": lambda member, epoch, held: kept.update({member: held})}

    trained = dict(zip(cohort, engine.train(cohort, images, "cpu", **keep), strict=True))
    backwards = cohort[::-1]
    again = engine.train(backwards, images, "cpu", resume=[kept[member] for member in backwards])

    for norm in (BATCHNORM, NONE, BATCHNORM_MINUS):
        own = [member for member in cohort if member.spec.norm == norm]
        for member, alone in zip(own, engine.train(own, images, "cpu"), strict=True):
            assert proofs.numbers(trained[member]) == proofs.numbers(alone)
    for member, resumed in zip(backwards, again, strict=True):
        assert proofs.numbers(resumed) == proofs.numbers(trained[member])


def test_run_specs_that_differ_in_more_than_the_norm_are_refused_as_one_program() -> None:
    with pytest.raises(ValueError, match="differ in more than the norm"):
        engine.train(
            [Replicate(SPEC, 0), Replicate(replace(SPEC, batch_size=4), 0)], Images.of(proofs.FEW, "cpu"), "cpu"
        )


def test_a_poisoned_slot_changes_no_bit_of_the_others() -> None:
    proofs.assert_poison_stays(SMALL, (3, 7, 11), 7, proofs.FEW)


def test_a_poisoned_replica_changes_no_bit_of_its_cohort_and_is_recorded_as_diverged() -> None:
    spec, seeds = replace(SPEC, epochs=2), (3, 7, 11)
    kept: dict[int, bytes] = {}
    clean = cohort(spec, seeds, after_epoch=lambda member, epoch, held: kept.__setitem__(member.seed, held))
    ill = cohort(spec, seeds, resume=[kept[3], poisoned(kept[7]), kept[11]])

    assert (ill[3], ill[11]) == (clean[3], clean[11])
    assert ill[7][3] == 2, "the third step, counted from zero, is the first after two of the first epoch"


@pytest.mark.parametrize("norm", [BATCHNORM, NONE, reference.OWN], ids=str)
def test_an_exported_state_dict_is_the_same_network_in_plain_torchvision(norm: Norm, record_property: Note) -> None:
    got = proofs.assert_export(replace(SMALL, norm=norm), (3, 7), proofs.FEW, epochs=1)
    record_property("differences", got)


def cohort(spec: RunSpec, seeds: Sequence[int], **how) -> dict[int, tuple[object, ...]]:
    """What `engine.train` makes of these seeds, by seed."""
    trained = engine.train([Replicate(spec, seed) for seed in seeds], Images.of(proofs.FEW, "cpu"), "cpu", **how)
    return {seed: proofs.numbers(run) for seed, run in zip(seeds, trained, strict=True)}


def by_name(held: bytes) -> dict[str, torch.Tensor]:
    """The tensors of a snapshot in the order of their names."""
    return dict(sorted(load(held).items()))


def poisoned(held: bytes) -> bytes:
    """The snapshot with a NaN among its weights."""
    tensors, note = load(held), snapshot.note(held)
    tensors["model.conv1.weight"][0, 0, 0, 0] = torch.nan
    return snapshot.pack({name: tensor for name, tensor in tensors.items() if name != snapshot._NOTE}, note)
