"""The model of a step counts kernels, bytes and FLOP as one would by hand."""

import json
from collections import Counter

import pytest
import torch

from bnlab.cli import main
from bnlab.engine import bench, model
from bnlab.engine.operations import Op
from bnlab.parts import BATCHNORM, ResNet
from bnlab.specs import RunSpec

ROUND = model.Device(flop_per_s=1e12, bytes_per_s=1e9, adam=1.0, node_s=0.0, processors=100)


@pytest.fixture(scope="module")
def resnet18():
    return model.program(RunSpec(net=ResNet(18), norm=BATCHNORM, batch_size=20))


def test_the_stem_is_counted_as_by_hand(resnet18) -> None:
    """Two replicas, three images: 32x32x3 to 16x16x64 by 7x7; no gradient of the images, so one patches, no fold."""
    patches, forward, weights = model._conv(resnet18.weights["conv1"].geometry, 2, 3, first=True)

    rows = 3 * 16 * 16
    assert patches.bytes == 4 * 2 * (3 * 32 * 32 * 3 + rows * 147)
    assert forward.bytes == weights.bytes == 4 * 2 * (rows * 147 + 147 * 64 + rows * 64)
    assert forward.flop == weights.flop == 2 * 2 * rows * 147 * 64
    assert (forward.tiles, weights.tiles) == (2 * 6 * 1, 2 * 1 * 2)


def test_a_convolution_on_a_single_pixel_copies_no_patches(resnet18) -> None:
    (geometry,) = {resnet18.weights[f"layer4.{i}.conv2"].geometry for i in (0, 1)}

    assert [kernel.of for kernel in model._conv(geometry, 2, 3, first=False)] == ["GEMM"] * 3


@pytest.mark.parametrize(
    ("size", "inputs", "moved"),
    [(4, (1,), [2, 3]), (4, (1, 2), [3, 5]), (32, (1,), [1, 2, 2, 3]), (32, (1, 2), [1, 3, 4, 3])],
    ids=["one tile", "residual", "several tiles", "several, residual"],
)
def test_a_norm_moves_its_map_as_often_as_its_kernels_read_and_write_it(size, inputs, moved) -> None:
    op = Op(kind="slot", inputs=inputs, output=3, channels=64, size=size, relu=True)

    once = 4 * 2 * 4 * size**2 * 64
    assert [kernel.bytes for kernel in model._norm(op, 2, 4)] == [times * once for times in moved]


def test_adam_moves_28_bytes_of_every_parameter_in_launches_that_are_full(resnet18) -> None:
    counted = [kernel for kernel in model.kernels(resnet18, 16, 20) if kernel.of == "Adam"]

    live = sum(leaf.numel() for leaf in resnet18.leaves())
    assert sum(kernel.bytes for kernel in counted) == pytest.approx(28 * 16 * live)
    assert len(counted) == 1 + max(-(-16 * live // (320 * 65536)), -(-len(resnet18.leaves()) // 36))


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


@pytest.mark.parametrize(("batch", "gigabytes", "gigaflop"), [(20, 5.4, 56), (50, 9.3, 140)])
def test_resnet18_moves_what_a_count_on_paper_gave(resnet18, batch, gigabytes, gigaflop) -> None:
    counted = model.step(resnet18, 16, batch, model.DEVICES["h200"])

    assert round(counted.bytes / 1e9, 1) == gigabytes
    assert round(counted.flop / 1e9) == gigaflop
    assert counted.launches == pytest.approx(200, rel=0.1)
    assert sum(counted.shares.values()) == pytest.approx(counted.seconds)


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
