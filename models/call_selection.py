"""Selection: which of its variables a network is asked for in one call, checked against what it gets.

Legend: B batch, C channels, H rows, W columns, S scalars.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from pelagos.models.context import Context, Signature


@dataclass(frozen=True)
class Selection:
    """A call's context with nothing left open.

    Attributes:
        inputs: for each input channel its position in the signature's inputs.
        outputs: for each output channel its position in the signature's outputs.
        residual: for each output channel the input channel of the same variable, -1 for none.
        scalars: (B, S), NaN where missing.
    """

    inputs: tuple[int, ...]
    outputs: tuple[int, ...]
    residual: tuple[int, ...]
    scalars: Tensor


def select(signature: Signature, x_BCHW: Tensor, lead_time_B: Tensor, context: Context) -> Selection:
    """The selection of a call.

    Raises:
        ValueError: channels, lead times or scalars are not as many as the context and the signature say.
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
            f"lead times of shape {tuple(lead_time_B.shape)} for {batch} samples: one each is right"
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
        scalars_BS = torch.full(shape, torch.nan, dtype=lead_time_B.dtype, device=lead_time_B.device)
    if scalars_BS.shape != shape:
        raise ValueError(f"scalars of shape {tuple(scalars_BS.shape)}, {shape} is right: {signature.scalars}")
    return Selection(inputs, outputs, residual, scalars_BS)
