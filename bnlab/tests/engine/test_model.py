"""The model of a step counts kernels, bytes and FLOP as one would by hand."""

import json
from collections import Counter
from dataclasses import replace

import pytest
import torch

from bnlab.cli import main
from bnlab.engine import bench, model, side
from bnlab.engine.operations import Op
from bnlab.parts import BATCHNORM, ResNet
from bnlab.specs import RunSpec

ROUND = model.Device(flop_per_s=1e12, bytes_per_s=1e9, adam=1.0, node_s=0.0, processors=100)


@pytest.fixture(scope="module")
def resnet18():
    return model.program(RunSpec(net=ResNet(18), norm=BATCHNORM, batch_size=20))


def test_the_stem_is_counted_as_by_hand(resnet18) -> None:
    """Two replicas, three images: 32x32x3 to 16x16x64 by 7x7; no gradient of the images, so one patches, no fold."""
    (patches, forward), (weights,) = model._conv(resnet18.weights["conv1"].geometry, 2, 3, first=True)

    rows = 3 * 16 * 16
    assert patches.bytes == 4 * 2 * (3 * 32 * 32 * 3 + rows * 147)
    assert forward.bytes == weights.bytes == 4 * 2 * (rows * 147 + 147 * 64 + rows * 64)
    assert forward.flop == weights.flop == 2 * 2 * rows * 147 * 64
    assert (forward.tiles, weights.tiles) == (2 * 6 * 1, 2 * 1 * 2)


def test_a_convolution_on_a_single_pixel_copies_no_patches(resnet18) -> None:
    (geometry,) = {resnet18.weights[f"layer4.{i}.conv2"].geometry for i in (0, 1)}

    forward, backward = model._conv(geometry, 2, 3, first=False)
    assert [(kernel.of, kernel.side) for kernel in forward + backward] == [("GEMM", s) for s in (False, True, False)]


@pytest.mark.parametrize(
    ("size", "inputs", "moved"),
    [(4, (1,), [2, 3]), (4, (1, 2), [3, 5]), (32, (1,), [1, 2, 2, 3]), (32, (1, 2), [1, 3, 4, 3])],
    ids=["one tile", "residual", "several tiles", "several, residual"],
)
def test_a_norm_moves_its_map_as_often_as_its_kernels_read_and_write_it(size, inputs, moved) -> None:
    op = Op(kind="slot", inputs=inputs, output=3, channels=64, size=size, relu=True)

    once = 4 * 2 * 4 * size**2 * 64
    assert [kernel.bytes for way in model._norm(op, 2, 4) for kernel in way] == [times * once for times in moved]


@pytest.mark.parametrize(("size", "relu", "moved"), [(4, True, [3, 6]), (4, False, [3, 5]), (32, True, [1, 3, 5, 3])])
def test_a_norm_that_two_read_adds_their_gradients_in_its_own_kernel(size, relu, moved) -> None:
    op = Op(kind="slot", inputs=(1, 2), output=3, channels=64, size=size, relu=relu)

    once = 4 * 2 * 4 * size**2 * 64
    assert [kernel.bytes for way in model._norm(op, 2, 4, twice=True) for kernel in way] == [n * once for n in moved]


