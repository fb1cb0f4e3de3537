"""The data products: claims.json and its schema, claims.csv, runs.csv."""

import csv
import json
from dataclasses import replace
from importlib.resources import files
from pathlib import Path

import jsonschema
import pytest

from bnlab.claims import answer
from bnlab.parts import AFFINE_LAYER, AFFINE_PER_LAYER, BATCHNORM, BATCHNORM_MINUS, BETA_ONLY, GAMMA_ONLY, NONE
from bnlab.plugin.messages import record
from bnlab.protocol import PAPER
from bnlab.report import tables
from bnlab.report.numbers import Figure
from bnlab.report.records import ClaimRecord, Summary
from bnlab.stats import (
    Beaten,
    Definition,
    Equivalence,
    Every,
    Interaction,
    NonInferiority,
    Ordering,
    Pooled,
    Replication,
    Separation,
    Stability,
    Superiority,
    points,
)
from bnlab.tests.fakes import FakeTrainer
from bnlab.tests.labs import SPEC, claim, new_lab
from bnlab.tests.report.recompute import p_values, status_of
from bnlab.tests.report.samples import SPECS, judged, outcome, summary, untrained

ASKED = {
    "equivalence": (Equivalence(margin=points(1.0)), [BATCHNORM, BATCHNORM_MINUS]),
    "superiority": (Superiority(by=points(3.0)), [BATCHNORM, NONE]),
    "superiority the wrong way round": (Superiority(), [NONE, BATCHNORM]),
    "undecided": (Equivalence(margin=points(0.5)), [GAMMA_ONLY, BETA_ONLY]),
    "non-inferiority": (NonInferiority(margin=points(1.0)), [BATCHNORM_MINUS, BATCHNORM]),
    "interaction": (Interaction(), [BATCHNORM, NONE, BATCHNORM_MINUS, AFFINE_LAYER]),
    "ordering": (Ordering(), [BATCHNORM, AFFINE_LAYER, NONE]),
    "beaten": (Beaten(by=points(3.0)), [NONE, BATCHNORM, AFFINE_LAYER]),
    "replication": (Replication(published=70.0), [BATCHNORM]),
    "every": (Every(Superiority(), Equivalence(margin=points(30.0))), [BATCHNORM, NONE]),
    "pooled": (Pooled(Equivalence(margin=points(1.0))), [BATCHNORM, BATCHNORM_MINUS]),
    "separation": (Separation(by=points(3.0)), [BATCHNORM, NONE]),
    "overlap": (Separation(), [GAMMA_ONLY, BETA_ONLY]),
    "stability": (Stability(fails_below=0.5), [BATCHNORM]),
    "collapse": (Stability(fails_above=0.3), [AFFINE_PER_LAYER]),
    "stability of two": (Stability(), [BATCHNORM, AFFINE_PER_LAYER]),
    "superiority over an arm that collapses": (Superiority(), [BATCHNORM, AFFINE_PER_LAYER]),
    "superiority of an arm that collapses": (Superiority(), [AFFINE_PER_LAYER, NONE]),
}


def schema() -> jsonschema.Draft202012Validator:
    content = json.loads((files("bnlab.report") / "claims.schema.json").read_text(encoding="utf-8"))
    jsonschema.Draft202012Validator.check_schema(content)
    return jsonschema.Draft202012Validator(content)


def asked(hypothesis, norms):
    def body(lab, judge) -> None:
        arms = [lab.train(replace(SPEC, norm=norm)).accuracy for norm in norms]
        verdict = judge(hypothesis, *arms)
        assert verdict.held, verdict.reason

    return body


def defined(lab, judge) -> None:
    lab.train(SPEC)
    verdict = judge(Definition(), (2, 3), (2, 4))
    assert verdict.held, verdict.reason


@pytest.fixture(scope="module")
def rows(tmp_path_factory: pytest.TempPathFactory) -> dict[str, ClaimRecord]:
    """A claim of every kind, judged on fake Runs under the paper's protocol."""
    folder = tmp_path_factory.mktemp("lab")
    lab = new_lab(folder, FakeTrainer(folder / "log"), PAPER)
    bodies = {name: asked(*told) for name, told in ASKED.items()} | {"definition": defined}
    claims = [claim(body, PAPER, name) for name, body in bodies.items()]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("os.fsync", lambda descriptor: None)
        return {one.nodeid: record(one, answer(one, lab)) for one in claims}


def written(of: Summary, *figures: Figure) -> dict:
    def refuse(constant: str) -> None:
        raise AssertionError(constant)

    return json.loads(tables.as_json(of, figures), parse_constant=refuse)


def test_every_verdict_can_be_computed_again_from_claims_json(rows: dict[str, ClaimRecord]) -> None:
    content = written(summary(*rows.values()))

    again = {row["nodeid"]: status_of(row["outcome"]["basis"]) for row in content["claims"]}
    assert again == {row["nodeid"]: row["outcome"]["verdict"]["status"] for row in content["claims"]}
    assert set(again.values()) == {"held", "refuted", "inconclusive"}
    for row in content["claims"]:
        basis, verdict = row["outcome"]["basis"], row["outcome"]["verdict"]
        if basis["kind"] != "definition":
            assert p_values(basis["rule"], basis["samples"]) == pytest.approx(
                (verdict["p_hold"], verdict["p_refute"]), rel=1e-6, abs=1e-12
            )


