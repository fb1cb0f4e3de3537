"""The help of every command, and the page that lists them."""

import re
import shlex
from dataclasses import replace

import pytest

from bnlab.cli import COMMANDS, main
from bnlab.tests.conftest import REPOSITORY


@pytest.mark.parametrize("name", COMMANDS)
def test_help_ends_with_an_example_that_the_command_takes(
    name: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        main([name, "--help"])
    *_, codes, _, last = capsys.readouterr().out.splitlines()
    called = []
    monkeypatch.setitem(COMMANDS, name, replace(COMMANDS[name], run=lambda arguments: called.append(arguments) or 0))

    head, *example = shlex.split(last.removeprefix("example: "))[2:]

    assert codes.startswith("exit codes: 0 done; ")
    assert (last.split()[:4], head) == (["example:", "python", "-m", "bnlab"], "bnlab")
    assert (example[0], bool(example[1:])) == (name, bool(COMMANDS[name].example))
    assert main(example) == 0
    assert len(called) == 1


def test_the_page_of_commands_has_a_row_for_each_with_its_exit_code() -> None:
    page = (REPOSITORY / "docs" / "commands.md").read_text(encoding="utf-8")
    table = page.partition("| Command |")[2].partition("\n\n")[0]

    rows = re.findall(r"^\| `(.+?)` \| (.+?) \| (.+?) \|$", table, re.MULTILINE)

    assert rows == [(name, command.help, command.one or "-") for name, command in COMMANDS.items()]


def test_no_command_prints_the_help(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([]) == 2

    said = capsys.readouterr().out
    assert [name for name in COMMANDS if not re.search(rf"^    {name}\b", said, re.MULTILINE)] == []


def test_version_is_the_commit_of_a_checkout(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("bnlab.provenance.commit", lambda: "0123abc")

    assert main(["--version"]) == 0

    assert capsys.readouterr().out == "bnlab 0123abc\n"
