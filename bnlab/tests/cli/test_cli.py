"""python -m bnlab."""

import json
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from bnlab.cli import main
from bnlab.lab import Lab
from bnlab.parts import BATCHNORM, ResNet
from bnlab.protocol import QUICK
from bnlab.specs import CIFAR10, Replicate, RunSpec
from bnlab.store import Store
from bnlab.tests.fakes import FakeTrainer, epochs
from bnlab.tests.plugin.claims_folder import GRID, HEAD, HELD, INCONCLUSIVE, make

pytest_plugins = ["pytester"]

SPEC = RunSpec(net=ResNet(18), norm=BATCHNORM, batch_size=50)


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, no_flushing: None, no_gpu: None) -> None:
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def trained() -> Store:
    """A store with two Runs, and a third that was interrupted after epoch 2."""
    store = Store.open(".bnlab/store")
    lab = Lab(store=store, protocol=QUICK, data=CIFAR10, seeds=2, trainer=FakeTrainer)
    lab.train(SPEC)
    with store.try_work(Replicate(replace(SPEC, epochs=5), 2)) as work:
        work.save_snapshot(2, b"state")
    return store


def test_status_counts_what_is_finished_and_what_is_not(trained: Store, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["status"]) == 0

    finished, interrupted, total = capsys.readouterr().out.splitlines()
    assert finished == f"ResNet18, BatchNorm, batch 50, 5 epochs: 2 finished (protocol quick, data {CIFAR10[:12]})"
    assert interrupted.startswith(
        "ResNet18, BatchNorm, batch 50, 5 epochs, seed 2: interrupted, 2 of 5 epochs kept in 0 MB (process "
    )
    assert total == "2 Runs finished, 0 in training, 1 interrupted"


def test_status_for_scripts_has_the_facts_of_its_lines(trained: Store, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["status", "--json"]) == 0

    found = json.loads(capsys.readouterr().out)
    assert (found["format"], found["store"]) == (1, str(trained.path))
    assert found["totals"] == {"finished": 2, "in_training": 0, "interrupted": 1, "locked_by_another_user": 0}
    spec = "ResNet18, BatchNorm, batch 50, 5 epochs"
    assert found["finished"] == [{"run_spec": spec, "protocol": "quick", "data": CIFAR10, "runs": 2}]
    (work,) = found["in_progress"]
    assert (work["run_spec"], work["seed"], work["state"]) == (spec, 2, "interrupted")
    assert (work["epochs_kept"], work["epochs"], work["bytes"] > 0) == (2, 5, True)
    assert (found["recorded"], found["left_out"]) == (0, [])


def test_export_leaves_out_runs_of_another_protocol(trained: Store, capsys: pytest.CaptureFixture[str]) -> None:
    (protocol,) = {run.provenance["protocol"] for run in trained.runs()}
    for wanted, number in ((protocol, 2), ("another", 0)):
        assert main(["export", f"{wanted}.jsonl", "--trained-under", wanted]) == 0
        assert capsys.readouterr().out.startswith(f"{number} Runs written")


