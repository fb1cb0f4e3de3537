"""Proofs 1 to 8 that a fused replica is the solo run, the run being plain eager torchvision.

Programs of one replica take torch's own kernels on a CPU, larger ones the batched products that a GPU takes: both are
held against the reference.
"""

from collections.abc import Iterator
from dataclasses import replace

import pytest
import torch

from bnlab import engine
from bnlab.data.images import Images
from bnlab.engine import snapshot
from bnlab.specs import AFFINE_LAYER, BATCHNORM, GAMMA_ONLY, NONE, RECORD, Norm, ResNet, RunSpec
from bnlab.tests import engine_proofs as proofs
from bnlab.tests import engine_reference as reference

SPEC = RunSpec(net=ResNet(18), norm=BATCHNORM, batch_size=8, precision="fp32")
SMALL = replace(SPEC, batch_size=4, epochs=2)
FORMS = {"alone": ((7,), 0), "beside others": ((3, 7, 11), 1)}


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.mark.parametrize("depth", [18, 50])
def test_every_replica_starts_as_torchvision_under_its_seed(depth: int) -> None:
    proofs.initialisation(replace(SPEC, net=ResNet(depth)), (0, 5))


@pytest.mark.parametrize("seeds", [(7,), (7, 3), (1, 2, 7)], ids=str)
@pytest.mark.parametrize("augmentation", ["none", "flip", "flip+crop"])
def test_every_replica_sees_the_images_of_its_seed_in_the_order_of_its_seed(augmentation: str, seeds) -> None:
    proofs.data_order(replace(SMALL, augmentation=augmentation), seeds, proofs.STEP)


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("norm", reference.NORMS, ids=str)
def test_one_step_from_a_mid_training_state_is_eager_torchvisions(norm: Norm, form: str, record_property) -> None:
    seeds, slot = FORMS[form]
    record_property("differences", proofs.one_forced_step(replace(SPEC, norm=norm), seeds, slot))


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("norm", [BATCHNORM, reference.OWN], ids=str)
def test_one_step_of_resnet50_is_eager_torchvisions(norm: Norm, form: str, record_property) -> None:
    seeds, slot = FORMS[form]
    spec = replace(SPEC, net=ResNet(50), norm=norm)
    record_property("differences", proofs.one_forced_step(spec, seeds[:2] if slot else seeds, slot))
