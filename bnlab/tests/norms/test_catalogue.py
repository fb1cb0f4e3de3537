"""The list of layers, and the command that prints it."""

from dataclasses import replace

import pytest
import torch
from torch import nn

from bnlab.cli import main
from bnlab.engine.norm_costs import relative_costs
from bnlab.nets import apply_part, build, convolutions
from bnlab.norms.catalogue import catalogue
from bnlab.paper import related
from bnlab.parts import BATCHNORM, NONE, Net, Norm
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
