"""How a grid of tokens is partitioned into windows for attention, and who may attend to whom in them.

Source: Liu et al., Swin Transformer, ICCV 2021 (arXiv:2103.14030), section 3.2, here for periodic axes too.

Shapes: B batch, N tokens of the grid, P places in all windows, n windows, M places in a window, D channels.
"""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import FunctionCtx

from pelagos.models.layers.weight_cache import cache_tensors


@dataclass(frozen=True)
class WindowAxis:
    """The windows along one axis of the grid.

    Attributes:
        tokens: the length of the axis.
        window: the length of a window, at most `tokens` unless the rest is to be padded.
        shift: the number of tokens by which the windows are shifted.
        wraps: whether the axis is periodic: windows then reach around it and nothing is padded or masked.
        hide_padding: whether padding (at the end of an axis that does not wrap) is masked.
    """

    tokens: int
    window: int
    shift: int = 0
    wraps: bool = False
    hide_padding: bool = True

    @property
    def places(self) -> int:
        """The length of all windows together."""
        return -(-self.tokens // self.window) * self.window

    @property
    def padding(self) -> int:
        """The number of tokens added at the end."""
        return 0 if self.wraps else self.places - self.tokens

    @property
    def covers_circle(self) -> bool:
        """Whether one window holds a whole periodic axis, on which distances are those on a circle."""
        return self.wraps and self.window == self.tokens

    @property
    def trivial(self) -> bool:
        """Whether the only window is the axis as it is."""
        return self.window == self.tokens and not self.shift

    @property
    def masked(self) -> bool:
        """Whether some places of a window must not attend to others."""
        return not self.wraps and (self.shift > 0 or (self.hide_padding and self.padding > 0))

    @property
    def period(self) -> int:
        """The number of places after which the tokens repeat."""
        return self.tokens if self.wraps else self.places

    def sources(self, device: torch.device) -> Tensor:
        """(places,) the token at each place."""
        return (torch.arange(self.places, device=device) + self.shift) % self.period

    def targets(self, device: torch.device) -> Tensor:
        """(tokens + padding,) the first place of each token."""
        return (torch.arange(self.tokens + self.padding, device=device) - self.shift) % self.period

    def regions(self, device: torch.device) -> Tensor:
        """(places,) 0, or 1 beyond the seam of a shift, or 2 for padding: places attend within their region."""
        regions = torch.zeros(self.places, dtype=torch.long, device=device)
        if self.wraps:
            return regions
        # Windows shifted beyond the end reach around to the start, which is no neighbour there.
        regions[self.places - self.shift :] = 1
        if self.hide_padding:
            # Last, since padding can lie beyond the seam too.
            regions[self.sources(device) >= self.tokens] = 2
        return regions


@dataclass(frozen=True)
class TokenWindows:
    """The windows of a grid; they, and the places in each of them, are in row-major order.

    Attributes:
        rows: the windows along the rows' axis.
        columns: the windows along the columns' axis.
        mask_value: the mask where a place must not attend to another.
    """

    rows: WindowAxis
    columns: WindowAxis
    mask_value: float = float("-inf")

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
        """Whether attention needs a mask."""
        return self.rows.masked or self.columns.masked

    def partition(self, x_BND: Tensor) -> Tensor:
        """(B, N, D) to (B, P, D): tokens and padding, window by window."""
        if self.rows.trivial and self.columns.trivial:
            return x_BND
        pad_rows, pad_columns = self.rows.padding, self.columns.padding
        if pad_rows or pad_columns:
            x_BHWD = torch.unflatten(x_BND, 1, (self.rows.tokens, self.columns.tokens))
            x_BND = F.pad(x_BHWD, (0, 0, 0, pad_columns, 0, pad_rows)).flatten(1, 2)
        places, tokens = _tables(self, x_BND.device)
        return self._gather(x_BND, places, tokens)

    def merge(self, x_BPD: Tensor) -> Tensor:
        """(B, P, D) to (B, N, D): the inverse of `partition`, without the padding."""
        if self.rows.trivial and self.columns.trivial:
            return x_BPD
        places, tokens = _tables(self, x_BPD.device)
        x_BND = self._gather(x_BPD, tokens, places)
        if self.rows.padding or self.columns.padding:
            height, width = (axis.tokens + axis.padding for axis in (self.rows, self.columns))
            x_BHWD = torch.unflatten(x_BND, 1, (height, width))
            x_BND = x_BHWD[:, : self.rows.tokens, : self.columns.tokens].flatten(1, 2)
        return x_BND

    def mask(self, device: torch.device) -> Tensor:
        """(n, M, M): `mask_value` where a place must not attend to another, 0 elsewhere."""
        return _mask(self, device)[0]

    def _gather(self, x_BND: Tensor, index: Tensor, inverse: Tensor) -> Tensor:
        # On a periodic axis that windows do not divide, some tokens have two places: no permutation.
        if len(index) == len(inverse):
            permuted: Tensor = _Permute.apply(x_BND, index, inverse)
            return permuted
        return x_BND.index_select(1, index)

    def _by_window(self, x: Tensor) -> Tensor:
        rows, columns = self.rows, self.columns
        x = x.view(-1, rows.window, columns.places // columns.window, columns.window)
        return x.transpose(1, 2).reshape(-1, self.size)


class _Permute(torch.autograd.Function):
    """Gathering by a permutation; its gradient gathers by the inverse, where autograd would scatter."""

    @staticmethod
    def forward(ctx: FunctionCtx, x_BND: Tensor, index: Tensor, inverse: Tensor) -> Tensor:
        ctx.save_for_backward(inverse)
        return x_BND.index_select(1, index)

    @staticmethod
    def backward(ctx: FunctionCtx, grad_BND: Tensor) -> tuple[Tensor, None, None]:
        (inverse,) = ctx.saved_tensors  # type: ignore[attr-defined]
        return grad_BND.index_select(1, inverse), None, None


@cache_tensors
def _tables(windows: TokenWindows, device: torch.device) -> tuple[Tensor, Tensor]:
    """The token of each place (P,), and the place of each token, padding included (N,)."""
    rows, columns = windows.rows, windows.columns
    width = columns.tokens + columns.padding
    sources = windows._by_window(rows.sources(device)[:, None] * width + columns.sources(device)).flatten()
    # The inverse of the order of places, not by sorting, which a compiled graph would do at each call.
    down, across = (torch.arange(axis.places, device=device) for axis in (rows, columns))
    window = (down // rows.window)[:, None] * (columns.places // columns.window) + across // columns.window
    within = (down % rows.window)[:, None] * columns.window + across % columns.window
    ranks = window * windows.size + within
    targets = ranks[rows.targets(device)[:, None], columns.targets(device)].flatten()
    return sources, targets


@cache_tensors
def _mask(windows: TokenWindows, device: torch.device) -> tuple[Tensor]:
    rows, columns = windows.rows, windows.columns
    # One number for each pair of regions along the two axes.
    regions = windows._by_window(3 * rows.regions(device)[:, None] + columns.regions(device))
    apart = regions[:, :, None] != regions[:, None, :]
    return (torch.zeros(apart.shape, device=device).masked_fill_(apart, windows.mask_value),)
