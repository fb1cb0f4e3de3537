"""The trainer of a session trains every RunSpec on its own images."""

from dataclasses import replace
from fractions import Fraction

import pytest

from bnlab.data.catalogue import Catalogue
from bnlab.engine.trainer import EngineTrainer
from bnlab.errors import DataError
from bnlab.parts import BATCHNORM, Net
from bnlab.protocol import Protocol
from bnlab.specs import Replicate, RunSpec

SPEC = RunSpec(net=Net(build="bnlab.nets.cifar_resnet:build", options={"depth": 8}), norm=BATCHNORM, batch_size=8)
OWN = "synthetic:32+10 of train"


@pytest.fixture
def catalogue(tmp_path):
    return Catalogue(tmp_path)


@pytest.fixture
def protocol(catalogue):
    return Protocol(name="test", looks=(2,), effort=Fraction(1, 15), data="", judges=False, resolve=catalogue.resolve)


@pytest.fixture
def trainer(catalogue):
    return EngineTrainer("synthetic:24+20", catalogue.cache, "cpu", 1, catalogue=catalogue)


def test_run_spec_is_planned_by_the_digest_of_its_source_and_trains_on_its_images(catalogue, protocol, trainer):
    usual, own = (protocol.apply(replace(SPEC, data=data), 64 * "0") for data in ("", OWN))

    assert (usual.data, own.data) == (64 * "0", catalogue.resolve(OWN))
    assert len(trainer.images(own).y_train) == 32
    assert trainer.images(own) is trainer.images(own), "read once"
    (run,) = trainer.train([Replicate(own, 0)], [None], lambda *kept: None)
    assert run.spec.data == own.data
    assert run.curves["test_accuracy"][-1] * 10 / 100 == round(run.curves["test_accuracy"][-1] * 10 / 100)


def test_run_spec_without_data_or_with_that_of_the_session_trains_on_the_session_s_images(catalogue, trainer):
    digest = catalogue.resolve("synthetic:24+20")

    assert len(trainer.images(SPEC).y_train) == 24
    assert trainer.images(replace(SPEC, data=digest)) is trainer.images(SPEC)


def test_digest_of_no_source_is_refused_and_not_trained_on_other_images(trainer):
    with pytest.raises(DataError, match=r"^no data source of this session has the digest abababababab"):
        trainer.train([Replicate(replace(SPEC, data=32 * "ab"), 0)], [None], lambda *kept: None)


def test_protocol_shortens_the_warm_up_with_the_epochs(protocol):
    spec = replace(SPEC, epochs=45, warmup=15)

    assert (protocol.apply(spec, "").epochs, protocol.apply(spec, "").warmup) == (3, 1)


def test_evaluation_of_a_user_has_the_version_of_its_source_in_the_key(protocol, tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(tmp_path)
    keys = []
    for name in ("one", "two"):
        (tmp_path / f"my_{name}.py").write_text(f"def f(training):\n    return [{len(name)}]  # {name}\n")
        applied = protocol.apply(replace(SPEC, evaluations=("running", f"my_{name}:f")), "")
        keys.append(applied.evaluations[1].partition("@")[2])
        assert applied.evaluations[0] == "running"
        assert protocol.apply(applied, "").evaluations == applied.evaluations, "applied twice is applied once"

    assert len(set(keys)) == 2
    assert all(len(key) == 16 for key in keys)
