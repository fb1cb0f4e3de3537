"""A probe sees each replica as if alone, and leaves the training as it was."""

import copy
from dataclasses import replace

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from bnlab import engine
from bnlab.engine import snapshot
from bnlab.engine.view import Replica
from bnlab.errors import SpecError
from bnlab.parts import BATCHNORM, Net, Norm
from bnlab.probes import KNOWN, Moment, probes
from bnlab.specs import Replicate, RunSpec
from bnlab.tests.engine import proofs, reference

TINY = Net(build="bnlab.nets.cifar_resnet:build", options={"depth": 8})
SPEC = RunSpec(net=TINY, norm=BATCHNORM, batch_size=8, epochs=2)
HERE = "bnlab.tests.probes.probes_of_a_user"
ALL = (*KNOWN, f"{HERE}:Everything")
DATA = reference.arrays(200, 20)


@pytest.fixture(scope="module")
def images():
    return proofs.Images.of(DATA, "cpu")


@pytest.fixture(scope="module")
def alone(images):
    (trained,) = engine.train([Replicate(SPEC, 1, ALL)], images, "cpu")
    return trained


def assert_same(got, expected):
    """Whether two Runs' probes read the same to the bit."""
    assert got.keys() == expected.keys()
    for probe in expected:
        assert list(got[probe]) == list(expected[probe])
        for name, value in expected[probe].items():
            np.testing.assert_array_equal(got[probe][name], value, strict=isinstance(value, np.ndarray))


@pytest.mark.parametrize("how", ["fused", "eager"])
@pytest.mark.parametrize("norm", [BATCHNORM, reference.OWN], ids=str)
def test_training_is_the_same_to_the_bit_with_and_without_probes(images, how, norm):
    spec = replace(SPEC, engine=how, norm=norm, epochs=1, augmentation="flip+crop", last_batch="keep")
    probed, unprobed = (engine.train([Replicate(spec, 1, own)], images, "cpu")[0] for own in (ALL, ()))

    assert proofs.numbers(probed) == proofs.numbers(unprobed)
    assert set(probed.probes) == set(ALL)
    assert unprobed.probes == {}


def test_replicas_of_one_program_are_the_same_to_the_bit_with_and_without_probes():
    states = []
    for own in (ALL, ()):
        whole = proofs.training(SPEC, (4, 3), proofs.FEW, dtype=torch.float32, probes=own)
        whole.epoch(0)
        states.append([whole.program.state_dict(k) for k in (0, 1)])

    for probed, unprobed in zip(*states, strict=True):
        proofs.assert_same_bits(probed, unprobed)


def test_probes_are_no_part_of_the_key():
    assert Replicate(SPEC, 1, ALL).key == Replicate(SPEC, 1).key


def test_ambient_random_state_is_left_alone(images):
    before = torch.get_rng_state()
    engine.train([Replicate(replace(SPEC, epochs=1), 1, ALL)], images, "cpu")

    assert torch.equal(torch.get_rng_state(), before)


def test_replica_is_read_as_if_alone(images, alone):
    trained = engine.train([Replicate(SPEC, 0, ALL), Replicate(SPEC, 1, ALL)], images, "cpu")

    assert_same(trained[1].probes, alone.probes)
    assert trained[0].probes["gradient_spread"] != alone.probes["gradient_spread"]


def kept_after_one_epoch(images, own):
    kept = []
    engine.train([Replicate(SPEC, 1, own)], images, "cpu", after_epoch=lambda member, epoch, taken: kept.append(taken))
    return kept


def test_readings_survive_a_resume(images, alone):
    (resumed,) = engine.train([Replicate(SPEC, 1, ALL)], images, "cpu", resume=kept_after_one_epoch(images, ALL))

    assert_same(resumed.probes, alone.probes)


def test_snapshot_without_a_probe_that_is_wanted_is_not_gone_on_from(images, alone):
    (taken,) = kept_after_one_epoch(images, ())
    (trained,) = engine.train([Replicate(SPEC, 1, ALL)], images, "cpu", resume=[taken])

    assert_same(trained.probes, alone.probes)
    assert engine.snapshot_epoch(taken) == 1
    assert engine.snapshot_epoch(taken, ALL) == 0
    assert snapshot.serves(taken, ())


