"""What the tests of the store share."""

import hashlib
import json

import pytest

from bnlab.store import Store
from bnlab.store.transfer import export_runs
from bnlab.tests.store.runs import run


@pytest.fixture
def here(tmp_path):
    """A new store."""
    return Store.open(tmp_path / "store")


@pytest.fixture
def file(tmp_path):
    """Four exported Runs."""
    path = tmp_path / "folder" / "runs.jsonl"
    export_runs([run(seed) for seed in range(4)], path)
    return path


@pytest.fixture
def rewrite():
    """Change the lines of an exported file, and give it a checksum that fits."""

    def rewritten(file, change):
        lines = [json.loads(line) for line in file.read_bytes().splitlines()[:-1]]
        body = b"".join(json.dumps(line).encode() + b"\n" for line in change(lines))
        file.write_bytes(body + json.dumps({"sha256": hashlib.sha256(body).hexdigest()}).encode() + b"\n")

    return rewritten