def test_what_is_registered_is_what_is_judged(rows: dict[str, ClaimRecord]) -> None:
    for row in written(summary(*rows.values()))["claims"]:
        told, basis = row["hypothesis"], row["outcome"]["basis"]
        if told["kind"] == "definition":
            continue
        without = json.loads(json.dumps(basis["rule"]), object_hook=lambda fields: {**fields, "level": None})
        assert json.loads(json.dumps(told["rule"]), object_hook=lambda fields: {**fields, "level": None}) == without
        assert [s["label"] for s in told["samples"]] == [s["label"] for s in basis["samples"]]
        assert {sample["metric"] for sample in told["samples"]} == {"test accuracy"}


def test_the_samples_of_a_verdict_lead_to_the_runs_of_their_arm(rows: dict[str, ClaimRecord]) -> None:
    for row in written(summary(*rows.values()))["claims"]:
        for sample in row["outcome"]["basis"].get("samples", ()):
            own = row["outcome"]["arms"][sample["arm"]]
            assert sample["seeds"] == own["seeds"]
            assert sample["values"] == pytest.approx(own["accuracy"])


def test_claims_json_follows_its_schema(rows: dict[str, ClaimRecord]) -> None:
    leaning = replace(untrained("u", *SPECS).outcome, preview=outcome("cpu", status="leans held"))
    others = [untrained("v", *SPECS), ClaimRecord(nodeid="n"), replace(judged("e"), error="died")]
    content = written(
        summary(*rows.values(), *others, ClaimRecord(nodeid="u", outcome=leaning)),
        Figure(name="f", columns=("a",), rows=((1.0,), (float("nan"),))),
    )

    assert [error.message for error in schema().iter_errors(content)] == []
    assert content["figures"]["f"]["rows"] == [[1.0], [None]]


@pytest.mark.parametrize("damage", [{"format": 1}, {"complete": None}, {"claims": [{}]}, {"more": 1}])
def test_the_schema_refuses_what_is_no_claims_json_of_this_format(damage: dict) -> None:
    assert list(schema().iter_errors({**written(summary(judged("a"))), **damage}))


def test_a_row_of_claims_json_is_read_back_as_it_was(rows: dict[str, ClaimRecord]) -> None:
    for before, row in zip(rows.values(), written(summary(*rows.values()))["claims"], strict=True):
        assert ClaimRecord.from_json(row) == before


def test_a_session_that_settled_some_of_the_claims_is_not_complete() -> None:
    assert written(summary(judged("a"), registered=2))["complete"] is False
    assert written(summary(judged("a"), untrained("b", *SPECS), registered=2))["complete"] is True
    assert written(summary(judged("a"), ClaimRecord(nodeid="b"), registered=2))["complete"] is False


def test_a_twin_belongs_to_the_sentence_above_it_with_the_same_parameters() -> None:
    def one(name: str, reading: str | None, case: str = "", file: str = "f") -> ClaimRecord:
        parameters = {"p": case} if case else {}
        node = f"{file}::{name}[{case}]" if case else f"{file}::{name}"
        return ClaimRecord(nodeid=node, reading=reading, parameters=parameters)

    content = written(
        summary(
            *(one("said", "as written", case) for case in "ab"),
            *(one("meant", "corrected", case) for case in "ab"),
            one("checked", "control"),
            one("next", None),
            one("other", "control"),
            one("alone", "control", file="g"),
        )
    )

    twins = {row["nodeid"]: row["twin_of"] for row in content["claims"] if row["twin_of"]}
    assert twins == {
        "f::meant[a]": "f::said[a]",
        "f::meant[b]": "f::said[b]",
        "f::checked": "f::said[a]",
        "f::other": "f::next",
    }


def test_claims_csv_is_flat_and_names_its_units() -> None:
    (row,) = csv.DictReader(
        tables.claims_csv(summary(judged("f.py::a[x]", estimate=-1.5, low=-2.0, high=-1.0))).splitlines()
    )

    assert (row["file"], row["function"], row["unit"], row["status"]) == ("f.py", "a", "points", "held")
    assert (row["estimate_in_unit"], row["interval_level_percent"], row["seeds_per_arm"]) == ("-1.5", "99.0", "4")


def test_runs_csv_has_a_line_for_each_run_with_units_in_the_names(tmp_path: Path, no_flushing: None) -> None:
    lab = new_lab(tmp_path, FakeTrainer(tmp_path / "log"))
    runs = lab.train(SPEC).runs

    rows = list(csv.DictReader(tables.runs_csv(reversed(runs)).splitlines()))

    assert [(row["seed"], row["key"], row["digest_sha256"]) for row in rows] == [
        (str(run.seed), run.key, run.digest) for run in runs
    ]
    assert [float(row["test_accuracy_last_epoch_percent"]) for row in rows] == [
        run.curves["test_accuracy"][-1] for run in runs
    ]
    assert {"batch_size_images", "wall_s", "images_per_s", "train_loss_nats"} <= set(rows[0])


@pytest.mark.parametrize("start", ["=", "+", "-", "@", "\t", "\r"])
def test_no_text_of_a_table_is_a_formula_for_a_spreadsheet(start: str) -> None:
    text = f'{start}HYPERLINK("x")'
    claim = replace(judged(text, estimate=-1.0), sentence=text, place=text, error=text)
    content = tables.claims_csv(summary(claim))

    (row,) = csv.DictReader(content.splitlines(keepends=True))
    wrong = [name for name, cell in row.items() if cell.startswith(("=", "+", "@", "\t", "\r"))]
    assert wrong == []
    assert row["sentence"] == f"'{text}"
