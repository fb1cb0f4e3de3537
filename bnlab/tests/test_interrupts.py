"""Ctrl-C and SIGTERM while a cohort trains."""

import os
import signal
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from bnlab.interrupts import SAID, deferred
from bnlab.lab import Lab
from bnlab.tests.fakes import FakeTrainer, epochs
from bnlab.tests.labs import SPEC, new_lab


@pytest.fixture(autouse=True)
def usual() -> Iterator[None]:
    """The handlers of a program that has none of its own, whatever runs these tests."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL
    signal.signal(signal.SIGINT, before)


class Interrupted(FakeTrainer):
    """Gets so many signals at the end of epoch 3 of its second Run, before the snapshot."""

    signals: tuple[int, ...] = (signal.SIGINT,)

    def train(self, cohort, resume, after_epoch):
        def told(run, epoch, snapshot):
            if epoch == 3 and run == cohort[-1]:
                for number in self.signals:
                    os.kill(os.getpid(), number)
            after_epoch(run, epoch, snapshot)

        return super().train(cohort, resume, told)


def interrupted(tmp_path: Path, log: Path, *signals: int) -> list[str]:
    """What a Lab says that gets these signals; it ends in KeyboardInterrupt."""
    trainer, said = Interrupted(log), list[str]()
    trainer.signals = signals
    with pytest.raises(KeyboardInterrupt):
        replace(new_lab(tmp_path, trainer), progress=said.append, replicas=2).train(SPEC)
    return said


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_one_signal_ends_training_when_the_epoch_is_kept_and_none_is_trained_again(
    lab: Lab, tmp_path: Path, log: Path, number: int
) -> None:
    assert interrupted(tmp_path, log, number) == [SAID]
    assert {work.epoch for work in lab.store.progress()} == {3}

    lab.train(SPEC)

    assert len(epochs(log)) == len(set(epochs(log))) == 4 * 5


def test_a_scheduler_and_a_controller_may_both_send_sigterm(lab: Lab, tmp_path: Path, log: Path) -> None:
    assert interrupted(tmp_path, log, signal.SIGTERM, signal.SIGTERM) == [SAID]
    assert {work.epoch for work in lab.store.progress()} == {3}


def test_a_second_ctrl_c_ends_training_at_once(lab: Lab, tmp_path: Path, log: Path) -> None:
    interrupted(tmp_path, log, signal.SIGINT, signal.SIGINT)

    assert sorted(work.epoch for work in lab.store.progress()) == [2, 3]


def test_a_signal_in_the_last_epoch_ends_it_when_the_runs_are_published() -> None:
    published = list[int]()

    def train_and_publish() -> None:
        with deferred(lambda line: None):
            os.kill(os.getpid(), signal.SIGINT)
            published.append(1)

    with pytest.raises(KeyboardInterrupt):
        train_and_publish()
    assert published


def test_a_program_that_handles_signals_itself_keeps_doing_so() -> None:
    got = list[int]()
    signal.signal(signal.SIGINT, lambda number, frame: got.append(number))
    with deferred(pytest.fail):
        os.kill(os.getpid(), signal.SIGINT)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    assert got == [signal.SIGINT]


def test_a_worker_that_ignores_ctrl_c_defers_what_its_controller_sends() -> None:
    said = list[str]()
    signal.signal(signal.SIGINT, signal.SIG_IGN)

    def train() -> None:
        with deferred(said.append):
            os.kill(os.getpid(), signal.SIGINT)
            os.kill(os.getpid(), signal.SIGTERM)
            said.append("kept")

    with pytest.raises(KeyboardInterrupt):
        train()
    signal.signal(signal.SIGINT, signal.default_int_handler)
    assert said == [SAID, "kept"]
