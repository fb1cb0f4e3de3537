"""What a probe read, as safetensors bytes: numbers and arrays that carry their own SHA-256."""

import json
import struct
from typing import Any

import numpy

from bnlab.errors import StoreError
from bnlab.runs import Readings, readings_digest
from bnlab.store.checks import LARGEST, is_name

TYPES = ("float32", "float64", "int64")
"""What an array of readings may hold."""

_MOST = 10_000
"""Most readings of one probe."""


def pack(probe: str, readings: Readings) -> bytes:
    """The readings of one probe as safetensors bytes, a number as an array without axes.

    StoreError for readings that are something else, or too many.
    """
    from safetensors.numpy import save

    for name, value in readings.items():
        array = isinstance(value, numpy.ndarray) and value.ndim and value.dtype.name in TYPES
        if not is_name(name) or not (array or isinstance(value, float)):
            raise StoreError(
                f"the reading {name!r} of the probe {probe!r} is {type(value).__name__}: expected a float or an array "
                f"of {', '.join(TYPES)}"
            )
    arrays = {name: numpy.array(value, order="C") for name, value in sorted(readings.items())}
    content = bytes(save(arrays, {"probe": probe, "sha256": readings_digest(readings)}))
    if len(content) > LARGEST or len(readings) > _MOST or not is_name(probe):
        raise StoreError(
            f"the probe {probe!r} read {len(readings)} values of {len(content)} bytes: expected at most {_MOST} values "
            f"of {LARGEST} bytes, under a short name"
        )
    return content


def unpack(probe: str, content: bytes) -> dict[str, Any]:
    """The readings that `pack` wrote for this probe.

    ValueError for anything else: other bytes, too many of them, or readings that do not have the SHA-256 they carry.
    """
    from safetensors import SafetensorError
    from safetensors.numpy import load

    if len(content) > LARGEST:
        raise ValueError(f"{len(content)} bytes of readings, more than {LARGEST}")
    try:
        (length,) = struct.unpack_from("<Q", content)
        metadata = json.loads(content[8 : 8 + length])["__metadata__"]
        arrays = load(content)
    except (SafetensorError, struct.error, ValueError, LookupError, TypeError, RecursionError) as error:
        raise ValueError(f"it is no file of readings ({type(error).__name__})") from error
    for name, array in arrays.items():
        number = not array.ndim and array.dtype.name == "float64"
        if not is_name(name) or not (number or (array.ndim and array.dtype.name in TYPES)) or len(arrays) > _MOST:
            raise ValueError("it holds readings of a kind that no probe gives")
    readings = {name: array if array.ndim else float(array) for name, array in arrays.items()}
    if metadata != {"probe": probe, "sha256": readings_digest(readings)}:
        raise ValueError(f"it does not have the SHA-256 that it carries, or is not of the probe {probe!r}")
    return readings
