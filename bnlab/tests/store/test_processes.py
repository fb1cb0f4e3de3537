"""Several processes on one store: killed at any moment, and after the same Run."""

import json
import os
import random
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

from bnlab.store import Store
from bnlab.tests.store.runs import replicate, run

REPOSITORY = Path(__file__).parents[3]
KILLS = 40
SIZE = 500_000  # times 8 bytes: small snapshots are rarely met half-written
DRAINED = 12


def python(function, *args):
    """This module's function in a process of its own."""
    code = f"from bnlab.tests.store.test_processes import {function}; {function}(*{[str(arg) for arg in args]!r})"
    return subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True, cwd=REPOSITORY)


def answer(process):
    out, _ = process.communicate(timeout=100)
    assert process.returncode == 0
    return json.loads(out)


# SIGKILL


def train_until_killed(path, seed, pipe):
    """One epoch after the other, each told through the pipe once it is durable; the twentieth publishes."""
    store = Store.open(path)
    while True:
        with store.try_work(replicate(seed)) as work:
            found = work.snapshot()
            epoch = int(found[:8]) if found else 0
            while epoch < 20:
                epoch += 1
                work.save_snapshot(epoch, b"%08d" % epoch * SIZE)
                os.write(pipe, b"%d %d\n" % (seed, epoch))
            work.publish(run(seed))
            os.write(pipe, b"%d done\n" % seed)
        seed += 1


def kill_and_look(path):
    """Kill the trainer at random moments; after each, everything it had told must be there and whole."""
    rng, store = random.Random(0), Store.open(path)
    seed, promised, torn, resumed = 0, 0, 0, 0
    for _ in range(KILLS):
        read, write = os.pipe()
        child = os.fork()
        if child == 0:
            train_until_killed(path, seed, write)
        os.close(write)
        time.sleep(rng.uniform(0.002, 0.12))
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        with open(read) as pipe:
            for line in pipe:
                told, epoch = line.split()
                seed, promised = (int(told) + 1, 0) if epoch == "done" else (int(told), int(epoch))
        torn += any(store.path.rglob("*.partial")) + any((store.path / "tmp").iterdir())
        assert [found.digest for found in store.runs()] == [
            run(s).digest for s in sorted(range(len(list(store.runs()))), key=lambda s: run(s).key)
        ]
        assert all(store.has(replicate(s)) for s in range(seed))
        with store.try_work(replicate(seed)) as work:
            if work.published:  # killed between the rename and the telling
                seed, promised = seed + 1, 0
                continue
            assert not any(store.path.rglob("*.partial")), "leftovers of the killed writer stayed"
            found = work.snapshot()
            assert (int(found[:8]) if found else 0) >= promised
            assert not any("note" in entry for entry in work.history)
            resumed += bool(found)
    print(json.dumps({"torn": torn, "resumed": resumed, "runs": len(list(store.runs()))}))


def test_store_is_whole_whenever_its_writer_is_killed(tmp_path):
    seen = answer(python("kill_and_look", tmp_path / "store"))

    assert seen["torn"] > 0, "no kill met a write: the test has lost its teeth"
    assert seen["resumed"] > 0


# contention


def hold(path):
    with Store.open(path).try_work(replicate()):
        print("held", flush=True)
        time.sleep(100)


def test_lock_is_freed_when_its_holder_is_killed(tmp_path):
    store, holder = Store.open(tmp_path / "store"), python("hold", tmp_path / "store")
    assert holder.stdout.readline() == "held\n"
    try:
        assert store.try_work(replicate()) is None
        assert store.locked(replicate())
        assert [entry.locked for entry in store.progress()] == [True]
    finally:
        holder.kill()
        holder.communicate()

    assert not store.locked(replicate())
    store.try_work(replicate()).__exit__()


def drain(path):
    """Train whatever nobody else trains, until everything is finished; the seeds trained here."""
    store, mine = Store.open(path), []
    while not all(store.has(replicate(seed)) for seed in range(DRAINED)):
        for seed in range(DRAINED):
            if store.has(replicate(seed)) or (work := store.try_work(replicate(seed))) is None:
                continue
            with work:
                if not work.published:
                    mine.append(seed)
                    work.save_snapshot(1, b"state")
                    time.sleep(0.02)
                    work.publish(run(seed))
        store.progress()
    print(json.dumps(mine))


def test_processes_that_drain_one_new_store_train_no_run_twice(tmp_path):
    drained = [answer(process) for process in [python("drain", tmp_path / "store") for _ in range(3)]]

    assert Counter(seed for mine in drained for seed in mine) == Counter(range(DRAINED))
