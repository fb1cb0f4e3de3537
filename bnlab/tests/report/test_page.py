"""The page: what stands on it, and that nothing of a claim becomes more than text."""

import os
import re
import shutil
import subprocess
from collections.abc import Iterable
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest

from bnlab.outcomes import Outcome
from bnlab.paper import BATCH_SIZES, NORMS, PRINTED, SECTIONS
from bnlab.parts import BATCHNORM, BATCHNORM_MINUS, ResNet
from bnlab.protocol import PAPER, QUICK, Protocol
from bnlab.report.page import write_report
from bnlab.report.records import ClaimRecord, Summary
from bnlab.runs import Run
from bnlab.specs import CIFAR10, RunSpec
from bnlab.stats import Cell
from bnlab.tests.conftest import REPOSITORY
from bnlab.tests.report.samples import SPECS, judged, summary, untrained

WHERE = [f"{la}/{k}/{w}" for la in ("input", "final") for k in ("weight", "gradient") for w in ("early", "late")]


class Elements(HTMLParser):
    """Every element of a page with its attributes, and its text."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.found: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.feed(page)

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attributes)))

    def handle_data(self, data: str) -> None:
        if not self.found or self.found[-1][0] != "style":
            self.text += data


def run(spec: RunSpec, seed: int, probes: bool = False) -> Run:
    """A Run of this RunSpec with numbers that depend on the seed."""
    noise = np.random.default_rng([seed, spec.batch_size, len(str(spec.norm))])
    level = PRINTED.get(replace(spec, epochs=15, data=""), 50.0)
    read = {f"{where}/deviation": 0.5 + seed / 10 for where in WHERE}
    read |= {f"{where}/quantiles": np.sort(noise.normal(size=101)) for where in WHERE}
    curve = level - 10 / np.arange(1, spec.epochs + 1) + noise.normal(0, 0.3, spec.epochs)
    return Run(
        spec=spec,
        seed=seed,
        curves={"train_loss": (1.0,) * spec.epochs, "test_accuracy": tuple(map(float, curve))},
        readings={"test_accuracy_recalibrated": level + 1},
        weights=f"{spec.key}-{seed}",
        provenance={"device": "fake", "wall_s": 60.0},
        probes={"first_epoch": read} if probes else {},
    )


def runs(specs: Iterable[RunSpec], effort: Protocol, seeds: int, probes: bool = False) -> dict[str, Run]:
    found = [run(effort.apply(spec, CIFAR10), seed, probes) for spec in specs for seed in range(seeds)]
    return {one.key: one for one in found}


FIRST_EPOCH = [RunSpec(net=ResNet(18), norm=norm, batch_size=size, epochs=1) for norm in NORMS for size in BATCH_SIZES]


def page(folder: Path, of: Summary, recorded: dict[str, Run] | None = None) -> str:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("os.fsync", lambda descriptor: None)
        return write_report(of, recorded or {}, folder / "reports", folder).read_text(encoding="utf-8")


WICKED = """"'><script>alert(1)</script><img src=x onerror=alert(1)>{{ 7919 * 7907 }}</style></title><!--&lt;"""


def test_nothing_that_a_claim_or_a_machine_says_becomes_an_element_or_a_file(tmp_path: Path) -> None:
    wicked = judged(f"../../{WICKED}/x.py::{WICKED}[{WICKED}]", WICKED, estimate=1.0, label=WICKED, unstable=(WICKED,))
    outcome = wicked.outcome
    assert outcome is not None
    sample = {"label": WICKED, "metric": WICKED, "unit": "points", "arm": 0}
    seeds = {"seeds": [0, 1], "values": [1.0, 2.0], "collapsed": [False, True]}
    rule = {"kind": "contrasts", "weights": [[1.0]], "hold": [0.0, None], "refute": [0.0, None]}
    basis = {"kind": WICKED, "samples": [sample | seeds], "rule": rule | {"turned": False, "reference": 0.0}}
    told = dict.fromkeys(("sentence", "place", "quote", "reading"), WICKED)
    wicked = replace(wicked, outcome=replace(outcome, reason=WICKED, basis=basis), parameters={WICKED: WICKED}, **told)
    spec = RunSpec(net=ResNet(18), norm=replace(BATCHNORM, name=WICKED), batch_size=20, data=CIFAR10)

    text = page(
        tmp_path,
        replace(summary(wicked, replace(wicked, nodeid="javascript:alert(1)::b")), source=WICKED, advice=WICKED),
        {"a": run(spec, 0)},
    )

    found = Elements(text)
    assert {tag for tag, _ in found.found}.isdisjoint({"script", "img", "iframe", "object", "base", "form", "embed"})
    assert not [attributes for _, attributes in found.found if any(name.startswith("on") for name in attributes)]
    links = [attributes["href"] or "" for tag, attributes in found.found if tag == "a"]
    assert links
    assert not [
        link for link in links if not re.match(r"#|\.\./|(tests\.html|claims\.json|claims\.csv|runs\.csv)$", link)
    ]
    assert "alert(1)" in found.text
    assert str(7919 * 7907) not in found.text
    assert sorted(path.name for path in tmp_path.iterdir()) == ["reports"]
    assert sorted(path.name for path in (tmp_path / "reports").iterdir()) == [
        "claims.csv",
        "claims.json",
        "report.html",
        "runs.csv",
    ]


