"""Strategies: which calls of a network, over which lead times, lead to each frame of a forecast.

Poseidon's networks know many lead times, so that a target is reached by one call, by many short ones, or by a mixture
(Herde et al., 2024, arXiv:2405.19101, section 3); the fewest calls for each time are the temporal aggregation of
Pangu-Weather (Bi et al., 2023, doi:10.1038/s41586-023-06185-3).
"""

from typing import Literal

from pydantic import field_validator

from pelagos.preprocessing.config import Config


class Composite(Config):
    """Each lead time by the fewest calls: the longest steps first, then shorter ones.

    Attributes:
        lengths: lead times that the network is called with, in steps of the forecast; 1 is one of them.
    """

    kind: Literal["composite"] = "composite"
    lengths: tuple[int, ...]

    @field_validator("lengths")
    @classmethod
    def _descending(cls, lengths: tuple[int, ...]) -> tuple[int, ...]:
        if 1 not in lengths or min(lengths) < 1:
            raise ValueError(
                "the lengths must be positive, and 1 one of them, so that every step can be reached"
            )
        return tuple(sorted(set(lengths), reverse=True))

    def path(self, step: int) -> tuple[int, ...]:
        """The steps on the way to a step, from the first call's to itself.

        >>> Composite(lengths=(4, 1)).path(10)
        (4, 8, 9, 10)
        """
        passed, position = [], 0
        for length in self.lengths:
            while position + length <= step:
                position += length
                passed.append(position)
        return tuple(passed)


Mode = Literal["rollout", "direct"] | Composite
"""`rollout` feeds each step's forecast into the next; `direct` asks for every lead time from the initial frame;
`{kind: composite, lengths: [8, 4, 1]}` reaches each by the fewest calls of these lengths."""
