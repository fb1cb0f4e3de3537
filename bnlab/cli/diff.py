"""`python -m bnlab diff A B`: which Runs, verdicts and estimates differ between two stores, exports or reports."""

import argparse
import json
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from bnlab.cli import common
from bnlab.cli.common import Arguments, UsageError, collect
from bnlab.lab import Lab
from bnlab.provenance import environments, mixed
from bnlab.report.records import ClaimRecord
from bnlab.report.tables import FORMAT
from bnlab.report.terminal import short
from bnlab.runs import Run, last_accuracy, readings_digest
from bnlab.store import Store
from bnlab.store.durable import as_store_error, exists
from bnlab.store.layout import MARKER
from bnlab.store.transfer import read_runs, recorded_runs
from bnlab.words import count

Difference = tuple[str, str]
"""What kind of thing differs, and the line about it."""

_HEAD = ("protocol", "looks", "data")
"""What two reports have to have in common for their verdicts to answer the same question."""


@dataclass(frozen=True)
class Report:
    """A `claims.json`: its claims by node id, and what applies to all of them."""

    claims: Mapping[str, ClaimRecord]
    head: Mapping[str, object]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Both sides, and the effort at which claims are judged on Runs."""
    parser.add_argument("one", metavar="A", help="a store, an export, a folder of exports, or reports (claims.json)")
    parser.add_argument("other", metavar="B", help="another of the same kind, Runs or reports")
    common.effort(parser)


def run(arguments: Arguments) -> int:
    """Print what differs, a line each, then how many; 0 if nothing does, 1 if something does.

    Claims are judged on the Runs of each side alone, where the current folder has hypotheses/.
    """
    one, other = _read(Path(arguments.one)), _read(Path(arguments.other))
    if isinstance(one, Report) and isinstance(other, Report):
        compared = [count(len(one.claims.keys() | other.claims.keys()), "claim")]
        found = [*_heads(one, other), *_claims(one.claims, other.claims)]
    elif not isinstance(one, Report) and not isinstance(other, Report):
        compared, found = [count(len(one.keys() | other.keys()), "Run")], [*_runs(one, other)]
        if found and Path("hypotheses").is_dir():
            judged = _judged(arguments, one, other)
            compared.append(f"{count(len(judged[0]), 'claim')} judged on them")
            found += _claims(*judged)
    else:
        raise UsageError(
            f"{arguments.one} and {arguments.other} are Runs and a report: name two stores or exports, or two reports"
        )
    for kind, line in found:
        print(f"{kind}: {line}")
    kinds = dict.fromkeys(kind for kind, _ in found)
    counts = [f"{sum(kind == one for one, _ in found)} {kind}" for kind in kinds]
    how_many = count(len(found), "difference") if found else "no difference"
    print(f"{how_many} in {' and '.join(compared)}{': ' if counts else ''}{', '.join(counts)}")
    return 1 if found else 0


def _read(path: Path) -> Report | dict[str, Run]:
    """The claims or the Runs of one side."""
    with as_store_error(f"read {path}", "name a store, an export or a report"):
        report = path / "claims.json" if path.is_dir() else path
        if report.suffix == ".json" and exists(report):
            return _report(report)
        if path.is_file():
            return {run.key: run for run in read_runs(path)}
        if path.is_dir() and not exists(path / MARKER) and any(path.glob("*.jsonl")):
            return recorded_runs(path)
        return {run.key: run for run in Store.read(path).runs()}


def _report(file: Path) -> Report:
    try:
        content = json.loads(file.read_bytes())
        if content["format"] != FORMAT:
            raise UsageError(f"{file} has format {content['format']!r} and this bnlab reads {FORMAT}: write it again")
        rows = map(ClaimRecord.from_json, content["claims"])
        return Report({row.nodeid: row for row in rows}, {name: content[name] for name in _HEAD})
    except (ValueError, LookupError, TypeError, AttributeError, RecursionError) as error:
        raise UsageError(f"{file} is no claims.json of bnlab ({type(error).__name__}): write it again") from error


def _judged(arguments: Arguments, *sides: Mapping[str, Run]) -> list[dict[str, ClaimRecord]]:
    """The claims of the current folder that need Runs, judged on those of each side alone."""
    from bnlab.plugin.rewrite import judged

    session = collect(arguments, train=False)
    claims = [claim for claim in session.claims.values() if claim.needs.arms]
    protocol = session.settings.protocol
    labs = [
        Lab(store=Store(Path(os.devnull)), protocol=protocol, data=session.data, seeds=protocol.looks[0], recorded=runs)
        for runs in sides
    ]
    return [{claim.nodeid: judged(claim, lab) for claim in claims} for lab in labs]


def _heads(one: Report, other: Report) -> Iterator[Difference]:
    for name in _HEAD:
        if one.head[name] != other.head[name]:
            yield f"other {name}", f"{one.head[name]} in A, {other.head[name]} in B"


def _claims(one: Mapping[str, ClaimRecord], other: Mapping[str, ClaimRecord]) -> Iterator[Difference]:
    """Claims that one side lacks, statuses that changed, and estimates outside the other side's interval."""
    for nodeid in {**one, **other}:
        first, second = one.get(nodeid), other.get(nodeid)
        if first is None or second is None:
            yield f"only in {'B' if first is None else 'A'}", f"claim {nodeid}"
        elif first.status != second.status:
            yield "other status", f"{nodeid}: {_told(first)} in A, {_told(second)} in B"
        elif _outside(first, second) or _outside(second, first):
            yield "moved beyond its interval", f"{nodeid}: {_told(first)} in A, {_told(second)} in B"


def _outside(one: ClaimRecord, other: ClaimRecord) -> bool:
    """Whether the estimate of one lies outside the interval of the other."""
    mine, theirs = (claim.shown.verdict if claim.shown else None for claim in (one, other))
    if mine is None or theirs is None or mine.estimate is None or theirs.low is None or theirs.high is None:
        return False
    return not theirs.low <= mine.estimate <= theirs.high


def _runs(one: Mapping[str, Run], other: Mapping[str, Run]) -> Iterator[Difference]:
    """Runs that one side lacks, and Runs or probes of them that have other numbers."""
    for key, run in sorted({**other, **one}.items(), key=lambda entry: (str(entry[1].spec), entry[1].seed)):
        if key not in one or key not in other:
            yield f"only in {'A' if key in one else 'B'}", str(run.replicate)
            continue
        first, second = one[key], other[key]
        if first.digest != second.digest:
            accuracies = " and ".join(f"{last_accuracy.read(side):.2f}" for side in (first, second))
            elsewhere = ", ".join(mixed(environments([first, second]))) or "the same"
            yield "other numbers", f"{first.replicate}: test accuracy {accuracies}; environment: {elsewhere}"
        for probe in sorted(first.probes.keys() | second.probes.keys()):
            line = f"probe {probe} of {run.spec}, seed {run.seed}"
            if probe not in first.probes or probe not in second.probes:
                yield f"only in {'A' if probe in first.probes else 'B'}", line
            elif readings_digest(first.probes[probe]) != readings_digest(second.probes[probe]):
                yield "other numbers", line


def _told(claim: ClaimRecord) -> str:
    """A status, and the numbers behind it."""
    return short(claim).replace(" " + claim.nodeid.removeprefix("hypotheses/"), "", 1)
