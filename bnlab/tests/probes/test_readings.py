"""The probes of section 4.3 and of an untrained network read what numpy reads off eager torch."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from bnlab.nets import build
from bnlab.parts import AFFINE_LAYER, BATCHNORM, NONE, Net
from bnlab.probes import Moment, probes
from bnlab.probes.first_epoch import EDGES, SHARES, histogram
from bnlab.specs import RunSpec
from bnlab.tests.engine import proofs, reference

TINY = Net(build="bnlab.nets.cifar_resnet:build", options={"depth": 8})
SPEC = RunSpec(net=TINY, norm=BATCHNORM, batch_size=4, epochs=2, optimizer="sgd", lr=0.01)
SEEDS = (4, 3)
STEPS = 45
DATA = reference.arrays(4 * STEPS, 6)
LAYERS = {"input": "conv1.weight", "final": "fc.weight"}


@pytest.fixture(scope="module", params=[BATCHNORM, AFFINE_LAYER], ids=str)
def both(request):
    """What the probes of each slot read in the first epoch, and each update's weights and gradients in eager torch."""
    spec = replace(SPEC, norm=request.param)
    whole = proofs.training(spec, SEEDS, DATA, probes=("first_epoch", "gradient_spread", "at_initialization"))
    whole.epoch(0)
    read = [{name: probe.readings() for name, probe in own.items()} for own in whole.probes]
    updates = []
    for seed in SEEDS:
        solo = reference.Solo(spec, seed, DATA)
        seen = []
        for x, y in reference.batches(spec, seed, 0, DATA):
            before = solo.state()
            solo._step(x, y)
            after = solo.gradients()
            seen.append({layer: (before[name].numpy(), after[name].numpy()) for layer, name in LAYERS.items()})
        updates.append(seen)
    return list(zip(read, updates, strict=True))


def entries(seen, layer, kind, part):
    return np.concatenate([update[layer][kind == "gradient"].ravel() for update in seen[part]])


TIMES = {"early": slice(0, 20), "late": slice(STEPS - 20, STEPS)}


def test_weights_and_gradients_of_the_first_and_last_updates_are_distributed_as_in_eager_torch(both):
    for read, seen in both:
        for layer in LAYERS:
            for kind in ("weight", "gradient"):
                for when, part in TIMES.items():
                    expected = entries(seen, layer, kind, part)
                    where = f"{layer}/{kind}/{when}"
                    got = read["first_epoch"]
                    assert got[f"{where}/deviation"] == pytest.approx(expected.std(), rel=1e-7)
                    np.testing.assert_allclose(
                        got[f"{where}/quantiles"], np.quantile(expected, SHARES), rtol=1e-6, atol=1e-9
                    )
                    bins = np.histogram(expected, EDGES)[0]
                    assert np.abs(got[f"{where}/histogram"] - bins).sum() <= 2, "entries at an edge may fall either way"
                    assert got[f"{where}/histogram"].sum() == expected.size


def test_blocks_of_twenty_updates_and_products_are_those_of_eager_torch(both):
    blocks = [slice(0, 20), slice(20, 40), slice(40, 45)]
    for read, seen in both:
        got = read["first_epoch"]
        for layer in LAYERS:
            products = [np.linalg.norm(update[layer][0]) * np.linalg.norm(update[layer][1]) for update in seen]
            np.testing.assert_allclose(
                got[f"{layer}/product/blocks"], [np.mean(products[part]) for part in blocks], rtol=1e-7
            )
            for when, part in TIMES.items():
                assert got[f"{layer}/product/{when}"] == pytest.approx(np.mean(products[part]), rel=1e-7)
            for kind in ("weight", "gradient"):
                expected = [entries(seen, layer, kind, part).std() for part in blocks]
                np.testing.assert_allclose(got[f"{layer}/{kind}/blocks"], expected, rtol=1e-7)


def test_gradient_spread_is_part_of_it(both):
    for read, _ in both:
        for layer in LAYERS:
            for when in TIMES:
                spread = read["gradient_spread"][f"{layer}/{when}"]
                assert spread == pytest.approx(read["first_epoch"][f"{layer}/gradient/{when}/deviation"], rel=1e-9)


def test_readings_of_a_run_are_small(both):
    for read, _ in both:
        for own in read.values():
            assert sum(np.asarray(value).nbytes for value in own.values()) < 2**16