def test_the_page_needs_no_script_and_no_other_file(tmp_path: Path) -> None:
    text = page(tmp_path, summary(judged("a", estimate=1.0)), runs(FIRST_EPOCH[:2], PAPER, 2, probes=True))

    assert "<script" not in text
    assert "@import" not in text
    assert set(re.findall(r"https?://[^\s\"'<)]*", text)) <= {
        "http://www.w3.org/1999/xlink",
        "http://www.w3.org/2000/svg",
    }
    assert not [a for tag, a in Elements(text).found if tag in ("link", "image", "use") and "#" not in str(a)]


def test_the_same_claims_and_runs_give_the_same_bytes(tmp_path: Path) -> None:
    known = runs(FIRST_EPOCH[:4], PAPER, 2, probes=True) | runs(list(PRINTED)[:4], PAPER, 4)
    of = summary(judged("a", estimate=1.0), untrained("b", *SPECS))

    first, second = page(tmp_path, of, known), page(tmp_path, of, dict(reversed(known.items())))

    assert "data:image" not in first
    assert first.count("<svg role=") > 10
    assert first == second


def replicated(status: str) -> ClaimRecord:
    """A claim that judged one arm of Table 4 against its printed number."""
    trained = PAPER.apply(RunSpec(net=ResNet(18), norm=BATCHNORM, batch_size=20), CIFAR10)
    label = f"{trained.label[:-1]}, test accuracy of the last epoch) - published 76.65"
    cell = Cell(label=label, kind="replication", status=status, unit="points", estimate=0, low=0, high=0, level=0.999)
    return judged("t", status=status, kind="every", cells=(cell,))


@pytest.mark.parametrize(
    ("status", "row", "word"), [("held", "agrees", "replicates"), ("refuted", "differs", "differs")]
)
def test_an_arm_is_coloured_by_the_claim_that_judged_its_replication(
    tmp_path: Path, status: str, row: str, word: str
) -> None:
    specs = [RunSpec(net=ResNet(18), norm=norm, batch_size=20) for norm in (BATCHNORM, BATCHNORM_MINUS)]

    text = page(tmp_path, summary(replicated(status)), runs(specs, PAPER, 4))

    (coloured,) = re.findall(rf'<tr class="{row}">(.*?)</tr>', text, re.DOTALL)
    assert "76.65" in coloured
    assert word in coloured
    assert (
        f"{np.mean([run(PAPER.apply(specs[0], CIFAR10), s).curves['test_accuracy'][-1] for s in range(4)]):.2f}"
        in coloured
    )


def test_runs_shorter_than_the_papers_are_hollow_and_replicate_nothing(tmp_path: Path) -> None:
    text = page(
        tmp_path, summary(replicated("held")), runs([RunSpec(net=ResNet(18), norm=BATCHNORM, batch_size=20)], QUICK, 4)
    )

    assert '<tr class="agrees">' not in text
    assert "5 of 15 epochs" in text


def test_a_preview_is_shown_beside_the_status_and_counted_apart(tmp_path: Path) -> None:
    preview = replace(judged("b", estimate=2.5).outcome, status="leans held", protocol="quick", reason="by few")
    claim = ClaimRecord(nodeid="b", sentence="B.", outcome=Outcome(status="untrained", reason="none", preview=preview))

    text = page(tmp_path, summary(claim, registered=1))
    words = Elements(text).text

    assert "under the paper's protocol 0 held, 0 refuted, 0 inconclusive; by protocol quick 1 leaning held" in words
    assert re.search(r"untrained\s+preview: leans held", words)
    assert "+2.50" in words
    assert "hollow" in text


