"""The list of layers, and the command that prints it."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import nn

from bnlab.cli import main, norms
from bnlab.engine import norm_costs
from bnlab.engine.norm_costs import relative_costs
from bnlab.nets import apply_part, build, convolutions
from bnlab.norms.catalogue import catalogue
from bnlab.paper import related
from bnlab.parts import BATCHNORM, NONE, Net, Norm, ResNet
from bnlab.specs import RunSpec

ENTRIES = {entry.name or entry.norm.layer.rpartition(":")[2]: entry for entry in catalogue()}
RUNNING = ("running_mean", "running_var")


@pytest.mark.parametrize(
    ("name", "parameters", "statistics", "batch", "fused", "source", "place"),
    [
        ("BatchNorm", (2, 0), RUNNING, True, True, "Ioffe & Szegedy 2015", "2.1.1"),
        ("Identity", (0, 0), (), False, True, "", "3.2"),
        ("LayerNorm", (2, 0), (), False, False, "Ba, Kiros & Hinton 2016", "2.4.10"),
        ("UnitizedBatchNorm", (3, 0), RUNNING, True, False, "Huang & Yu 2020", "2.4.2"),
        ("SwitchableNorm", (2, 6), RUNNING, True, False, "Luo, Ren, Peng, Zhang & Li 2019", "2.4.13"),
    ],
)
def test_a_layer_is_listed_with_what_it_is(name, parameters, statistics, batch, fused, source, place) -> None:
    entry = ENTRIES[name]

    assert (entry.parameters, entry.statistics, entry.source, entry.place) == (parameters, statistics, source, place)
    assert (entry.looks_at_batch, entry.fused) == (batch, fused)
    assert entry.evaluates_as_it_trains == (not batch)


def test_every_layer_of_section_2_4_names_its_source_and_place() -> None:
    assert {"LpNorm", "GroupNorm", "InstanceNorm", "GhostBatchNorm", "PopulationNorm", "NoisyBatchNorm"} < set(ENTRIES)
    assert [name for name, entry in ENTRIES.items() if entry.place.startswith("2.4") and not entry.source] == []
    assert "WithStatistics" not in ENTRIES


@pytest.mark.parametrize("name", ["WeightNorm", "Fixup", "SkipInit"])
def test_a_system_that_is_no_layer_trains_so_many_numbers_a_filter_or_a_place_of_a_norm(name: str) -> None:
    """Counted beside a ResNet-20 without norms: a number a filter, or one or two at places where those may stand."""
    entry, none = ENTRIES[name], related(NONE)
    spec = related(entry.norm, **entry.changes)
    bare, made = (build(one.net, one.norm, seed=0) for one in (none, spec))
    for conv in convolutions(made) if spec.parametrization else ():
        apply_part(spec.parametrization, conv)

    filters = sum(conv.out_channels for conv in convolutions(bare))
    own = trained(made) - trained(bare)
    assert own == {"WeightNorm": filters, "Fixup": 9 * 5 + 2, "SkipInit": 9}[name]
    assert entry.parameters == {"WeightNorm": (1, 0), "Fixup": (0, 2), "SkipInit": (0, 1)}[name]


def trained(model: nn.Module) -> int:
    return sum(p.numel() for p in model.parameters() if p.requires_grad)


def test_norms_prints_a_line_for_each(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["norms"]) == 0

    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 1 + len(ENTRIES)
    (line,) = [line for line in lines if line.startswith("SwitchableNorm")]
    assert line.split()[:8] == ["SwitchableNorm", "§2.4.13", "2", "a", "channel,", "6", "a", "layer"]
    assert line.endswith("the batch  by replica  Luo, Ren, Peng, Zhang & Li 2019")


def test_rounds_below_one_are_refused_in_words(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["norms", "--time", "0"]) == 2

    assert capsys.readouterr().err == "bnlab: norms --time 0: expected a number of rounds, 1 or more\n"


def test_bench_times_layers_over_batchnorm_and_says_which_does_not_train_there(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file, own, head = tmp_path / "norms.json", f"{__name__}:Slow", "ResNet18, batch 4, K 1"
    sizes = ["--batch-size", "4", "--replicas", "1", "--device", "cpu", "--threads", "1", "--rounds", "1"]

    assert main(["bench", *sizes, "--norm", own, "InstanceNorm", "WeightNorm", "--json", str(file)]) == 0

    _, heads, *rows, refused = capsys.readouterr().out.splitlines()
    written = json.loads(file.read_text())["over BatchNorm"]
    assert heads.split() == ["layer", *head.split()]
    assert written["InstanceNorm"] == {head: None}
    assert refused.startswith(f"InstanceNorm, {head}: InstanceNorm stands at the 1x1 maps of layer4")
    assert [line.split()[0] for line in rows] == list(written)
    assert [line.split()[1] for line in rows] == [
        f"{written[own][head]:.2f}",
        "-",
        f"{written['WeightNorm'][head]:.2f}",
    ]
    assert written[own][head] > 1


def test_bench_times_by_default_what_norms_lists_and_any_network_takes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(norm_costs, "relative_costs", lambda base, specs, *rest: [1.0])
    cell = RunSpec(net=ResNet(18), norm=BATCHNORM, batch_size=4)

    timed = norms.bench([], [(cell, 1)], "cpu", 1)

    assert set(timed) == {entry.name or str(entry.norm) for entry in ENTRIES.values()} - {"Fixup"}


def test_bench_refuses_what_names_no_layer(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["bench", "--device", "cpu", "--norm", "Batchnorm"]) == 2

    assert capsys.readouterr().err.startswith("bnlab: unknown Norm 'Batchnorm': expected 'package.module:name'")


class Slow(nn.Module):
    """Twenty BatchNorms in a row."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(*(nn.BatchNorm2d(channels) for _ in range(20)))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.layers(x)


def test_a_step_with_a_slow_layer_costs_more_than_one_with_none() -> None:
    spec = RunSpec(net=Net(build="bnlab.nets.cifar_resnet:build", options={"depth": 8}), norm=BATCHNORM, batch_size=8)
    others = [replace(spec, norm=norm) for norm in (NONE, Norm(layer=f"{__name__}:Slow"))]
    none, slow = relative_costs(spec, others, "cpu", replicas=1, rounds=3)

    assert none < 1 < slow
