"""Seeding: random draws that depend on the position in a run alone, as the order of samples does."""

import numpy as np
import torch


def seed_draws(seed: int, block: int) -> None:
    """Seed torch for one micro-batch, by the run's seed and the micro-batch's number since the start of the run.

    Numbers count the micro-batches of all processes, so noise and dropout are the same on any number of processes and
    after an interruption, and checkpoints hold no generator's state.
    """
    # 2 keeps these draws apart from those of the order of samples, which have the keys 0, 1 and 3.
    [word] = np.random.SeedSequence((seed, 2, block)).generate_state(1, np.uint64)
    torch.manual_seed(int(word))
