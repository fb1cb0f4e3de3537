"""What a GPU does with the engine, in a few minutes: python .ci/preflight.py OUT [--device cuda:0] [--seconds 240]

Needs neither pytest nor CIFAR-10. Every section is written to OUT/preflight.json as it ends; one that fails is written
with its error, and the next goes on. On a CPU all of it runs on a small network.
"""

import argparse
import json
import os
import shutil
import subprocess
import sys
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, replace
from functools import partial
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

os.environ.setdefault("KINETO_LOG_LEVEL", "99")  # read as torch starts

import torch  # noqa: TID253  # this is not the package

from bnlab import engine
from bnlab.engine import bench, profile
from bnlab.engine.adam import Adam
from bnlab.engine.programs import precision, programs
from bnlab.engine.training import Training
from bnlab.parts import BATCHNORM, Norm, ResNet
from bnlab.specs import RunSpec

PACKAGES = (
    "torchvision",
    "triton",
    "pytest",
    "pytest-html",
    "pytest-xdist",
    "safetensors",
    "scipy",
    "filelock",
    "pillow",
)
MIXED = bench.PAPER_NORMS


class Preflight:
    """The sections, on one device, until the time is over."""

    def __init__(self, out: Path, device: str, seconds: float) -> None:
        self.file, self.device, self.until = out / "preflight.json", device, time.perf_counter() + seconds
        self.cuda = device.startswith("cuda")
        self.most = 16 if self.cuda else 1
        self.found: dict[str, Any] = {}
        self.begun: dict[str, Any] = {}  # what the section at work has found so far

    def section(self, name: str, work: Callable[[], dict[str, Any]]) -> None:
        """Do one section, print it and write all of them."""
        begun = time.perf_counter()
        if begun > self.until:
            self.found[name] = {"left out": "no time"}
        else:
            self.begun = {}
            try:
                self.found[name] = work()
            except Exception as error:  # whatever it is, the next section may tell more
                text = f"{type(error).__name__}: {error}"[:500]
                self.found[name] = {**self.begun, "error": text, "at": traceback.format_exc()[-1500:]}
            self.found[name]["s"] = round(time.perf_counter() - begun, 1)
        print(f"== {name}: {json.dumps(self.found[name])[:1200]}", flush=True)
        self.file.write_text(json.dumps(self.found, indent=1) + "\n")

    def environment(self) -> dict[str, Any]:
        """Versions, compiler and device; "missing" where a package is not there."""
        found: dict[str, Any] = {"gcc": shutil.which("gcc"), "cpus": os.cpu_count(), **engine.environment(self.device)}
        for name in PACKAGES:
            try:
                found[name] = version(name)
            except PackageNotFoundError:
                found[name] = "missing"
        if self.cuda:
            query = [
                "nvidia-smi",
                "--query-gpu=name,memory.total,clocks.max.sm,driver_version",
                "--format=csv,noheader",
            ]
            found["gpu"] = subprocess.run(query, capture_output=True, text=True, check=False).stdout.strip()
        return found

    def ceilings(self) -> dict[str, Any]:
        """Copy, product and Adam per second, and how far a product is from float64 in each precision."""
        self.ceiling = bench.ceiling(self.device)
        found = asdict(self.ceiling)
        a, b = torch.randn(16, 320, 1152, device=self.device), torch.randn(16, 1152, 128, device=self.device)
        exact = torch.bmm(a.double(), b.double())
        for wanted in ("fp32", "tf32"):
            with precision(wanted):
                found[f"{wanted} error"] = float((torch.bmm(a, b) - exact).norm() / exact.norm())
        return found

    def adam(self) -> dict[str, Any]:
        """How far Adam of one launch is from torch's after three steps, and bytes a second of both."""
        shapes = [(self.most, 512, 4608), (self.most, 64), (self.most, 10, 512)]
        moved = 28 * sum(torch.Size(shape).numel() for shape in shapes)
        found: dict[str, Any] = {}
        stepped = []
        for name, kind in (("ours", Adam), ("torchs", torch.optim.Adam)):
            draw = torch.Generator(self.device).manual_seed(1)
            leaves = [torch.randn(*shape, generator=draw, device=self.device, requires_grad=True) for shape in shapes]
            rate = torch.tensor(1e-3, device=self.device) if self.cuda else 1e-3
            made = kind(leaves, lr=rate, fused=True, capturable=self.cuda)
            turns = []
            for _ in range(3):
                for leaf in leaves:
                    leaf.grad = torch.randn(leaf.shape, generator=draw, device=self.device)
                self.wait()
                begun = time.perf_counter()
                made.step()
                self.wait()
                turns.append(time.perf_counter() - begun)
            found[f"{name} bytes_per_s"] = moved / min(turns)
            stepped.append(torch.cat([leaf.detach().flatten() for leaf in leaves]))
        found["largest difference"] = float((stepped[0] - stepped[1]).abs().max())
        return found

    def step(self, depth: int, batch: int) -> dict[str, Any]:
        """One cell of the grid: seconds to build and capture, ms a step with and without a graph."""
        begun = time.perf_counter()
        said: list[str] = []
        cohort = bench.cohort(spec(depth, batch), self.most, MIXED)
        if self.cuda:
            torch.cuda.reset_peak_memory_stats(self.device)
        with programs(cohort, bench.noise(40 * batch, self.device), torch.device(self.device), said.append) as parts:
            part = parts.trainings[0]
            part.prepare(0)
            built = time.perf_counter()
            part.advance(1)
            self.wait()
            found = self.begun
            found |= {"build s": built - begun, "capture s": time.perf_counter() - built}
            found |= {"captured": part.graph is not None, "said": said, "ms": self.ms(part, 15)}
            if self.cuda:
                found["GiB"] = torch.cuda.max_memory_allocated(self.device) / 2**30
            part.graph = None
            found["ms without graph"] = self.ms(part, 5)
        for way in ("adam", "side", "triton") if self.cuda else ():
            found["last"] = f"without {way}"
            with (
                switched_off(way),
                programs(cohort, bench.noise(40 * batch, self.device), torch.device(self.device)) as parts,
            ):
                part = parts.trainings[0]
                part.prepare(0)
                part.advance(1)
                found[f"ms without {way}"] = self.ms(part, 15)
        found.pop("last", None)
        return found

    def where(self, depth: int, batch: int) -> dict[str, Any]:
        """Launches of a step without a graph, and its longest kernels, by torch's profiler."""
        shares = profile.where(bench.cohort(spec(depth, batch), self.most, MIXED), self.device)
        longest = [f"{share.ms:.3f} ms {share.calls:.0f} x {share.name[:60]}" for share in shares[:14]]
        return {"launches": sum(share.calls for share in shares), "longest": longest}

    def rivals(self, batch: int) -> dict[str, Any]:
        """ResNet18 against the plain loop and, on a GPU, against one replica in a graph: the rows of `bench`."""
        timing = bench.compare(
            bench.cohort(spec(18, batch), self.most, MIXED),
            self.device,
            steps=20 if self.cuda else 2,
            rounds=5 if self.cuda else 1,
            ceiling=self.ceiling,
            against=("eager", "graph") if self.cuda else ("eager",),
        )
        return timing.to_json()

    def ms(self, part: Training, steps: int) -> float:
        """Milliseconds of a step of the whole program: the shortest of three turns."""
        turns = []
        for _ in range(3):
            part.at.zero_()
            part.taken = 0
            begun = time.perf_counter()
            part.advance(min(steps, part.steps))
            self.wait()
            turns.append(1e3 * (time.perf_counter() - begun) / min(steps, part.steps))
        return min(turns)

    def bits(self) -> dict[str, Any]:
        """Whether a seed has the same bits twice, without a graph, and beside other numbers of replicas."""

        def seven(beside: int, *, graph: bool = True, without: str = "") -> dict[str, torch.Tensor]:
            one = spec(18, 4, "fp32")
            cohort = [replace(bench.cohort(one, 1)[0], seed=seed) for seed in (*range(100, 100 + beside), 7)]
            with switched_off(without), programs(cohort, bench.noise(200, self.device), on) as parts:
                part, k = parts.place(cohort[-1])
                if not graph:
                    part.started = True
                part.epoch(0)
                return part.program.state_dict(k)

        def same(a: dict[str, torch.Tensor], b: dict[str, torch.Tensor]) -> bool:
            return all(torch.equal(a[name], b[name]) for name in a)

        on = torch.device(self.device)
        first = seven(1)
        others = (0, 3, 15) if self.cuda else (0,)
        return {
            "twice": same(first, seven(1)),
            "without graph": same(first, seven(1, graph=False)),
            "without side": same(first, seven(1, without="side")),
            "same bits as of 2 replicas": {str(more + 1): same(first, seven(more)) for more in others},
        }

    def resume(self) -> dict[str, Any]:
        """Training that goes on from a snapshot against training at once, and the readings."""
        cohort = bench.cohort(replace(spec(18, 4), epochs=2), 2, MIXED)
        kept: dict[object, bytes] = {}
        images = bench.noise(16, self.device)
        whole = engine.train(
            cohort, images, self.device, after_epoch=lambda run, epoch, taken: kept.update({run: taken})
        )
        again = engine.train(cohort, images, self.device, resume=[kept[run] for run in cohort])
        return {
            "same bits": [one.weights for one in whole] == [one.weights for one in again],
            "readings": [sorted(one.readings) for one in whole],
            "losses": [one.curves["train_loss"] for one in whole],
        }

    def replicas(self) -> dict[str, Any]:
        """Milliseconds a replica over the size of the cohort: ResNet18, batch 20."""
        found = {}
        for k in (4, 8, 16, 32) if self.cuda else (1,):
            cohort = bench.cohort(spec(18, 20 if self.cuda else 4), k, (BATCHNORM,))
            with programs(cohort, bench.noise(400, self.device), torch.device(self.device)) as parts:
                part = parts.trainings[0]
                part.prepare(0)
                part.advance(1)
                found[str(k)] = self.ms(part, 15) / k
        return found

    def precisions(self) -> dict[str, Any]:
        """Milliseconds of a step of ResNet101 at batch 50 in TF32 and in fp32."""
        depth, batch = (101, 50) if self.cuda else (18, 4)
        found = {}
        for wanted in ("tf32", "fp32") if self.cuda else ("fp32",):
            cohort = bench.cohort(spec(depth, batch, wanted), self.most, MIXED)
            with programs(cohort, bench.noise(8 * batch, self.device), torch.device(self.device)) as parts:
                part = parts.trainings[0]
                part.prepare(0)
                part.advance(1)
                found[wanted] = self.ms(part, 5)
        return found

    def wait(self) -> None:
        """Until the device has done what it was given."""
        if self.cuda:
            torch.cuda.synchronize(self.device)


