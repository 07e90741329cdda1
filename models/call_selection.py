"""Which variables a network is given and asked for in one call, checked against its signature.

Shapes: B batch, C channels, H rows, W columns, S scalars.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from pelagos.models.context import Context, Signature


@dataclass(frozen=True)
class CallSelection:
    """The context of a call with every default filled in.

    Attributes:
        inputs: the position of each input channel in the signature's inputs.
        outputs: the position of each output channel in the signature's outputs.
        residual: the input channel of the same variable for each output channel, -1 for none.
        scalars: (B, S), NaN where missing.
    """

    inputs: tuple[int, ...]
    outputs: tuple[int, ...]
    residual: tuple[int, ...]
    scalars: Tensor


def select_variables(
    signature: Signature, x_BCHW: Tensor, lead_time_B: Tensor, context: Context
) -> CallSelection:
    """The variables of a call with fields (B, C, H, W) and lead times (B,).

    Raises:
        ValueError: the number of channels, lead times or scalars contradicts the context or the signature.
    """
    inputs = tuple(range(len(signature.inputs))) if context.inputs is None else context.inputs
    outputs = tuple(range(len(signature.outputs))) if context.outputs is None else context.outputs
    batch, channels = x_BCHW.shape[:2]
    names = tuple(signature.inputs[i] for i in inputs)
    if channels != len(names):
        raise ValueError(
            f"the input has {channels} channels, the call is for {len(names)} variables: {names}"
        )
    if lead_time_B.shape != (batch,):
        raise ValueError(
            f"lead times of shape {tuple(lead_time_B.shape)} for {batch} samples, {(batch,)} is right"
        )
    residual = context.residual
    if residual is None:
        wanted = tuple(signature.outputs[i] for i in outputs)
        residual = tuple(names.index(name) if name in names else -1 for name in wanted)
    elif len(residual) != len(outputs):
        raise ValueError(f"{len(residual)} entries of `residual` for {len(outputs)} output channels")
    shape = (batch, len(signature.scalars))
    scalars_BS = context.scalars
    if scalars_BS is None:
        # Not zero: a scalar of zero is known, a missing one is not.
        scalars_BS = torch.full(shape, torch.nan, dtype=lead_time_B.dtype, device=lead_time_B.device)
    if scalars_BS.shape != shape:
        raise ValueError(f"scalars of shape {tuple(scalars_BS.shape)}, {shape} is right: {signature.scalars}")
    return CallSelection(inputs, outputs, residual, scalars_BS)
