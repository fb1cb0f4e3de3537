"""Networks that the engine reads from their graph train as they do in eager torch; what it cannot read is named."""

from collections.abc import Callable
from dataclasses import asdict, replace

import pytest
import torch
import torchvision
from torch import Tensor, nn

from bnlab import engine
from bnlab.data.images import Images
from bnlab.engine.program import Program
from bnlab.engine.reader import Op, UnreadableError, read
from bnlab.errors import SpecError
from bnlab.nets import build
from bnlab.parts import AFFINE_LAYER, BATCHNORM, NONE, Net, Norm, Part, ResNet
from bnlab.specs import Replicate, RunSpec
from bnlab.tests.engine import proofs

Note = Callable[[str, object], None]

VGG = Net(build="bnlab.nets.vgg:build")
RESNET20 = Net(build="bnlab.nets.cifar_resnet:build")
PREACT20 = replace(RESNET20, options={"order": "pre"})
UNREDUCED = Net(build="bnlab.nets.unreduced:build")
RESNEXT = Net(build="bnlab.nets.resnext:build")
CLUMSY = Net(build=f"{__name__}:clumsy")
NETS = [VGG, RESNET20, PREACT20, UNREDUCED, RESNEXT]
SPEC = RunSpec(net=VGG, norm=BATCHNORM, batch_size=8, precision="fp32")
WEIGHT_NORM = Part(code="torch.nn.utils.parametrizations:weight_norm")


class Clumsy(nn.Module):
    """A network with a multiplication that the engine does not know."""

    def __init__(self, norm, classes):
        super().__init__()
        self.conv, self.bn, self.fc = nn.Conv2d(3, 8, 3, 2), norm(8), nn.Linear(8, classes)

    def forward(self, x: Tensor) -> Tensor:
        y = self.bn(self.conv(x))
        return self.fc((y * torch.sigmoid(y)).mean((2, 3)))


def clumsy(*, norm, classes):
    return Clumsy(norm, classes)


@pytest.mark.parametrize("norm", [BATCHNORM, NONE], ids=str)
@pytest.mark.parametrize("net", NETS, ids=str)
def test_a_forced_step_of_a_network_it_has_never_seen_is_eager_torchs(net: Net, norm: Norm, record_property: Note):
    got = proofs.one_forced_step(replace(SPEC, net=net, norm=norm), (3, 7), 1)
    record_property("differences", asdict(got))


def test_norms_are_mixed_in_any_network():
    proofs.one_forced_step(replace(SPEC, net=RESNET20), (3, 5, 7), 1, norms=(NONE, BATCHNORM, AFFINE_LAYER))


@pytest.mark.parametrize("net", [VGG, RESNET20, PREACT20], ids=str)
def test_an_exported_network_has_the_logits_of_the_program(net: Net):
    proofs.export(replace(SPEC, net=net, epochs=1), (3, 7), proofs.FEW, epochs=1)


@pytest.mark.parametrize("net", [ResNet(18), ResNet(50), RESNET20], ids=str)
def test_every_addition_and_relu_behind_a_norm_is_part_of_its_slot(net: Net):
    kinds = [op.kind for op in read(build(net, BATCHNORM, 0), 32)]

    assert "relu" not in kinds
    assert "add" not in kinds


