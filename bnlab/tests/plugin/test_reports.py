"""No session replaces what a longer one reported."""

import json
from fnmatch import fnmatch
from pathlib import Path

import pytest

from bnlab.errors import SpecError
from bnlab.plugin import controller
from bnlab.plugin.reports import in_order
from bnlab.settings import Settings
from bnlab.tests.plugin.claims_folder import CPU, HEAD, HELD, IDENTITY, INCONCLUSIVE, REFUTED, make
from bnlab.tests.plugin.test_plugin import here, run

pytest_plugins = ["pytester"]

__all__ = ["here"]


def rows(folder: str = "reports") -> dict[str, str]:
    """The status of every claim in claims.json, in its order."""
    found = json.loads(Path(folder, "claims.json").read_text())["claims"]
    return {row["nodeid"].partition("::")[2]: row["status"] for row in found}


ALL = {"test_held": "held", "test_refuted": "refuted", "test_identity": "defined"}


@pytest.fixture
def whole(pytester: pytest.Pytester) -> pytest.Pytester:
    """A folder with three claims after a session that judged all of them."""
    make(pytester, HELD, REFUTED, IDENTITY)
    run(pytester, *CPU)
    assert rows() == ALL
    return pytester


@pytest.mark.parametrize(
    "arguments",
    [["-k", "identity"], ["::test_refuted"], ["--smoke"], ["--protocol=quick", "--no-train"]],
    ids=lambda arguments: arguments[0],
)
def test_less_updates_its_own_rows_or_its_own_folder(whole: pytest.Pytester, arguments: list[str]) -> None:
    before = Path("reports/tests.html").read_text()
    path, *rest = [f"hypotheses/test_paper.py{arguments[0]}"] if "::" in arguments[0] else ["hypotheses", *arguments]

    whole.runpytest_inprocess(path, *rest, "-p", "no:cacheprovider", *([] if "--no-train" in rest else CPU))

    assert rows() == ALL
    assert Path("reports/tests.html").read_text() == before


@pytest.mark.parametrize(
    ("options", "folder"),
    [
        ({}, "reports"),
        ({"data": "cifar10"}, "reports"),
        ({"protocol_name": "quick"}, "reports/quick"),
        ({"protocol_name": "smoke"}, "reports/smoke"),
        ({"seeds": 4}, "reports/seeds-4"),
        ({"seeds": 32, "protocol_name": "quick"}, "reports/quick-seeds-32"),
        ({"data": "synthetic:30+20"}, "reports/data-*"),
        ({"swap": ["BatchNorm=../../a:B"]}, None),
        ({"swap": ["BatchNorm=a:B(text='../../x')"]}, "reports/BatchNorm_a_B_text_.._.._x_-????????"),
        ({"recipe": ["optimizer=sgd", "epochs=30"]}, "reports/optimizer_sgd_epochs_30-????????"),
    ],
    ids=str,
)
def test_only_the_registered_session_writes_to_the_folder_of_the_full_page(
    tmp_path: Path, no_gpu: None, options: dict, folder: str | None
) -> None:
    if folder is None:
        with pytest.raises(SpecError):
            Settings.of(root=tmp_path, **options)
    else:
        found = Settings.of(root=tmp_path, **options).reports.resolve()
        assert fnmatch(str(found.relative_to(tmp_path)), folder)


@pytest.mark.usefixtures("outside")
def test_an_interrupted_session_keeps_the_rows_that_it_did_not_reach(whole: pytest.Pytester) -> None:
    interrupt = IDENTITY.replace("test_identity", "test_stopped").replace(
        "verdict =", "raise KeyboardInterrupt; verdict ="
    )
    page = Path("hypotheses/test_paper.py")
    page.write_text(page.read_text().replace(REFUTED, interrupt + REFUTED))

    result = whole.runpytest_subprocess("hypotheses", "-p", "no:cacheprovider", *CPU)

    result.stdout.fnmatch_lines(["stopped before * judged", "* finished meanwhile: kept", "the same command goes on*"])
    result.stdout.no_fnmatch_line("NO OUTCOME*")
    assert {name: status for name, status in rows().items() if name != "test_stopped"} == ALL


def test_a_claim_that_is_no_longer_there_leaves_the_report(whole: pytest.Pytester) -> None:
    page = Path("hypotheses/test_paper.py")
    page.write_text(page.read_text().replace(REFUTED, INCONCLUSIVE))

    run(whole, *CPU, "-k", "identity")

    assert list(rows()) == ["test_held", "test_identity"]
    assert json.loads(Path("reports/claims.json").read_text())["complete"] is False


@pytest.mark.parametrize("content", [b"", b"{}", b"[1]", b'{"format": 1}'])
def test_an_earlier_report_that_cannot_be_read_is_replaced(whole: pytest.Pytester, content: bytes) -> None:
    Path("reports/claims.json").write_bytes(content)

    run(whole, *CPU, "-k", "identity")

    assert rows() == {"test_identity": "defined"}


@pytest.mark.usefixtures("outside")
def test_rows_stand_in_the_order_of_the_paper_under_several_workers(pytester: pytest.Pytester) -> None:
    slow = HELD.replace("    verdict =", "    import time; time.sleep(0.5)\n    verdict =")
    folder = make(pytester, slow, REFUTED, IDENTITY)
    (folder / "test_a_first.py").write_text(HEAD + IDENTITY.replace("test_identity", "test_first"))

    pytester.runpytest_subprocess("hypotheses", "-p", "no:cacheprovider", *CPU, "-n2")

    assert list(rows()) == ["test_first", "test_held", "test_refuted", "test_identity"]


def test_a_page_that_cannot_be_made_loses_no_verdict(
    pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch
) -> None:
    make(pytester, HELD)
    monkeypatch.setattr(controller, "write_report", lambda *anything: 1 / 0)

    result = run(pytester, *CPU)

    result.stdout.fnmatch_lines(
        ["verdicts: 1 held *", "the report could not be made (ZeroDivisionError: division by *"]
    )
    assert result.ret == 3


def test_of_two_lists_the_longer_one_orders_a_page() -> None:
    assert in_order(["b::2", "a::1", "a::3", "a::2"], [["a::3"], ["a::1", "a::2", "a::3", "b::2"]]) == [
        "a::1",
        "a::2",
        "a::3",
        "b::2",
    ]


def test_rows_of_section_2_4_2_stand_before_those_of_2_4_10() -> None:
    ids = ["hypotheses/test_2_4_10_layers.py::a", "hypotheses/test_2_4_2_further.py::b"]

    assert in_order(ids, [ids]) == ids[::-1]
