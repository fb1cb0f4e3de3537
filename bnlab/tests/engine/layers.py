"""Norm layers that keep the contract, or break one line of it; each is named by what it does."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class Layer(nn.Module):
    """What the layers below have in common: made with channels, with a gain."""

    def __init__(self, channels: int = 5) -> None:
        super().__init__()
        self.gain = nn.Parameter(torch.ones(channels, 1, 1))

    def forward(self, x: Tensor) -> Tensor:
        return self.gain * x


class Dropping(Layer):
    def forward(self, x: Tensor) -> Tensor:
        return F.dropout(x, 0.5, self.training)


class DroppingInEvaluation(Layer):
    def forward(self, x: Tensor) -> Tensor:
        return F.dropout(x, 0.5, not self.training)


class Drawing(Layer):
    def forward(self, x: Tensor, generator: torch.Generator) -> Tensor:
        return self.gain * x + torch.rand(x.shape, generator=generator, dtype=x.dtype, device=x.device)


class Looking(Layer):
    def forward(self, x: Tensor) -> Tensor:
        return x if x.max().item() > 0 else -x


class LookingInEvaluation(Layer):
    def forward(self, x: Tensor) -> Tensor:
        return x if self.training or x.max().item() > 0 else -x


class Counting(Layer):
    def __init__(self, channels: int = 5) -> None:
        super().__init__(channels)
        self.calls = 0

    def forward(self, x: Tensor) -> Tensor:
        self.calls += self.training
        return x


class Initialising(Layer):
    """Sets itself up on its first batch."""

    def __init__(self, channels: int = 5) -> None:
        super().__init__(channels)
        self.ready = False

    def forward(self, x: Tensor) -> Tensor:
        self.ready = True
        return x


class Counter(Layer):
    def __init__(self, channels: int = 5) -> None:
        super().__init__(channels)
        self.register_buffer("calls", torch.zeros(()))

    def forward(self, x: Tensor) -> Tensor:
        if self.training:
            self.calls += 1
        return x / (1 + self.calls)


class Forgetful(Layer):
    def __init__(self, channels: int = 5) -> None:
        super().__init__(channels)
        self.register_buffer("average", torch.zeros(()), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        if self.training:
            self.average.lerp_(x.detach().mean(), 0.5)
        return x - self.average


class Hiding(Layer):
    def __init__(self, channels: int = 5) -> None:
        super().__init__(channels)
        self.last = torch.zeros(())

    def forward(self, x: Tensor) -> Tensor:
        y = x - self.last
        self.last = x.detach().mean() if self.training else self.last
        return y


class Replacing(Layer):
    def __init__(self, channels: int = 5) -> None:
        super().__init__(channels)
        self.register_buffer("last", torch.ones(()))

    def forward(self, x: Tensor) -> Tensor:
        y = self.gain * x + x.mean() * self.last
        self.last = x.detach().mean() if self.training else self.last
        return y


class Adapting(Layer):
    def __init__(self, channels: int = 5) -> None:
        super().__init__(channels)
        self.register_buffer("average", torch.zeros(()))

    def forward(self, x: Tensor) -> Tensor:
        self.average.lerp_(x.detach().mean(), 0.5)
        return x - self.average


class MadeLate(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        if not hasattr(self, "gain"):
            self.gain = nn.Parameter(torch.ones(x.shape[1], 1, 1, dtype=x.dtype))
        return self.gain * x


class Double(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x: Tensor) -> Tensor:
        return 2 * x

    @staticmethod
    def backward(ctx, grad: Tensor) -> Tensor:
        return 2 * grad


class WithoutRule(Layer):
    def forward(self, x: Tensor) -> Tensor:
        return Double.apply(x)


class OtherGradient(Layer):
    """Its backward pass differs under vmap, its forward pass does not."""

    def forward(self, x: Tensor) -> Tensor:
        y = self.gain * x
        if torch._C._functorch.is_batchedtensor(x):
            y = y.detach() + 2 * (y - y.detach())
        return y


class Viewing(Layer):
    def forward(self, x: Tensor) -> Tensor:
        n, c, h, w = x.shape
        return (x.view(n, c * h, w) * 2).view(n, c, h, w)


class TrainGivesNothing(Layer):
    def train(self, mode: bool = True) -> None:
        super().train(mode)


class InDouble(Layer):
    def __init__(self, channels: int = 5) -> None:
        super().__init__(channels)
        self.register_buffer("share", torch.tensor(0.5, dtype=torch.float64))

    def forward(self, x: Tensor) -> Tensor:
        # lerp_ refuses operands of another type
        return x * torch.zeros((), dtype=torch.float64).lerp_(self.share, 1.0).to(x.dtype)


class Unused(Layer):
    def __init__(self, channels: int = 5) -> None:
        super().__init__(channels)
        self.idle = nn.Parameter(torch.ones(channels))


class SwitchLike(Layer):
    """Keeps running statistics by itself, with the momentum of torch's convention upside down."""

    def __init__(self, channels: int = 5) -> None:
        super().__init__(channels)
        self.register_buffer("running_mean", torch.zeros(channels))

    def forward(self, x: Tensor) -> Tensor:
        mean = self.running_mean
        if self.training:
            mean = x.mean((0, 2, 3))
            self.running_mean.mul_(0.9).add_(0.1 * mean.detach())
        return self.gain * (x - mean[:, None, None])


class Averaging(Layer):
    """Keeps a running mean and keeps to the contract."""

    def __init__(self, channels: int = 5) -> None:
        super().__init__(channels)
        self.momentum = 0.1
        self.register_buffer("running_mean", torch.zeros(channels))

    def reset_running_stats(self) -> None:
        self.running_mean.zero_()

    def forward(self, x: Tensor) -> Tensor:
        mean = self.running_mean
        if self.training:
            mean = x.mean((0, 2, 3))
            self.running_mean.lerp_(mean.detach(), self.momentum)
        return self.gain * (x - mean[:, None, None])


class AveragingByItself(Layer):
    """Averages over all batches since its reset, without a momentum."""

    def __init__(self, channels: int = 5) -> None:
        super().__init__(channels)
        self.register_buffer("running_mean", torch.zeros(channels))
        self.register_buffer("batches", torch.zeros(()))

    def reset_running_stats(self) -> None:
        self.running_mean.zero_()
        self.batches.zero_()

    def forward(self, x: Tensor) -> Tensor:
        mean = self.running_mean
        if self.training:
            mean = x.mean((0, 2, 3))
            self.batches += 1
            self.running_mean += (mean.detach() - self.running_mean) / self.batches
        return self.gain * (x - mean[:, None, None])


class Promising(SwitchLike):
    evaluations = ("recalibrated",)


class Failing(Layer):
    def forward(self, x: Tensor) -> Tensor:
        raise RuntimeError("two words\nand a traceback")


class FailingInEvaluation(Layer):
    def forward(self, x: Tensor) -> Tensor:
        assert self.training, "only trains"
        return x


class Cropping(Layer):
    def forward(self, x: Tensor) -> Tensor:
        return x[..., 1:]


class Listing(Layer):
    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        return x, x


class Halving(Layer):
    def forward(self, x: Tensor) -> Tensor:
        return x.half()
