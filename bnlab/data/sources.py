"""Where images come from, in canonical order and under a content digest; numpy only.

    cifar10              torchvision's CIFAR-10, downloaded on first use into the cache folder and checked
    PATH.npz             x_train, y_train, x_test, y_test: uint8 images [n, 32, 32, 3] (NHWC), labels 0 to 9, or to 99
    synthetic            5000 + 1000 learnable images made on the fly (`bnlab.data.synthetic`)
    SOURCE:TRAIN+TEST    the first TRAIN training and TEST test images of a source in canonical order; `synthetic`
                         makes just that many
    SOURCE:TRAIN+TEST of train
                         a held-out split: the first TRAIN training images, tested on the TEST training images behind
                         them; the source's test images are not used

Canonical order within a split is by the SHA-256 of an image's pixels, then by label, so that no Run depends on the
order in which a source keeps its images. The content digest is the SHA-256 of x_train, y_train, x_test and y_test
(uint8) in that order: CIFAR-10 from any source has the digest `bnlab.specs.CIFAR10`, and a subset has one of its own.
"""

import hashlib
import math
import os
import re
import warnings
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import numpy as np
from filelock import FileLock
from numpy.lib import format as npy
from numpy.typing import NDArray

from bnlab.data.synthetic import SIDE, stripes
from bnlab.errors import DataError
from bnlab.specs import CIFAR10

CAP = 4 * 2**30
"""The most bytes that the images of one source may take; a small file can expand to any size."""

KNOWN_PARTS = {"cifar10:1000+1000": "1e5851ae9400b49a56711f1cd2a34661c798a77391653f3a10da6055f3973d02"}
"""Content digests of the parts of CIFAR-10 that claims name, so that recorded Runs are found without the images."""

_SYNTHETIC = (5000, 1000)
_SUBSET = re.compile(r"(?P<source>.+):(?P<train>[0-9]{1,9})\+(?P<test>[0-9]{1,9})(?P<of_train> of train)?")
_SPLITS = ("train", "test")

Labelled = tuple[NDArray[np.uint8], NDArray[np.uint8]]
"""Images uint8 [n, 32, 32, 3] and their labels uint8 [n]."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Arrays:
    """The images of one source in canonical order.

    `x_train`, `x_test`: uint8 [n, 32, 32, 3]; `y_train`, `y_test`: uint8 [n], 0 to 9; `digest`: SHA-256 of the
    content; `label`: what the images are, in words.
    """

    x_train: NDArray[np.uint8]
    y_train: NDArray[np.uint8]
    x_test: NDArray[np.uint8]
    y_test: NDArray[np.uint8]
    digest: str
    label: str


def default_cache() -> Path:
    """The folder for downloads: $XDG_CACHE_HOME/bnlab, or ~/.cache/bnlab."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "bnlab"


def digest(source: str, cache: Path) -> str:
    """The content digest of a source; errors as in `load`.

    `cifar10` is neither downloaded nor read for it, a part of `cifar10` once for a `cache`.
    """
    if source == "cifar10" or source in KNOWN_PARTS:
        return KNOWN_PARTS.get(source, CIFAR10)
    if _parse(source).name != "cifar10":
        return load(source, cache).digest
    # CIFAR-10 never changes, so neither does the digest of a part of it
    known = cache / f"{source.replace(':', '-').replace(' ', '-')}.digest"
    if known.is_file() and is_digest(text := known.read_text()):
        return text
    found = load(source, cache).digest
    with suppress(OSError):
        known.write_text(found)
    return found


def is_digest(data: str) -> bool:
    """Whether this is a content digest, and not the name of a source."""
    return re.fullmatch("[0-9a-f]{64}", data) is not None


def load(source: str, cache: Path) -> Arrays:
    """The images of a source (see the module's docstring), downloaded into `cache` where need be.

    A source that does not exist, is damaged, has another shape or too few images is a DataError.
    """
    asked = _parse(source)
    if asked.name == "synthetic":
        return _synthetic(asked)
    read = _cifar10(cache) if asked.name == "cifar10" else _npz(Path(asked.name).expanduser())
    splits = [_canonical(*split) for split in read]
    whole = _arrays(splits, Path(asked.name).name)
    if asked.name == "cifar10" and whole.digest != CIFAR10:
        raise DataError(
            f"the images of cifar10 in {cache} have the digest {whole.digest[:12]} and not {CIFAR10[:12]}: delete that "
            "folder to download them again, or pass --data PATH.npz"
        )
    return whole if asked.sizes is None else _part(asked, splits, whole.label)


