"""The Lab and probes: a Run is read for all claims at once, and on the device that trained it."""

import hashlib
from contextlib import nullcontext
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from bnlab.errors import OtherNumbersError, StoreError
from bnlab.lab import Lab, UntrainedError, replicates
from bnlab.parts import AFFINE_LAYER, source_digest
from bnlab.protocol import QUICK
from bnlab.runs import reading
from bnlab.specs import CIFAR10
from bnlab.tests.fakes import FakeTrainer, epochs
from bnlab.tests.labs import QUICK_SPEC, SPEC, new_lab, other_numbers

pytestmark = pytest.mark.usefixtures("no_flushing")


PROBED = ("gradient_spread",)


def test_a_run_without_a_probe_is_trained_again_and_keeps_its_readings(lab: Lab, tmp_path: Path, log: Path) -> None:
    before = lab.train(SPEC)

    probed = lab.train(SPEC, probes=PROBED)

    assert len(epochs(log)) == 2 * 4 * 5
    assert [run.probes for run in probed.runs] == [{"gradient_spread": {"seed": float(seed)}} for seed in range(4)]
    assert [run.digest for run in probed.runs] == [run.digest for run in before.runs]
    again = new_lab(tmp_path, None).train(SPEC, probes=PROBED)
    assert [run.probes for run in again.runs] == [run.probes for run in probed.runs]


def test_a_run_that_has_the_probe_is_not_trained_again(lab: Lab, log: Path) -> None:
    lab.train(SPEC, probes=PROBED)

    assert len(lab.train(SPEC, probes=PROBED).runs) == len(lab.train(SPEC).runs) == 4
    assert len(epochs(log)) == 4 * 5


def test_a_run_without_a_probe_is_missing_where_nothing_trains(lab: Lab, tmp_path: Path) -> None:
    lab.train(SPEC)

    with pytest.raises(UntrainedError) as caught:
        new_lab(tmp_path, None).train(SPEC, probes=PROBED)

    assert caught.value.missing == tuple(replicates(QUICK_SPEC, 4, PROBED))


def test_a_second_probe_is_added_to_the_first(lab: Lab) -> None:
    lab.train(SPEC, probes=("a",))
    lab.train(SPEC, probes=("b",))

    assert [set(run.probes) for run in lab.train(SPEC, probes=("b", "a")).runs] == [{"a", "b"}] * 4


def test_an_edited_probe_of_a_user_is_read_again_and_a_claim_reads_the_new_version(tmp_path, lab, monkeypatch):
    monkeypatch.syspath_prepend(tmp_path)
    asked = []
    for text in ("one", "two"):
        (tmp_path / "my_probe.py").write_text(f"# {text}\n")
        source_digest.cache_clear()
        runs = lab.train(SPEC, probes=("my_probe:Mine",)).runs
        asked.append({probe for run in runs for probe in run.probes})
        assert reading("my_probe:Mine/seed", unit="points").read(runs[1]) == 1.0

    (first,), (second,) = asked
    assert first != second
    assert {name.partition("@")[0] for name in (first, second)} == {"my_probe:Mine"}


@pytest.mark.parametrize("recorded", [False, True], ids=["stored", "recorded"])
def test_a_probe_of_a_training_with_other_numbers_is_refused(
    lab: Lab, tmp_path: Path, log: Path, recorded: bool
) -> None:
    runs = {run.key: run for run in lab.train(SPEC).runs}
    place = tmp_path / "other" if recorded else tmp_path
    other = replace(new_lab(place, other_numbers(log)), recorded=runs if recorded else {})

    with pytest.raises(StoreError, match="trained twice with different numbers"):
        other.train(SPEC, probes=PROBED)

    assert [run.digest for run in other.train(SPEC).runs] == [run.digest for run in runs.values()]


@dataclass
class Gpu(FakeTrainer):
    """Another device than the FakeTrainer's, where bits depend on how many train together."""

    device: str = "a GPU"

    def train(self, cohort, *rest):
        digest = hashlib.sha256(f"{self.device} {len(cohort)}".encode()).hexdigest()
        runs = super().train(cohort, *rest)
        return [replace(run, weights=digest, provenance=run.provenance | {"cuda": "13.0"}) for run in runs]


def test_a_recorded_run_of_another_device_is_trained_anew_with_the_probes_of_both(lab, tmp_path, log) -> None:
    runs = {run.key: run for run in lab.train(SPEC, probes=("before", "my_probe:Mine@12")).runs}
    spent = len(epochs(log))

    other = replace(new_lab(tmp_path / "other", Gpu(log)), recorded=runs)
    arm = other.train(SPEC, probes=PROBED)

    assert len(epochs(log)) == spent + 4 * 5
    assert {run.provenance["device"] for run in arm.runs} == {"a GPU"}
    for run in arm.runs:
        (kept,) = (one for one in other.store.runs() if one.key == run.key)
        assert kept.probes.keys() == {"before", *PROBED}
        assert kept.digest == run.digest != runs[run.key].digest
    assert [run.digest for run in other.train(SPEC).runs] == [run.digest for run in arm.runs], "used whole"


def test_a_stored_run_of_another_device_is_refused_before_it_trains_and_all_else_is_trained(lab, tmp_path, log) -> None:
    first = lab.train(SPEC)
    spent = len(epochs(log))
    other = replace(new_lab(tmp_path, Gpu(log)), replicas=3)
    free = replicates(QUICK.apply(replace(SPEC, norm=AFFINE_LAYER), CIFAR10), 2)
    later = replicates(QUICK.apply(replace(SPEC, batch_size=20), CIFAR10), 2)

    with pytest.raises(OtherNumbersError, match=r"was trained on fake in a cohort of 1 and would .* --store"):
        other.runs([*replicates(QUICK_SPEC, 4, PROBED), *free, *later])

    assert not other.missing([*free, *later])
    assert len(epochs(log)) == spent + 4 * 5
    assert [run.digest for run in other.train(SPEC).runs] == [run.digest for run in first.runs]


@pytest.mark.parametrize(("room", "refused"), [(2, False), (4, True)])
def test_a_probe_of_a_gpus_run_is_read_in_a_cohort_of_the_same_size_only(tmp_path, log, room, refused) -> None:
    replace(new_lab(tmp_path, Gpu(log)), replicas=2).train(SPEC)
    spent = len(epochs(log))
    again = replace(new_lab(tmp_path, Gpu(log)), replicas=room)

    with (
        pytest.raises(OtherNumbersError, match=r"in a cohort of 2 and .* on a cohort of 4, so")
        if refused
        else nullcontext()
    ):
        again.train(SPEC, probes=PROBED)

    assert len(epochs(log)) == spent + (0 if refused else 4 * 5)