def test_status_of_a_fresh_checkout_counts_the_recorded_runs(
    trained: Store, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = Path("checkout", "reports", "runs").absolute()
    folder.mkdir(parents=True)
    main(["export", str(folder / "two.jsonl")])
    monkeypatch.chdir("checkout")
    capsys.readouterr()

    assert main(["status"]) == 0

    assert capsys.readouterr().out.splitlines() == [
        "0 Runs finished, 0 in training, 0 interrupted",
        "2 Runs recorded in reports/runs",
    ]
    (folder / "two.jsonl").write_text("{}")
    assert main(["status", "--store", str(trained.path)]) == 2
    said = capsys.readouterr()
    assert "2 Runs finished, 0 in training, 1 interrupted" in said.out
    assert "two.jsonl is not a file of Runs" in said.err


def test_damaged_run_stops_neither_status_nor_export_and_is_named(
    trained: Store, capsys: pytest.CaptureFixture[str]
) -> None:
    next((trained.path / "runs").glob("*/*/curve.jsonl")).write_bytes(b"")

    assert (main(["status"]), main(["export", "runs.jsonl"])) == (2, 2)

    said = capsys.readouterr()
    assert "1 Run finished" in said.out
    assert "1 Run written to runs.jsonl" in said.out
    assert [line.split(" in ")[0] for line in said.err.splitlines()] == ["bnlab: left out: the Run"] * 2


@pytest.mark.parametrize("command", [["status"], ["export", "runs.jsonl"]], ids="-".join)
@pytest.mark.parametrize("store", [[], ["--store=.bnlab/stor"]], ids=["default", "mistyped"])
def test_command_that_reads_makes_no_store(
    command: list[str], store: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([*command, *store]) == 2

    assert "there is no store in" in capsys.readouterr().err
    assert list(Path().iterdir()) == []


@pytest.mark.parametrize("option", ["--store", "--data", "--protocol", "--device"])
def test_option_that_an_unset_variable_left_empty_is_refused(option: str, capsys: pytest.CaptureFixture[str]) -> None:
    Path("hypotheses").mkdir()
    assert main(["plan", f"{option}="]) == 2
    assert f"{option} '' is empty" in capsys.readouterr().err


def test_command_that_is_interrupted_says_so(
    trained: Store, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(store: Store) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(Store, "progress", interrupted)

    assert main(["status"]) == 130
    assert capsys.readouterr().err.startswith("bnlab: stopped; what was finished is kept")


def test_runs_travel_as_a_file(trained: Store, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["export", "runs.jsonl"]) == 0
    assert main(["import", "runs.jsonl", "--store", "other"]) == 0
    assert main(["import", "runs.jsonl", "--store", "other"]) == 0

    assert capsys.readouterr().out.splitlines() == [
        "2 Runs written to runs.jsonl",
        "2 Runs imported from runs.jsonl, 0 known before",
        "0 Runs imported from runs.jsonl, 2 known before",
    ]
    assert {run.digest for run in Store.open("other").runs()} == {run.digest for run in trained.runs()}


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["import", "nowhere.jsonl"], "nowhere.jsonl"),
        (["plan", "--data", f"synthetic:{'9' * 5000}+1"], "unknown data"),
        (["plan", "--device", f"cuda:{'9' * 5000}"], "unknown device"),
        (["plan", "--seeds", "99999999999"], "ask for 2 to 10000"),
        (["plan", "--store", "\udcff"], "cannot be printed"),
        (["plan"], "there is no hypotheses/ in"),
        (["plan", "--protocol", "thorough"], "unknown protocol 'thorough'"),
        (["train"], "there is no GPU here"),
        (["train", "--device", "cuda"], "--device cuda was asked for"),
        (["train", "--device", "cpu", "--replicas", "0"], "--replicas 0"),
        (["plan", "--data", "nowhere.npz"], "nowhere.npz"),
        (["status", "--store", "hypotheses"], "there is no store in"),
        (["bench", "--arch", "resnet²"], "unknown network"),
        (["bench", "--json", "no/such/folder.json"], "cannot write no/such/folder.json"),
        (["bench", "--figure", "hypotheses"], "cannot write hypotheses"),
        (["bench", "--figure", "speed.gif"], "ends in .svg or .png"),
        (["faults", "--seconds", "0"], "more than 0 seconds"),
    ],
    ids=lambda value: "-".join(value)[:30].encode("ascii", "replace").decode() if isinstance(value, list) else "",
)
def test_what_goes_wrong_is_one_sentence(arguments: list[str], words: str, capsys: pytest.CaptureFixture[str]) -> None:
    if words != "there is no hypotheses/ in":
        Path("hypotheses").mkdir()
        Path("hypotheses/test_paper.py").touch()

    assert main(arguments) == 2

    said = capsys.readouterr().err
    assert said.startswith("bnlab: ")
    assert words in said
    assert said.count("\n") == 1


