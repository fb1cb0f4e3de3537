"""A verdict from the `basis` of claims.json, by NumPy and SciPy alone (docs/report.md describes the steps)."""

from math import comb

import numpy as np
from scipy import stats


def status_of(basis: dict) -> str:
    """Held, refuted or inconclusive."""
    if basis["kind"] == "definition":
        return "held" if basis["got"] == basis["expected"] else "refuted"
    p_hold, p_refute = p_values(basis["rule"], basis["samples"])
    tail = (1 - basis["rule"]["level"]) / 2
    return "held" if p_hold < tail else "refuted" if p_refute < tail else "inconclusive"


def p_values(rule: dict, samples: list[dict]) -> tuple[float, float]:
    """The one-sided p-values of held and of refuted."""
    if rule["kind"] == "all of":
        parts = [p_values(part["rule"], [samples[i] for i in part["samples"]]) for part in rule["parts"]]
        return max(hold for hold, _ in parts), min(1.0, len(parts) * min(refute for _, refute in parts))
    return {"contrasts": contrasts, "separation": separation, "stability": stability}[rule["kind"]](rule, samples)


def contrasts(rule: dict, samples: list[dict]) -> tuple[float, float]:
    values = [np.array(sample["values"]) for sample in samples]
    stable = [own[~np.array(sample["collapsed"])] for own, sample in zip(values, samples, strict=True)]
    mean, var, n = (np.array([f(own) for own in stable]) for f in (np.mean, lambda own: np.var(own, ddof=1), len))
    half = [len(some) >= len(own) / 2 for some, own in zip(stable, values, strict=True)]
    shift = np.where(half, mean - np.array([own.mean() for own in values]), np.nan)
    w = np.array(rule["weights"])
    v = w**2 * var / n
    estimate, se, df = w @ mean - rule["reference"], v.sum(1) ** 0.5, v.sum(1) ** 2 / (v**2 / (n - 1)).sum(1)
    pull = np.where(w == 0, 0, w * shift)

    def p(end: float | None, sign: int) -> np.ndarray:
        """Of the claim that each contrast lies above (1) or below (-1) this end; nothing about an open one."""
        if end is None:
            return np.array([])
        against = (sign * pull <= 0).all(1)
        return np.where(against, stats.t.cdf(sign * (end - estimate) / se, df), 1.0)

    (low, high), (left, right) = rule["hold"], rule["refute"]
    hold, refute = np.concatenate([p(low, 1), p(high, -1)]), np.concatenate([p(left, -1), p(right, 1)])
    answers = hold.max(), min(1.0, len(w) * refute.min())
    return answers[::-1] if rule["turned"] else answers


def separation(rule: dict, samples: list[dict]) -> tuple[float, float]:
    a, b = (np.array(sample["values"]) for sample in samples)
    p = 1 / comb(2 * len(a), len(a))
    return p if a.min() - rule["by"] > b.max() else 1.0, p if a.max() - rule["by"] < b.min() else 1.0


def stability(rule: dict, samples: list[dict]) -> tuple[float, float]:
    fails, n = [sum(sample["collapsed"]) for sample in samples], len(samples[0]["collapsed"])
    if len(fails) == 2:
        table = [[fails[0], n - fails[0]], [fails[1], n - fails[1]]]
        return stats.fisher_exact(table, "less").pvalue, stats.binomtest(fails[1], n, rule["smallest"], "less").pvalue
    share = rule["fails_below"] or rule["fails_above"]
    fewer, more = (stats.binomtest(fails[0], n, share, side).pvalue for side in ("less", "greater"))
    return (fewer, more) if rule["fails_below"] else (more, fewer)
