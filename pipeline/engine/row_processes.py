"""Row processes: those that share the rows of a sample, by torch.distributed."""

from dataclasses import dataclass

import torch
import torch.distributed as dist
from torch import Tensor

from pelagos.pipeline.engine import distributed


@dataclass(frozen=True, eq=False)
class RowProcesses:
    """This process's place among those that share its sample; see `RowGroup`."""

    rank: int
    size: int
    group: dist.ProcessGroup

    def exchange(self, sent: Tensor, counts: list[int], received: list[int]) -> Tensor:
        """See RowGroup."""
        out = sent.new_empty(sum(received))
        dist.all_to_all_single(out, sent, received, counts, group=self.group)
        return out

    def gather(self, x: Tensor) -> Tensor:
        """See RowGroup."""
        out = x.new_empty(self.size, *x.shape)
        dist.all_gather(list(out.unbind(0)), x.contiguous(), group=self.group)
        return out

    def total(self, x: Tensor) -> Tensor:
        """See RowGroup."""
        total = x.clone(memory_format=torch.contiguous_format)
        dist.all_reduce(total, group=self.group)
        return total


def row_processes(size: int) -> RowProcesses:
    """The processes that share samples with this one, which are so many in a row; all processes call it."""
    rank, mine = distributed.rank(), None
    for first in range(0, distributed.world(), size):
        # Each process has to take part in making every group.
        group = dist.new_group(range(first, first + size))
        if first <= rank < first + size:
            mine = group
    assert isinstance(mine, dist.ProcessGroup)
    return RowProcesses(rank % size, size, mine)
