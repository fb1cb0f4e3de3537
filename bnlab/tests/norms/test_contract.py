"""Every layer of section 2.4: gradients, state dict, running statistics, evaluation, what it refuses."""

import copy
from dataclasses import replace

import pytest
import torch

from bnlab.engine.slots import CustomSlot
from bnlab.errors import BnlabError
from bnlab.nets import build
from bnlab.norms import layer
from bnlab.parts import Norm, ResNet
from bnlab.tests.norms.families import ALL, CHANNELS, OVER_BATCH, PER_IMAGE, batch, made, norm, step

each = pytest.mark.parametrize("what", ALL.values(), ids=ALL)


WITH_ITS_OWN_GRADIENT = {(name, way) for name in ALL for way in ("training", "evaluation")} - {
    ("PopulationNorm", "training")  # passes through statistics that the output does not show: see test_parity
}


@pytest.mark.parametrize(("name", "way"), sorted(WITH_ITS_OWN_GRADIENT))
def test_gradients_are_those_of_finite_differences(name: str, way: str) -> None:
    what = ALL[name]
    module = made(what)
    module(batch(0))
    names = [name for name, _ in module.named_parameters()]

    def call(x: torch.Tensor, *parameters: torch.Tensor) -> torch.Tensor:
        own = copy.deepcopy(module).train(way == "training")  # a call moves the running statistics
        if what == ALL["PopulationNorm of constants"]:
            own.momentum = 1e-30  # constants, to finite differences too
            own.num_batches_tracked.fill_(2**60)
        return torch.func.functional_call(own, dict(zip(names, parameters, strict=True)), (x,))

    inputs = [batch(1, n=4, size=2), *(p.detach().clone() for _, p in module.named_parameters())]
    assert torch.autograd.gradcheck(call, [one.requires_grad_() for one in inputs])


@each
def test_a_copy_made_from_the_state_dict_goes_on_alike(what: Norm) -> None:
    module, resumed = made(what), made(what, seed=1)
    for seed in range(3):
        step(module, batch(seed))
    resumed.load_state_dict(module.state_dict())

    one, other = step(module, batch(5)), step(resumed, batch(5))
    for name, value in one.items():
        assert torch.equal(value, other[name]), name
    assert torch.equal(module.eval()(batch(6)), resumed.eval()(batch(6)))


@each
def test_the_engine_takes_it(what: Norm) -> None:
    """It draws nothing, remembers nothing outside its state dict, moves nothing in evaluation, and takes vmap."""
    slot = CustomSlot([layer(what, CHANNELS) for _ in range(2)], torch.device("cpu"), torch.float64)
    slot.can_vmap = True
    x = torch.stack([batch(0), batch(1)]).permute(0, 1, 3, 4, 2)

    assert slot(x, "train").shape == x.shape
    assert slot.vmapped
    assert slot.uncapturable() == ""
    assert ("recalibrated" in slot.evaluations(0)) == (what not in PER_IMAGE.values())


@pytest.mark.parametrize("what", PER_IMAGE.values(), ids=PER_IMAGE)
def test_an_image_does_not_see_the_others_and_evaluation_is_training(what: Norm) -> None:
    module, x = made(what), batch(0)

    alone = torch.cat([module.train()(image[None]) for image in x])
    torch.testing.assert_close(module.train()(x), alone, rtol=0, atol=1e-12)
    torch.testing.assert_close(module.eval()(x), alone, rtol=0, atol=1e-12)
    assert [
        name
        for name, _ in module.named_buffers()
        if not torch.equal(*(one.get_buffer(name) for one in (module, layer(what, CHANNELS).double())))
    ] == []


@pytest.mark.parametrize("what", OVER_BATCH.values(), ids=OVER_BATCH)
def test_recalibration_forgets_training_and_averages_over_batches(what: Norm) -> None:
    """As the engine does it: a reset, then momentum 1/i at batch i."""
    module, batches = made(what), [batch(seed) for seed in range(3)]
    module(batch(9))
    module.reset_running_stats()
    for i, x in enumerate(batches, start=1):
        module.momentum = 1 / i
        module(x)

    mean = torch.stack([x.mean((0, 2, 3)) for x in batches]).mean(0)
    torch.testing.assert_close(module.running_mean, mean, rtol=0, atol=1e-12)
    assert not torch.allclose(module.eval()(batches[0]), layer(what, CHANNELS).double().eval()(batches[0]))


