"""The bench counts what torch's own counter counts, and prints what it writes."""

import json
from dataclasses import replace

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from bnlab.cli import main
from bnlab.cli.bench import draw
from bnlab.engine import bench
from bnlab.engine.program import Program
from bnlab.nets import build
from bnlab.parts import BATCHNORM, ResNet
from bnlab.specs import RunSpec

DEPTHS = [18, 34, 50, 101]

TIMING = bench.Timing(
    net="ResNet18",
    batch_size=20,
    replicas=4,
    ours_ms=2.0,
    rivals_ms={"eager": 10.0},
    floor_ms=1.0,
    spreads={"ours": 0.0, "eager": 0.25},
    images_per_s=10_000.0,
    peak_mib=None,
)


@pytest.mark.parametrize("depth", DEPTHS)
def test_multiplications_of_a_step_are_those_that_torch_counts(depth):
    model = build(ResNet(depth), BATCHNORM, 0)
    program = Program([build(ResNet(depth), BATCHNORM, 0)], torch.device("cpu"), elide=False)

    with FlopCounterMode(display=False) as counter:
        model(torch.randn(2, 3, 32, 32)).sum().backward()

    assert bench.macs(program) == counter.get_total_flops() / 2 / 2  # two images, two operations a multiplication


@pytest.mark.parametrize(("depth", "live"), [(18, 88), (34, 188), (50, 231), (101, 459)])
def test_live_taps_leave_the_multiplications_that_were_counted_by_hand(depth, live):
    program = Program([build(ResNet(depth), BATCHNORM, 0)], torch.device("cpu"))

    assert round(bench.macs(program) / 1e6) == live


def test_grid_counts_every_run_of_every_cell():
    timing = TIMING

    assert bench.grid([timing], images=50_000, epochs=15, runs=16) == pytest.approx(16 * 37_500 * 0.002)
    assert (timing.over, timing.over_floor) == ({"eager": 5.0}, 2.0)


def test_grid_is_timed_with_the_papers_norms_mixed():
    spec = RunSpec(net=ResNet(18), norm=BATCHNORM, batch_size=4)

    members = bench.cohort(spec, 8, bench.PAPER_NORMS)

    assert [member.seed for member in members] == [0] * 4 + [1] * 4
    assert {own.spec.norm for own in members} == set(bench.PAPER_NORMS)
    assert {own.cohort_key for own in members} == {spec.cohort_key}


def test_where_the_time_goes_is_told_by_operators_that_a_step_calls(tmp_path, capsys):
    file = tmp_path / "bench.json"
    asked = ["bench", "--batch-size", "4", "--replicas", "1", "--device", "cpu", "--steps", "1", "--rounds", "1"]

    assert main([*asked, "--rivals", "--where", "--json", str(file)]) == 0

    out = capsys.readouterr().out
    (shares,) = json.loads(file.read_text())["where"].values()
    calls = {share["name"]: share["calls"] for share in shares}
    assert calls["aten::native_batch_norm_backward"] == 20
    assert calls["aten::_fused_adam_"] == 1
    assert sorted((share["ms"] for share in shares), reverse=True) == [share["ms"] for share in shares]
    assert "launches a step" in out


def test_bench_prints_a_row_and_writes_the_same_figures(tmp_path, capsys):
    file = tmp_path / "bench.json"
    asked = ["bench", "--arch", "resnet18", "--batch-size", "4", "--replicas", "1", "2", "--device", "cpu"]

    turns = ["--threads", "1", "--steps", "1", "--rounds", "2", "--rivals", "eager", "graph"]
    assert main([*asked, *turns, "--json", str(file)]) == 0

    doing, first, head, *rows = capsys.readouterr().out.splitlines()
    written = json.loads(file.read_text())
    assert doing == "measuring what cpu can do at best"
    assert "1 threads" in first
    assert head.split()[-6:] == ["eager", "ms", "x", "graph", "ms", "x"]
    assert all(line.startswith("graph cannot run here and is left out (") for line in rows[::2])
    assert [row.split()[:3] for row in rows[1::2]] == [["ResNet18", "4", "1"], ["ResNet18", "4", "2"]]
    for row, timing in zip(rows[1::2], written["timings"], strict=True):
        assert row.split()[-2:] == ["-", "nan"]
        assert float(row.split()[-3]) == pytest.approx(timing["rivals_ms"]["eager"] / timing["ours_ms"], abs=0.006)
        assert set(timing["spreads"]) == {"ours", "eager"}
        assert timing["images_per_s"] == pytest.approx(4 * 1e3 / timing["ours_ms"])
        assert timing["floor_ms"] > 0


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        (["--arch", "vgg11"], "bnlab: unknown network in --arch vgg11: expected resnet18, 34, 50 or 101, or all"),
        (["--arch", "resnet20"], "bnlab: unknown network ResNet(20): expected a depth of 18, 34, 50 or 101"),
        (
            ["--rounds", "0"],
            "bnlab: bench was given a number below 1: --replicas, --steps, --rounds and --threads take 1 or more",
        ),
    ],
)
def test_bad_requests_are_refused_in_words(asked, said, capsys):
    assert main(["bench", "--device", "cpu", *asked]) == 2
    assert capsys.readouterr().err.strip() == said


def test_picture_of_throughput_is_drawn(tmp_path):
    spec = RunSpec(net=ResNet(18), norm=BATCHNORM, batch_size=4)
    most = bench.Ceiling(bytes_per_s=1e10, flop_per_s=1e11, adam_bytes_per_s=1e10)
    timings = [bench.compare(bench.cohort(spec, k), "cpu", steps=1, rounds=1, ceiling=most) for k in (1, 2)]

    draw(timings, tmp_path / "k.svg")

    text = (tmp_path / "k.svg").read_text()
    assert "ResNet18, batch 4" in text
    assert "replicas trained as one cohort" in text


def test_a_row_is_on_disk_before_the_next_is_timed(tmp_path, monkeypatch):
    file, seen = tmp_path / "bench.json", []

    def compare(cohort, device, **how):
        if file.exists():
            seen.append([row["replicas"] for row in json.loads(file.read_text())["timings"]])
        return replace(TIMING, replicas=len(cohort))

    monkeypatch.setattr(bench, "compare", compare)
    monkeypatch.setattr(bench, "ceiling", lambda device: bench.Ceiling(bytes_per_s=1, flop_per_s=1, adam_bytes_per_s=1))

    asked = ["bench", "--batch-size", "20", "--replicas", "1", "2", "3", "--device", "cpu", "--json", str(file)]
    assert main([*asked, "--rivals", "eager"]) == 0

    assert seen == [[1], [1, 2]]