def test_product_is_the_same_for_weights_of_any_length_in_front_of_a_norm():
    """Twice the weights have half the gradient."""
    read = []
    for factor in (1.0, 2.0):
        whole = proofs.training(replace(SPEC, lr=1e-30), SEEDS, proofs.FEW, probes=("first_epoch",))
        for k in range(len(SEEDS)):
            state = whole.program.state_dict(k)
            state["conv1.weight"] = factor * state["conv1.weight"]
            whole.program.load_state_dict(k, state)
        whole.epoch(0)
        read.append(whole.probes[0]["first_epoch"].readings())

    assert read[1]["input/product/early"] == pytest.approx(read[0]["input/product/early"], rel=1e-3)
    assert read[1]["input/gradient/early/deviation"] == pytest.approx(
        read[0]["input/gradient/early/deviation"] / 2, rel=1e-3
    )


def test_histogram_counts_everything_but_nan():
    counts = histogram(np.array([-1e9, -0.5, 0.0, 1e-9, 3.0, np.inf, np.nan]))

    assert len(EDGES) == 122
    np.testing.assert_array_equal(EDGES, -EDGES[::-1])
    assert counts.sum() == 6
    assert (counts[0], counts[60], counts[-1]) == (1, 2, 1)


@pytest.mark.parametrize(
    ("step", "steps", "wanted"), [(0, 100, True), (19, 100, True), (20, 100, False), (79, 100, False), (80, 100, True)]
)
def test_first_and_last_twenty_updates_of_the_first_epoch_are_read(step, steps, wanted):
    probe = probes(["gradient_spread"])["gradient_spread"]

    assert probe.wants(Moment(epoch=0, step=step, epochs=2, steps=steps)) is wanted
    assert not probe.wants(Moment(epoch=1, step=step, epochs=2, steps=steps))


@pytest.mark.parametrize("norm", [NONE, BATCHNORM], ids=str)
@pytest.mark.parametrize("slot", [0, 1])
def test_untrained_network_is_read_as_in_eager_torch(norm, slot):
    spec = replace(SPEC, norm=norm)
    whole = proofs.training(spec, SEEDS, proofs.FEW, probes=("at_initialization",))
    whole.epoch(0)
    got = whole.probes[slot]["at_initialization"].readings()
    solo = reference.Solo(spec, SEEDS[slot], proofs.FEW)
    x, y = reference.batches(spec, SEEDS[slot], 0, proofs.FEW)[0]
    layers = [
        name for name, module in solo.model.named_modules() if isinstance(module, (torch.nn.Conv2d, torch.nn.Linear))
    ]
    gave, given = watched(solo, layers, x)
    solo._step(x, y)
    _, after = watched(solo, layers, x)

    norms = np.array([np.linalg.norm(solo.gradients()[f"{name}.weight"]) for name in layers])
    np.testing.assert_allclose(got["gradient/norms"], norms, rtol=1e-7)
    assert got["gradient/input"] == pytest.approx(norms[0], rel=1e-7)
    assert got["gradient/ratio"] == pytest.approx(norms.max() / norms.min(), rel=1e-7)
    np.testing.assert_allclose(got["output/deviations"], [gave[name].std() for name in layers], rtol=1e-7)
    stages = [gave["conv1"].std(), gave["blocks"].std()]
    np.testing.assert_allclose(got["output/stages"], stages, rtol=1e-7)
    assert got["output/last"] == pytest.approx(stages[-1], rel=1e-7)
    drifts = []
    for name in layers[1:]:
        axes = tuple(axis for axis in range(given[name].ndim) if axis != 1)
        moved = np.abs(after[name].mean(axes) - given[name].mean(axes))
        live = given[name].std(axes) > 0  # a channel that is always 0 has no scale to move on
        drifts.append((moved[live] / given[name].std(axes)[live]).mean())
    np.testing.assert_allclose(got["drift/layers"], drifts, rtol=1e-5, atol=1e-12)
    third = len(drifts) // 3
    assert got["drift/deep"] == pytest.approx(np.log(np.mean(drifts[-third:]) / np.mean(drifts[:third])), rel=1e-5)


def watched(solo, layers, x):
    """What the layers and the blocks give, and what the layers are given, in training mode."""
    model = build(solo.spec.net, solo.spec.norm, solo.seed).double()
    model.load_state_dict(solo.state())
    gave, given = {}, {}
    for name in [*layers, "blocks"]:

        def keep(module, inputs, output, name=name):
            gave[name], given[name] = output.numpy().copy(), inputs[0].numpy().copy()

        model.get_submodule(name).register_forward_hook(keep)
    with torch.no_grad():
        model.train()(solo.shown(x))
    return gave, given
