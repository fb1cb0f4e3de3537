"""Networks that the engine reads from their graph train as they do in eager torch; what it cannot read is named."""

from collections.abc import Callable
from copy import deepcopy
from dataclasses import asdict, replace

import pytest
import torch
import torch.nn.functional as F
import torchvision
from torch import Tensor, nn
from torch.nn.utils import parametrize

from bnlab import engine
from bnlab.data.images import Images
from bnlab.engine.operations import Op
from bnlab.engine.program import Program
from bnlab.engine.readable import UnreadableError
from bnlab.engine.reader import read, unreadable
from bnlab.errors import SpecError
from bnlab.nets import build
from bnlab.norms import BatchNorm
from bnlab.parts import AFFINE_LAYER, BATCHNORM, NONE, Net, Norm, Part, ResNet
from bnlab.specs import Replicate, RunSpec
from bnlab.tests.engine import proofs

Note = Callable[[str, object], None]

VGG = Net(build="bnlab.nets.vgg:build")
RESNET20 = Net(build="bnlab.nets.cifar_resnet:build")
PREACT20 = replace(RESNET20, options={"order": "pre"})
UNREDUCED = Net(build="bnlab.nets.unreduced:build")
RESNEXT = Net(build="bnlab.nets.resnext:build")
PLAIN = Net(build="bnlab.nets.plain:build")
CLUMSY = Net(build=f"{__name__}:clumsy")
NETS = [VGG, RESNET20, PREACT20, UNREDUCED, PLAIN, RESNEXT]
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
@pytest.mark.parametrize("net", [*NETS[:-1], pytest.param(RESNEXT, marks=pytest.mark.slow)], ids=str)
def test_a_forced_step_of_a_network_it_has_never_seen_is_eager_torchs(net: Net, norm: Norm, record_property: Note):
    got = proofs.assert_one_forced_step(replace(SPEC, net=net, norm=norm), (3, 7), 1)
    record_property("differences", asdict(got))


def test_norms_are_mixed_in_any_network():
    proofs.assert_one_forced_step(replace(SPEC, net=RESNET20), (3, 5, 7), 1, norms=(NONE, BATCHNORM, AFFINE_LAYER))


@pytest.mark.parametrize("net", [VGG, RESNET20, PREACT20], ids=str)
def test_an_exported_network_has_the_logits_of_the_program(net: Net):
    proofs.assert_export(replace(SPEC, net=net, epochs=1), (3, 7), proofs.FEW, epochs=1)


@pytest.mark.parametrize("net", [ResNet(18), ResNet(50), RESNET20], ids=str)
def test_every_addition_and_relu_behind_a_norm_is_part_of_its_slot(net: Net):
    kinds = [op.kind for op in read(build(net, BATCHNORM, 0), 32)]

    assert "relu" not in kinds
    assert "add" not in kinds


def test_a_slot_takes_in_what_follows_only_where_nobody_else_reads_it():
    def forked(self: Small, x: Tensor) -> Tensor:
        y = self.bn(self.conv1(x))
        return self.fc((torch.relu(y) + y).mean((2, 3)))

    kinds = [op.kind for op in read(small(forward=forked, conv2=nn.Identity()), 32)]

    assert kinds == ["conv", "slot", "relu", "add", "mean", "linear"]


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

    assert f"{CLUMSY} trains replica by replica, since the engine cannot read it: it calls mul" in said
    assert fused[1].curves["train_loss"] == pytest.approx(eager[0].curves["train_loss"], rel=1e-5)
    assert fused[0].weights != fused[1].weights


def small(*, forward: Callable[["Small", Tensor], Tensor] | None = None, **layers: nn.Module) -> "Small":
    """A network of two convolutions, with another forward or other layers."""
    kind = Small if forward is None else type("Small", (Small,), {"forward": forward})
    torch.manual_seed(3)
    model: Small = kind()
    for name, layer in layers.items():
        setattr(model, name, layer)
    model.norm_slots = ["bn"]
    return model


