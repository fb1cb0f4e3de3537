"""What is wrong with a claim or an option is said in words."""

import pytest

from bnlab.tests.plugin.claims_folder import CPU, GRID, HELD, IDENTITY, make
from bnlab.tests.plugin.test_plugin import here, run, table

pytest_plugins = ["pytester"]

__all__ = ["here"]


@pytest.mark.parametrize(
    ("body", "words"),
    [
        (IDENTITY.replace("verdict = judge(Definition(), 2, 2)", "return"), "never calls judge"),
        (IDENTITY.replace("assert", "judge(Definition(), 2, 2); assert"), "calls judge twice"),
        (IDENTITY.replace("2, 2)", "2, 3)").replace("assert verdict.held", "assert True"), "passes although"),
        (IDENTITY.replace('@pytest.mark.claim("§3.2")', ""), "has no place in the paper"),
        (IDENTITY.replace('"§3.2"', "3.2"), "takes claim(*places, published=None, reading=None)"),
        (
            IDENTITY.replace('"§3.2"', '"§3.2", page=3'),
            "claim(*places, published=None, reading=None), each place a text",
        ),
        (IDENTITY.replace('"§3.2"', '"§3.2", reading="loosely"'), "'as written', 'corrected', 'control', or a"),
        (IDENTITY.replace('"""Two is two."""', ""), "has no sentence"),
        (IDENTITY.replace("(judge)", "(judge, tmp_path)"), "asks for tmp_path"),
        (IDENTITY.replace("(judge)", "()").replace("verdict =", "judge = print; verdict ="), "does not ask for judge"),
        (GRID.replace("ids=str", "ids='<b>{}'.format"), "parameter id"),
        (HELD.replace("arm(lab, NONE))", "arm(lab, BATCHNORM))"), "digest"),
        (HELD.replace("Superiority(by=points(3.0))", "Superiority(by=nats(3.0))"), "nats"),
    ],
    ids=lambda value: value if "\n" not in value else "",
)
def test_a_claim_that_is_written_wrongly_is_an_error_in_words(pytester: pytest.Pytester, body: str, words: str) -> None:
    make(pytester, body)

    result = run(pytester, *CPU)

    text = result.stdout.str()
    assert words in text
    assert "Traceback" not in text
    assert "another exception" not in text
    assert "bnlab/" not in text.replace("bnlab/store", "")
    assert result.ret == 1
    assert {claim["status"] for claim in table().values()} == {"error"}


def test_an_exception_in_a_claim_keeps_its_traceback(pytester: pytest.Pytester) -> None:
    make(pytester, IDENTITY.replace("verdict =", "1 / 0; verdict ="))

    result = run(pytester)

    result.stdout.fnmatch_lines([">*1 / 0*", "*ZeroDivisionError*"])
    assert table()["test_identity"]["reason"] == "ZeroDivisionError: division by zero"


def test_lab_and_judge_are_for_claims(pytester: pytest.Pytester) -> None:
    make(pytester)
    pytester.makepyfile("def test_other(judge): pass")

    result = pytester.runpytest_inprocess("-p", "no:cacheprovider", "--smoke")

    result.stdout.fnmatch_lines(["*is no claim*"])


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--protocol=thorough"], "unknown protocol 'thorough'*paper, quick, smoke"),
        (["--smoke", "--protocol=paper"], "--smoke and --protocol paper were both given*"),
        (["--seeds=1"], "--seeds 1: an interval takes at least 2 seeds*"),
        (["--device=tpu"], "unknown device 'tpu'*"),
        (["--device=cuda"], "--device cuda was asked for and this machine shows 0 CUDA devices*"),
        (["--data=nowhere.npz"], "*nowhere.npz*"),
        (["--data=imagenet"], "unknown data 'imagenet'*"),
        (["--store=hypotheses"], "there is no store in *hypotheses*"),
        (["--store=hypotheses", "--device=cpu"], "*hypotheses*is not a store of bnlab*"),
        (["--dist=loadgroup", "-n2"], "--dist loadgroup*use --dist load or --dist worksteal"),
        (["--dist=loadscope", "-n2"], "--dist loadscope*"),
        (["--dist=loadfile", "-n2"], "--dist loadfile*"),
    ],
    ids=lambda value: "-".join(value) if isinstance(value, list) else "",
)
def test_a_bad_option_ends_the_session_in_one_sentence(
    pytester: pytest.Pytester, arguments: list[str], words: str
) -> None:
    make(pytester, HELD)

    result = run(pytester, *arguments)

    assert result.ret == 4
    result.stderr.fnmatch_lines([f"ERROR: {words}"])
    assert "Traceback" not in result.stderr.str() + result.stdout.str()
