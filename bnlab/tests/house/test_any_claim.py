"""What holds for every claim in hypotheses/; each rule names the claims that break it."""

import ast
import re
from pathlib import Path

import pytest

from bnlab import BATCHNORM, Definition
from bnlab.tests.house.pages import cases_of, functions, of_the_paper, pages

OPEN = {"pytest", "bnlab", "bnlab.paper", "bnlab.formulas", "bnlab.problems"}

README = (Path(__file__).parents[3] / "README.md").read_text(encoding="utf-8")


def judges_exactly_once(cases):
    return [case.name for case in cases if len(case.judged) != 1]


def is_one_sentence(cases):
    return [
        case.name
        for case in cases
        if not re.fullmatch(r"[A-Z].*[^.]\.", case.sentence) or re.search(r"[.;!?] [A-Z]", case.sentence)
    ]


def is_a_sentence_of_its_own(cases):
    sentences = [group[0].sentence for group in functions(cases)]
    return sorted({sentence for sentence in sentences if sentences.count(sentence) > 1})


def holds_if_it_is_definitional(cases):
    """Without training; what the paper says as written may be refuted."""
    judged = [(case, *case.judged[0]) for case in cases if isinstance(case.judged[0][0], Definition)]
    return [
        case.name
        for case, definition, what in judged
        if case.trained or not (definition.judge(*what).held or case.reading == "as written")
    ]


def trains_what_it_judges_and_nothing_twice(cases):
    return [
        case.name
        for case in cases
        if len(set(case.trained)) != len(case.trained) or {reading.spec for reading in case.readings} != {*case.trained}
    ]


def asks_for_running_statistics_of_arms_that_keep_them(cases):
    return [
        (case.name, str(reading.spec.norm))
        for case in cases
        for reading in case.readings
        if re.search("statistics|recalib", reading.metric.name) and reading.spec.norm.layer != BATCHNORM.layer
    ]


def has_its_margin_in_the_unit_of_its_metric(cases):
    return [
        case.name
        for case in cases
        if any(
            unit_of(hypothesis) not in (None, sample.metric.unit)
            for hypothesis, columns in case.cells
            for column in columns
            for sample in column
        )
    ]


def unit_of(hypothesis):
    return getattr(getattr(hypothesis, "hypothesis", hypothesis), "unit", None)


def has_ids_plain_enough_for_every_report(cases):
    ids = [case.item.callspec.id for case in cases if hasattr(case.item, "callspec")]
    return [text for text in ids if not re.fullmatch(r"[A-Za-z0-9_.=-]+", text)]


def imports_only_pytest_and_what_is_there_for_claims(cases):
    return [page.name for page in pages(cases) if not imported(page) <= OPEN]


def imported(page):
    names = set()
    for node in ast.walk(ast.parse(page.read_text())):
        if isinstance(node, ast.ImportFrom):
            names.add(node.module)
        elif isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
    return names


def has_a_methods_sentence_as_its_body(cases):
    """No loop, branch or helper; it ends with the verdict, and the function fits on a screen."""
    winding = (ast.For, ast.While, ast.If, ast.IfExp, ast.Try, ast.With, ast.comprehension, ast.Lambda, ast.FunctionDef)
    bodies = [node for page in pages(cases) for node in ast.parse(page.read_text()).body if is_function(node)]
    return [
        body.name
        for body in bodies
        if any(isinstance(node, winding) for node in list(ast.walk(body))[1:])
        or ast.unparse(body.body[-1]) != "assert verdict.held, verdict.reason"
        or body.end_lineno - body.lineno > 25
        or not body.name.startswith("test_")
    ]


def is_function(node):
    return isinstance(node, ast.FunctionDef)


RULES = [
    judges_exactly_once,
    is_one_sentence,
    is_a_sentence_of_its_own,
    holds_if_it_is_definitional,
    trains_what_it_judges_and_nothing_twice,
    asks_for_running_statistics_of_arms_that_keep_them,
    has_its_margin_in_the_unit_of_its_metric,
    has_ids_plain_enough_for_every_report,
    imports_only_pytest_and_what_is_there_for_claims,
    has_a_methods_sentence_as_its_body,
]


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.__name__)
def test_every_claim(cases, rule):
    assert rule(cases) == []


def test_the_claim_of_the_readme_beside_those_of_the_paper_breaks_no_rule(cases, tmp_path):
    (block,) = re.findall(r"```python\n([^`]*my notes, page 3.*?)```", README, flags=re.DOTALL)
    (tmp_path / "test_mine.py").write_text(block, encoding="utf-8")

    together = [*cases, *cases_of(tmp_path)]

    assert len(together) == len(cases) + 1
    assert {rule.__name__: rule(together) for rule in RULES} == {rule.__name__: [] for rule in RULES}
    assert of_the_paper(together) == cases


@pytest.mark.parametrize(
    ("rule", "change"),
    [
        (judges_exactly_once, ("verdict = judge(", "judge(Superiority(by=points(3.0))); verdict = judge(")),
        (is_one_sentence, ("normalisation.", "normalisation. This is clear.")),
        (trains_what_it_judges_and_nothing_twice, ("    none =", "    lab.train(replace(batchnorm, lr=1.0)); none =")),
        (has_its_margin_in_the_unit_of_its_metric, ("points(3.0)", "nats(3.0)")),
        (imports_only_pytest_and_what_is_there_for_claims, ("import pytest", "import pytest, os")),
        (has_a_methods_sentence_as_its_body, ("    none =", "    if True: none =")),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)
def test_a_claim_that_breaks_a_rule_is_named(tmp_path, rule, change):
    (block,) = re.findall(r"```python\n([^`]*my notes, page 3.*?)```", README, flags=re.DOTALL)
    broken = block.replace("import BATCHNORM,", "import nats, BATCHNORM,").replace(*change)
    assert broken != block
    (tmp_path / f"test_{rule.__name__}.py").write_text(broken, encoding="utf-8")

    assert len(set(rule(cases_of(tmp_path)))) == 1