def waiting(source: str, cache: Path) -> str:
    """What `load` is about to do, for whoever has to wait for it."""
    there = _parse(source).name != "cifar10" or any(cache.glob("cifar-10-*"))
    return f"reading the images of {source}" if there else f"downloading CIFAR-10 (170 MB) into {cache}"


@dataclass(frozen=True, kw_only=True)
class _Asked:
    """A source taken apart: `sizes` are TRAIN and TEST where they are given."""

    source: str
    name: str
    sizes: tuple[int, int] | None
    of_train: bool


def _parse(source: str) -> _Asked:
    found = _SUBSET.fullmatch(source)
    name, sizes = (found["source"], (int(found["train"]), int(found["test"]))) if found else (source, None)
    if name not in ("cifar10", "synthetic") and not name.endswith(".npz"):
        raise DataError(
            f"unknown data {source!r}: expected cifar10, synthetic or PATH.npz, each with :TRAIN+TEST for a subset or "
            ":TRAIN+TEST of train for a held-out split"
        )
    if sizes and not all(sizes):
        raise DataError(f"{source} asks for no images in one of the splits: ask for at least 1 + 1")
    return _Asked(source=source, name=name, sizes=sizes, of_train=bool(found and found["of_train"]))


def _synthetic(asked: _Asked) -> Arrays:
    train, test = asked.sizes or _SYNTHETIC
    if (train + test) * SIDE * SIDE * 3 > CAP:
        raise DataError(f"{asked.source} would take more than {CAP} bytes: ask for fewer images")
    if asked.of_train:
        return _part(asked, [_canonical(*stripes("train", train + test))], "synthetic images")
    splits = [_canonical(*stripes("train", train)), _canonical(*stripes("test", test))]
    return _arrays(splits, f"{train} + {test} synthetic images")


def _part(asked: _Asked, splits: list[Labelled], label: str) -> Arrays:
    """So many images of each split, or of the training images for both."""
    assert asked.sizes is not None
    train, test = asked.sizes
    if asked.of_train:
        (x, y), *_ = splits
        _enough(asked, train + test, "training", len(y))
        parts = [(x[:train], y[:train]), (x[train : train + test], y[train : train + test])]
        return _arrays(parts, f"the first {train} training images of {label}, tested on the next {test}")
    for split, size, (_, labels) in zip(_SPLITS, asked.sizes, splits, strict=True):
        _enough(asked, size, split, len(labels))
    parts = [(x[:size], y[:size]) for size, (x, y) in zip(asked.sizes, splits, strict=True)]
    return _arrays(parts, f"the first {train} + {test} images of {label}")


def _enough(asked: _Asked, size: int, split: str, there: int) -> None:
    if size > there:
        raise DataError(f"{asked.source} asks for {size} {split} images and {asked.name} has {there}: ask for fewer")


def _canonical(x: NDArray[np.uint8], y: NDArray[np.uint8]) -> Labelled:
    """A split sorted by the SHA-256 of each image's pixels, then by label."""
    x = np.ascontiguousarray(x)
    names = [hashlib.sha256(image.data).digest() + bytes([label]) for image, label in zip(x, y.tolist(), strict=True)]
    order = sorted(range(len(names)), key=names.__getitem__)
    return x[order], y[order]


def _arrays(splits: list[Labelled], label: str) -> Arrays:
    """Two splits in canonical order under their digest; CIFAR-10 is recognised whatever its source."""
    (x_train, y_train), (x_test, y_test) = splits
    content = hashlib.sha256()
    for array in (x_train, y_train, x_test, y_test):
        content.update(array.data)
    name = content.hexdigest()
    return Arrays(
        x_train=x_train,
        y_train=y_train,
        x_test=x_test,
        y_test=y_test,
        digest=name,
        label="CIFAR-10" if name == CIFAR10 else label,
    )


