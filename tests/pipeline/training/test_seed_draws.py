"""What is drawn for a micro-batch depends on its number and the seed alone."""

import torch

from pelagos.pipeline.training.seed_draws import seed_draws


def drawn(seed: int, block: int) -> list[float]:
    seed_draws(seed, block)
    return torch.rand(3).tolist()


def test_draws_are_repeated_whatever_was_drawn_before() -> None:
    first = drawn(4, 7)
    torch.rand(11)
    assert drawn(4, 7) == first


def test_blocks_and_seeds_have_draws_of_their_own() -> None:
    found = {tuple(drawn(seed, block)) for seed in range(4) for block in range(4)}
    assert len(found) == 16


def test_draws_stay_what_they_were() -> None:
    # A run that is continued by a later version must go on with the same noise.
    seed_draws(0, 0)
    assert torch.initial_seed() == 17195319236771816063
