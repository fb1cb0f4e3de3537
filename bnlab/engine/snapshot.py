"""A snapshot: what one replica needs to go on after an epoch, as safetensors bytes.

The format holds tensors and short texts only: loading it runs no code, and it cannot expand.
"""

import hashlib
import json
from collections.abc import Mapping
from typing import Any

import torch
from safetensors.torch import load, save
from torch import Tensor

from bnlab.engine.training import Training

_NOTE = "__note__"


def take(training: Training, k: int, note: Mapping[str, Any]) -> bytes:
    """Replica k's weights, statistics and optimizer moments, beside a note of plain JSON values."""
    tensors = {f"model.{name}": tensor for name, tensor in training.program.state_dict(k).items()}
    for kind, held in _moments(training).items():
        for name in training.program.trained(k):
            packed = training.program.parameters[name]
            tensors[f"{kind}.{name}"] = packed.read(k, held[name], torch.zeros(()))
    return pack(tensors, note)


def restore(training: Training, k: int, snapshot: bytes, step: int) -> None:
    """Put a snapshot into replica k, whose optimizer has then taken `step` steps."""
    tensors = load(snapshot)
    training.program.load_state_dict(k, _under("model", tensors))
    _materialise(training, step)
    for kind, held in _moments(training).items():
        for name in training.program.trained(k):
            training.program.parameters[name].write(k, held[name], tensors[f"{kind}.{name}"])


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


def _materialise(training: Training, step: int) -> None:
    """Give the optimizer the state it would have after `step` steps, with moments still zero."""
    for leaf in training.program.leaves():
        state = training.optimizer.state[leaf]
        if training.spec.optimizer == "adam":
            state["step"] = torch.tensor(float(step), dtype=torch.float32, device=leaf.device)
            state.setdefault("exp_avg", torch.zeros_like(leaf))
            state.setdefault("exp_avg_sq", torch.zeros_like(leaf))
        elif training.spec.momentum:
            state.setdefault("momentum_buffer", torch.zeros_like(leaf))


def _moments(training: Training) -> dict[str, dict[str, list[Tensor]]]:
    """The optimizer's tensors, by kind and parameter name, shaped like the leaves."""
    kinds = ["exp_avg", "exp_avg_sq"] if training.spec.optimizer == "adam" else ["momentum_buffer"]
    if training.spec.optimizer == "sgd" and not training.spec.momentum:
        kinds = []
    state = training.optimizer.state
    # a parameter that never had a gradient has no moments yet
    return {
        kind: {
            name: [state[leaf].get(kind, torch.zeros_like(leaf)) for leaf in packed.leaves]
            for name, packed in training.program.parameters.items()
        }
        for kind in kinds
    }
