"""RunSpecs of record 1, which had five closed norms and named a network by its depth."""

from collections.abc import Mapping
from typing import Any

from bnlab.parts import BATCHNORM, NONE, Norm, ResNet

_LAYERS = {"batchnorm": BATCHNORM.layer, "affine": "bnlab.norms.affine:AffineLayer", "none": NONE.layer}


def describes(fields: Mapping[str, Any]) -> bool:
    """Whether record 1 wrote these fields of a RunSpec."""
    return "conv_bias" in fields.get("norm", {})


def translate(fields: Mapping[str, Any]) -> Mapping[str, Any]:
    """The fields of record 1 as today's; today's as they are.

    The parameters of a norm were fields of it.
    """
    if not describes(fields):
        return fields
    norm, rest = fields["norm"], {name: value for name, value in fields.items() if name != "probes"}
    options: dict[str, Any] = {}
    if norm["layer"] in ("batchnorm", "affine"):
        options = {name: False for name in ("scale", "shift") if not norm[name]}
    if norm["per"] == "layer":
        options["per"] = "layer"
    net = ResNet(fields["net"]["depth"], conv_bias=norm["conv_bias"])
    layer = _LAYERS.get(norm["layer"], norm["layer"])
    return {**rest, "net": net.to_json(), "norm": Norm(layer=layer, options=options).to_json()}