def test_adam_moves_28_bytes_of_every_parameter_in_launches_that_are_full(resnet18) -> None:
    counted = [kernel for kernel in model.kernels(resnet18, 16, 20) if kernel.of == "Adam"]

    live = sum(leaf.numel() for leaf in resnet18.leaves())
    assert sum(kernel.bytes for kernel in counted) == pytest.approx(28 * 16 * live)
    held = [sum(16 * leaf.numel() for leaf in piece) for piece in side.pieces(resnet18.leaves(), 16)]
    assert len(held) > 3
    assert len(counted) == len(held) + sum(-(-elements // (320 * 65536)) for elements in held)


def test_flop_are_those_that_the_bench_counts(resnet18) -> None:
    counted = model.step(resnet18, 16, 20, ROUND)

    assert counted.flop == 2 * 16 * 20 * bench.macs(resnet18)


@pytest.mark.parametrize(
    ("kernel", "seconds"),
    [
        (model.Kernel(of="rest", bytes=2e9), 2.0),
        (model.Kernel(of="GEMM", bytes=1.0, flop=3e12, tiles=200), 3.0),
        (model.Kernel(of="GEMM", bytes=1.0, flop=3e12, tiles=101), 3.0 * 200 / 101),
        (model.Kernel(of="GEMM", bytes=4e9, flop=3e12, tiles=100), 4.0),
    ],
    ids=["bytes", "flop", "last wave", "bytes over flop"],
)
def test_a_kernel_takes_the_longer_of_its_bytes_and_its_flop(kernel, seconds) -> None:
    assert kernel.seconds(ROUND) == pytest.approx(seconds)


@pytest.mark.parametrize(("batch", "gigabytes", "gigaflop"), [(20, 5.3, 56), (50, 9.2, 140)])
def test_resnet18_moves_what_a_count_on_paper_gave(resnet18, batch, gigabytes, gigaflop) -> None:
    counted = model.step(resnet18, 16, batch, model.DEVICES["h200"])

    assert round(counted.bytes / 1e9, 1) == gigabytes
    assert round(counted.flop / 1e9) == gigaflop
    assert counted.launches == pytest.approx(200, rel=0.1)
    assert 0.8 * sum(counted.shares.values()) < counted.seconds < sum(counted.shares.values())


def product(seconds: float, *, bytes_: float = 0.0, beside: bool = False) -> model.Kernel:
    """A product of this time alone, of which its bytes take a part."""
    return model.Kernel(of="GEMM", bytes=1e9 * bytes_, flop=1e12 * seconds, tiles=100, side=beside)


def move(seconds: float, *, beside: bool = False) -> model.Kernel:
    return model.Kernel(of="rest", bytes=1e9 * seconds, side=beside)


@pytest.mark.parametrize(
    ("launched", "seconds"),
    [
        ([move(2), product(3)], 5.0),
        ([move(2), product(3, beside=True)], 5.0),
        ([product(3, beside=True), move(2)], 3.0),
        ([move(3, beside=True), move(2)], 5.0),
        ([product(4, bytes_=2, beside=True), move(2)], 5.0),
        ([product(1, beside=True), move(2), product(1, beside=True), move(2)], 4.0),
        ([move(1, beside=True), product(1), product(1, beside=True)], 2.0),
    ],
    ids=["in turn", "after what is before it", "beside", "one memory", "half of it each", "gaps", "joined at the end"],
)
def test_two_streams_share_what_the_device_reaches(launched, seconds) -> None:
    assert model.both_streams(launched, ROUND) == pytest.approx(seconds)


def test_a_device_that_moves_more_bytes_for_two_kernels_is_credited_with_them() -> None:
    together = replace(ROUND, together=1.25)

    assert model.both_streams([move(2, beside=True), move(2)], together) == pytest.approx(4 / 1.25)


def test_every_parameter_of_a_program_is_in_one_product_or_norm(resnet18) -> None:
    kinds = Counter(kernel.of for kernel in model.kernels(resnet18, 1, 20))

    assert kinds["GEMM"] == 3 * 20 - 1 + 3
    assert resnet18.device == torch.device("cpu")


def test_the_table_says_what_it_is_and_writes_its_figures(tmp_path, capsys) -> None:
    file = tmp_path / "model.json"

    asked = ["bench", "--model", "h200", "--arch", "resnet18", "--batch-size", "20", "50", "--replicas", "8"]
    assert main([*asked, "--figures", "node_s=0", "--json", str(file)]) == 0

    first, _, *rows, last = capsys.readouterr().out.splitlines()
    written = json.loads(file.read_text())
    assert first.startswith("h200, not measured: ")
    assert written["device"]["node_s"] == 0
    assert [row.split()[:3] for row in rows[:2]] == [["ResNet18", "20", "8"], ["ResNet18", "50", "8"]]
    assert f"{written['minutes']:.1f} min of steps" in last


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        (["tpu"], "bnlab: unknown device in --model tpu: expected h200 or h100"),
        (["h200", "--figures", "speed=1"], "bnlab: --figures speed=1: expected NAME=NUMBER with a name of flop_per_s"),
        (["h200", "--figures", "node_s=fast"], "bnlab: --figures node_s=fast: expected NAME=NUMBER"),
    ],
)
def test_an_unknown_device_or_figure_is_refused(asked, said, capsys) -> None:
    assert main(["bench", "--model", *asked]) == 2
    assert capsys.readouterr().err.startswith(said)