def test_a_slot_takes_in_what_follows_only_where_nobody_else_reads_it():
    class Forked(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv, self.bn, self.norm_slots = nn.Conv2d(3, 3, 1), nn.BatchNorm2d(3), ["bn"]

        def forward(self, x):
            y = self.bn(self.conv(x))
            return torch.relu(y) + y

    assert [op.kind for op in read(Forked(), 8)] == ["conv", "slot", "relu", "add"]


@pytest.mark.parametrize("net", NETS, ids=str)
def test_a_map_has_the_size_that_torch_gives_it(net: Net):
    model = build(net, BATCHNORM, 0).eval()
    seen: dict[str, torch.Size] = {}
    for name, module in model.named_modules():
        module.register_forward_hook(lambda _m, _x, y, name=name: seen.update({name: y.shape}))
    with torch.no_grad():
        model(torch.zeros(2, 3, 32, 32))
    for module in model.modules():
        module._forward_hooks.clear()

    ops: list[Op] = [op for op in read(model, 32) if op.kind == "conv"]

    assert ops
    assert {op.module: (op.channels, op.size) for op in ops} == {op.module: tuple(seen[op.module][1:3]) for op in ops}


def test_a_network_it_cannot_read_trains_replica_by_replica_and_says_why():
    spec = replace(SPEC, net=CLUMSY, epochs=1)
    images = Images.of(proofs.FEW, "cpu")
    said: list[str] = []

    fused = engine.train([Replicate(spec, 3), Replicate(spec, 7)], images, "cpu", say=said.append)
    eager = engine.train([Replicate(replace(spec, engine="eager"), 7)], images, "cpu")

    assert said == [f"{CLUMSY} trains replica by replica, since the engine cannot read it: it calls mul"]
    assert fused[1].curves["train_loss"] == pytest.approx(eager[0].curves["train_loss"], rel=1e-5)
    assert fused[0].weights != fused[1].weights


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda m: m.features[0].register_forward_hook(lambda *_: None), "features.0 has hooks"),
        (lambda m: m.features.__setitem__(2, nn.Dropout(0.5)), "features.2 is a Dropout, which draws random numbers"),
        (lambda m: m.features.__setitem__(2, nn.PReLU()), "features.2 is a PReLU"),
        (lambda m: m.features.__setitem__(0, nn.Conv2d(3, 64, (3, 1))), "features.0 is a convolution that is not"),
        (lambda m: m.features.__setitem__(3, nn.MaxPool2d(2, ceil_mode=True)), "features.3 is a MaxPool2d with"),
        (lambda m: setattr(m, "classifier", nn.Sequential(nn.Linear(512, 10), nn.Softmax(1))), "is a Softmax"),
        (
            lambda m: torch.nn.utils.parametrizations.spectral_norm(m.features[0]),
            "features.0 has a parametrization with a state",
        ),
    ],
)
def test_what_it_cannot_read_is_named(change, reason):
    model = build(VGG, BATCHNORM, 0)
    change(model)

    with pytest.raises(UnreadableError) as error:
        Program([model], torch.device("cpu"))

    assert reason in str(error.value)


def test_a_value_that_is_changed_in_place_and_read_again_is_not_read():
    class Shared(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv, self.relu = nn.Conv2d(3, 3, 1), nn.ReLU(inplace=True)

        def forward(self, x):
            y = self.conv(x)
            return self.relu(y) + y

    with pytest.raises(UnreadableError, match="a value that is read twice is changed in place"):
        read(Shared(), 8)


@pytest.mark.parametrize("net", [ResNet(18), RESNEXT], ids=str)
def test_weight_normalization_is_one_name_in_the_run_spec(net: Net, record_property: Note):
    spec = replace(SPEC, net=net, parametrization=WEIGHT_NORM)
    got = proofs.one_forced_step(spec, (3, 7), 1, within=proofs.Within(gradients=1e-8))
    record_property("differences", asdict(got))


def test_a_parametrized_replica_resumes_to_the_same_bits():
    spec = replace(SPEC, net=RESNET20, parametrization=WEIGHT_NORM, epochs=2)

    proofs.resumed(spec, (3, 7), proofs.STEP, after=1)


def zero_gamma(model: nn.Module) -> None:
    """The last gamma of every residual branch starts at zero, as torchvision's option does it."""
    for module in model.modules():
        if isinstance(module, torchvision.models.resnet.BasicBlock):
            nn.init.zeros_(module.bn2.weight)


def test_an_initialisation_is_one_function_in_the_run_spec():
    spec = replace(SPEC, net=ResNet(18), init=Part(code=f"{__name__}:zero_gamma"))
    got = proofs.training(spec, (5,), proofs.STEP, dtype=torch.float32).program.state_dict(0)

    torch.manual_seed(5)
    expected = torchvision.models.resnet18(num_classes=10, zero_init_residual=True).state_dict()
    proofs.same_bits(got, expected)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"net": Net(build="bnlab.nets.no_such:build")}, "the network 'bnlab.nets.no_such:build' cannot be imported"),
        ({"net": replace(RESNET20, options={"depth": 21})}, "depth is 21: expected 6n + 2, such as 20"),
        ({"net": replace(RESNET20, options={"width": 2})}, "cannot be built with {'width': 2}"),
        ({"init": Part(code=f"{__name__}:zero_gamma", options={"gain": 2})}, "cannot be applied to a ResNet"),
    ],
)
def test_code_that_does_not_work_is_named_in_one_sentence(change, said):
    spec = replace(SPEC, **{"net": ResNet(18), **change})

    with pytest.raises(SpecError) as error:
        build(spec.net, spec.norm, 0, init=spec.init, parametrization=spec.parametrization)

    assert said in str(error.value)
    assert "\n" not in str(error.value)