@contextmanager
def switched_off(way: str) -> Iterator[None]:
    """Without one of the engine's faster ways; with all of them if none is named."""
    name = f"BNLAB_{way.upper()}"
    before = os.environ.get(name)
    os.environ[name] = "0" if way else "1"
    try:
        yield
    finally:
        del os.environ[name]
        if before is not None:
            os.environ[name] = before


def spec(depth: int, batch: int, wanted: Any = "tf32", norm: Norm = BATCHNORM) -> RunSpec:
    """A cell of the grid."""
    return RunSpec(net=ResNet(depth), norm=norm, batch_size=batch, precision=wanted)


def main(argv: Sequence[str] | None = None) -> int:
    """All sections; 1 if one failed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("out", type=Path)
    parser.add_argument("--device", default="cuda:0")
    parser.add_argument("--seconds", type=float, default=240.0)
    arguments = parser.parse_args(argv)
    arguments.out.mkdir(parents=True, exist_ok=True)
    flight = Preflight(arguments.out, arguments.device, arguments.seconds)
    cells = [(18, 20), (50, 50), (101, 50), (34, 20)] if flight.cuda else [(18, 4)]
    batch = cells[0][1]
    sections: dict[str, Callable[[], dict[str, Any]]] = {
        "environment": flight.environment,
        "ceilings": flight.ceilings,
        "adam": flight.adam,
        f"step 18:{batch}": lambda: flight.step(18, batch),
        f"rivals 18:{batch}": lambda: flight.rivals(batch),
        "bits": flight.bits,
        **{f"step {depth}:{size}": partial(flight.step, depth, size) for depth, size in cells[1:]},
        f"where 18:{batch}": lambda: flight.where(18, batch),
        "resume": flight.resume,
        "replicas": flight.replicas,
        "precisions": flight.precisions,
    }
    for name, work in sections.items():
        flight.section(name, work)
    return 1 if any("error" in found for found in flight.found.values()) else 0


if __name__ == "__main__":
    sys.exit(main())