def test_a_smoke_page_says_so_and_shows_no_verdict(tmp_path: Path) -> None:
    claims = [judged("a", status="exercised", estimate=4.25), judged("b", status="defined", kind="definition")]
    of = replace(summary(*claims), protocol="smoke", source="synthetic:100+100")

    text = page(tmp_path, of, runs([SPECS[0]], PAPER, 4))
    words = Elements(text).text

    assert "SMOKE" in words
    assert "4.25" not in words
    assert not re.search(r"\b(held|refuted|inconclusive|defined|leans|refutes)\b", words)
    assert [a for tag, a in Elements(text).found if tag == "svg"] == []


def test_a_session_without_runs_has_a_page_without_figures(tmp_path: Path) -> None:
    text = page(tmp_path, summary(untrained("a", *SPECS)))

    assert "No Run of these arms is recorded." in text
    assert "None among the claims of this session." in text


def test_sentences_that_the_printed_numbers_contradict_are_listed(tmp_path: Path) -> None:
    rule = {"kind": "contrasts", "level": None, "weights": [[1.0, -1.0]], "turned": False, "reference": 0.0}
    asks = {"kind": "superiority", "samples": [], "rule": {**rule, "hold": [3.0, None], "refute": [3.0, None]}}

    def one(name: str, published: float) -> ClaimRecord:
        return replace(untrained(name, *SPECS), sentence=f"{name} is so.", hypothesis=asks, published=published)

    text = page(tmp_path, summary(one("Above", 3.5), one("Below", -2.25), one("Unknown", None), registered=3))

    section = text[text.index('id="contradicted"') : text.index('id="figures"')]
    assert "Below is so." in section
    assert "-2.25" in section
    assert "Above is so." not in section
    assert "Unknown is so." not in section


def test_a_definition_that_the_tables_contradict_shows_the_numbers_that_differ(tmp_path: Path) -> None:
    claim = judged("d", status="refuted", kind="definition")
    basis = {"kind": "definition", "got": [[77.17, 69.04], [70.32]], "expected": [[76.65, 69.04], [69.86]]}
    claim = replace(claim, place="§3.2, Table 2", outcome=replace(claim.outcome, basis=basis))

    text = page(tmp_path, summary(claim))

    assert "<td>77.17 for 76.65, 70.32 for 69.86</td>" in text


def test_the_head_has_one_mark_for_each_sentence_that_leads_to_it(tmp_path: Path) -> None:
    held, untold = replace(judged("f::a", estimate=1.0), sentence="A."), untrained("f::b", *SPECS)
    twin = replace(judged("f::c", estimate=1.0), reading="control", sentence="C.")
    definition = judged("f::d", status="defined", kind="definition")

    text = page(tmp_path, summary(held, untold, twin, definition))

    marks = [a for tag, a in Elements(text.partition("</header>")[0]).found if tag == "a" and "title" in a]
    assert [(mark["href"], (mark["title"] or "").partition(":")[0]) for mark in marks] == [
        ("#f-a", "held"),
        ("#f-b", "untrained"),
    ]
    assert marks[0]["aria-label"] == "held: A."
    ids = {a["id"] for _, a in Elements(text).found if "id" in a}
    assert {(mark["href"] or "")[1:] for mark in marks} <= ids


def test_every_section_that_has_claims_has_its_heading() -> None:
    pages = [path.read_text(encoding="utf-8") for path in (REPOSITORY / "hypotheses").glob("test_*.py")]
    places = {place for text in pages for place in re.findall(r'\.claim\("(§[\d.]+)', text)}

    assert places == SECTIONS.keys()


