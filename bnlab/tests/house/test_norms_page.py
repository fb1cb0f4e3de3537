"""The two tables of docs/norms.md against the files, layers, tests and claims that they name."""

import re

import pytest

from bnlab import Definition
from bnlab.norms.catalogue import catalogue
from bnlab.tests.conftest import REPOSITORY
from bnlab.tests.house.pages import of_the_paper

PAGE = (REPOSITORY / "docs" / "norms.md").read_text(encoding="utf-8")
PACKAGE = REPOSITORY / "bnlab"
ROOM = 30
"""Lines by which a file may have grown since the page said how long it is."""


def table(head: str) -> list[list[str]]:
    """The rows below this head, as cells."""
    _, _, below = PAGE.partition(f"{head}\n")
    rows = below.partition("\n\n")[0].splitlines()[1:]
    return [[cell.strip() for cell in row.strip("|").split("|")] for row in rows]


SYSTEMS = table(
    "| § | System | What it is here | File in `bnlab/` (lines) | Engine "
    "| Step, ResNet-20 | ResNet18, batch 20 | batch 50 |"
)
HELD_BY = table("| System | Cross-checks | Definitions, judged at once | Claims that take training |")


def named_in(column: int) -> set[str]:
    return {name for row in HELD_BY for name in re.findall(r"`(test_\w+)`", row[column])}


def test_both_tables_have_the_same_systems() -> None:
    assert [row[1] for row in SYSTEMS] == [row[0] for row in HELD_BY]
    assert len(SYSTEMS) > 20


def test_files_are_there_and_about_as_long_as_they_are_said_to_be() -> None:
    said = {file: int(lines) for row in SYSTEMS for file, lines in re.findall(r"`([\w/]+\.py)` \((\d+)\)", row[3])}
    lines = {file: len((PACKAGE / file).read_text(encoding="utf-8").splitlines()) for file in said}

    assert {file: (count, said[file]) for file, count in lines.items() if abs(count - said[file]) > ROOM} == {}
    assert all("`" in row[3] for row in SYSTEMS)


def test_every_layer_of_section_2_4_stands_there_with_the_way_the_engine_takes_it() -> None:
    files = {row[3].partition("`")[2].partition("`")[0]: row[4] for row in SYSTEMS}
    layers = {
        entry.norm.layer.partition(":")[0].removeprefix("bnlab.").replace(".", "/") + ".py": entry.fused
        for entry in catalogue()
        if entry.place.startswith("2.4") and not entry.name
    }

    assert {file: files.get(file) for file in layers} == {
        file: "fused" if fused else "by replica" for file, fused in layers.items()
    }


def test_cross_checks_are_tests_of_the_package() -> None:
    sources = [path.read_text(encoding="utf-8") for path in (PACKAGE / "tests").rglob("test_*.py")]
    written = {name for source in sources for name in re.findall(r"^def (test_\w+)\(", source, re.MULTILINE)}

    assert named_in(1) - written == set()
    assert [row[0] for row in HELD_BY if "`test_" not in row[1]] == []


@pytest.mark.parametrize(("column", "definitions"), [(2, True), (3, False)], ids=["definitions", "trained"])
def test_claims_of_section_2_4_all_stand_in_their_column(cases, column: int, definitions: bool) -> None:
    claims = {case.item.originalname: isinstance(case.judged[0][0], Definition) for case in of_the_paper(cases)}
    of_the_section = {case.item.originalname for case in of_the_paper(cases) if case.page.name.startswith("test_2_4_")}

    assert {name: claims.get(name) for name in named_in(column)} == dict.fromkeys(named_in(column), definitions)
    assert {name for name in of_the_section if claims[name] == definitions} <= named_in(column)
