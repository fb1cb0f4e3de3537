"""Following a training on a terminal and elsewhere."""

import io
from collections.abc import Iterator
from pathlib import Path
from threading import Timer

import pytest

from bnlab import live
from bnlab.cli import main
from bnlab.progress import Watcher
from bnlab.specs import Replicate
from bnlab.store import Store
from bnlab.store.beats import Pulse, beats
from bnlab.tests.report.samples import SPECS

pytestmark = pytest.mark.usefixtures("no_flushing")

RUN = Replicate(SPECS[0], 3)


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store.open(tmp_path / "store")


@pytest.fixture
def pulse(store: Store, monkeypatch: pytest.MonkeyPatch) -> Iterator[Pulse]:
    """A process that trains for half a second while others look often."""
    monkeypatch.setattr(live, "LOOK", 0.02)
    with Pulse(store) as own:
        own.plan({"runs/never": 1.0})
        own.say("compiling kernels")
        Timer(0.5, own.close).start()
        yield own


def watch(store: Store) -> int:
    return main(["watch", "--store", str(store.path)])


def test_a_store_that_cannot_be_read_for_a_moment_ends_no_progress(store: Store) -> None:
    said: list[str] = []

    class Flaky:
        path, calls = store.path, 0

        def progress(self) -> list:
            self.calls += 1
            if self.calls == 1:
                raise PermissionError(13, "Permission denied")
            return store.progress()

    with store.try_work(RUN):
        follower = live.Watch(Flaky(), live.lines(said.append, every=0.01), look=0.01)
        follower.start()
        while not said and follower.is_alive():
            follower.join(timeout=0.01)
        follower.stop()

    assert said


def test_elsewhere_than_on_a_terminal_lines_are_seldom(store: Store) -> None:
    said: list[str] = []
    watcher = Watcher(store)
    with Pulse(store) as pulse:
        pulse.say("compiling kernels")
        watcher.look()
        for show in (live.lines(said.append, 1000.0), live.lines(said.append, 1000.0, at_once=True)):
            show(watcher)
            show(watcher)

    assert len(said) == 1


def test_watch_shows_the_training_of_another_process_until_it_ends(
    store: Store, pulse: Pulse, capsys: pytest.CaptureFixture[str]
) -> None:
    assert watch(store) == 0

    first, last = capsys.readouterr().out.splitlines()
    assert first.startswith("0 of 1 Run; nothing trains yet; process ")
    assert first.endswith(": compiling kernels")
    assert last == f"nothing trains any more in {store.path}: 0 of 1 Run there"


def test_watch_where_nothing_trains_says_what_was_left(store: Store, capsys: pytest.CaptureFixture[str]) -> None:
    with store.try_work(RUN) as work:
        work.save_snapshot(1, b"state")

    assert watch(store) == 0

    assert capsys.readouterr().out == f"nothing trains now in {store.path}, 1 Run interrupted\n"


def test_ctrl_c_ends_watch_without_a_word_and_without_the_training(
    store: Store, pulse: Pulse, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def stop(watcher: Watcher) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(live, "lines", lambda *_, **options: stop)

    assert watch(store) == 130
    assert capsys.readouterr().err == ""
    assert len(beats(store)) == 1


def test_on_a_terminal_the_view_keeps_its_place(store: Store, pulse: Pulse, monkeypatch: pytest.MonkeyPatch) -> None:
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    monkeypatch.setattr("sys.stdout", screen := Terminal())
    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.setenv("COLUMNS", "200")
    watcher = Watcher(store)
    watcher.look()

    with live.display() as show:
        show(watcher)
        show(watcher)

    shown = screen.getvalue()
    assert shown.count("0 of 1 Run; nothing trains yet") >= 2
    assert shown.count("compiling kernels") >= 2
    assert "\x1b[2K" in shown, "the second view is drawn over the first"
