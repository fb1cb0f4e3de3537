"""Training cohorts: Runs that differ in their seed, or in one of our norms, as one program."""

from bnlab.engine.cohort import replicas, train
from bnlab.engine.loop import Trained, environment, snapshot_epoch

__all__ = ["Trained", "environment", "replicas", "snapshot_epoch", "train"]
