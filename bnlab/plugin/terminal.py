"""Lines on the terminal while a session goes on, past pytest's capturing."""

from collections.abc import Callable
from contextlib import nullcontext

import pytest

Write = Callable[[str], None]


def writer(config: pytest.Config) -> Write:
    """What writes a line on the terminal of this process."""

    def write(line: str) -> None:
        reporter = config.pluginmanager.get_plugin("terminalreporter")
        capture = config.pluginmanager.get_plugin("capturemanager")
        if reporter is None or config.option.verbose < -1:
            return
        with capture.global_and_fixture_disabled() if capture else nullcontext():
            reporter.ensure_newline()  # the word of a test that has begun then stands behind its name again
            if config.get_terminal_writer().width_of_current_line:
                reporter.line("")
            reporter.line(line)

    return write
