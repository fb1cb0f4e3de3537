"""The synthetic images: the same everywhere, nothing for a linear classifier, enough for a small ResNet."""

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from bnlab.data import sources
from bnlab.data.images import Images
from bnlab.data.synthetic import stripes

DIGESTS = {
    "synthetic": "70bf644a680d62456d3672c7adcf6ab3f431be446182d6358e36e499b8a16a17",
    "synthetic:100+100": "180f209d165bec90dbaad128e5721ba63fcb4f4fe587ab7d53dec7cd5444e59b",
}


@pytest.fixture(scope="module")
def small():
    return sources.load("synthetic:2000+1000", None)


@pytest.mark.parametrize("source", list(DIGESTS))
def test_content_is_pinned(source):
    """Every recorded Run on synthetic data names these digests: other pixels would orphan them."""
    assert sources.digest(source, None) == DIGESTS[source]


def test_longer_split_begins_with_the_same_images():
    for short, long in zip(stripes("train", 30), stripes("train", 1030), strict=True):
        np.testing.assert_array_equal(short, long[:30])


def test_splits_share_no_image(small):
    both = np.concatenate([small.x_train, small.x_test]).reshape(3000, -1)
    assert len(np.unique(both, axis=0)) == 3000


def test_classes_are_balanced(small):
    assert np.bincount(small.y_train).tolist() == [200] * 10
    assert np.bincount(small.y_test).tolist() == [100] * 10


def test_linear_classifier_does_not_solve_it(small):
    """Ridge regression on the pixels, with the best of five penalties chosen on the test images themselves."""

    def flat(x):
        return np.concatenate([x.reshape(len(x), -1) / 127.5 - 1, np.ones((len(x), 1))], axis=1)

    x, x_test = flat(small.x_train), flat(small.x_test)
    values, vectors = np.linalg.eigh(x @ x.T)
    targets, scores = vectors.T @ np.eye(10)[small.y_train], x_test @ x.T @ vectors
    accuracies = [
        np.mean((scores @ (targets / (values[:, None] + penalty))).argmax(axis=1) == small.y_test)
        for penalty in (10, 100, 400, 1000, 4000)
    ]
    assert max(accuracies) < 0.30


@pytest.mark.slow
def test_small_resnet_solves_it(small):
    """torchvision's own ResNet with a basic block a stage, three epochs of 2,000 images."""
    resnet = pytest.importorskip("torchvision").models.resnet
    images, order = Images.of(small, "cpu"), torch.Generator().manual_seed(0)

    def batch(x):
        return ((x.float() / 255 - images.mean) / images.std).permute(0, 3, 1, 2).contiguous()

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        net = resnet.ResNet(resnet.BasicBlock, [1, 1, 1, 1], num_classes=10)
    adam = torch.optim.Adam(net.parameters(), lr=1e-3)
    for _ in range(3):
        for indices in torch.randperm(2000, generator=order).split(50):
            adam.zero_grad()
            F.cross_entropy(net(batch(images.x_train[indices])), images.y_train[indices]).backward()
            adam.step()
    net.eval()
    with torch.no_grad():
        guesses = torch.cat([net(batch(x)).argmax(dim=1) for x in images.x_test.split(250)])

    assert (guesses == images.y_test).double().mean() > 0.70
