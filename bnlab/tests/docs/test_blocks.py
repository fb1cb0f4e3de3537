"""Every block of code in README, CONTRIBUTING and docs/ runs, or shows what runs."""

import re
import sys

import pytest

from bnlab.tests.conftest import REPOSITORY
from bnlab.tests.docs.conftest import Shell
from bnlab.tests.docs.pages import PAGES, Block, blocks

BLOCKS = [block for page in PAGES for block in blocks(page)]

ELSEWHERE = {
    "README.md": {
        "python": "test_readme.py: the first claim stands in hypotheses/, the others and the norm run under --smoke",
        "sh": "test_commands.py, part by part",
        "": "test_commands.py: a command prints it",
    },
}
"""What tries the blocks of a page, by language; the Python of any other page runs as one script."""

SCRIPTS = [page for page in PAGES if page.name not in ELSEWHERE and any(b.language == "python" for b in blocks(page))]

RUN_BLOCKS = """
import re
import sys
from pathlib import Path
from bnlab.tests.docs.pages import blocks

page, names = Path(sys.argv[1]), {"__name__": "__main__"}
for block in blocks(page):
    if block.language == "python":
        exec(compile("\\n" * block.line + block.text, page.name, "exec"), names)
"""
"""One namespace for all blocks of a page, and its own lines in a traceback."""


@pytest.mark.parametrize("block", BLOCKS, ids=str)
def test_a_block_is_tried(block: Block) -> None:
    runs = block.language in ("python", "sh") or block.page.name in ELSEWHERE

    assert runs, f"{block} is in {block.language or 'no language'}: nothing tries it, so say so in this test's table"


@pytest.mark.parametrize("page", SCRIPTS, ids=lambda page: page.name)
def test_the_python_of_a_page_runs_in_order(page: object, shell: Shell) -> None:
    ran = shell(f"PYTHONPATH=$PYTHONPATH:. {sys.executable} -c '{RUN_BLOCKS}' {page}")

    assert ran.returncode == 0, ran.stdout + ran.stderr


NAMED = [named for page in PAGES for named in re.findall(r"`(bnlab/tests/[\w/]+\.py)::(\w+)`", page.read_text("utf-8"))]


def test_every_test_that_a_page_names_is_there():
    assert len(NAMED) > 30
    lacking = [named for named in NAMED if f"def {named[1]}(" not in (REPOSITORY / named[0]).read_text("utf-8")]
    assert lacking == []
