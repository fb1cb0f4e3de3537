"""What norm layers say that they have learned, at the end of a training."""

from bnlab.probes.averages import Averages
from bnlab.probes.probe import Moment, View


class Learned(Averages):
    """Of every number that layers give by a method `learned()`, the mean over the layers after the last step.

    SwitchableNorm gives the weights of its kinds, UnitizedBatchNorm the size of alpha.
    """

    def wants(self, moment: Moment) -> bool:
        """The last step."""
        return (moment.epoch + 1, moment.step + 1) == (moment.epochs, moment.steps)

    def read(self, moment: Moment, view: View) -> None:
        """Ask the layers."""
        for module in view.network().modules():
            if hasattr(module, "learned"):
                self.note(**module.learned())  # type: ignore[operator]
