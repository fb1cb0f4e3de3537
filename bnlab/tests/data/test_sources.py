"""Every source gives the same arrays for the same images; what holds no images is refused in one sentence."""

import hashlib
import os
import pickle
import re
import urllib.error
import warnings
import zipfile
from pathlib import Path

import numpy as np
import pytest

from bnlab.data import sources
from bnlab.data.catalogue import Catalogue
from bnlab.errors import DataError
from bnlab.specs import CIFAR10

RNG = np.random.default_rng(0)
SHAPES = {"x_train": (60, 32, 32, 3), "y_train": (60,), "x_test": (20, 32, 32, 3), "y_test": (20,)}


@pytest.fixture
def arrays():
    """Random images with one pair of equal ones under two labels."""
    made = {
        name: RNG.integers(0, 10 if name[0] == "y" else 256, shape, dtype=np.uint8) for name, shape in SHAPES.items()
    }
    made["x_train"][7], made["y_train"][7], made["y_train"][3] = made["x_train"][3], 1, 2
    return made


def saved(path, arrays):
    np.savez(path, **arrays)
    return str(path)


def shuffled(arrays):
    order = {"train": RNG.permutation(60), "test": RNG.permutation(20)}
    return {name: array[order[name[2:]]] for name, array in arrays.items()}


class Pickled:
    """Unpickles by a call."""

    def __init__(self, *call):
        self.call = call

    def __reduce__(self):
        return self.call


def deprecated_dtype(*align_and_copy):
    """Some NumPy 2 releases warn about the integers that the files of 2009 pass here."""
    warnings.warn("dtype(): align should be passed as Python or NumPy boolean", DeprecationWarning, stacklevel=2)
    return np.dtype("u1", *map(bool, align_and_copy))


def python2_array(array):
    empty = np.ndarray((0,)).__reduce__()[0]
    dtype = Pickled(deprecated_dtype, (0, 1))
    return Pickled(empty, (np.ndarray, (0,), b"b"), (1, array.shape, dtype, False, array.tobytes()))


@pytest.fixture
def torchvision_cache(tmp_path, monkeypatch):
    """Writes arrays as torchvision keeps CIFAR-10 on disk, and lets it take them for the real ones."""
    cifar10 = pytest.importorskip("torchvision.datasets").CIFAR10
    folder = tmp_path / "cache" / cifar10.base_folder
    folder.mkdir(parents=True)

    def entry(name, content):
        data = pickle.dumps(content, protocol=2).replace(b"numpy._core.multiarray", b"numpy.core.multiarray")
        (folder / name).write_bytes(data)
        return [name, hashlib.md5(data, usedforsecurity=False).hexdigest()]

    def batch(x, y):
        return {"data": python2_array(x.transpose(0, 3, 1, 2).reshape(-1, 3072)), "labels": y.tolist()}

    def write(arrays):
        halves = [entry(f"data_batch_{i}", batch(arrays["x_train"][i::2], arrays["y_train"][i::2])) for i in range(2)]
        monkeypatch.setattr(cifar10, "train_list", halves)
        monkeypatch.setattr(cifar10, "test_list", [entry("test_batch", batch(arrays["x_test"], arrays["y_test"]))])
        name, md5 = entry("batches.meta", {"label_names": list("abcdefghij")})
        monkeypatch.setattr(cifar10, "meta", {"filename": name, "key": "label_names", "md5": md5})
        return folder.parent

    return write


def test_order_of_the_source_does_not_matter(arrays, tmp_path):
    one = sources.load(saved(tmp_path / "a.npz", arrays), tmp_path)
    other = sources.load(saved(tmp_path / "b.npz", shuffled(arrays)), tmp_path)

    assert one.digest == other.digest
    for name in SHAPES:
        np.testing.assert_array_equal(getattr(one, name), getattr(other, name))


def test_canonical_order_and_digest_are_those_of_the_definition(arrays, tmp_path):
    got = sources.load(saved(tmp_path / "a.npz", arrays), tmp_path)

    content = b""
    for split in ("train", "test"):
        pairs = zip(arrays[f"x_{split}"], arrays[f"y_{split}"], strict=True)
        pairs = sorted(pairs, key=lambda pair: (hashlib.sha256(pair[0].tobytes()).hexdigest(), int(pair[1])))
        content += b"".join(x.tobytes() for x, _ in pairs) + bytes(int(y) for _, y in pairs)
        np.testing.assert_array_equal(getattr(got, f"x_{split}"), np.stack([x for x, _ in pairs]))
    assert got.digest == hashlib.sha256(content).hexdigest()


