"""Sample moves: how the fields of samples are rolled, turned, mirrored and changed on their way into a batch.

Shapes: B samples, K forecast steps, A frames that are input, C channels, F of them forcing, P points of a grid.
"""

from collections.abc import Callable
from typing import Any, NamedTuple, TypeVar

import numpy as np

from pelagos.preprocessing.array_types import Float32s, Ints
from pelagos.preprocessing.samples.fill_kernels import FlatBuffers
from pelagos.preprocessing.samples.kernel_cache import compiled

_Function = TypeVar("_Function", bound=Callable[..., Any])


class ChannelMoves(NamedTuple):
    """What becomes of the channels of B samples: each goes to a place, times a gain plus an offset.

    Attributes:
        places: (B, C) where each channel goes; two channels at most change places with each other.
        gains: (B, C) factor of what comes to each place.
        offsets: (B, C) what is added to it, in physical units.
    """

    places: Ints
    gains: Float32s
    offsets: Float32s

    def part(self, start: int, stop: int) -> "ChannelMoves":
        """Of some consecutive channels, which change places among themselves, if at all."""
        channels = (slice(None), slice(start, stop))
        return ChannelMoves(self.places[channels] - start, self.gains[channels], self.offsets[channels])

    def followed_by(self, other: "ChannelMoves") -> "ChannelMoves":
        """Of these channels, and then the others."""
        places = np.concatenate([self.places, other.places + self.places.shape[1]], axis=1)
        gains, offsets = (np.concatenate([self[n], other[n]], axis=1) for n in (1, 2))
        return ChannelMoves(places, gains, offsets)


class SampleMoves(NamedTuple):
    """How the fields of B samples are moved: first rolled, then transposed, then mirrored.

    Attributes:
        turns: (B, 3) 1 where rows and columns are exchanged, where rows are reversed, and where columns are.
        shifts: (B, K + A, 2) rows and columns by which the first point of each frame lies after that of the store: of
            the initial frame, that of each step, and the earlier ones.
        inputs: of the channels of one frame that is input.
        outputs: of the output channels.
        forcings: of the forcing channels of later frames.
        width: points of a row.
    """

    turns: Ints
    shifts: Ints
    inputs: ChannelMoves
    outputs: ChannelMoves
    forcings: ChannelMoves
    width: int


def _compiled(function: _Function) -> _Function:
    # The types of other modules are part of what is compiled.
    return compiled(function, [FlatBuffers])


@_compiled
def move_samples(rows: tuple[int, int], buffers: FlatBuffers, moves: SampleMoves) -> None:
    """Move the fields of a range of samples, which lie in the buffers in physical units.

    Args:
        rows: the batch's rows: the first, and the one after the last.
        buffers: the memory that holds the fields as read, and then as moved.
        moves: of all samples of the batch; their steps are those that were read.
    """
    scratch = np.empty((2, buffers.inputs.shape[2]), np.float32)
    num_inputs = moves.inputs.places.shape[1]
    num_earlier = buffers.inputs.shape[1] // num_inputs - 1
    steps = moves.shifts.shape[1] - 1 - num_earlier
    num_forced = steps - 1 + buffers.forcings.shape[1] - (buffers.targets.shape[1] - 1)
    for n in range(*rows):
        turn, shifts, width = moves.turns[n], moves.shifts[n], moves.width
        for age in range(num_earlier + 1):
            x_CP = buffers.inputs[n, age * num_inputs : (age + 1) * num_inputs]
            _move(x_CP, moves.inputs, n, turn, shifts[steps + age if age else 0], width, scratch)
        for k in range(steps):
            _move(buffers.targets[n, k], moves.outputs, n, turn, shifts[k + 1], width, scratch)
            if k < num_forced:
                _move(buffers.forcings[n, k], moves.forcings, n, turn, shifts[k + 1], width, scratch)


@_compiled
def _move(
    x_CP: Float32s, moves: ChannelMoves, n: int, turn: Ints, shift: Ints, width: int, scratch: Float32s
) -> None:
    """Move the channels of one frame of sample n."""
    for c in range(len(x_CP)):
        place = moves.places[n, c]
        if place < c:
            continue  # it changed places with an earlier one
        scratch[0] = x_CP[c]
        if place > c:
            scratch[1] = x_CP[place]
            _place(scratch[1], x_CP[c], turn, shift, width, (moves.gains[n, c], moves.offsets[n, c]))
        _place(scratch[0], x_CP[place], turn, shift, width, (moves.gains[n, place], moves.offsets[n, place]))


@_compiled
def _place(
    x_P: Float32s,
    y_P: Float32s,
    turn: Ints,
    shift: Ints,
    width: int,
    change: tuple[np.float32, np.float32],
) -> None:
    """Write a field to its place, times a gain plus an offset."""
    x_HW, y_HW = x_P.reshape(-1, width), y_P.reshape(-1, width)
    height = len(x_HW)
    for i in range(height):
        p = height - 1 - i if turn[1] else i
        if turn[0]:
            # The grid is square: a row of the result is a column of the field.
            _place_row(x_HW[:, (p + shift[1]) % width], y_HW[i], shift[0], turn[2] == 1, change)
        else:
            _place_row(x_HW[(p + shift[0]) % height], y_HW[i], shift[1], turn[2] == 1, change)


@_compiled
def _place_row(
    x_W: Float32s, y_W: Float32s, cut: int, reverse: bool, change: tuple[np.float32, np.float32]
) -> None:
    """Write a row, rolled and perhaps reversed."""
    gain, offset = change
    # In two pieces that do not wrap around: loops without a remainder use vector instructions (2.1 µs a field of 64 x
    # 64 instead of 7.1).
    first, second = x_W[cut:], x_W[:cut]
    last = len(y_W) - 1
    if reverse:
        for j in range(len(second)):
            y_W[len(second) - 1 - j] = gain * second[j] + offset
        for j in range(len(first)):
            y_W[last - j] = gain * first[j] + offset
        return
    rest = y_W[len(first) :]
    for j in range(len(first)):
        y_W[j] = gain * first[j] + offset
    for j in range(len(second)):
        rest[j] = gain * second[j] + offset
