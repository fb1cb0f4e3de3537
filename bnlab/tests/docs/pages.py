"""The pages that people read: their blocks of code, and the commands in blocks and sentences."""

import re
from dataclasses import dataclass
from pathlib import Path

from bnlab.tests.conftest import REPOSITORY

PAGES = [REPOSITORY / "README.md", REPOSITORY / "CONTRIBUTING.md", *sorted((REPOSITORY / "docs").glob("*.md"))]

_FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.DOTALL | re.MULTILINE)

_COMMAND = re.compile(
    r"(pytest|python3?|bnlab|pip|uv|git|sbatch|docker|ruff|mypy|pre-commit|apt-get) \S|\.ci/|\. \.venv"
)


@dataclass(frozen=True)
class Block:
    """A fenced block: its page, the line of its fence, its language and its text."""

    page: Path
    line: int
    language: str
    text: str

    def __str__(self) -> str:
        return f"{self.page.name}:{self.line}"


def blocks(page: Path) -> list[Block]:
    """The fenced blocks of a page in order."""
    text = page.read_text(encoding="utf-8")
    return [Block(page, text.count("\n", 0, m.start()) + 1, m[1], m[2]) for m in _FENCE.finditer(text)]


def commands(page: Path) -> list[str]:
    """The commands of a page: the parts of its blocks for a shell, and what stands as code in a sentence."""
    written = [part for block in blocks(page) if block.language == "sh" for part in block.text.splitlines()]
    prose = _FENCE.sub("", page.read_text(encoding="utf-8"))
    written += [" ".join(code.split()) for code in re.findall(r"`([^`]+)`", prose)]
    parts = [part.strip() for line in written if _COMMAND.match(line) for part in line.split(" && ")]
    return list(dict.fromkeys(parts))
