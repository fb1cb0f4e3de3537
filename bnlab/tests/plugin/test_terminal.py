"""What a session says while it goes on."""

from pathlib import Path

from bnlab.plugin.terminal import Throttle, Watch
from bnlab.specs import Replicate
from bnlab.store import Store
from bnlab.tests.report.samples import SPECS


def test_a_store_that_cannot_be_read_for_a_moment_ends_no_progress(tmp_path: Path) -> None:
    store, lines = Store.open(tmp_path / "store"), []

    class Flaky:
        calls = 0

        def progress(self):
            self.calls += 1
            if self.calls == 1:
                raise PermissionError(13, "Permission denied")
            return store.progress()

    with store.try_work(Replicate(SPECS[0], 3)):
        watch = Watch(Flaky(), lines.append, every=0.01, look=0.01)
        watch.start()
        while not lines and watch.is_alive():
            watch.join(timeout=0.01)
        watch.stop()

    assert lines


def test_of_many_lines_few_are_passed_on() -> None:
    lines: list[str] = []
    throttle = Throttle(lines.append, every=1000)
    throttle("too early")
    Throttle(lines.append, every=0)("at once")

    assert lines == ["at once"]
