"""Model states: the bytes that a GPU holds for the weights that it trains, at each ZeRO stage, as our engine has them.

Not those of ZeRO's paper: weights, their copies for the optimiser and gradients are all float32 here, up to ZeRO 1 the
gradients of all weights stay between steps (`ParameterPacking.link_gradients`), and from ZeRO 1 on DeepSpeed updates a
copy of the weights that a process owns (`single_partition_of_fp32_groups`, `fp32_partitioned_groups_flat`).
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from pelagos.pipeline.engine.engine import EngineConfig

_FLOAT = 4


@dataclass(frozen=True)
class ModelStates:
    """Bytes of a GPU, by what they are.

    Attributes:
        weights: in float32, those that the network computes with or their master.
        bf16_weights: copies that it computes with (`engine.weights`).
        frozen: those that are not trained, and buffers.
        gradients: of the weights, or of the part of them that the process owns.
        master_weights: the optimiser's copy of the weights that the process owns; none where it updates the first.
        moments: AdamW's two.
        average: the moving average of the weights.
        buffers: what the engine needs besides in a step: buckets that gradients are sent in, weights gathered from
            others.
    """

    weights: float
    bf16_weights: float
    frozen: float
    gradients: float
    master_weights: float
    moments: float
    average: float
    buffers: float

    @property
    def kept(self) -> float:
        """All but buffers."""
        return self.weights + self.frozen + self.gradients + self.master_weights + self.moments + self.average


def model_states(
    engine: EngineConfig,
    stage: int,
    gpus: int,
    trained: int,
    *,
    layer: int = 0,
    frozen: int = 0,
    ema: bool,
    accumulation: int,
) -> ModelStates:
    """What one of so many GPUs holds at a ZeRO stage.

    Args:
        engine: the configuration, whose own stage does not count.
        stage: the one in question; a single GPU has nobody to share with.
        gpus: their number.
        trained: elements that are trained.
        layer: elements of the largest layer, which ZeRO 3 gathers at once.
        frozen: bytes of weights that are not, and of buffers.
        ema: whether there is a moving average.
        accumulation: micro-batches of a step on each GPU.
    """
    configured = engine.model_copy(update={"zero_stage": stage})
    stage, whole = configured.stage(gpus), _FLOAT * trained
    share = whole / gpus
    owned = whole if stage == 0 else share
    values = configured.deepspeed(1, accumulation, gpus, trained)["zero_optimization"]
    return ModelStates(
        weights=share if stage == 3 else whole,
        # Of all packed weights, also those that are not multiplied in bf16.
        bf16_weights=2 * trained if engine.weights == "bfloat16" else 0,
        frozen=frozen,
        gradients=whole if stage < 2 else share,
        master_weights=0 if stage == 0 else share,
        moments=2 * owned,
        average=owned if ema else 0,
        buffers=_gathered(trained, layer, values)
        if stage == 3
        else _buffers(configured, stage, gpus, trained, values, accumulation),
    )


def _gathered(trained: int, layer: int, values: Mapping[str, Any]) -> float:
    """The bucket that gradients are sent in, and the weights that are whole at a time at ZeRO 3."""
    # What is fetched ahead stays within the limit; the layer that computes is fetched whatever there is already.
    whole = min(trained, values["stage3_max_live_parameters"] + layer)
    return _FLOAT * float(values["reduce_bucket_size"] + whole)


def _buffers(
    engine: EngineConfig, stage: int, gpus: int, trained: int, values: Mapping[str, Any], accumulation: int
) -> float:
    bucket = int(values["reduce_bucket_size"])
    if gpus == 1:
        return 0
    if stage < 2:
        # Sent from where they are; rounded ones are copies, of all buckets at most.
        return 2 * trained if engine.reduction == "bf16" else 0
    # Two buckets of DeepSpeed's, and two packs of half a bucket whose gradients are whole and in parts; with several
    # micro-batches the sum of the share's gradients beside the newest ones.
    again = _FLOAT * trained / gpus if accumulation > 1 else 0
    return _FLOAT * bucket * (1 + engine.overlap + 2) + again
