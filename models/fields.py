"""Fields: between the channels of one call and the fixed channels of a network.

Legend: B batch, C channels of the call, H rows, W columns, S scalars.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from pelagos.models.context import Context, Signature
from pelagos.preprocessing.errors import DataError


@dataclass(frozen=True)
class Fields:
    """What a network with one weight per variable does before and after its own work.

    Attributes:
        signature: the variables, in the order of the network's weights.
        residual: whether the network predicts what is added to the variables that are also input.
    """

    signature: Signature
    residual: bool = True

    @property
    def num_conditions(self) -> int:
        """Channels of `conditions`: the lead time, and each scalar with a flag that it is known."""
        return 1 + 2 * len(self.signature.scalars)

    def spread(self, x_BCHW: Tensor, context: Context) -> Tensor:
        """All input variables in the signature's order; those that the call lacks are zero, their mean.

        Raises:
            DataError: the number of channels contradicts the signature or the context.
        """
        inputs = context.inputs
        expected = len(self.signature.inputs if inputs is None else inputs)
        if x_BCHW.shape[1] != expected:
            raise DataError(
                f"fields of {x_BCHW.shape[1]} channels for a call of {expected}: {self.signature.inputs}"
            )
        if inputs is None:
            return x_BCHW
        full_BCHW = x_BCHW.new_zeros(len(x_BCHW), len(self.signature.inputs), *x_BCHW.shape[2:])
        full_BCHW[:, list(inputs)] = x_BCHW
        return full_BCHW

    def conditions(self, lead_time_B: Tensor, context: Context) -> Tensor:
        """(B, num_conditions): lead times, scalars with 0 where missing, flags that are 1 where known."""
        num_scalars = len(self.signature.scalars)
        scalars_BS = context.scalars
        if scalars_BS is None:
            scalars_BS = lead_time_B.new_full((len(lead_time_B), num_scalars), torch.nan)
        if scalars_BS.shape[1] != num_scalars:
            raise DataError(
                f"{scalars_BS.shape[1]} scalars for a network of {num_scalars}: {self.signature.scalars}"
            )
        known_BS = torch.isfinite(scalars_BS)
        filled_BS = torch.where(known_BS, scalars_BS, 0)
        return torch.cat([lead_time_B[:, None], filled_BS, known_BS], 1).to(lead_time_B.dtype)

    def with_conditions(self, x_BCHW: Tensor, lead_time_B: Tensor, context: Context) -> Tensor:
        """The spread fields followed by one constant channel a condition."""
        x_BCHW = self.spread(x_BCHW, context)
        conditions_BC = self.conditions(lead_time_B.to(x_BCHW.dtype), context)
        maps_BCHW = conditions_BC[:, :, None, None].expand(-1, -1, *x_BCHW.shape[2:])
        return torch.cat([x_BCHW, maps_BCHW], 1)

    def gather(self, y_BCHW: Tensor, x_BCHW: Tensor, context: Context) -> Tensor:
        """The outputs that the call asks for, added to its inputs where the network is residual."""
        if context.outputs is not None:
            y_BCHW = y_BCHW[:, list(context.outputs)]
        if not self.residual:
            return y_BCHW
        sources = self._sources(context)
        same = torch.tensor([source >= 0 for source in sources], device=x_BCHW.device)
        base_BCHW = x_BCHW[:, [max(source, 0) for source in sources]]
        return y_BCHW + torch.where(same[:, None, None], base_BCHW, 0)

    def _sources(self, context: Context) -> tuple[int, ...]:
        if context.residual is not None:
            return context.residual
        inputs, outputs = self.signature.inputs, self.signature.outputs
        given = inputs if context.inputs is None else tuple(inputs[i] for i in context.inputs)
        wanted = outputs if context.outputs is None else tuple(outputs[i] for i in context.outputs)
        return tuple(given.index(key) if key in given else -1 for key in wanted)
