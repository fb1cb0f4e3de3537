"""A Ray cluster of three nodes that lose a worker, a node and the driver."""

import os
import signal
import time

import pytest

from bnlab.store import Store
from bnlab.tests.fakes import FakeTrainer
from bnlab.tests.faults.sessions import RUNS, kept_and_trained_again, logged, make_claims, start

ray = pytest.importorskip("ray", reason="Ray is not installed: pip install 'bnlab[ray]'")
cluster_utils = pytest.importorskip("ray.cluster_utils")

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("outside")]


@pytest.fixture
def cluster(monkeypatch):
    """A head that takes no task, and three nodes that take one each."""
    monkeypatch.setenv("RAY_USAGE_STATS_ENABLED", "0")
    monkeypatch.setenv("RAY_DISABLE_DOCKER_CPU_WARNING", "1")
    room = {"object_store_memory": 80 * 2**20, "include_dashboard": False}
    made = cluster_utils.Cluster(initialize_head=True, head_node_args={"num_cpus": 0, **room})
    nodes = [made.add_node(num_cpus=1, wait=False, object_store_memory=80 * 2**20) for _ in range(3)]
    made.wait_for_nodes()
    yield made, nodes
    made.shutdown()


def trained(folder, more):
    """Wait until so many more epochs have been trained; the process that trained the last one."""
    done, until = len(logged(folder)), time.monotonic() + 60
    while len(logged(folder)) < done + more:
        assert time.monotonic() < until, (folder / "said.txt").read_text()
        time.sleep(0.02)
    return logged(folder)[-1]["pid"]


def test_a_worker_a_node_and_the_driver_are_lost_and_no_kept_epoch_is_trained_twice(tmp_path, cluster):
    made, nodes = cluster
    make_claims(tmp_path)
    train = ["-m", "bnlab", "train", "--device=cpu", "--engine=ray", f"--ray-address={made.address}", "--replicas=1"]
    driver = start(tmp_path, train)

    os.kill(trained(tmp_path, 10), signal.SIGKILL)
    trained(tmp_path, 10)
    made.remove_node(nodes[0], allow_graceful=False)
    trained(tmp_path, 10)
    driver.send_signal(signal.SIGKILL)
    driver.wait(timeout=10)
    assert driver.returncode == -signal.SIGKILL

    assert start(tmp_path, train).wait(timeout=120) == 0

    runs = list(Store.read(tmp_path / ".bnlab" / "store").runs())
    alone = FakeTrainer(tmp_path / "alone.jsonl")
    assert [run.digest for run in runs] == [
        alone.train([run.replicate], [None], lambda *kept: None)[0].digest for run in runs
    ]
    assert len(runs) == RUNS
    assert kept_and_trained_again(tmp_path) == 0
    assert len({entry["pid"] for entry in logged(tmp_path)}) >= 4, (
        "three nodes, and a worker in the place of each that was lost"
    )
    assert sum(len(run.provenance["resumes"]) for run in runs) >= 1


def test_a_session_trains_on_a_cluster_that_it_starts_and_judges_here(tmp_path):
    make_claims(tmp_path)

    assert start(tmp_path, ["-m", "pytest", "hypotheses", "--device=cpu", "--engine=ray", "-q"]).wait(timeout=120) == 1

    assert {run.provenance["worker"] for run in Store.read(tmp_path / ".bnlab" / "store").runs()} == {"ray"}
    assert len(logged(tmp_path)) == RUNS * (15 + 14), "each epoch once, and kept but for the last"
    assert "1 held, 1 refuted" in (tmp_path / "said.txt").read_text()


@pytest.mark.parametrize(
    ("command", "said"),
    [
        (["-m", "bnlab", "train", "--device=cpu", "--engine=ray", "--net=resnet18"], "--net chooses a block"),
        (["-m", "bnlab", "train", "--device=cpu", "--engine=ray", "--ray-address=127.0.0.1:9"], "no Ray cluster at"),
        (["-m", "pytest", "hypotheses", "--device=cpu", "--engine=ray", "-n2"], "leave out -n"),
        (["-m", "bnlab", "train", "--engine=ray"], "no node of this Ray cluster has num_gpus 1"),
    ],
    ids=["block", "address", "workers", "no GPU"],
)
def test_what_ray_cannot_do_is_one_sentence(tmp_path, command, said):
    make_claims(tmp_path)

    assert start(tmp_path, command).wait(timeout=60) in (2, 4)

    last = (tmp_path / "said.txt").read_text()
    assert said in last
    assert "Traceback" not in last