@pytest.mark.parametrize("changed", list(SHAPES))
def test_one_changed_value_is_other_data(arrays, tmp_path, changed):
    before = sources.digest(saved(tmp_path / "a.npz", arrays), tmp_path)
    arrays[changed].flat[5] = (arrays[changed].flat[5] + 1) % 10

    assert sources.digest(saved(tmp_path / "b.npz", arrays), tmp_path) != before


def test_torchvision_and_npz_give_the_same_data(arrays, tmp_path, torchvision_cache, monkeypatch):
    npz = sources.load(saved(tmp_path / "a.npz", arrays), tmp_path)
    monkeypatch.setattr(sources, "CIFAR10", npz.digest)

    got = sources.load("cifar10", torchvision_cache(shuffled(arrays)))

    assert got.digest == npz.digest
    assert got.label == "CIFAR-10"
    for name in SHAPES:
        np.testing.assert_array_equal(getattr(got, name), getattr(npz, name))


def test_downloaded_images_that_are_not_cifar10_are_refused(arrays, torchvision_cache):
    with pytest.raises(DataError, match=r"have the digest \w{12} and not cac8a7f09e88: delete that folder"):
        sources.load("cifar10", torchvision_cache(arrays))


def test_digest_of_cifar10_takes_no_download(tmp_path):
    assert sources.digest("cifar10", tmp_path / "none") == CIFAR10
    assert not (tmp_path / "none").exists()


def test_missing_download_says_how_to_go_on(tmp_path, monkeypatch):
    cifar = pytest.importorskip("torchvision.datasets.cifar")

    def offline(*_, **__):
        raise urllib.error.URLError("Name or service not known")

    monkeypatch.setattr(cifar, "download_and_extract_archive", offline)
    with pytest.raises(DataError, match=r"Name or service not known.*pass --data PATH.npz"):
        sources.load("cifar10", tmp_path)


def test_half_a_download_says_which_file_to_delete(tmp_path, monkeypatch):
    utils = pytest.importorskip("torchvision.datasets.utils")
    archive = tmp_path / "cifar-10-python.tar.gz"
    monkeypatch.setattr(utils, "_get_redirect_url", lambda url, **_: url)
    monkeypatch.setattr(utils, "_urlretrieve", lambda url, path, *_: Path(path).write_bytes(b"\x1f\x8bhalf"))

    with pytest.raises(DataError, match=rf"delete {re.escape(str(archive))} if it is there, and try again"):
        sources.load("cifar10", tmp_path)


def test_unwritable_cache_is_a_data_error(tmp_path):
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(DataError, match="could not be downloaded and read"):
        sources.load("cifar10", tmp_path / "file" / "cache")


def test_subset_is_the_first_images_in_canonical_order(arrays, tmp_path):
    path = saved(tmp_path / "a.npz", arrays)
    whole, part = sources.load(path, tmp_path), sources.load(f"{path}:11+7", tmp_path)

    np.testing.assert_array_equal(part.x_train, whole.x_train[:11])
    np.testing.assert_array_equal(part.y_test, whole.y_test[:7])
    assert part.digest != whole.digest
    assert sources.digest(f"{path}:60+20", tmp_path) == whole.digest
    assert sources.digest(f"{path}:11+7", tmp_path) == part.digest


@pytest.mark.parametrize(
    ("source", "words"),
    [
        ("mnist", "unknown data 'mnist': expected cifar10, synthetic or PATH.npz"),
        ("", "unknown data ''"),
        ("synthetic:100", "unknown data 'synthetic:100'"),
        ("synthetic:0+10", "no images in one of the splits"),
        ("synthetic:9000000+10", "ask for fewer images"),
        ("{path}:61+20", "asks for 61 train images and .* has 60"),
        ("{path}:60+21", "asks for 21 test images and .* has 20"),
        ("none.npz", "there is no file none.npz"),
        (".npz", "there is no file"),
    ],
)
def test_what_is_no_source_is_refused_in_words(arrays, tmp_path, source, words):
    with pytest.raises(DataError, match=words):
        sources.load(source.format(path=saved(tmp_path / "a.npz", arrays)), tmp_path)


