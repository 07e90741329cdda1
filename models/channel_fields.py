"""From the channels of one call to the fixed channels of a network, and back.

Shapes: B batch, C channels, H rows, W columns, K conditions.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from pelagos.models.call_selection import CallSelection, select_variables
from pelagos.models.context import Context, Signature
from pelagos.models.layers.conditioning import condition_names, encode_conditions
from pelagos.models.layers.device_constants import constant
from pelagos.models.layers.lead_time import lead_time_factor


@dataclass(frozen=True)
class ChannelFields:
    """Arranges the fields of a call for a network whose channels are fixed.

    Attributes:
        signature: the variables, in the order of the network's channels.
    """

    signature: Signature

    @property
    def num_conditions(self) -> int:
        """The number K of conditions: lead time, scalars, and whether each scalar is known."""
        return len(condition_names(self.signature.scalars))

    def select(self, x_BCHW: Tensor, lead_time_B: Tensor, context: Context) -> CallSelection:
        """The variables of a call; see `select_variables`."""
        return select_variables(self.signature, x_BCHW, lead_time_B, context)

    def all_inputs(self, x_BCHW: Tensor, call: CallSelection) -> Tensor:
        """(B, C, H, W) of all input variables, in order; those that the call lacks are zero, their mean."""
        num_inputs = len(self.signature.inputs)
        if call.inputs == tuple(range(num_inputs)):
            return x_BCHW
        # Fields are normalised: the mean of every variable is zero.
        full_BCHW = x_BCHW.new_zeros(len(x_BCHW), num_inputs, *x_BCHW.shape[2:])
        full_BCHW[:, constant(call.inputs, x_BCHW.device)] = x_BCHW
        return full_BCHW

    def inputs_and_conditions(self, x_BCHW: Tensor, lead_time_B: Tensor, call: CallSelection) -> Tensor:
        """(B, C + K, H, W): all input variables, then one constant channel for each condition."""
        conditions_BK = encode_conditions(lead_time_B, call.scalars, self.signature.scalars).to(x_BCHW.dtype)
        maps_BKHW = conditions_BK[:, :, None, None].expand(-1, -1, *x_BCHW.shape[2:])
        return torch.cat([self.all_inputs(x_BCHW, call), maps_BKHW], 1)

    def persistence(self, x_BCHW: Tensor, call: CallSelection) -> Tensor:
        """(B, C', H, W): each output variable as it is in the input, or zero if it is not input."""
        sources = self._sources(call)
        if min(sources) >= 0:
            return x_BCHW[:, constant(sources, x_BCHW.device)]
        # Without indexing by a mask, whose result has no fixed shape for torch.compile.
        present_C = constant(tuple(source >= 0 for source in sources), x_BCHW.device)
        same_BCHW = x_BCHW[:, constant(tuple(max(source, 0) for source in sources), x_BCHW.device)]
        return torch.where(present_C[:, None, None], same_BCHW, 0)

    def add_change(
        self, change_BCHW: Tensor, x_BCHW: Tensor, lead_time_B: Tensor, call: CallSelection
    ) -> Tensor:
        """(B, C', H, W): input + `lead_time_factor` * change for variables that are also input, `change` for others.

        So lead time 0 gives the input back.
        """
        factor_B1HW = lead_time_factor(lead_time_B).to(change_BCHW.dtype)[:, None, None, None]
        sources = self._sources(call)
        if min(sources) >= 0:
            return torch.addcmul(x_BCHW[:, constant(sources, x_BCHW.device)], factor_B1HW, change_BCHW)
        present = constant(tuple(source >= 0 for source in sources), x_BCHW.device)[:, None, None]
        change_BCHW = change_BCHW * torch.where(present, factor_B1HW, 1)
        return change_BCHW + self.persistence(x_BCHW, call)

    def requested_outputs(self, y_BCHW: Tensor, call: CallSelection) -> Tensor:
        """Those of all output variables (B, C', H, W) that the call asks for."""
        # Indexing copies, even where it takes everything.
        if call.outputs == tuple(range(len(self.signature.outputs))):
            return y_BCHW
        return y_BCHW[:, constant(call.outputs, y_BCHW.device)]

    def _sources(self, call: CallSelection) -> tuple[int, ...]:
        """The input channel of each output variable of the network; -1 for none."""
        sources = [-1] * len(self.signature.outputs)
        for output, source in zip(call.outputs, call.residual, strict=True):
            sources[output] = source
        return tuple(sources)
