"""Who the bench times beside the engine: what anybody would write, and what a careful user would take.

Each trains torchvision's network on the same images with torch's own Adam, one replica, or one replica a process.
"""

import multiprocessing
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from multiprocessing.connection import Connection

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from bnlab.data.images import Images
from bnlab.nets import build
from bnlab.parts import BATCHNORM
from bnlab.specs import RunSpec

Advance = Callable[[int], None]
"""Takes so many steps and returns when they are done."""


@contextmanager
def rival(name: str, spec: RunSpec, images: Images, device: str, threads: int) -> Iterator[Advance]:
    """One of these, ready to be timed.

    eager          the plain loop with torch's default Adam, on all threads
    channels-last  the same in channels-last memory with fused Adam
    compiled       that with the network through torch.compile
    processes      that in a process a core, each with one thread; a step of it is one of every process
    graph          eager with fused Adam, captured once as a CUDA graph
    """
    if name == "processes":
        with _processes("compiled", spec, images, threads) as advance:
            yield advance
    elif name == "graph":
        yield _graphed(spec, images, device)
    else:
        yield _with_threads(threads, _loop(name, spec, images, device))


def replicas(name: str, threads: int) -> int:
    """How many networks a step of this rival trains."""
    return threads if name == "processes" else 1


def _loop(name: str, spec: RunSpec, images: Images, device: str) -> Advance:
    step = _step(spec, images, device, careful=name != "eager", compiled=name == "compiled")

    def advance(count: int) -> None:
        for index in range(count):
            step(torch.tensor(index, device=device))

    return advance


def _with_threads(threads: int, advance: Advance) -> Advance:
    """The same with this many threads inside every operation; a cohort on a CPU has set one."""

    def inside(count: int) -> None:
        before = torch.get_num_threads()
        torch.set_num_threads(threads)
        try:
            advance(count)
        finally:
            torch.set_num_threads(before)

    return inside


@contextmanager
def _processes(name: str, spec: RunSpec, images: Images, count: int) -> Iterator[Advance]:
    """This loop in each of so many processes, which take their steps side by side."""
    context = multiprocessing.get_context("spawn")
    pipes = [context.Pipe() for _ in range(count)]
    workers = [context.Process(target=_serve, args=(there, name, spec, images), daemon=True) for _, there in pipes]
    for worker, (_, there) in zip(workers, pipes, strict=True):
        worker.start()
        there.close()  # so that a process that ends is an EOFError here

    def advance(steps: int) -> None:
        for here, _ in pipes:
            here.send(steps)
        for here, _ in pipes:
            here.recv()

    try:
        yield advance
    finally:
        for worker in workers:
            worker.terminate()
            worker.join()


def _serve(pipe: Connection, name: str, spec: RunSpec, images: Images) -> None:
    torch.set_num_threads(1)
    advance = _loop(name, spec, images, "cpu")
    while True:
        advance(pipe.recv())
        pipe.send(None)


def _graphed(spec: RunSpec, images: Images, device: str) -> Advance:
    """With capturable Adam, since a graph's step counts on the device: the best of one replica without rewriting."""
    at = torch.zeros((), dtype=torch.int64, device=device)
    step = _step(spec, images, device, capturable=True)
    side = torch.cuda.Stream()  # type: ignore[no-untyped-call]
    side.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(side):
        for _ in range(3):
            step(at)
    torch.cuda.current_stream().wait_stream(side)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph, stream=side):
        step(at)
        at += 1

    def advance(count: int, _replayed: object = step) -> None:
        # a replay uses the memory of all that was captured, so the network has to live as long as this function
        at.zero_()
        for _ in range(count):
            graph.replay()

    return advance


def _step(
    spec: RunSpec,
    images: Images,
    device: str,
    *,
    careful: bool = False,
    compiled: bool = False,
    capturable: bool = False,
) -> Callable[[Tensor], None]:
    layout = torch.channels_last if careful else torch.contiguous_format
    model: nn.Module = build(spec.net, BATCHNORM, 0).to(device, memory_format=layout)  # type: ignore[call-overload]
    optimizer = torch.optim.Adam(model.parameters(), lr=spec.lr, capturable=capturable, fused=careful or capturable)
    scale, mean = 1 / (255 * images.std), 255 * images.mean
    steps = len(images.x_train) // spec.batch_size
    order = torch.randperm(len(images.x_train), device=device)[: steps * spec.batch_size].view(steps, -1)
    network: Callable[[Tensor], Tensor] = torch.compile(model) if compiled else model

    def step(at: Tensor) -> None:
        index = order.index_select(0, (at % steps).view(1))[0]
        x = ((images.x_train[index] - mean) * scale).permute(0, 3, 1, 2).contiguous(memory_format=layout)
        optimizer.zero_grad(set_to_none=True)
        torch.autograd.backward(F.cross_entropy(network(x), images.y_train[index]))
        optimizer.step()

    return step
