"""A cohort that runs out of memory goes on in halves, to the bits it would have had."""

import time
from dataclasses import replace

import pytest
import torch

from bnlab import engine
from bnlab.data import sources
from bnlab.data.images import Images
from bnlab.engine import bench, cohort, loop
from bnlab.engine.trainer import EngineTrainer
from bnlab.errors import DeviceError
from bnlab.parts import BATCHNORM, NONE, Net
from bnlab.specs import Replicate, RunSpec

TINY = Net(build="bnlab.nets.cifar_resnet:build", options={"depth": 8})
SPEC = RunSpec(net=TINY, norm=BATCHNORM, batch_size=8, epochs=2)
COHORT = [Replicate(SPEC, 0), Replicate(SPEC, 1), Replicate(SPEC, 2)]


@pytest.fixture(scope="module")
def images(tmp_path_factory):
    return Images.of(sources.load("synthetic:24+20", tmp_path_factory.mktemp("cache")), "cpu")


@pytest.fixture(scope="module")
def undisturbed(images):
    return engine.train(COHORT, images, "cpu")


OUT = torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 MiB.\nMore words")


def fits(most, monkeypatch):
    """Let memory run out after the first epoch of a cohort with more than this many replicas."""
    cohorts = []
    train = loop.train

    def short(cohort, images, device, *, resume, after_epoch, **how):
        cohorts.append(([member.seed for member in cohort], [held and engine.snapshot_epoch(held) for held in resume]))

        def stop(member, epoch, snapshot):
            after_epoch(member, epoch, snapshot)
            if len(cohort) > most and member == cohort[-1]:
                raise OUT

        return train(cohort, images, device, resume=resume, after_epoch=stop, **how)

    monkeypatch.setattr(loop, "train", short)
    return cohorts


def test_cohort_goes_on_in_halves_from_the_last_epoch(images, undisturbed, monkeypatch):
    cohorts, said = fits(2, monkeypatch), []

    trained = engine.train(COHORT, images, "cpu", say=said.append)

    assert cohorts == [([0, 1, 2], [None] * 3), ([0, 1], [1, 1]), ([2], [1])]
    assert f"{SPEC}: 3 replicas do not fit on cpu; going on with 2 at a time" in said
    assert [t.weights for t in trained] == [t.weights for t in undisturbed]
    assert [t.curves for t in trained] == [t.curves for t in undisturbed]


def test_single_replica_that_does_not_fit_is_an_error_that_names_the_sizes(images, monkeypatch):
    cohorts = []

    def full(cohort, *args, **kwargs):
        cohorts.append([member.seed for member in cohort])
        raise OUT

    monkeypatch.setattr(loop, "train", full)

    with pytest.raises(DeviceError) as error:
        engine.train(COHORT, images, "cpu")

    assert str(error.value) == (
        f"one replica of {SPEC} does not fit on cpu (CUDA out of memory. Tried to "
        "allocate 20.00 MiB.): take a smaller batch or network, or a device with more memory"
    )
    assert cohorts == [[0, 1, 2], [0, 1], [0]]


def test_other_errors_are_passed_on(images, monkeypatch):
    def broken(*args, **kwargs):
        raise RuntimeError("shape mismatch")

    monkeypatch.setattr(loop, "train", broken)

    with pytest.raises(RuntimeError, match="shape mismatch"):
        engine.train(COHORT[:2], images, "cpu")


def test_cpu_trains_a_replica_for_every_thread(images):
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        assert engine.replicas(SPEC, images, "cpu") == 2
    finally:
        torch.set_num_threads(before)


def test_a_gpu_trains_what_fits_and_times_nothing(images, monkeypatch):
    monkeypatch.setattr(cohort, "fitting", lambda spec, images, device: 24)
    monkeypatch.setattr(time, "perf_counter", lambda: pytest.fail("timed"))

    assert engine.replicas(SPEC, images, "cuda:0") == 24


@pytest.mark.parametrize(("free", "fits"), [(10, 1), (1_000, 8), (100_000, 32)], ids=["at least one", "memory", "most"])
def test_what_fits_follows_from_the_memory_of_one_replica(images, monkeypatch, free, fits):
    for name, fake in {
        "empty_cache": lambda: None,
        "mem_get_info": lambda device: (free, 0),
        "reset_peak_memory_stats": lambda device: None,
        "memory_allocated": lambda device: 50,
        "max_memory_allocated": lambda device: 150,
    }.items():
        monkeypatch.setattr(torch.cuda, name, fake)
    monkeypatch.setattr(loop, "rehearse", lambda spec, images, device: None)

    assert engine.replicas(SPEC, images, "cuda:0") == fits


def test_size_of_a_cohort_is_measured_once_for_each_program(tmp_path, monkeypatch):
    asked = []
    monkeypatch.setattr(engine, "replicas", lambda spec, images, device: asked.append(spec.batch_size) or 3)
    trainer = EngineTrainer("synthetic:24+20", tmp_path, "cpu", torch.get_num_threads(), print)

    specs = [SPEC, replace(SPEC, norm=NONE), replace(SPEC, batch_size=4), SPEC]

    assert [trainer.replicas(spec) for spec in specs] == [3, 3, 3, 3]
    assert asked == [8, 4]


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU: memory is measured there")
def test_gpu_trains_as_many_replicas_as_its_memory_was_measured_to_hold():
    assert 1 <= engine.replicas(SPEC, bench.noise(24, "cuda"), "cuda") <= engine.cohort.MOST


def test_epochs_that_end_too_soon_after_a_snapshot_are_not_kept(images):
    kept = []

    def keep(member, epoch, snapshot):
        kept.append((member.seed, epoch))

    engine.train(COHORT[:2], images, "cpu", after_epoch=keep)
    engine.train(COHORT[:2], images, "cpu", after_epoch=keep, snapshot_every=3600)

    assert kept == [(0, 1), (1, 1)]


def test_snapshots_that_take_long_are_taken_seldom(images, monkeypatch):
    monkeypatch.setattr(loop, "KEPT_BYTES_PER_S", 1e18)  # thought to be cheap
    kept = []

    def keep(member, epoch, snapshot):
        kept.append(epoch)
        time.sleep(0.5)

    engine.train([Replicate(replace(SPEC, epochs=4), 0)], images, "cpu", after_epoch=keep, snapshot_every=1e-9)

    assert kept == [1], "the next one is due after 10 s"
