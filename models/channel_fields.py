"""Fields: between the channels of one call and the fixed channels of a network.

Legend: B batch, C channels, H rows, W columns, K conditions.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from pelagos.models.call_selection import Selection, select
from pelagos.models.context import Context, Signature
from pelagos.models.layers.conditioning import condition_names, conditions

ALL = Context()
"""All of the signature's variables in order, nothing periodic."""


@dataclass(frozen=True)
class Fields:
    """What a network with one weight a variable does before and after its own work.

    Attributes:
        signature: the variables, in the order of the network's weights.
    """

    signature: Signature

    @property
    def num_conditions(self) -> int:
        """How many numbers beside the fields a network is told."""
        return len(condition_names(self.signature.scalars))

    def select(self, x_BCHW: Tensor, lead_time_B: Tensor, context: Context) -> Selection:
        """The call, checked; see selection.select."""
        return select(self.signature, x_BCHW, lead_time_B, context)

    def spread(self, x_BCHW: Tensor, call: Selection) -> Tensor:
        """All input variables in the signature's order; those that the call lacks are zero, their mean."""
        num_inputs = len(self.signature.inputs)
        if call.inputs == tuple(range(num_inputs)):
            return x_BCHW
        full_BCHW = x_BCHW.new_zeros(len(x_BCHW), num_inputs, *x_BCHW.shape[2:])
        full_BCHW[:, list(call.inputs)] = x_BCHW
        return full_BCHW

    def with_conditions(self, x_BCHW: Tensor, lead_time_B: Tensor, call: Selection) -> Tensor:
        """The spread fields followed by one constant channel a condition."""
        conditions_BK = conditions(lead_time_B, call.scalars).to(x_BCHW.dtype)
        maps_BKHW = conditions_BK[:, :, None, None].expand(-1, -1, *x_BCHW.shape[2:])
        return torch.cat([self.spread(x_BCHW, call), maps_BKHW], 1)

    def persistence(self, x_BCHW: Tensor, call: Selection) -> Tensor:
        """All output variables as they are in the input; zero for those that are not."""
        sources = [-1] * len(self.signature.outputs)
        for output, source in zip(call.outputs, call.residual, strict=True):
            sources[output] = source
        if min(sources) >= 0:
            return x_BCHW[:, sources]
        present = torch.tensor([source >= 0 for source in sources], device=x_BCHW.device)
        same_BCHW = x_BCHW[:, [max(source, 0) for source in sources]]
        return torch.where(present[:, None, None], same_BCHW, 0)

    def gather(self, y_BCHW: Tensor, call: Selection) -> Tensor:
        """Of all output variables those that the call asks for."""
        if call.outputs == tuple(range(len(self.signature.outputs))):
            return y_BCHW
        return y_BCHW[:, list(call.outputs)]