def nchw(arrays):
    return {**arrays, "x_train": arrays["x_train"].transpose(0, 3, 1, 2)}


def label_hundred(arrays):
    return {**arrays, "y_test": np.where(np.arange(20) == 4, 100, arrays["y_test"]).astype(np.uint8)}


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (lambda a: {n: a[n] for n in ("x_train", "y_test")}, "has no array y_train and no x_test: expected x_train"),
        (nchw, r"x_train .* is uint8 \[60, 3, 32, 32\]: expected uint8 \[n, 32, 32, 3\], the colours last"),
        (lambda a: {**a, "x_test": a["x_test"].reshape(20, -1)}, r"x_test .* is uint8 \[20, 3072\]"),
        (lambda a: {**a, "x_test": a["x_test"][:0], "y_test": a["y_test"][:0]}, r"x_test .* is uint8 \[0, 32, 32, 3\]"),
        (lambda a: {**a, "x_train": a["x_train"] / np.float32(255)}, "x_train .* is float32"),
        (lambda a: {**a, "y_train": a["y_train"][:-1]}, r"y_train .* is uint8 \[59\]: expected 60 whole numbers"),
        (lambda a: {**a, "y_train": np.eye(10)[a["y_train"]]}, r"y_train .* is float64 \[60, 10\]: expected 60"),
        (label_hundred, "y_test .* holds the labels 0 to 100: expected 0 to 9, or to 99"),
        (lambda a: {**a, "y_train": a["y_train"].astype(np.int64) - 1}, "y_train .* holds the labels -1 to 8"),
        (lambda a: {**a, "x_train": np.array([{}] * 60)}, "x_train .* is object"),
    ],
    ids=["missing", "nchw", "flat", "empty", "float", "short", "one-hot", "label-100", "label--1", "pickled"],
)
def test_npz_of_other_arrays_is_refused_in_words(arrays, tmp_path, spoil, words):
    arrays["y_train"][:2] = 0, 9
    arrays["y_test"][:2] = 0, 9
    with pytest.raises(DataError, match=words):
        sources.load(saved(tmp_path / "a.npz", spoil(arrays)), tmp_path)