@each
@pytest.mark.parametrize(("option", "parameter"), [("scale", "weight"), ("shift", "bias")])
def test_a_scale_or_shift_that_is_left_out_is_frozen_or_refused(what: Norm, option: str, parameter: str) -> None:
    trained = {name for name, p in layer(what, CHANNELS).named_parameters() if p.requires_grad}
    without = replace(what, options=what.keywords | {option: False})

    if parameter in trained:
        part = layer(without, CHANNELS)
        assert {name for name, p in part.named_parameters() if p.requires_grad} == trained - {parameter}
    else:
        with pytest.raises(BnlabError, match=f"has no option '{option}'"):
            layer(without, CHANNELS)


@each
def test_images_and_channels_have_no_order(what: Norm) -> None:
    """Ghost batches and groups change places as wholes."""
    one, other = (layer(what, CHANNELS).double().train() for _ in range(2))
    x = batch(0)
    images, channels = torch.tensor([2, 3, 1, 0]), torch.tensor([3, 2, 5, 4, 0, 1])

    expected = one(x)[images][:, channels]
    torch.testing.assert_close(other(x[images][:, channels]), expected, rtol=0, atol=1e-12)


@each
def test_maps_of_a_single_pixel_give_finite_numbers(what: Norm) -> None:
    assert bool(made(what)(batch(0, size=1)).isfinite().all())


@pytest.mark.parametrize(
    ("what", "words"),
    [
        (norm("ghost:GhostBatchNorm", size=0), "size is 0: expected the number of images in a part, 1 or more"),
        (norm("lp:LpNorm", p=0.5), "p is 0.5: expected a number of at least 1, or 'inf'"),
        (norm("population:PopulationNorm", momentum=0.0), "momentum is 0.0: expected the share of the present batch"),
        (norm("switchable:SwitchableNorm", among="batch group"), "among is 'batch group': expected some of instance, "),
        (norm("switchable:SwitchableNorm", among="batch batch"), "among is 'batch batch': expected some of instance, "),
        (norm("autodial:AutoDial", alpha=0.4), "AutoDial has alpha 0.4 and domain 'target': expected 0.5 to 1, and "),
        (norm("autodial:AutoDial", domain="test"), "AutoDial has alpha 1.0 and domain 'test': expected 0.5 to 1, and "),
        (norm("whitening:IterNorm", group_size=4), "IterNorm has groups of 4 for 6 channels: take a size that divides"),
        (norm("whitening:DecorrelatedBatchNorm", group_size=0), "DecorrelatedBatchNorm has groups of 0 for 6 channels"),
        (norm("switchable:SwitchableNorm", among=""), "among is '': expected some of instance, layer, batch"),
    ],
    ids=str,
)
def test_an_option_out_of_range_is_refused_in_words(what: Norm, words: str) -> None:
    with pytest.raises(BnlabError) as caught:
        layer(what, CHANNELS)

    assert words in str(caught.value)
    assert "\n" not in str(caught.value)


def test_instance_norm_on_1x1_maps_is_refused_with_its_place() -> None:
    """torchvision makes the shortcut of a block first."""
    with pytest.raises(BnlabError, match=r"^InstanceNorm stands at the 1x1 maps of layer4\.0\.downsample\.1, where "):
        build(ResNet(18), PER_IMAGE["InstanceNorm"], seed=0)


@pytest.mark.parametrize("name", sorted(OVER_BATCH.keys() - {"MeanOnlyBatchNorm", "DecorrelatedBatchNorm", "IterNorm"}))
def test_a_single_number_a_channel_has_no_variance(name: str) -> None:
    with pytest.raises(BnlabError, match="has a single number in each channel"):
        made(ALL[name])(batch(0, n=1, size=1))