@pytest.mark.parametrize("slot", [0, 1])
@pytest.mark.parametrize("how", ["fused", "eager"])
def test_view_is_that_of_eager_torch(how, slot):
    """Loss, batch, weights, gradients, activations, inputs and logits of the third step, before and after it."""
    seeds = (7,) if how == "eager" else (4, 7)
    if slot >= len(seeds):
        pytest.skip("the eager engine has one slot")
    spec = replace(SPEC, augmentation="flip+crop", engine=how)
    whole = proofs.training(spec, seeds, DATA)
    solo = reference.Solo(spec, seeds[slot], DATA)
    shown = reference.batches(spec, seeds[slot], 0, DATA)
    whole.prepare(0)
    whole.advance(2)
    for x, y in shown[:2]:
        solo._step(x, y)
    x, y = shown[2]
    view = Replica(whole, slot, Moment(epoch=0, step=2, epochs=2, steps=whole.steps), [])
    names = ["conv1", "blocks.1", "blocks.2.bn2", "fc"]
    expected, given = outputs(solo.model, names, solo.shown(x))
    for name, got in view.activations(names).items():
        proofs.assert_near(got, expected[name], 1e-9, name, relative=True)
    for name, got in view.inputs(names).items():
        proofs.assert_near(got, given[name], 1e-9, name, relative=True)
    proofs.assert_near(view.batch.images, solo.shown(x), 1e-12, "the images")
    assert view.batch.labels.tolist() == y.tolist()
    assert DATA.y_train[view.batch.indices].tolist() == y.tolist()

    whole.advance(1)
    loss = solo._step(x, y)
    assert view.loss == pytest.approx(loss, rel=1e-9)
    for name in ("conv1.weight", "bn1.bias", "blocks.2.conv2.weight", "fc.weight"):
        proofs.assert_near(view.weight(name), solo.state()[name], 1e-9, name)
        proofs.assert_near(view.gradient(name), solo.gradients()[name], 1e-8, name, relative=True)
    for mode in ("train", "eval"):
        with torch.no_grad():
            logits = copy.deepcopy(solo.model).train(mode == "train")(solo.shown(x))
        proofs.assert_near(view.logits(mode, view.batch.images), logits, 1e-8, mode, relative=True)
    kinds = (torch.nn.Conv2d, torch.nn.Linear)
    assert view.layers == [name for name, module in solo.model.named_modules() if isinstance(module, kinds)]


def outputs(model, names, images):
    """What modules give and are given, by hooks on a copy."""
    model, gave, given = copy.deepcopy(model), {}, {}
    for name in names:

        def keep(module, inputs, output, name=name):
            gave[name], given[name] = output.clone(), inputs[0].clone()

        model.get_submodule(name).register_forward_hook(keep)
    with torch.no_grad():
        model.train()(images)
    return gave, given


def test_layer_that_draws_gives_a_view_what_it_gives_the_step():
    spec = replace(SPEC, norm=Norm(layer="bnlab.norms.noisy:NoisyBatchNorm"), engine="eager")
    whole = proofs.training(spec, (7,), proofs.FEW)
    whole.prepare(0)
    seen = []
    hook = whole.program.model.bn1.register_forward_hook(lambda module, x, y: seen.append(y.detach().clone()))
    whole.seed("step 0")
    view = Replica(whole, 0, Moment(epoch=0, step=0, epochs=2, steps=whole.steps), [])
    given = view.activations(["bn1"])["bn1"]
    whole.advance(1)
    hook.remove()

    proofs.assert_near(given, seen[-1], 1e-12, "the output of a layer that draws")


def test_network_of_a_view_trains_on_its_own():
    whole = proofs.training(SPEC, (4, 7), proofs.FEW)
    whole.epoch(0)
    view = Replica(whole, 1, Moment(epoch=0, step=0, epochs=2, steps=whole.steps), [])
    proofs.assert_same_bits(view.network().cpu().state_dict(), whole.program.state_dict(1))
    network = view.network()
    F.cross_entropy(network(view.batch.images), view.batch.labels).backward()
    assert all(parameter.grad is not None for parameter in network.parameters())


@pytest.mark.parametrize(
    ("name", "words"),
    [
        (
            "loss",
            r"^unknown probe 'loss': expected gradient_spread, first_epoch, at_initialization, .*, or module:Class",
        ),
        ("no_such_module:P", r"^the probe 'no_such_module:P' cannot be made .*expected a class without arguments"),
        (f"{HERE}:Needy", r"cannot be made .*argument"),
        (f"{HERE}:NoProbe", r"is a NoProbe: expected a subclass of bnlab.probes.Probe$"),
    ],
)
def test_what_is_no_probe_is_refused_with_a_clear_message(name, words):
    with pytest.raises(SpecError, match=words):
        probes([name])


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("Asks", r"^a probe asks for the parameter 'conv9.weight': expected one of conv1.weight, "),
        ("AsksForModule", r"^a probe asks for the module 'layer9': expected one of conv1, bn1, "),
    ],
)
def test_name_that_the_network_lacks_is_refused_with_a_clear_message(images, name, words):
    with pytest.raises(SpecError, match=words):
        engine.train([Replicate(SPEC, 1, (f"{HERE}:{name}",))], images, "cpu")
