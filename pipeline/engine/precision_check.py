"""Precision check: whether a network's layers compute in the precision that its run was configured for."""

import torch
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from pelagos.preprocessing.errors import PelagosError


class PrecisionError(PelagosError, RuntimeError):
    """Layers compute in another precision than the configuration says."""


class PrecisionCheck:
    """Watches linear and convolutional layers for one pass, since autocast can be switched off without a message.

    Some layers stay in float32 on purpose, and on the CPU bf16 is used only where it is faster. So the network passes
    if any layer runs in bf16 where that was asked for, and fails if any does where it was not.
    """

    def __init__(self, network: nn.Module, precision: torch.dtype, device: str) -> None:
        """Begin to watch.

        Args:
            network: of the run.
            precision: of the forward pass, as configured.
            device: type of the device that the network computes on.
        """
        self._precision, self._device = precision, device
        self._found: set[torch.dtype] = set()
        self._handles: list[RemovableHandle] = [
            layer.register_forward_hook(self._record)
            for layer in network.modules()
            if isinstance(layer, nn.Linear | nn.Conv2d)
        ]

    def _record(self, layer: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        if self._device == "cpu" and torch.is_autocast_enabled("cpu"):
            self._found.add(
                torch.get_autocast_dtype("cpu")
            )  # what is allowed: layers may still choose float32
        else:
            self._found.add(output.dtype)

    def conclude(self) -> None:
        """Stop watching.

        Raises:
            PrecisionError: no layer computed in the configured precision, or one computed in a lower one.
        """
        for handle in self._handles:
            handle.remove()
        lower = self._found - {torch.float32, torch.float64}
        if self._found and (
            lower if self._precision == torch.float32 else self._precision not in self._found
        ):
            found = ", ".join(sorted(str(dtype).removeprefix("torch.") for dtype in self._found))
            raise PrecisionError(
                f"engine.precision asks for {str(self._precision).removeprefix('torch.')}, but the network's layers "
                f"computed in {found}: autocast was switched off or on around them"
            )
