"""Imports run one way, down this table, and torch is imported in five rooms only."""

import ast
from pathlib import Path

import pytest

HOUSE = Path(__file__).parents[2]

# room -> the other rooms that its modules may import from, at the top or inside a function; a room is a module or a
# package right under bnlab/, "bnlab" is the package root, and every room imports only from rooms further down
ROOMS = {
    "__main__": "cli",
    "cli": (
        "report changes claims cost data devices engine errors lab live needs norms paper parts plugin progress "
        "protocol provenance runs settings specs stats store words"
    ),
    "plugin": (
        "claims cohorts cost data devices engine errors interrupts lab live needs outcomes paper plan protocol report "
        "runs settings specs statuses store words"
    ),
    "bnlab": "errors lab nets norms notebook parts protocol runs specs stats",
    "notebook": "claims cohorts devices engine lab needs outcomes report runs settings specs stats",
    "report": "outcomes paper parts protocol provenance runs specs stats statuses store words",
    "live": "errors progress store",
    "progress": "cost specs store words",
    "plan": "claims errors lab specs",
    "claims": "errors lab needs outcomes protocol runs specs stats statuses words",
    "paper": "errors needs nets parts runs specs stats",
    "lab": "cohorts errors interrupts parts protocol provenance runs specs store words",
    "settings": "changes cost data devices errors protocol runs specs store",
    "outcomes": "provenance runs specs stats statuses",
    "needs": "parts protocol runs specs",
    "provenance": "runs",
    "engine": "data errors nets norms parts probes runs specs",
    "data": "errors specs",
    "nets": "errors norms parts",
    "norms": "errors parts",
    "probes": "errors",
    "cohorts": "errors runs specs store",
    "store": "errors runs specs",
    "cost": "parts protocol runs specs words",
    "runs": "errors specs stats",
    "protocol": "changes errors parts specs",
    "changes": "errors parts specs",
    "specs": "errors parts record_1",
    "record_1": "parts",
    "parts": "errors",
    "stats": "errors",
    "devices": "errors",
    "statuses": "",
    "formulas": "",
    "problems": "",
    "words": "",
    "interrupts": "",
    "errors": "",
}

WITH_TORCH = {"norms", "nets", "data", "engine", "probes"}


def imported(path: Path) -> set[str]:
    """The full names of what a module imports anywhere in it."""
    names = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path} imports relatively"
            names |= {f"{node.module}.{alias.name}" for alias in node.names}
    return names


def room_of(name: str) -> str:
    """`engine` for `bnlab.engine.loop.train`, `bnlab` for a name of the package root."""
    first = name.split(".")[1] if "." in name else ""
    return first if (HOUSE / first).is_dir() or (HOUSE / f"{first}.py").exists() else "bnlab"


def modules() -> dict[str, list[Path]]:
    """The modules of every room."""
    rooms: dict[str, list[Path]] = {}
    for path in sorted(HOUSE.rglob("*.py")):
        inside = path.relative_to(HOUSE)
        if inside.parts[0] != "tests":
            room = "bnlab" if inside.name == "__init__.py" and len(inside.parts) == 1 else inside.parts[0]
            rooms.setdefault(room.removesuffix(".py"), []).append(path)
    return rooms


MODULES = modules()


def test_every_room_is_in_the_table() -> None:
    assert sorted(MODULES) == sorted(ROOMS)


@pytest.mark.parametrize("room", MODULES)
def test_a_room_imports_from_those_that_the_table_names(room: str) -> None:
    ours = {name for path in MODULES[room] for name in imported(path) if name.split(".")[0] == "bnlab"}

    assert {room_of(name) for name in ours} - {room} - set(ROOMS[room].split()) == set()


def test_imports_run_down_the_table() -> None:
    order = list(ROOMS)

    upward = [
        (room, other)
        for room, others in ROOMS.items()
        for other in others.split()
        if order.index(other) <= order.index(room)
    ]
    assert upward == []


@pytest.mark.parametrize("room", sorted(set(ROOMS) - WITH_TORCH))
def test_no_other_room_imports_torch(room: str) -> None:
    found = {name.split(".")[0] for path in MODULES[room] for name in imported(path)}

    assert found.isdisjoint({"torch", "torchvision", "triton"})


@pytest.mark.parametrize(("room", "foreign"), [("report", "pytest"), ("claims", "pytest"), ("lab", "pytest")])
def test_what_knows_no_pytest(room: str, foreign: str) -> None:
    assert foreign not in {name.split(".")[0] for path in MODULES[room] for name in imported(path)}
