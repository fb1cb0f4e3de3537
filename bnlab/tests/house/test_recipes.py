"""The recipes of docs/ run where they can."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from bnlab.store import Store
from bnlab.tests.conftest import REPOSITORY

SCRIPT = REPOSITORY / "docs" / "recipes" / "train.slurm"

CLAIM = '''
import pytest
from bnlab import BATCHNORM, NONE, Net, RunSpec, Superiority

NET = Net(build="bnlab.nets.cifar_resnet:build", options={"depth": 8})

@pytest.mark.claim("my notes, page 1")
def test_batchnorm_is_better(lab, judge):
    """BatchNorm is more accurate than None."""
    arms = [lab.train(RunSpec(net=NET, norm=norm, batch_size=10)).accuracy for norm in (BATCHNORM, NONE)]
    verdict = judge(Superiority(), *arms)
    assert verdict.held, verdict.reason
'''


@pytest.fixture
def run(tmp_path):
    """Starts the script in a folder with one claim, as a job of Slurm would."""
    (tmp_path / "hypotheses").mkdir()
    (tmp_path / "hypotheses" / "test_mine.py").write_text(CLAIM)
    for name in ("conftest.py", "pytest.ini"):
        shutil.copy(REPOSITORY / name, tmp_path)
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])  # as in an activated venv
    environment = os.environ | {"PYTHONPATH": str(REPOSITORY), "CUDA_VISIBLE_DEVICES": "", "PATH": path}

    def start(**named: str):
        return subprocess.Popen(
            ["bash", str(SCRIPT), *["--protocol", "smoke", "--replicas", "1", "--data", "synthetic:40+20"]],
            cwd=tmp_path,
            env=environment | named,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    return start


@pytest.mark.slow
def test_two_jobs_on_one_store_train_every_run_once(run, tmp_path):
    jobs = [run(BNLAB_STORE=str(tmp_path / "store")) for _ in range(2)]
    said = [job.communicate(timeout=240)[0] for job in jobs]

    assert [job.returncode for job in jobs] == [0, 0], said
    trained = list(Store.read(tmp_path / "store").runs())
    assert sorted((str(run.spec.norm), run.seed) for run in trained) == [
        (norm, seed) for norm in ("BatchNorm", "None") for seed in range(2)
    ]
    assert all(run.provenance["resumes"] == [] for run in trained), "nobody trained what another one had begun"
    assert not list((tmp_path / "store" / "disagreements").iterdir())


def test_a_job_without_a_store_says_what_to_name(run):
    job = run(BNLAB_STORE="")

    assert "name the folder of finished Runs" in job.communicate(timeout=60)[0]
    assert job.returncode == 1
