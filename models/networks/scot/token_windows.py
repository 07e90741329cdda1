"""Windows: how a grid of tokens is cut into windows for attention, and who may attend to whom there.

Legend: B batch, N tokens of the grid, P places in all windows, n windows, M places in a window, D channels.
"""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import FunctionCtx

from pelagos.models.layers.weight_cache import kept


@dataclass(frozen=True)
class Axis:
    """One axis of the grid.

    Attributes:
        tokens: its length.
        window: the length of a window, at most `tokens` unless padding shall fill it.
        shift: by how many tokens the windows are moved on.
        wraps: whether the axis is periodic: then windows reach around and nothing is padded or masked.
        hide_padding: whether padding (at the end of an axis that does not wrap) is masked.
    """

    tokens: int
    window: int
    shift: int = 0
    wraps: bool = False
    hide_padding: bool = True

    @property
    def places(self) -> int:
        """Length of all windows together."""
        return -(-self.tokens // self.window) * self.window

    @property
    def padding(self) -> int:
        """Tokens to be added at the end before the windows are cut."""
        return 0 if self.wraps else self.places - self.tokens

    @property
    def covers(self) -> bool:
        """Whether one window holds a whole periodic axis, so that distances are those on a circle."""
        return self.wraps and self.window == self.tokens

    @property
    def plain(self) -> bool:
        """Whether the only window is the axis itself."""
        return self.window == self.tokens and not self.shift

    @property
    def masked(self) -> bool:
        """Whether some places of a window must not see others."""
        return not self.wraps and (self.shift > 0 or (self.hide_padding and self.padding > 0))

    @property
    def cycle(self) -> int:
        """After how many places the tokens come again."""
        return self.tokens if self.wraps else self.places

    def sources(self, device: torch.device) -> Tensor:
        """For each place the token that it holds."""
        return (torch.arange(self.places, device=device) + self.shift) % self.cycle

    def targets(self, device: torch.device) -> Tensor:
        """For each token, padding included, the first place that holds it."""
        return (torch.arange(self.tokens + self.padding, device=device) - self.shift) % self.cycle

    def regions(self, device: torch.device) -> Tensor:
        """For each place the part of the plane it comes from: 1 beyond the seam of a shift, 2 padding."""
        regions = torch.zeros(self.places, dtype=torch.long, device=device)
        if self.wraps:
            return regions
        regions[self.places - self.shift :] = 1
        if self.hide_padding:
            regions[self.sources(device) >= self.tokens] = 2
        return regions


@dataclass(frozen=True)
class Windows:
    """All windows of a grid, in row-major order, as are the places in them.

    Attributes:
        rows: the axis of rows.
        columns: the axis of columns.
        hidden: what is added to the logit of a place that must not be seen.
    """

    rows: Axis
    columns: Axis
    hidden: float = float("-inf")

    @property
    def count(self) -> int:
        """The number of windows."""
        return self.rows.places // self.rows.window * (self.columns.places // self.columns.window)

    @property
    def size(self) -> int:
        """The number of places in a window."""
        return self.rows.window * self.columns.window

    @property
    def masked(self) -> bool:
        """Whether there is a mask."""
        return self.rows.masked or self.columns.masked

    def cut(self, x_BND: Tensor) -> Tensor:
        """(B, N, D) to (B, P, D): tokens, and padding, window by window."""
        if self.rows.plain and self.columns.plain:
            return x_BND
        pad_rows, pad_columns = self.rows.padding, self.columns.padding
        if pad_rows or pad_columns:
            x_BHWD = torch.unflatten(x_BND, 1, (self.rows.tokens, self.columns.tokens))
            x_BND = F.pad(x_BHWD, (0, 0, 0, pad_columns, 0, pad_rows)).flatten(1, 2)
        places, tokens = _tables(self, x_BND.device)
        return self._take(x_BND, places, tokens)

    def join(self, x_BPD: Tensor) -> Tensor:
        """(B, P, D) to (B, N, D): the inverse of `cut`, without the padding."""
        if self.rows.plain and self.columns.plain:
            return x_BPD
        places, tokens = _tables(self, x_BPD.device)
        x_BND = self._take(x_BPD, tokens, places)
        if self.rows.padding or self.columns.padding:
            height, width = (axis.tokens + axis.padding for axis in (self.rows, self.columns))
            x_BHWD = torch.unflatten(x_BND, 1, (height, width))
            x_BND = x_BHWD[:, : self.rows.tokens, : self.columns.tokens].flatten(1, 2)
        return x_BND

    def mask(self, device: torch.device) -> Tensor:
        """(n, M, M), `hidden` where a place must not see another, 0 elsewhere."""
        return _mask(self, device)[0]

    def _take(self, x_BND: Tensor, index: Tensor, inverse: Tensor) -> Tensor:
        if len(index) == len(inverse):
            permuted: Tensor = _Permute.apply(x_BND, index, inverse)
            return permuted
        return x_BND.index_select(1, index)

    def _by_window(self, x: Tensor) -> Tensor:
        rows, columns = self.rows, self.columns
        x = x.view(-1, rows.window, columns.places // columns.window, columns.window)
        return x.transpose(1, 2).reshape(-1, self.size)


class _Permute(torch.autograd.Function):
    """Gathering by a permutation, whose adjoint is gathering by the inverse, not scattering."""

    @staticmethod
    def forward(ctx: FunctionCtx, x_BND: Tensor, index: Tensor, inverse: Tensor) -> Tensor:
        ctx.save_for_backward(inverse)
        return x_BND.index_select(1, index)

    @staticmethod
    def backward(ctx: FunctionCtx, grad_BND: Tensor) -> tuple[Tensor, None, None]:
        (inverse,) = ctx.saved_tensors  # type: ignore[attr-defined]
        return grad_BND.index_select(1, inverse), None, None


@kept
def _tables(windows: Windows, device: torch.device) -> tuple[Tensor, Tensor]:
    """Tokens of places (P,), and places of (padded) tokens (N,)."""
    rows, columns = windows.rows, windows.columns
    width = columns.tokens + columns.padding
    sources = windows._by_window(rows.sources(device)[:, None] * width + columns.sources(device)).flatten()
    order = windows._by_window(torch.arange(rows.places * columns.places, device=device)).flatten()
    ranks = torch.argsort(order).view(rows.places, columns.places)
    targets = ranks[rows.targets(device)[:, None], columns.targets(device)].flatten()
    return sources, targets


@kept
def _mask(windows: Windows, device: torch.device) -> tuple[Tensor]:
    rows, columns = windows.rows, windows.columns
    regions = windows._by_window(3 * rows.regions(device)[:, None] + columns.regions(device))
    apart = regions[:, :, None] != regions[:, None, :]
    return (torch.zeros(apart.shape, device=device).masked_fill_(apart, windows.hidden),)
