"""PaddedNetwork: a network of one time step on an extended grid; what WXFormer and FuXi have in common.

Legend: B batch, C channel, H rows, W columns.
"""

import torch.nn.functional as F
from torch import Tensor, nn

from pelagos.models.channel_fields import ALL, Fields
from pelagos.models.context import Context, Signature
from pelagos.models.networks.credit.earth_padding import GridPadding
from pelagos.models.networks.credit.spectral_norm import iterate_all
from pelagos.preprocessing.errors import ConfigError


class PaddedNetwork(nn.Module):
    """Padding, a body, cropping, and interpolation where the body's grid misses the input's.

    Attributes:
        one_step: whether its outputs are one time step ahead whatever lead time it is told.

    Args:
        signature: the variables.
        body: the network of padded fields.
        padding: what is added around the fields.
        scale: (rows, columns) of the padded fields that a cell of the body's output stands for.
        predicts_change: whether lead time and scalars are input channels and the output is added to the
            input; else the body alone gives the next state.
        interpolate: whether an output of another size than the input is interpolated to it.
    """

    def __init__(
        self,
        signature: Signature,
        body: nn.Module,
        padding: GridPadding,
        *,
        scale: tuple[int, int] = (1, 1),
        predicts_change: bool,
        interpolate: bool = True,
    ) -> None:
        super().__init__()
        if signature.scalars and not predicts_change:
            raise ConfigError(
                f"in the form credit the scalars {', '.join(signature.scalars)} would not be heard; "
                "the form pelagos hears them"
            )
        self.signature, self.body, self.padding = signature, body, padding
        self.scale = scale
        self.fields = Fields(signature)
        self.predicts_change, self.interpolate = predicts_change, interpolate
        self.one_step = not predicts_change

    def forward(self, x_BCHW: Tensor, lead_time_B: Tensor, context: Context = ALL) -> Tensor:
        """(B, C, H, W) and lead times (B,) to (B, C', H, W).

        Raises:
            ValueError: channels, scalars or grid do not fit the network.
        """
        if self.training:
            iterate_all(self.body)
        call = self.fields.select(x_BCHW, lead_time_B, context)
        if self.predicts_change:
            fields_BCHW = self.fields.with_conditions(x_BCHW, lead_time_B, call)
            change_BCHW = self._map(fields_BCHW, context.periodic)
            y_BCHW = self.fields.persistence(x_BCHW, call) + change_BCHW
        else:
            y_BCHW = self._map(self.fields.spread(x_BCHW, call), context.periodic)
        return self.fields.gather(y_BCHW, call)

    def _map(self, x_BCHW: Tensor, periodic: tuple[bool, bool]) -> Tensor:
        height, width = x_BCHW.shape[-2:]
        y_BCHW: Tensor = self.body(self.padding.pad(x_BCHW, periodic))
        y_BCHW = self.padding.crop(y_BCHW, height, width, self.scale)
        if self.interpolate and y_BCHW.shape[-2:] != (height, width):
            y_BCHW = F.interpolate(y_BCHW, (height, width), mode="bilinear", align_corners=False)
        return y_BCHW
