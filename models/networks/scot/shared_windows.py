"""Windows of a grid whose rows several processes share: each computes some of the rows of windows.

They are dealt evenly where there are as many as processes. Where there are fewer, each process computes those that its
own rows are in, and keeps its own rows of the result.
"""

from dataclasses import dataclass, replace
from functools import lru_cache

import torch
from torch import Tensor

from pelagos.models.layers.row_layout import Regrouping, RowLayout, regrouped
from pelagos.models.networks.scot.token_windows import TokenWindows, WindowAxis


@dataclass(frozen=True)
class SomeWindows(WindowAxis):
    """Some of the windows along an axis, in their order, as an axis of its own.

    Attributes:
        whole: the axis; None stands for that of no windows.
        chosen: the numbers of the windows.
    """

    whole: WindowAxis | None = None
    chosen: tuple[int, ...] = ()

    @property
    def covers_circle(self) -> bool:
        """See WindowAxis."""
        return self._whole.covers_circle

    @property
    def masked(self) -> bool:
        """See WindowAxis."""
        return self._whole.masked

    def regions(self, device: torch.device) -> Tensor:
        """See WindowAxis."""
        return self._whole.regions(device).view(-1, self.window)[list(self.chosen)].flatten()

    @property
    def _whole(self) -> WindowAxis:
        assert self.whole is not None
        return self.whole


@lru_cache(1024)
def shared_windows(windows: TokenWindows, layout: RowLayout) -> tuple[TokenWindows, Regrouping]:
    """The windows that this process computes, and how the rows of tokens in them come together."""
    axis = windows.rows
    first, cpu = range(0, axis.places, axis.window), torch.device("cpu")
    sources, homes = axis.sources(cpu).tolist(), axis.targets(cpu).tolist()
    # Beyond the tokens there is padding, whose places are nobody's home.
    plan = regrouped(layout, [sources[start : start + axis.window] for start in first], homes[: axis.tokens])
    rows = SomeWindows(len(plan.mine) * axis.window, axis.window, whole=axis, chosen=plan.mine)
    return replace(windows, rows=rows), plan
