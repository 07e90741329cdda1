"""A network on a padded grid: what WXFormer and FuXi have in common.

Shapes: B batch, C channels, H rows, W columns.
"""

from dataclasses import replace
from typing import Protocol, cast

import torch.nn.functional as F
from torch import Tensor, nn

from pelagos.models.call_selection import CallSelection
from pelagos.models.channel_fields import ChannelFields
from pelagos.models.context import ALL_VARIABLES, Context, Signature, Sphere
from pelagos.models.layers.named_axis import Axes, NamedAxis
from pelagos.models.layers.network_layers import LayerNames, layers_of, within
from pelagos.models.layers.padding import GridSize
from pelagos.models.layers.row_interpolation import interpolated
from pelagos.models.networks.credit.crossformer import CrossFormer
from pelagos.models.networks.credit.earth_padding import GridPadding
from pelagos.models.networks.credit.spectral_norm import update_spectral_norms
from pelagos.preprocessing.errors import ConfigError


class NamedBody(Protocol):
    """A body that knows which of its weights belong to variables."""

    def named_axes(self, reads: NamedAxis) -> dict[str, Axes]:
        """What each axis runs over, for weights with slices of variables, where input channels are those of `reads`."""


class PaddedNetwork(nn.Module):
    """Padding, a body, cropping, and interpolation if the body's grid differs from the input's.

    Attributes:
        one_step: whether its outputs are always one time step ahead, whatever the lead time.

    Args:
        signature: the variables and scalars.
        body: the network of padded fields.
        padding: what is added around the fields.
        scale: the size of a cell of the body's output, in (rows, columns) of the padded fields.
        predicts_change: whether lead time and scalars are input channels and the output is added to the
            input; otherwise the body's output is the next state.
        interpolate: whether an output whose size differs from the input's is interpolated to it.

    Raises:
        ConfigError: there are scalars, which a body that predicts the next state cannot use.
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
                f"the scalars {', '.join(signature.scalars)} would have no effect in the form credit; "
                "use the form pelagos, which is conditioned on them"
            )
        self.signature, self.body, self.padding = signature, body, padding
        self.scale = scale
        self.channel_fields = ChannelFields(signature)
        self.predicts_change, self.interpolate = predicts_change, interpolate
        self.one_step = not predicts_change

    def layer_names(self) -> LayerNames:
        """See `Layered`."""
        layers = layers_of(self.body)
        assert layers is not None, f"the layers of a {type(self.body).__name__} are not known"
        return within("body", layers)

    def named_axes(self) -> dict[str, Axes]:
        """What each axis runs over, for weights with slices of variables or conditions; see `adapt`.

        Raises:
            DataError: the body cannot have other variables.
        """
        reads = NamedAxis(("input", "condition") if self.predicts_change else ("input",))
        found = cast(NamedBody, self.body).named_axes(reads)
        return {f"body.{name}": axes for name, axes in found.items()}

    def forward(self, x_BCHW: Tensor, lead_time_B: Tensor, context: Context = ALL_VARIABLES) -> Tensor:
        """(B, C, H, W) and lead times (B,) to (B, C', H, W).

        Raises:
            ValueError: channels, scalars or grid do not fit the network.
        """
        # Here, not in the layers: with activation checkpointing those run twice in a step.
        if self.training:
            update_spectral_norms(self.body)
        call = self.channel_fields.select(x_BCHW, lead_time_B, context)
        if self.predicts_change:
            fields_BCHW = self.channel_fields.inputs_and_conditions(x_BCHW, lead_time_B, call)
            change_BCHW = self._run_body(fields_BCHW, context, call)
            y_BCHW = self.channel_fields.persistence(x_BCHW, call) + change_BCHW
        else:
            y_BCHW = self._run_body(self.channel_fields.all_inputs(x_BCHW, call), context, call)
        return self.channel_fields.requested_outputs(y_BCHW, call)

    def shared_unit(self, size: GridSize, processes: int) -> int:
        """See RowSharing."""
        if not isinstance(self.body, CrossFormer):
            raise ConfigError("the rows of fuxi cannot be shared")
        if self.body.draws:
            raise ConfigError("dropout draws other numbers for a part of the rows than for all of them")
        lat, lon = self.padding.widths(*size)
        self.body.check_size(size[0] + sum(lat), size[1] + sum(lon))
        self.body.check_shared(size[0] + sum(lat), processes)
        return 1

    def _run_body(self, x_BCHW: Tensor, context: Context, call: CallSelection) -> Tensor:
        sphere = _sphere_of_all(context.sphere, call, x_BCHW.shape[1])
        if context.rows.shared:
            return self._run_shared_body(x_BCHW, replace(context, sphere=sphere))
        height, width = x_BCHW.shape[-2:]
        y_BCHW: Tensor = self.body(self.padding.pad(x_BCHW, context.periodic, sphere))
        y_BCHW = self.padding.crop(y_BCHW, height, width, self.scale)
        if self.interpolate and y_BCHW.shape[-2:] != (height, width):
            # As the published networks do where their strides leave an output that is coarser than the input.
            y_BCHW = F.interpolate(y_BCHW, (height, width), mode="bilinear", align_corners=False)
        return y_BCHW

    def _run_shared_body(self, x_BCHW: Tensor, context: Context) -> Tensor:
        rows, body = context.rows, self.body
        assert isinstance(body, CrossFormer)
        height, width = rows.starts[-1], x_BCHW.shape[-1]
        lat, lon = self.padding.widths(height, width)
        padded = rows.of(height + sum(lat))
        fields_BCHW = self.padding.pad_shared(x_BCHW, rows, padded, context.periodic, context.sphere)
        y_BCHW = body(fields_BCHW, padded)
        self.padding.check_crop(height, width, self.scale)
        output, (down, across) = body.layouts(padded)[-1], self.scale
        y_BCHW = y_BCHW[..., lon[0] // across : y_BCHW.shape[-1] - lon[1] // across]
        kept = output.starts[-1] - sum(lat) // down
        if not self.interpolate or (kept, y_BCHW.shape[-1]) == (height, width):
            return output.moved(y_BCHW, -2, rows, lat[0] // down)
        cropped = rows.of(kept)
        return interpolated(output.moved(y_BCHW, -2, cropped, lat[0] // down), cropped, rows, width)


def _sphere_of_all(sphere: Sphere | None, call: CallSelection, num_channels: int) -> Sphere | None:
    """The same places with the signs of the network's own channels, of which a call may give some."""
    if sphere is None:
        return None
    # Conditions are constant channels, which have no direction.
    signs = [1] * num_channels
    for place, sign in zip(call.inputs, sphere.signs, strict=True):
        signs[place] = sign
    return replace(sphere, signs=tuple(signs))
