"""A snapshot: what one replica needs to go on after an epoch, as safetensors bytes.

The format holds tensors and short texts only: loading it runs no code, and it cannot expand.
"""

import hashlib
import json
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from safetensors.torch import load, save
from torch import Tensor

from bnlab.engine.kernels.packing import Packed
from bnlab.engine.training import Training

_NOTE = "__note__"
_COUNT = "step"
_KINDS = (_COUNT, "exp_avg", "exp_avg_sq", "momentum_buffer")
"""What torch's optimizers keep of a parameter: how often it was updated, and tensors of its shape."""


def take(training: Training, k: int, note: Mapping[str, Any]) -> bytes:
    """Replica k's weights, statistics, optimizer and probes, beside a note of plain JSON values."""
    tensors = {f"model.{name}": tensor for name, tensor in training.program.state_dict(k).items()}
    for name in training.program.trained(k):
        packed = training.program.parameters[name]
        states = [training.optimizer.state[leaf] for leaf in packed.leaves]
        # a parameter that never had a gradient has no state
        for kind in [kind for kind in _KINDS if kind in _own(packed, k, states)]:
            kept = [state.get(kind) for state in states]
            count = kind == _COUNT
            tensors[f"{kind}.{name}"] = (
                _own(packed, k, kept).cpu().clone() if count else packed.read(k, kept, torch.zeros(()))
            )
    plain: dict[str, dict[str, Any]] = {}
    for probe, instance in training.probes[k].items():
        plain[probe] = {}
        for name, value in instance.state().items():
            if isinstance(value, np.ndarray):
                tensors[f"probe.{probe}.{name}"] = torch.from_numpy(value)
            else:
                plain[probe][name] = value
    return pack(tensors, {**note, "probes": plain})


def size(training: Training) -> int:
    """Bytes of the snapshots of all replicas, about: weights, and what the optimizer keeps of each."""
    parameters = training.program.parameters
    weights = sum(
        parameters[name].shape.numel() for k in range(training.program.replicas) for name in training.program.trained(k)
    )
    first = training.program.leaves()[0]
    kept = [kind for kind in training.optimizer.state.get(first, {}) if kind in _KINDS and kind != _COUNT]
    return first.element_size() * weights * (1 + len(kept))


def restore(training: Training, k: int, snapshot: bytes) -> None:
    """Put a snapshot into replica k and its probes."""
    tensors = load(snapshot)
    training.program.load_state_dict(k, _under("model", tensors))
    for kind in _KINDS:
        for name, value in _under(kind, tensors).items():
            packed = training.program.parameters[name]
            states = [training.optimizer.state[leaf] for leaf in packed.leaves]
            if kind == _COUNT:
                _own(packed, k, states)[kind] = value.to(_own(packed, k, packed.leaves).device)
                continue
            _own(packed, k, states).setdefault(kind, torch.zeros_like(_own(packed, k, packed.leaves)))
            packed.write(k, [state.get(kind) for state in states], value)
    plain = note(snapshot).get("probes", {})
    for probe, instance in training.probes[k].items():
        arrays = {name: tensor.numpy() for name, tensor in _under(f"probe.{probe}", tensors).items()}
        instance.restore({**plain[probe], **arrays})


def serves(snapshot: bytes, probes: Sequence[str]) -> bool:
    """Whether a Run with these probes can go on from the snapshot: whether it was taken with them."""
    return set(probes) <= set(note(snapshot).get("probes", {}))


def pack(tensors: Mapping[str, Tensor], note: Mapping[str, Any]) -> bytes:
    """Tensors and a note as safetensors bytes."""
    text = torch.frombuffer(bytearray(json.dumps(note).encode()), dtype=torch.uint8)
    return save({**{name: tensor.contiguous() for name, tensor in tensors.items()}, _NOTE: text})


def note(snapshot: bytes) -> dict[str, Any]:
    """The note of a snapshot."""
    fields: dict[str, Any] = json.loads(bytes(load(snapshot)[_NOTE].tolist()))
    return fields


def weights_digest(state: Mapping[str, Tensor]) -> str:
    """SHA-256 over names, types, shapes and bytes of a state dict in name order."""
    digest = hashlib.sha256()
    for name, tensor in sorted(state.items()):
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        digest.update(tensor.contiguous().numpy().tobytes())
    return digest.hexdigest()


def _under(prefix: str, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {name.removeprefix(f"{prefix}."): t for name, t in tensors.items() if name.startswith(f"{prefix}.")}


def _own(packed: Packed, k: int, values: Sequence[Any]) -> Any:
    """Of one value a leaf the one of replica k's leaf."""
    return values[0 if packed.shared else k]
