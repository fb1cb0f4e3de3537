"""The engine as the Lab sees it: a Trainer on one device with its images already there."""

from collections.abc import Callable, Sequence
from pathlib import Path

import torch

from bnlab import engine
from bnlab.data import sources
from bnlab.data.catalogue import Catalogue
from bnlab.data.images import Images
from bnlab.errors import DeviceError
from bnlab.runs import Run
from bnlab.specs import Replicate, RunSpec

GPU_SNAPSHOTS = 60.0
"""Least seconds between snapshots on a GPU, where an epoch takes seconds and they are large."""


def use_threads(threads: int) -> None:
    """Let this process compute on so many CPU threads."""
    torch.set_num_threads(threads)


class EngineTrainer:
    """Trains cohorts on `device` (`cpu`, `cuda` or `cuda:N`) on the images of one source, or on a RunSpec's own.

    `catalogue` knows the sources of those. `progress` is told what is done, and `passed` after every epoch its number
    and the images that were shown in it.

    DeviceError where this PyTorch cannot use the GPU; DataError where the images cannot be had.
    """

    def __init__(
        self,
        source: str,
        cache: Path,
        device: str,
        threads: int,
        progress: Callable[[str], None] = lambda line: None,
        catalogue: Catalogue | None = None,
        passed: Callable[[int, int], None] = lambda epoch, images: None,
    ) -> None:
        if device.startswith("cuda") and not torch.cuda.is_available():
            raise DeviceError(
                f"a GPU is there, but this PyTorch ({torch.__version__}) cannot use it: "
                "install a build of PyTorch with CUDA, or train with --device cpu"
            )
        use_threads(threads)
        self._device, self._progress, self._passed = device, progress, passed
        self._replicas: dict[RunSpec, int] = {}
        self._catalogue = catalogue or Catalogue(cache)
        self._own = Images.of(sources.load(source, cache), device)
        self._images = {self._own.digest: self._own}

    def images(self, spec: RunSpec) -> Images:
        """The images that a RunSpec trains on, read on first use; its `data` is empty or a content digest."""
        if not spec.data:
            return self._own
        if spec.data not in self._images:
            self._images[spec.data] = Images.of(self._catalogue.load(spec.data), self._device)
        return self._images[spec.data]

    def replicas(self, spec: RunSpec) -> int:
        """How many Runs like this one to train as one cohort, measured once a cohort key."""
        if spec.cohort_key not in self._replicas:
            if self._device != "cpu":
                self._progress("measuring how many Runs fit on the GPU")
            self._replicas[spec.cohort_key] = engine.replicas(spec, self.images(spec), self._device)
        return self._replicas[spec.cohort_key]

    def epoch(self, snapshot: bytes) -> int:
        """Epochs finished in a snapshot."""
        return engine.snapshot_epoch(snapshot)

    def train(
        self,
        cohort: Sequence[Replicate],
        resume: Sequence[bytes | None],
        after_epoch: Callable[[Replicate, int, bytes], None],
    ) -> list[Run]:
        """Train Runs of one cohort key; `after_epoch(run, epoch, snapshot)` follows every epoch."""
        trained = engine.train(
            cohort,
            self.images(cohort[0].spec),
            self._device,
            resume=resume,
            after_epoch=after_epoch,
            snapshot_every=0.0 if self._device == "cpu" else GPU_SNAPSHOTS,
            say=self._progress,
            passed=self._passed,
        )
        environment = engine.environment(self._device)
        return [
            Run(
                spec=replicate.spec,
                seed=replicate.seed,
                curves={name: tuple(map(float, values)) for name, values in result.curves.items()},
                readings={name: float(value) for name, value in result.readings.items()},
                probes=result.probes,
                weights=result.weights,
                diverged_at=result.diverged_at,
                provenance={
                    **environment,
                    "wall_s": float(result.wall_s),
                    "images_per_s": float(result.images_per_s),
                },
            )
            for replicate, result in zip(cohort, trained, strict=True)
        ]