@pytest.mark.usefixtures("outside")
def test_claims_are_listed_under_their_page(pytester: pytest.Pytester) -> None:
    make(pytester, HELD, GRID)

    listed = pytester.run(sys.executable, "-m", "bnlab", "claims")

    assert listed.outlines == [
        "hypotheses/test_paper.py",
        "  §4.1.1, Table 4: BatchNorm is more accurate than None. (test_held)",
        "  §4.1: Every arm is better than None with a bias, or not worse. (test_grid, 8 points of the grid)",
        "2 functions, 9 claims",
    ]
    assert listed.ret == 0


@pytest.mark.usefixtures("outside")
def test_plan_train_and_report_work_on_the_same_store(pytester: pytest.Pytester) -> None:
    make(pytester, HELD, INCONCLUSIVE)

    planned = bnlab(pytester, "plan")
    nothing = epochs()
    trained = bnlab(pytester, "train", "--replicas=3")
    reported = pytester.run(sys.executable, "-m", "bnlab", "report", "--protocol=quick")

    planned.stdout.fnmatch_lines(["plan for the first look*16 to train*"])
    assert nothing == []
    for told in (planned, trained):
        told.stdout.no_fnmatch_line("*no tests ran*")
    trained.stdout.fnmatch_lines(["16 Runs of the first look are missing", "every claim has the Runs that it needs*"])
    assert len(epochs()) == len(set(epochs())) == (4 + 4 + 8 + 8) * 5
    assert max(run.provenance["cohort"] for run in Store.open(".bnlab/store").runs()) == 3
    reported.stdout.fnmatch_lines(["leans, no verdicts: 1 leaning held, 1 undecided (protocol quick*"])
    assert (planned.ret, trained.ret, reported.ret) == (0, 0, 0)
    assert Path("reports/quick/report.html").exists()
    assert not Path("reports/quick/tests.html").exists()


@pytest.mark.usefixtures("outside")
def test_train_takes_one_block_of_the_grid(pytester: pytest.Pytester) -> None:
    make(pytester, GRID)

    def train(*block: str) -> pytest.RunResult:
        return pytester.run(sys.executable, "-m", "bnlab", "train", "--device=cpu", "--protocol=quick", *block)

    trained = train("--net=resnet34", "--batch-size=50", "--replicas=40")
    unknown = train("--net=resnet34", "--batch-size=7")
    eager = train("--net=resnet34", "--engine=eager")
    printed = train("--net=resnet34", "--tables")
    other = train("--engine=eager", "--tables")

    trained.stdout.fnmatch_lines(["16 Runs of the first look are missing", "16 Runs of this block: all there"])
    runs = list(Store.open(".bnlab/store").runs())
    assert {(run.spec.net, run.seed) for run in runs} == {(ResNet(34), seed) for seed in range(4)}
    assert len(runs) == 16
    printed.stdout.fnmatch_lines(["16 Runs of this block: all there"])
    other.stderr.fnmatch_lines(["bnlab: no claim needs a Run with --engine eager --tables: *"])
    further = train("--net=resnet34", "--batch-size=50", "--look=8")
    further.stdout.fnmatch_lines(["16 Runs of the look at 8 seeds are missing", "32 Runs of this block: all there"])
    costed = bnlab(pytester, "plan", "--net=resnet34", "--batch-size=50")
    costed.stdout.fnmatch_lines(["plan for the first look (4 seeds): 4 RunSpecs, 16 Runs, 16 finished, *"])
    unregistered = train("--look=5")
    unregistered.stderr.fnmatch_lines(["bnlab: --look 5: the registered looks have 4, 8 seeds"])
    assert unknown.ret == unregistered.ret == 2
    eager.stderr.fnmatch_lines(["bnlab: no claim needs a Run with --net resnet34 --engine eager: *"])
    unknown.stderr.fnmatch_lines(["bnlab: no claim needs a Run with --net resnet34 --batch-size 7: *"])


ONE_EPOCH = """
def one_epoch(lab, norm):
    return lab.train(replace(SPEC, norm=norm, epochs=1)).accuracy
"""


