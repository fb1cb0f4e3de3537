"""On a borrowed GPU one process compiles what the next blocks need while another trains, and nothing depends on it."""

import importlib.util
import json
import os
import subprocess
from argparse import Namespace
from dataclasses import replace
from importlib.machinery import SourceFileLoader
from pathlib import Path
from types import ModuleType

import pytest

from bnlab import cli, engine
from bnlab.data.images import Images
from bnlab.engine import loop
from bnlab.parts import BATCHNORM, Net, ResNet
from bnlab.specs import Replicate, RunSpec
from bnlab.tests.conftest import REPOSITORY
from bnlab.tests.engine import proofs


@pytest.fixture(scope="module")
def gpu() -> ModuleType:
    """The script `.ci/gpu`."""
    loader = SourceFileLoader("ci_gpu", str(REPOSITORY / ".ci" / "gpu"))
    spec = importlib.util.spec_from_loader("ci_gpu", loader)
    module = importlib.util.module_from_spec(spec)
    loader.exec_module(module)
    return module


@pytest.fixture
def asked(tmp_path: Path) -> Namespace:
    folders = {"out": tmp_path, "store": tmp_path / "store", "work": tmp_path}
    blocks = ["18:20", "18:50", "34:50", "18:50:eager"]
    return Namespace(data="synthetic:40+10", device="cpu", protocol="smoke", blocks=blocks, **folders)


def test_the_queue_has_later_blocks_compiled_while_it_trains_the_first(gpu, asked, monkeypatch) -> None:
    done: list[list[str]] = []
    monkeypatch.setattr(subprocess, "Popen", lambda command, cwd: done.append(command[2:4] + command[-3:]))
    monkeypatch.setattr(cli, "main", lambda command: done.append(command[2:5:2]) or 0)

    assert gpu.queue(asked) == 0

    compiled, *trained = done
    assert compiled == ["ahead", str(asked.out), "18:50", "34:50", "18:50:eager"]
    assert trained == [["resnet18", "20"], ["resnet18", "50"], ["resnet34", "50"], ["resnet18", "50"]]


def test_a_block_that_cannot_be_compiled_ahead_is_left_to_its_own_turn(gpu, asked, monkeypatch, capsys) -> None:
    tried = []

    def rehearse(spec: RunSpec, images: Images, device: str) -> None:
        tried.append((spec.net, spec.batch_size, len(images.x_test)))
        if spec.batch_size == 50:
            raise RuntimeError("out of memory")

    monkeypatch.setattr(loop, "rehearse", rehearse)
    monkeypatch.setattr(gpu.os, "nice", lambda more: 0)

    assert gpu.ahead(asked) == 0

    assert tried == [(ResNet(18), 20, 500), (ResNet(18), 50, 500), (ResNet(34), 50, 500)], "tests take 500 images each"
    assert capsys.readouterr().out.count("left to its own turn (RuntimeError: out of memory)") == 2


def test_a_rehearsal_changes_no_bit_of_what_trains_after_it() -> None:
    spec = RunSpec(
        net=Net(build="bnlab.nets.cifar_resnet:build", options={"depth": 8}), norm=BATCHNORM, batch_size=4, epochs=1
    )
    images = Images.of(proofs.FEW, "cpu")
    (before,) = engine.train([Replicate(spec, 3)], images, "cpu")

    loop.rehearse(replace(spec, batch_size=8), images, "cpu")

    (after,) = engine.train([Replicate(spec, 3)], images, "cpu")
    assert (after.weights, after.curves) == (before.weights, before.curves)


def test_a_step_that_fails_is_tried_again_the_slower_ways_and_training_takes_those(
    gpu, asked, tmp_path, monkeypatch, capsys
) -> None:
    asked.out, asked.work = tmp_path / "out", tmp_path / "work"
    asked.out.mkdir(), asked.work.mkdir()
    for name in ("BNLAB_ADAM", "BNLAB_SIDE"):
        monkeypatch.setenv(name, "1")
    asked.preflight, asked.most = 1.0, 12.0

    def preflight(*command: object, limit: float) -> int:
        step = {"ms": 2.0} if os.environ["BNLAB_ADAM"] == "0" else {"ms": 2.0, "error": "an illegal memory access"}
        (asked.out / "preflight.json").write_text(json.dumps({"step 18:20": step}))
        return 0

    monkeypatch.setattr(gpu, "run", preflight)

    assert gpu.check(asked) == 0
    assert (asked.work / "without").read_text().split() == ["side", "adam"]
    assert "an illegal memory access" in (asked.out / "preflight-failed.json").read_text()
    assert "step 18:20 on the faster ways: an illegal memory access" in capsys.readouterr().out
