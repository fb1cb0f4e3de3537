"""The suite by hand, without pytest: in a notebook or a script. docs/notebook.md shows it.

`open_lab` gives the Lab of a folder, `ask` settles a claim on it as pytest does, `needed` plans one, `judge` applies a
hypothesis to samples, and `table` lists Runs.
"""

import inspect
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

from bnlab.claims import Claim, Hypothesis, answer
from bnlab.cohorts import Trainer
from bnlab.devices import lock_name, threads
from bnlab.lab import Lab
from bnlab.needs import body_of, needs
from bnlab.outcomes import Outcome
from bnlab.report.tables import run_row
from bnlab.runs import Run
from bnlab.settings import Settings
from bnlab.specs import Replicate
from bnlab.stats import Verdict


def open_lab(
    folder: str | Path = ".",
    *,
    protocol: str = "paper",
    data: str | None = None,
    store: str | None = None,
    device: str | None = None,
    seeds: int | None = None,
    swap: Sequence[str] = (),
    recipe: Sequence[str] = (),
    progress: Callable[[str], None] = print,
) -> Lab:
    """The Lab on the store and the recorded Runs of a checkout, with pytest's options: `recipe` is `--set`.

    `lab.train(spec)` gives the Arm at the first look, `lab.at(n).train(spec)` that of n seeds. Without a GPU nothing
    trains unless `device` is "cpu", and missing Runs are an UntrainedError. Every wrong option is a BnlabError.
    """
    settings = Settings.of(
        root=Path(folder).resolve(),
        protocol_name=protocol,
        data=data,
        store=store,
        device=device,
        seeds=seeds,
        swap=swap,
        recipe=recipe,
    )
    settings.check()
    reading = Lab(
        store=settings.session_store(),
        protocol=settings.protocol,
        data=settings.data,
        seeds=settings.protocol.looks[0],
        recorded=settings.recorded,
        progress=progress,
    )
    if (chosen := settings.device) is None:
        return reading

    @cache
    def trainer() -> Trainer:
        from bnlab.engine.trainer import EngineTrainer

        return EngineTrainer(settings.source, settings.cache, chosen, threads(1), progress, settings.catalogue)

    return replace(reading, trainer=trainer, replicas=None, device=lock_name(chosen), mends=True)


def ask(claim: Callable[..., None], lab: Lab, **parameters: Any) -> Outcome:
    """What becomes of a claim, a function of `hypotheses/` or one like it: judged look by look, as pytest judges it.

    `parameters` are its point of the grid. `status` and `reason` of the Outcome say what came out; only the paper's
    protocol on the registered images at registered looks makes it more than a lean.
    """
    return answer(_claim(claim, lab, parameters), lab)


def needed(claim: Callable[..., None], lab: Lab, **parameters: Any) -> list[Replicate]:
    """The Runs that a claim needs at the Lab's look; `lab.missing` picks those that are not there."""
    return _claim(claim, lab, parameters).runs(lab.seeds)


def judge(hypothesis: Hypothesis, *samples: Any) -> Verdict:
    """The verdict on these samples alone, of whatever effort their Runs are: `ask` has the word for a claim."""
    return hypothesis.judge(*samples)


def table(runs: Iterable[Run]) -> list[dict[str, Any]]:
    """The rows of `runs.csv`, one a Run with units in the names: `pandas.DataFrame(table(...))` takes them."""
    return list(map(run_row, runs))


def _claim(function: Callable[..., None], lab: Lab, parameters: dict[str, Any]) -> Claim:
    body = body_of(function, parameters)
    sentence = " ".join((inspect.getdoc(function) or "").split("\n\n")[0].split())
    return Claim(
        nodeid=function.__name__,
        sentence=sentence,
        place="",
        body=body,
        needs=needs(body, lab.protocol, lab.data),
    )