@pytest.mark.usefixtures("outside")
def test_a_block_of_the_tables_leaves_out_shorter_runs(pytester: pytest.Pytester) -> None:
    make(
        pytester,
        HELD,
        HELD.replace("test_held", "test_short").replace("arm(lab, ", "one_epoch(lab, "),
        head=HEAD + ONE_EPOCH,
    )

    trained = bnlab(pytester, "train", "--tables")

    trained.stdout.fnmatch_lines(["8 Runs of this block: all there"])
    assert {run.spec.epochs for run in Store.open(".bnlab/store").runs()} == {5}


def bnlab(pytester: pytest.Pytester, *arguments: str) -> pytest.RunResult:
    return pytester.run(sys.executable, "-m", "bnlab", *arguments, "--protocol=quick", "--device=cpu")


@pytest.mark.usefixtures("outside")
def test_train_fails_and_names_the_claim_that_it_could_not_plan(pytester: pytest.Pytester) -> None:
    make(pytester, INCONCLUSIVE, HELD.replace("verdict = judge(", "1 / 0; verdict = judge("))

    trained = bnlab(pytester, "train")

    trained.stdout.fnmatch_lines(
        [
            "NOT PLANNED hypotheses/test_paper.py::test_held: ZeroDivisionError: division by zero",
            "1 claim could not be planned, so Runs may be missing",
        ]
    )
    trained.stdout.no_fnmatch_line("*every claim has the Runs that it needs*")
    assert trained.ret == 1
    assert len(list(Store.open(".bnlab/store").runs())) == 16


@pytest.mark.usefixtures("outside")
@pytest.mark.parametrize("block", [[], ["--net=resnet18"]], ids=["all", "block"])
def test_train_trains_a_damaged_run_again_and_says_so(pytester: pytest.Pytester, block: list[str]) -> None:
    make(pytester, HELD)
    bnlab(pytester, "train")
    before = {run.key: run.digest for run in Store.open(".bnlab/store").runs()}
    file = next(Path(".bnlab/store/runs").rglob("result.json"))
    file.write_text(file.read_text() + "x")

    trained = bnlab(pytester, "train", *block)

    trained.stdout.fnmatch_lines(["*was damaged*is trained again"])
    assert trained.ret == 0
    assert {run.key: run.digest for run in Store.open(".bnlab/store").runs()} == before


@pytest.mark.usefixtures("outside")
@pytest.mark.parametrize("call", [20, 60, 100])
def test_train_is_never_content_after_a_disk_that_failed_once(pytester: pytest.Pytester, call: int) -> None:
    make(pytester, HELD, INCONCLUSIVE)
    with Path("conftest.py").open("a") as conftest:
        conftest.write(f"""
from bnlab.errors import StoreError
from bnlab.store import Store
has, calls = Store.has, []
def flaky(*arguments):
    calls.append(1)
    if len(calls) == {call}:
        raise StoreError("cannot read the store (Input/output error)")
    return has(*arguments)
Store.has = flaky
""")

    trained = bnlab(pytester, "train")

    said, runs = trained.stdout.str(), list(Store.open(".bnlab/store").runs())
    assert ("every claim has the Runs that it needs" in said) == (trained.ret == 0)
    assert len(runs) == 24 or trained.ret != 0
    assert "Traceback" not in trained.stderr.str()


@pytest.mark.usefixtures("outside")
@pytest.mark.parametrize("command", ["plan", "train"])
def test_a_page_that_cannot_be_collected_is_told(pytester: pytest.Pytester, command: str) -> None:
    make(pytester, HELD, "import nowhere_at_all\n")

    result = bnlab(pytester, command)

    assert result.ret == 2
    result.stderr.fnmatch_lines(["bnlab: *test_paper.py*", "*No module named 'nowhere_at_all'"])
    assert not Path("epochs.jsonl").exists()


@pytest.mark.usefixtures("outside")
def test_claims_keep_what_pytest_put_on_the_path_for_them(pytester: pytest.Pytester) -> None:
    make(pytester, HELD.replace("verdict = judge(", "import beside; verdict = judge("))
    pytester.makeini("[pytest]\nstrict = true\npythonpath = extra\n")
    (pytester.mkdir("extra") / "beside.py").touch()

    assert bnlab(pytester, "train").ret == 0