@pytest.mark.slow
def test_a_full_page_is_under_a_megabyte(tmp_path: Path) -> None:
    samples = [
        {"label": f"BatchNorm-minus (ResNet101, batch {i})", "metric": "test accuracy", "unit": "points", "arm": i}
        | {"seeds": list(range(8)), "values": [70 + s / 10 for s in range(8)], "collapsed": [False] * 8}
        for i in range(6)
    ]
    rule = {"kind": "contrasts", "level": 0.99, "weights": [[1.0] * 6], "hold": [0.0, None], "refute": [0.0, None]}
    basis = {"kind": "equivalence", "samples": samples, "rule": rule | {"turned": False, "reference": 0.0}}

    # as many as the suite has, and each of them at the second look
    def one(i: int) -> ClaimRecord:
        claim = judged(f"hypotheses/test_4.py::test_{i}", "GPU", estimate=1.0, low=0.5, high=1.5)
        told = {"sentence": "A sentence of the usual length about networks. " * 2, "quote": "The paper's words. " * 12}
        return replace(claim, **told, place="§4.1", outcome=replace(claim.outcome, basis=basis, reason="because " * 30))

    recorded = runs(PRINTED, PAPER, 8) | runs(FIRST_EPOCH, PAPER, 8, probes=True)
    definitions = (judged(f"hypotheses/test_2.py::test_{i}", status="defined", kind="definition") for i in range(68))
    text = page(tmp_path, summary(*map(one, range(131)), *definitions, registered=199), recorded)

    assert text.count("<svg role=") == 8 + 8 + 8 + 4 + 8
    assert len(text.encode()) < 1e6


CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)


def browse(folder: Path, address: str, *options: str) -> "subprocess.CompletedProcess[str]":
    """Chromium without a window, in a profile of its own."""
    own = ["--headless", "--no-sandbox", "--disable-gpu", f"--user-data-dir={folder}/chromium", *options, address]
    return subprocess.run([str(CHROMIUM), *own], capture_output=True, text=True, timeout=120, check=False)


@pytest.mark.slow
@pytest.mark.skipif(CHROMIUM is None, reason="no Chromium is installed: apt-get install chromium")
def test_a_browser_shows_the_page_without_a_message_on_its_console(tmp_path: Path) -> None:
    page(tmp_path, summary(judged("a", estimate=1.0)), runs(FIRST_EPOCH[:2], PAPER, 2, probes=True))
    shown = (tmp_path / "reports" / "report.html").as_uri()

    done = browse(tmp_path, shown, "--enable-logging=stderr", "--window-size=390,900", f"--screenshot={tmp_path}/a.png")

    assert (tmp_path / "a.png").stat().st_size > 10_000
    assert "CONSOLE" not in done.stderr


AXE = os.environ.get("BNLAB_AXE")
"""axe.min.js of the npm package axe-core, which checks a page for what some people could not read or reach."""

CHECK = """
for (const details of document.querySelectorAll("details")) details.open = true;
axe.run({resultTypes: ["violations"]}).then(found => {
  document.documentElement.innerHTML = "AXE " + found.passes.length + " " + JSON.stringify(found.violations) + " END";
});
"""


@pytest.mark.slow
@pytest.mark.skipif(
    CHROMIUM is None or AXE is None, reason="needs Chromium, and BNLAB_AXE=axe.min.js (npm pack axe-core)"
)
@pytest.mark.parametrize("scheme", ["--blink-settings=preferredColorScheme=0", ""], ids=["dark", "light"])
@pytest.mark.parametrize("width", [390, 1400])
def test_axe_finds_nothing_that_keeps_people_from_reading_the_page(tmp_path: Path, width: int, scheme: str) -> None:
    claims = [judged("f::a", "cpu", estimate=1.0, low=0.5, high=1.5), untrained("f::b", *SPECS), replicated("refuted")]
    twin = replace(judged("f::c", estimate=1.0), reading="control")
    told = [replace(claim, place="§4.1.1, Table 4", sentence="A sentence.") for claim in (*claims, twin)]
    text = page(tmp_path, summary(*told), runs(list(PRINTED)[:4], PAPER, 4))
    script = f"<script>{Path(str(AXE)).read_text(encoding='utf-8')}\n{CHECK}</script></body>"
    (tmp_path / "axe.html").write_text(text.replace("</body>", script), encoding="utf-8")
    options = ["--dump-dom", "--virtual-time-budget=60000", f"--window-size={width},900", *filter(None, [scheme])]

    done = browse(tmp_path, (tmp_path / "axe.html").as_uri(), *options)

    found = re.search(r"AXE (\d+) (.*) END", done.stdout, re.DOTALL)
    assert found, done.stdout[-2000:] + done.stderr
    assert int(found[1]) > 20
    assert found[2] == "[]"
