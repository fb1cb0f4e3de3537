"""Probes: readings taken while training that leave the training unchanged.

A probe is asked for by its name here or as `module:Class`, beside the RunSpec and not in it: it changes no other number
of the Run. `bnlab.probes.probe` says what a probe is.
"""

import importlib
from collections.abc import Sequence

from bnlab.errors import SpecError
from bnlab.probes.probe import Batch, Moment, Probe, Reading, View

__all__ = ["KNOWN", "Batch", "Moment", "Probe", "Reading", "View", "probes"]

KNOWN = {
    "gradient_spread": "bnlab.probes.gradients:GradientSpread",
    "first_epoch": "bnlab.probes.first_epoch:FirstEpoch",
    "at_initialization": "bnlab.probes.initialization:AtInitialization",
    "covariate_shift": "bnlab.probes.covariate_shift:CovariateShift",
    "loss_surface": "bnlab.probes.loss_surface:LossSurface",
    "earth_mover": "bnlab.probes.earth_mover:EarthMover",
    "learned": "bnlab.probes.learned:Learned",
}
"""Probes of this package by name."""


def probes(names: Sequence[str]) -> dict[str, Probe]:
    """New instances of these probes by name; a name that is none is a SpecError."""
    return {name: _probe(name) for name in names}


def _probe(name: str) -> Probe:
    code, _, _ = name.partition("@")  # behind it stands the version of the source
    where, colon, attribute = KNOWN.get(code, code).partition(":")
    if not colon:
        raise SpecError(f"unknown probe {name!r}: expected {', '.join(KNOWN)}, or module:Class for one of yours")
    try:
        made = getattr(importlib.import_module(where), attribute)()
    except (ImportError, AttributeError, TypeError) as error:
        raise SpecError(
            f"the probe {name!r} cannot be made ({error}): expected a class without arguments on the Python path"
        ) from error
    if not isinstance(made, Probe):
        raise SpecError(f"the probe {name!r} is a {type(made).__name__}: expected a subclass of bnlab.probes.Probe")
    return made