def _cifar10(cache: Path) -> list[Labelled]:
    """Both splits as torchvision reads them, which downloads what is absent and checks its MD5 sums."""
    from torchvision import datasets

    archive = cache / datasets.CIFAR10.filename
    try:
        cache.mkdir(parents=True, exist_ok=True)
        # one process downloads while the others wait; the files of 2009 unpickle with NumPy deprecations
        with FileLock(cache / "cifar10.lock"), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            sets = [datasets.CIFAR10(str(cache), train=train, download=True) for train in (True, False)]
    except Exception as error:  # no network, half a file, full disk, not an archive: urllib, tarfile, pickle, OSError
        raise DataError(
            f"cifar10 could not be downloaded and read in {cache} ({type(error).__name__}: {_first_line(error)}): pass "
            f"--data PATH.npz to use a copy of your own, or go online, delete {archive} if it is there, and try again"
        ) from error
    return [(np.asarray(split.data), np.asarray(split.targets, dtype=np.uint8)) for split in sets]


def _npz(path: Path) -> list[Labelled]:
    """Both splits of an npz file, each array checked by its header before it is read."""
    if not path.is_file():
        raise DataError(f"there is no file {path}: pass --data with the path of an npz file, or --data cifar10")
    with _in_words(path), zipfile.ZipFile(path) as archive:
        size = sum(member.file_size for member in archive.infolist())
        if size > CAP:
            raise DataError(
                f"{path} would expand to {size} bytes, more than the {CAP} that are allowed: pass a smaller one"
            )
        absent = [name for split in _SPLITS for name in _names(split) if f"{name}.npy" not in archive.namelist()]
        if absent:
            raise DataError(
                f"{path} has no array {' and no '.join(absent)}: expected x_train, y_train, x_test and y_test"
            )
        return [_split(archive, path, *_names(split)) for split in _SPLITS]


def _names(split: str) -> tuple[str, str]:
    return f"x_{split}", f"y_{split}"


def _split(archive: zipfile.ZipFile, path: Path, images: str, labels: str) -> Labelled:
    """One split of an npz file; anything but uint8 [n, 32, 32, 3] with n labels 0 to 99 is a DataError."""
    with archive.open(f"{images}.npy") as member:
        shape, kind = _header(member)
        if kind != np.uint8 or len(shape) != 4 or shape[0] < 1 or shape[1:] != (SIDE, SIDE, 3):
            raise DataError(
                f"{images} in {path} is {kind} {list(shape)}: expected uint8 [n, {SIDE}, {SIDE}, 3], the colours last"
            )
    with archive.open(f"{labels}.npy") as member:
        count, kind = _header(member)
        if kind.kind not in "iu" or count != shape[:1]:
            raise DataError(
                f"{labels} in {path} is {kind} {list(count)}: expected {shape[0]} whole numbers, one an image"
            )
    x, y = _read(archive, images), _read(archive, labels)
    if y.min() < 0 or y.max() > 99:
        raise DataError(f"{labels} in {path} holds the labels {y.min()} to {y.max()}: expected 0 to 9, or to 99")
    return x, y.astype(np.uint8)


def _header(member: IO[bytes]) -> tuple[tuple[int, ...], np.dtype[Any]]:
    """Shape and type of an npy array, without its content."""
    read = npy.read_array_header_1_0 if npy.read_magic(member) == (1, 0) else npy.read_array_header_2_0
    shape, _, kind = read(member)
    return shape, kind


def _read(archive: zipfile.ZipFile, name: str) -> NDArray[Any]:
    """One array, unless its header promises more than there is: NumPy allocates whatever the header says."""
    entry = f"{name}.npy"
    with archive.open(entry) as member:
        shape, kind = _header(member)
    if math.prod(shape) * kind.itemsize > archive.getinfo(entry).file_size:
        raise ValueError(f"{name} is cut short")
    with archive.open(entry) as member:
        array: NDArray[Any] = npy.read_array(member, allow_pickle=False)
    return array


@contextmanager
def _in_words(path: Path) -> Iterator[None]:
    """Whatever a file that is no sound npz raises, as a DataError."""
    try:
        yield
    except (OSError, ValueError, EOFError, NotImplementedError, RuntimeError, zipfile.BadZipFile, zlib.error) as error:
        raise DataError(
            f"{path} is not a sound npz ({type(error).__name__}: {_first_line(error)}): write it again with numpy.savez"
        ) from error


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [""])[0]
