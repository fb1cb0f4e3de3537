"""Engine tests train in one thread, whatever ran before them, and leave the precision of the process alone."""

from collections.abc import Iterator
from contextlib import nullcontext
from types import SimpleNamespace

import pytest
import torch


@pytest.fixture(autouse=True)
def _as_it_was() -> Iterator[None]:
    threads, backends = torch.get_num_threads(), (torch.backends.cuda.matmul, torch.backends.cudnn)
    precisions = [backend.allow_tf32 for backend in backends]
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)
    assert [backend.allow_tf32 for backend in backends] == precisions, (
        "the next test would compute in another precision"
    )


@pytest.fixture
def streams(monkeypatch: pytest.MonkeyPatch) -> None:
    """CUDA's streams and graphs on a CPU: they do nothing, so that what they are told happens at once."""
    stream = SimpleNamespace(wait_stream=lambda other: None)
    for name, fake in {
        "Stream": lambda device: stream,
        "current_stream": lambda device: stream,
        "set_stream": lambda stream: None,
        "stream": lambda stream: nullcontext(),
        "CUDAGraph": SimpleNamespace,
        "graph": lambda graph, stream: nullcontext(),
    }.items():
        monkeypatch.setattr(torch.cuda, name, fake)
