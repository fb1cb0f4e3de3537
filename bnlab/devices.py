"""Which device trains, found without importing torch, so that judging starts fast."""

import ctypes
import os
import platform
import re
import sys

from bnlab.errors import DeviceError

_DRIVER = "nvcuda.dll" if sys.platform == "win32" else "libcuda.so.1"


def cuda_devices() -> int:
    """CUDA devices that this process may use (see `CUDA_VISIBLE_DEVICES`); 0 without a driver."""
    try:
        driver = ctypes.CDLL(_DRIVER)
    except OSError:
        return 0
    count = ctypes.c_int(0)
    if driver.cuInit(0) != 0 or driver.cuDeviceGetCount(ctypes.byref(count)) != 0:
        return 0
    return count.value


def choose(asked: str | None, *, fall_back_to_cpu: bool) -> str | None:
    """The device to train on: `cpu`, `cuda`, `cuda:1`, or None where nothing may train.

    If no device was asked for: `cuda` if there is a GPU, else None (the CPU if
    `fall_back_to_cpu`). A name that is no device, and a GPU that is not there, are DeviceErrors.
    """
    if asked is None:
        return "cuda" if cuda_devices() else ("cpu" if fall_back_to_cpu else None)
    if not re.fullmatch(r"cpu|cuda(:[0-9]{1,9})?", asked):
        raise DeviceError(f"unknown device {asked!r}: expected cpu, cuda or cuda:N")
    if asked.startswith("cuda"):
        count, wanted = cuda_devices(), int(asked.partition(":")[2] or 0)
        if wanted >= count:
            raise DeviceError(
                f"--device {asked} was asked for and this machine shows {count} CUDA devices: "
                "use --device cpu, or a machine with a GPU"
            )
    return asked


def for_worker(device: str | None, worker: int) -> str | None:
    """The device of a worker: `cuda` becomes the next GPU in turn, other names stay."""
    if device != "cuda":
        return device
    return f"cuda:{worker % max(1, cuda_devices())}"


def lock_name(device: str | None) -> str:
    """The name under which a store locks this device: one cohort at a time trains on a GPU; "" for any other.

    Two processes that are shown different GPUs both call theirs cuda:0, so the name holds what the driver calls it.
    """
    if device is None or not device.startswith("cuda"):
        return ""
    index = int(device.partition(":")[2] or 0)
    shown = os.environ.get("CUDA_VISIBLE_DEVICES", "").split(",")
    gpu = shown[index].strip() if index < len(shown) and shown != [""] else str(index)
    return re.sub(r"[^\w-]", "_", f"gpu-{platform.node()}-{gpu}")


def threads(workers: int) -> int:
    """CPU threads for each of so many workers: equal shares, at most OMP_NUM_THREADS."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    share = max(1, cores // max(1, workers))
    most = os.environ.get("OMP_NUM_THREADS", "")
    return min(share, int(most)) if most.isdecimal() and int(most) else share
