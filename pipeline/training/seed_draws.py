"""Random draws that depend on the position in a run alone, as the order of samples does."""

import numpy as np
import torch


def seed_draws(seed: int, block: int) -> None:
    """Let what torch draws from here on follow from the run's seed and the number of a micro-batch.

    Micro-batches are numbered over all processes and steps since the beginning: so noise and dropout are
    the same on any number of processes, and after an interruption.
    """
    # The order of samples is drawn with the keys 0, 1 and 3.
    [word] = np.random.SeedSequence((seed, 2, block)).generate_state(1, np.uint64)
    torch.manual_seed(int(word))
