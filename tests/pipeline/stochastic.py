"""A network that draws random numbers in training: dropout within, and residual branches left out."""

import torch
from timm.layers import DropPath
from torch import Tensor, nn

from pelagos.models.context import Context, Signature


class Stochastic(nn.Module):
    """Two convolutions beside the identity."""

    def __init__(self, signature: Signature, width: int = 6) -> None:
        super().__init__()
        inputs, outputs = len(signature.inputs), len(signature.outputs)
        self.first = nn.Conv2d(inputs, width, 3, padding=1)
        self.inner = nn.Conv2d(width, width, 3, padding=1)
        self.last = nn.Conv2d(width, outputs, 1)
        self.drop, self.path = nn.Dropout(0.2), DropPath(0.3)

    def forward(self, x_BCHW: Tensor, lead_time_B: Tensor, context: Context) -> Tensor:
        """The fields at the later time."""
        y_BCHW = self.first(x_BCHW)
        y_BCHW = y_BCHW + self.path(self.drop(torch.tanh(self.inner(y_BCHW))))
        out: Tensor = self.last(y_BCHW) * lead_time_B[:, None, None, None]
        return out
