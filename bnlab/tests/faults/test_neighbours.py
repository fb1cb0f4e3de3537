"""Other plugins and options of pytest beside ours: a refuted claim stays refuted, and no session is green with it."""

import json

import pytest

from bnlab.tests.faults.sessions import GREEN, RUNS, kept_and_trained_again, logged, make_claims, start

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("outside")]

PLUGINS = {
    "pytest-randomly": ["-p", "randomly"],
    "pytest-rerunfailures": ["--reruns=2"],
    "pytest-timeout": ["--timeout=100"],
    "pytest-repeat": ["--count=2"],
}

BOTH = {"test_held": "held", "test_refuted": "refuted"}
REFUTED = {"test_refuted": "refuted"}

OPTIONS = {
    "-x": (["-x"], [BOTH], 1),
    "--maxfail": (["--maxfail=1"], [BOTH], 1),
    "-k": (["-k", "refuted"], [REFUTED], 1),
    "-k held": (["-k", "held"], [{"test_held": "held"}], 0),
    "--lf": (["--lf"], [BOTH, REFUTED], 1),
}
"""What one session after another says of the claims, and their exit code."""


def session(folder, *options):
    """The exit code, and the status of each claim by the name of its test, without the number of a repetition."""
    process = start(folder, ["-m", "pytest", "hypotheses", "--device=cpu", "-q", *options])
    code = process.wait(timeout=100)
    claims = json.loads((folder / "reports" / "claims.json").read_text())["claims"]
    return code, {claim["nodeid"].partition("::")[2].partition("[")[0]: claim["status"] for claim in claims}


@pytest.mark.parametrize("plugin", PLUGINS)
@pytest.mark.parametrize("workers", ["-n0", "-n2"])
def test_plugin_beside_us_changes_no_verdict(tmp_path, tried, plugin, workers):
    make_claims(tmp_path)

    code, statuses = session(tmp_path, workers, *PLUGINS[plugin])

    tried[GREEN] += code == 0
    assert (code, statuses) == (1, BOTH)
    assert len([entry for entry in logged(tmp_path) if "epoch" in entry]) == RUNS * 15, "each epoch once"
    assert kept_and_trained_again(tmp_path) == 0


@pytest.mark.parametrize("option", OPTIONS)
def test_option_beside_ours_changes_no_verdict(tmp_path, option):
    options, said, code = OPTIONS[option]
    make_claims(tmp_path)

    assert [session(tmp_path, *options) for _ in said] == [(code, statuses) for statuses in said]
    assert kept_and_trained_again(tmp_path) == 0