def cut(data):
    return data[: len(data) // 2]


def flip(data):
    return data[:1000] + bytes([data[1000] ^ 1]) + data[1001:]


@pytest.mark.parametrize(
    "spoil", [cut, flip, lambda data: b"", lambda data: b"no zip"], ids=["cut", "flip", "empty", "other"]
)
def test_damaged_npz_is_refused_in_words(arrays, tmp_path, spoil):
    path = Path(saved(tmp_path / "a.npz", arrays))
    path.write_bytes(spoil(path.read_bytes()))
    with pytest.raises(DataError, match=r"is not a sound npz .*: write it again"):
        sources.load(str(path), tmp_path)


def test_npz_that_would_expand_beyond_the_cap_is_not_read(arrays, tmp_path, monkeypatch):
    np.savez_compressed(tmp_path / "a.npz", **{**arrays, "x_train": np.zeros((4000, 32, 32, 3), np.uint8)})
    assert (tmp_path / "a.npz").stat().st_size < 200_000
    monkeypatch.setattr(sources, "CAP", 10_000_000)
    monkeypatch.setattr(sources, "_read", None)

    with pytest.raises(DataError, match=r"would expand to 12\d{6} bytes, more than the 10000000"):
        sources.load(str(tmp_path / "a.npz"), tmp_path)


def test_header_that_promises_more_than_the_file_holds_allocates_nothing(arrays, tmp_path, monkeypatch):
    path = Path(saved(tmp_path / "a.npz", arrays))
    with zipfile.ZipFile(path) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    with zipfile.ZipFile(path, "w") as archive:
        for name, data in members.items():
            header = data[:128].replace(b"(60,", b"(99999999999,")[:127] + b"\n"
            assert len(header) == 128
            archive.writestr(name, header + data[128:])
    monkeypatch.setattr(sources.npy, "read_array", None)

    with pytest.raises(DataError, match="x_train is cut short"):
        sources.load(str(path), tmp_path)


def test_cache_folder_follows_the_environment(monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert sources.default_cache() == tmp_path / "bnlab"
    monkeypatch.delenv("XDG_CACHE_HOME")
    assert sources.default_cache() == Path.home() / ".cache" / "bnlab"


def test_real_cifar10_has_its_digest(tmp_path):
    path = os.environ.get("BNLAB_CIFAR10_NPZ")
    if not path:
        pytest.skip("BNLAB_CIFAR10_NPZ names no npz of the real CIFAR-10")
    got = sources.load(path, tmp_path)

    assert (got.digest, got.label) == (CIFAR10, "CIFAR-10")
    assert np.bincount(got.y_train).tolist() == [5000] * 10
    assert sources.load(f"{path}:100+50", tmp_path).label == "the first 100 + 50 images of CIFAR-10"


@pytest.mark.parametrize("source", ["synthetic", "npz"])
def test_held_out_split_is_cut_from_the_training_images_in_canonical_order(arrays, tmp_path, source):
    path = saved(tmp_path / "a.npz", arrays) if source == "npz" else "synthetic"
    whole = sources.load("synthetic:60+20" if source == "synthetic" else path, tmp_path)
    held_out = sources.load(f"{path}:45+15 of train", tmp_path)

    np.testing.assert_array_equal(held_out.x_train, whole.x_train[:45])
    np.testing.assert_array_equal(held_out.x_test, whole.x_train[45:60])
    np.testing.assert_array_equal(held_out.y_test, whole.y_train[45:60])
    digests = {held_out.digest, whole.digest, sources.load(f"{path}:45+15", tmp_path).digest}
    assert len(digests) == 3, "a digest of its own"
    assert "45 training images" in held_out.label
    assert "tested on the next 15" in held_out.label


def test_held_out_split_that_is_larger_than_the_training_images_is_refused(arrays, tmp_path):
    path = saved(tmp_path / "a.npz", arrays)

    with pytest.raises(DataError, match=r"asks for 61 training images and .* has 60: ask for fewer"):
        sources.load(f"{path}:50+11 of train", tmp_path)


def test_digest_of_a_part_of_cifar10_is_computed_once_for_a_cache(arrays, tmp_path, torchvision_cache, monkeypatch):
    cache = tmp_path / "cache"
    monkeypatch.setattr(sources, "CIFAR10", sources.load(saved(tmp_path / "a.npz", arrays), tmp_path).digest)
    torchvision_cache(arrays)
    first = sources.digest("cifar10:45+15 of train", cache)
    monkeypatch.setattr(sources, "load", None)

    assert sources.digest("cifar10:45+15 of train", cache) == first
    (kept,) = cache.glob("*.digest")
    assert kept.read_text() == first
    kept.write_text("half a dig")
    with pytest.raises(TypeError):
        sources.digest("cifar10:45+15 of train", cache)


def test_catalogue_resolves_sources_and_finds_their_images_again(arrays, tmp_path):
    path = saved(tmp_path / "a.npz", arrays)
    catalogue = Catalogue(tmp_path)
    digest = catalogue.resolve(f"{path}:45+15 of train")

    assert digest == sources.load(f"{path}:45+15 of train", tmp_path).digest
    assert catalogue.resolve(digest) == digest
    assert catalogue.resolve("") == ""
    np.testing.assert_array_equal(catalogue.load(digest).y_test, sources.load(path, tmp_path).y_train[45:])
    with pytest.raises(DataError, match=r"^no data source of this session has the digest ffffffffffff: pass --data"):
        catalogue.load(64 * "f")


def test_a_part_of_cifar10_that_claims_name_has_a_digest_without_the_images(tmp_path):
    source, digest = next(iter(sources.KNOWN_PARTS.items()))

    assert sources.digest(source, tmp_path) == digest
    assert not list(tmp_path.iterdir())
    if real := os.environ.get("BNLAB_CIFAR10_NPZ"):
        assert sources.load(source.replace("cifar10", real), tmp_path).digest == digest


def test_parts_of_cifar10_are_read_from_the_session_s_file_if_it_holds_cifar10(arrays, tmp_path, monkeypatch):
    path = saved(tmp_path / "a.npz", arrays)
    monkeypatch.setattr(sources, "KNOWN_PARTS", {"cifar10:45+15 of train": 64 * "a"})
    opened = Catalogue(tmp_path, str(path))
    opened.resolve("cifar10:45+15 of train")
    monkeypatch.setattr("bnlab.data.catalogue.CIFAR10", sources.digest(str(path), tmp_path))

    np.testing.assert_array_equal(
        opened.load(64 * "a").x_train, sources.load(f"{path}:45+15 of train", tmp_path).x_train
    )
