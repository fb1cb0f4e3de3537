"""Which device trains, and with how many threads."""

import os

import pytest

from bnlab import devices
from bnlab.errors import DeviceError


@pytest.fixture
def gpus(monkeypatch: pytest.MonkeyPatch):
    return lambda count: monkeypatch.setattr(devices, "cuda_devices", lambda: count)


@pytest.mark.parametrize(
    ("count", "asked", "fall_back", "chosen"),
    [
        (0, None, False, None),
        (0, None, True, "cpu"),
        (2, None, False, "cuda"),
        (2, None, True, "cuda"),
        (2, "cpu", False, "cpu"),
        (2, "cuda:1", False, "cuda:1"),
    ],
)
def test_a_gpu_is_taken_where_there_is_one(gpus, count, asked, fall_back, chosen) -> None:
    gpus(count)

    assert devices.choose(asked, fall_back_to_cpu=fall_back) == chosen


@pytest.mark.parametrize(("asked", "words"), [("cuda:2", "shows 2 CUDA devices"), ("gpu", "unknown device 'gpu'")])
def test_a_device_that_is_not_there_is_an_error_in_words(gpus, asked, words) -> None:
    gpus(2)

    with pytest.raises(DeviceError, match=words):
        devices.choose(asked, fall_back_to_cpu=True)


def test_gpus_are_dealt_to_workers_in_turn(gpus) -> None:
    gpus(2)

    assert [devices.for_worker("cuda", worker) for worker in range(3)] == ["cuda:0", "cuda:1", "cuda:0"]
    assert [devices.for_worker(name, 1) for name in ("cpu", "cuda:0", None)] == ["cpu", "cuda:0", None]


def test_cores_are_dealt_to_workers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda process: set(range(8)), raising=False)
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)

    assert [devices.threads(workers) for workers in (1, 3, 16)] == [8, 2, 1]
    monkeypatch.setenv("OMP_NUM_THREADS", "3")
    assert [devices.threads(workers) for workers in (1, 4)] == [3, 2]


@pytest.mark.parametrize(
    ("shown", "device", "name"),
    [
        (None, "cpu", ""),
        (None, None, ""),
        (None, "cuda", "gpu-here-0"),
        (None, "cuda:1", "gpu-here-1"),
        ("3,5", "cuda:1", "gpu-here-5"),
        ("GPU-8a/b", "cuda:0", "gpu-here-GPU-8a_b"),
    ],
)
def test_a_gpu_is_locked_by_the_name_that_every_process_has_for_it(shown, device, name, monkeypatch):
    monkeypatch.setattr(devices.platform, "node", lambda: "here")
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    if shown is not None:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", shown)

    assert devices.lock_name(device) == name
