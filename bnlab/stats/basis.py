"""What a verdict was computed from, as plain values: the samples, and the rule with its regions.

`claims.json` holds it for every judged claim, so that a verdict can be computed again without this package
(docs/report.md says how, and a test does it).
"""

import dataclasses
import math
from collections.abc import Sequence
from typing import Any

from bnlab.stats.arms import Arms
from bnlab.stats.definition import Definition
from bnlab.stats.hypothesis import in_seed_order
from bnlab.stats.looks import level_at
from bnlab.stats.margins import Margin
from bnlab.stats.rule import Rule
from bnlab.stats.sample import Sample

Basis = dict[str, Any]
"""Lists, dictionaries, texts and numbers; a number may be infinite or NaN until it is written."""


def basis(hypothesis: Any, samples: Sequence[Any]) -> Basis | None:
    """What this hypothesis looks at in these samples; None for a hypothesis of a user that cannot be bound to them.

    A definition has what was `got` and `expected`. Anything else has the `samples`, each once, and the `rule`: weights
    of the contrasts and the regions in which the claim holds and outside which it is refuted, a list of such rules on
    some of the samples, or the shares of an exact test. Samples that are planned have neither seeds nor values, and a
    rule on them has no level.
    """
    if isinstance(hypothesis, Definition):
        got, expected = samples
        return {"kind": hypothesis.kind, "got": got, "expected": expected}
    if not hasattr(hypothesis, "bind"):
        return None
    distinct, tester = hypothesis.bind(*samples)
    if not all(isinstance(sample, Sample) for sample in distinct):
        planned = [{"label": s.label, "metric": s.metric.name, "unit": s.unit} for s in distinct]
        return {"kind": hypothesis.kind, "samples": planned, "rule": _rule(tester, None)}
    ordered = [in_seed_order(sample) for sample in distinct]
    arms = Arms.of(ordered)
    shown = [
        {
            "label": sample.label,
            "metric": sample.metric,
            "unit": sample.unit,
            "seeds": list(sample.seeds),
            "values": list(sample.values),
            "collapsed": collapsed.tolist(),
            "digests": list(sample.digests),
        }
        for sample, collapsed in zip(ordered, arms.collapsed, strict=True)
    ]
    return {"kind": hypothesis.kind, "samples": shown, "rule": _rule(tester, arms.look)}


def _rule(tester: Any, look: int | None) -> dict[str, Any]:
    """A tester as plain values; the level is that of the look, an open end of a region None."""
    fields = {entry.name: getattr(tester, entry.name) for entry in dataclasses.fields(tester)}
    if isinstance(tester, Rule):
        ends = {name: [end if math.isfinite(end) else None for end in fields[name]] for name in ("hold", "refute")}
        fields |= {"kind": "contrasts", "weights": [list(row) for row in tester.weights], **ends}
    elif "parts" in fields:
        parts = [{"samples": list(own), "rule": _rule(part, look)} for part, own in fields["parts"]]
        fields |= {"kind": "all of", "parts": parts}
    else:
        margins = {name: value.value for name, value in fields.items() if isinstance(value, Margin)}
        fields |= {"kind": tester.kind, **margins}
    return {**fields, "level": tester.level or (level_at(look) if look else None)}
