"""Training cohorts: K seeds of one RunSpec as one program."""

from bnlab.engine.loop import Trained, environment, snapshot_epoch, train

__all__ = ["Trained", "environment", "snapshot_epoch", "train"]
