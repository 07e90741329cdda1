"""Collective network: one whose forward pass gathers weights over processes, which all have to call it as often."""

from typing import Any

from torch import nn

from pelagos.pipeline.engine import distributed


class CollectiveNetwork(nn.Module):
    """A network whose calls gather weights over processes: one that makes fewer calls repeats its last one."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self._network, self._last = network, dict[str, Any]()

    def forward(self, *arguments: Any, **named: Any) -> Any:
        """The network's output."""
        distributed.all_sum([1.0])
        self._last = {"arguments": arguments, "named": named}
        return self._network(*arguments, **named)

    def finish(self) -> None:
        """Take part in the calls of the processes that still make some."""
        while distributed.all_sum([0.0])[0]:
            self._network(*self._last["arguments"], **self._last["named"])