class Small(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv1, self.conv2 = nn.Conv2d(3, 16, 3, padding=1), nn.Conv2d(16, 16, 3, padding=1)
        self.bn, self.pool, self.fc = nn.BatchNorm2d(16), nn.AdaptiveAvgPool2d(1), nn.Linear(16, 10)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc(torch.flatten(self.pool(self.features(x)), 1))

    def features(self, x: Tensor) -> Tensor:
        return F.relu(self.bn(self.conv2(self.conv1(x))))


def viewed(self: Small, x: Tensor) -> Tensor:
    y = self.pool(self.features(x))
    return self.fc(y.view(y.size(0), -1))


def reshaped(self: Small, x: Tensor) -> Tensor:
    y = self.features(x).mean([2, 3], keepdim=True)
    return self.fc(torch.flatten(y.reshape(y.shape[0], -1), start_dim=1))


READ = {
    "functions": small(
        forward=lambda s, x: s.fc(
            F.adaptive_avg_pool2d(F.avg_pool2d(F.max_pool2d(s.features(x), 3, 2), 2), 1).flatten(1)
        )
    ),
    "view": small(forward=viewed),
    "reshape": small(forward=reshaped),
    "mean": small(forward=lambda s, x: s.fc(torch.mean(s.features(x), dim=(-2, -1)))),
    "activations": small(
        forward=lambda s, x: s.fc(
            torch.tanh(F.gelu(F.leaky_relu(s.conv1(x), 0.2, True), approximate="tanh")).mean((2, 3))
        ),
        conv2=nn.Identity(),
        bn=nn.Identity(),
    ),
    "adaptive pooling": small(pool=nn.AdaptiveAvgPool2d(2), fc=nn.Linear(64, 10)),
    "adaptive max pooling": small(pool=nn.AdaptiveMaxPool2d((3, 3)), fc=nn.Linear(144, 10)),
    "pooling without its border": small(pool=nn.AvgPool2d(3, 31, 1, count_include_pad=False), fc=nn.Linear(64, 10)),
    "padded 1x1 convolution": small(conv1=nn.Conv2d(3, 16, 1, padding=1)),
    "wide padding": small(conv1=nn.Conv2d(3, 16, 3, padding=4)),
    "stride beyond the kernel": small(conv1=nn.Conv2d(3, 16, 2, stride=3)),
    "depthwise convolution": small(conv2=nn.Conv2d(16, 16, 3, 2, 1, groups=16)),
    "dropout of nothing": small(conv2=nn.Sequential(nn.Conv2d(16, 16, 3), nn.Dropout2d(0.0), nn.Identity())),
    "two linear layers": small(fc=nn.Sequential(nn.Linear(16, 5, bias=False), nn.ReLU(inplace=True), nn.Linear(5, 10))),
}


@pytest.mark.parametrize("replicas", [1, 2])
@pytest.mark.parametrize("model", READ.values(), ids=READ)
def test_what_it_reads_computes_what_the_module_computes(model: Small, replicas: int):
    models = [deepcopy(model).double() for _ in range(replicas)]
    own = deepcopy(models[-1])
    program = Program(models, torch.device("cpu"), dtype=torch.float64)
    draw = torch.Generator().manual_seed(1)
    x = torch.randn(replicas, 4, 32, 32, 3, generator=draw, dtype=torch.float64)

    for mode in ("train", "eval"):
        got, expected = program(x, mode)[-1], own.train(mode == "train")(x[-1].permute(0, 3, 1, 2))
        proofs.assert_near(got, expected, 1e-12, f"the output in {mode}")
        if mode == "train":
            got.sigmoid().sum().backward()
            expected.sigmoid().sum().backward()
    assert program.trained(0) == [name for name, _ in own.named_parameters() if name in program.parameters]
    assert set(program.trained(0)) == {name for name, _ in own.named_parameters()}
    for name, parameter in own.named_parameters():
        packed = program.parameters[name]
        gradient = packed.read(replicas - 1, [leaf.grad for leaf in packed.leaves], torch.zeros(()))
        proofs.assert_near(gradient, parameter.grad, 1e-11, f"the gradient of {name}")


class Scaled(nn.Conv2d):
    """A convolution that computes something else."""

    def forward(self, x: Tensor) -> Tensor:
        return 2 * super().forward(x)


def hooked(model: nn.Module, name: str) -> nn.Module:
    model.get_submodule(name).register_forward_hook(lambda *_: None)
    return model


def hooked_weight() -> nn.Module:
    model = small()
    model.conv1.weight.register_hook(lambda grad: 2 * grad)
    return model


def frozen(name: str) -> nn.Module:
    model = small()
    model.get_parameter(name).requires_grad_(False)
    return model


def tied() -> nn.Module:
    model = small(conv3=nn.Conv2d(16, 16, 3, padding=1), forward=lambda s, x: s.fc(s.conv3(s.features(x)).mean((2, 3))))
    model.conv3.weight = model.conv2.weight
    return model


def parametrized(how: Callable[[nn.Module], nn.Module], name: str) -> nn.Module:
    model = small()
    how(model.get_submodule(name))
    return model


def forked(self: Small, x: Tensor) -> Tensor:
    return self.fc((self.features(x) if self.training else self.conv1(x)).mean((2, 3)))


PARAMETRIZATIONS = torch.nn.utils.parametrizations
UNREAD = [
    (small(conv1=Scaled(3, 16, 3)), "conv1 is a Scaled, which may compute something else than nn.Conv2d"),
    (small(conv1=nn.Conv2d(3, 16, (3, 1))), "conv1 is a convolution that is not square"),
    (small(conv1=nn.Conv2d(3, 16, 3, dilation=2)), "conv1 is a convolution that is not square, not undilated"),
    (small(conv1=nn.Conv2d(3, 16, 3, padding="same")), "conv1 is a convolution that is not square"),
    (small(conv1=nn.Conv2d(3, 16, 40)), "conv1 has a window of 40x40, larger than its map of 32x32"),
    (small(conv2=nn.Sequential(nn.Conv2d(16, 16, 3), nn.Dropout(0.5))), "conv2.1 is a Dropout, which draws random"),
    (small(conv2=nn.Sequential(nn.Conv2d(16, 16, 3), nn.PReLU())), "conv2.1 is a PReLU"),
    (small(conv2=nn.Sequential(nn.Conv2d(16, 16, 3), nn.BatchNorm2d(16))), "conv2.1 is a BatchNorm2d"),
    (small(pool=nn.MaxPool2d(2, ceil_mode=True)), "pool pools (2, 2, 0, 1): only square windows"),
    (small(fc=nn.Sequential(nn.Linear(16, 10), nn.Softmax(1))), "fc.1 is a Softmax"),
    (small(extra=nn.Linear(2, 2)), "extra.weight belongs to no layer that is applied to the images"),
    (small(forward=lambda s, x: s.fc(s.conv2(s.features(x)).mean((2, 3)))), "conv2 is applied 2 times"),
    (small(forward=lambda s, x: (s.fc(s.features(x).mean((2, 3))),)), "the network's output is not what its last"),
    (small(forward=lambda s, x: s.features(x)), "the network's output is not a vector"),
    (small(forward=lambda s, x: s.fc(s.features(x).mean((2, 3)) * s.fc.bias.sum())), "uses its parameter 'fc.bias'"),
    (small(forward=lambda s, x: s.fc(s.features(x).flatten(2).mean(2))), "it flattens other axes than those of one"),
    (small(forward=lambda s, x: s.fc(s.features(x).mean((1, 2)))), "a mean over something else than the pixels"),
    (small(forward=lambda s, x: s.fc(s.features(x).mean((2, 3)) + x.size(0))), "computes with the shape of a value"),
    (
        small(forward=lambda s, x: s.fc(torch.flatten(input=s.features(x)))),
        "it calls flatten in a way that",
    ),
    (small(forward=lambda s, x, y=None: s.fc((s.features(x)).mean((2, 3)) + y)), "takes 'y' beside its images"),
    (small(forward=lambda s, x: s.fc(s.features(x)) if x.sum() > 0 else x), "torch.fx cannot trace Small (symbolic"),
    (small(forward=forked), "Small computes something else in evaluation than in training"),
    (hooked(small(), "conv1"), "conv1 has hooks"),
    (hooked(small(), ""), "Small has hooks"),
    (hooked_weight(), "conv1 has hooks"),
    (frozen("conv1.weight"), "conv1.weight is not trained"),
    (frozen("fc.bias"), "fc.bias is not trained"),
    (tied(), "conv2.weight and conv3.weight are one parameter"),
    (parametrized(PARAMETRIZATIONS.weight_norm, "fc"), "fc is a ParametrizedLinear, which may compute something else"),
    (parametrized(PARAMETRIZATIONS.spectral_norm, "conv1"), "conv1 has a parametrization with a state"),
]


@pytest.mark.parametrize(("model", "reason"), UNREAD, ids=[f"{i} {reason}" for i, (_, reason) in enumerate(UNREAD)])
def test_what_it_cannot_read_is_named_in_one_sentence(model: nn.Module, reason: str):
    with pytest.raises(UnreadableError) as error:
        Program([model], torch.device("cpu"))

    assert reason in str(error.value)
    assert "\n" not in str(error.value)
    assert unreadable(model) == str(error.value)


def test_reading_leaves_the_network_in_the_mode_it_was_in():
    model = small().eval()
    model.bn.train()
    read(model, 32)

    assert [model.training, model.conv1.training, model.bn.training] == [False, False, True]


@pytest.mark.parametrize("name", ["bn", "bn.0"])
def test_hooks_of_a_norm_that_is_called_are_called(name: str):
    calls: list[int] = []
    model = small(bn=nn.Sequential(nn.BatchNorm2d(16)))
    model.get_submodule(name).register_forward_hook(lambda *_: calls.append(1))
    program = Program([model], torch.device("cpu"))
    program(torch.zeros(1, 2, 32, 32, 3), "eval")

    assert calls


def test_hooks_of_a_norm_that_is_not_called_are_named():
    model = small(bn=BatchNorm(16))
    model.bn.register_forward_hook(lambda *_: None)

    assert unreadable(model) == "bn has hooks, which the engine would not call"


def unused(*, norm: Callable[[int], nn.Module], classes: int) -> Small:
    return small(extra=nn.Linear(2, 2))


def test_a_network_it_cannot_read_resumes_to_the_same_bits_though_a_parameter_has_no_gradient():
    proofs.assert_resumed(replace(SPEC, net=Net(build=f"{__name__}:unused"), epochs=2), (3, 7), proofs.STEP, after=1)


def test_a_network_it_cannot_read_has_no_bf16():
    with pytest.raises(SpecError, match=r"has no bf16, since the engine cannot read it \(it calls mul\): take fp32"):
        engine.train([Replicate(replace(SPEC, net=CLUMSY, precision="bf16"), 0)], Images.of(proofs.FEW, "cpu"), "cpu")


class Doubled(nn.Module):
    """A parametrization that is off in evaluation."""

    def forward(self, weight: Tensor) -> Tensor:
        return 2 * weight if self.training else weight


def test_a_parametrization_knows_whether_the_network_is_trained_or_evaluated():
    model = parametrized(lambda conv: parametrize.register_parametrization(conv, "weight", Doubled()), "conv1")
    own = deepcopy(model)
    program = Program([model], torch.device("cpu"))
    x = torch.randn(4, 32, 32, 3, generator=torch.Generator().manual_seed(1))

    for mode in ("train", "eval"):
        expected = own.train(mode == "train")(x.permute(0, 3, 1, 2))
        proofs.assert_near(program(x[None], mode)[0], expected, 1e-5, f"the output in {mode}")


def test_a_value_that_is_changed_in_place_and_read_again_is_not_read():
    def shared(self: Small, x: Tensor) -> Tensor:
        y = self.features(x)
        return self.fc((y.relu_() + y).mean((2, 3)))

    with pytest.raises(UnreadableError, match="a value that is read twice is changed in place"):
        read(small(forward=shared), 32)


@pytest.mark.parametrize("net", [ResNet(18), pytest.param(RESNEXT, marks=pytest.mark.slow)], ids=str)
def test_weight_normalization_is_one_name_in_the_run_spec(net: Net, record_property: Note):
    spec = replace(SPEC, net=net, parametrization=WEIGHT_NORM)
    got = proofs.assert_one_forced_step(spec, (3, 7), 1, within=proofs.Within(gradients=1e-8))
    record_property("differences", asdict(got))


def test_a_parametrized_replica_resumes_to_the_same_bits():
    spec = replace(SPEC, net=RESNET20, parametrization=WEIGHT_NORM, epochs=2)

    proofs.assert_resumed(spec, (3, 7), proofs.STEP, after=1)


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
    proofs.assert_same_bits(got, expected)


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
