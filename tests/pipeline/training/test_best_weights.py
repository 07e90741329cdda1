"""The best validation is remembered, across checkpoints, and worse ones are counted."""

import torch

from pelagos.pipeline.training.best_weights import BestWeights


def test_the_lowest_score_is_the_best_and_others_are_waited_for() -> None:
    best = BestWeights()
    assert [best.improved(score, step) for step, score in enumerate([3.0, 2.0, 2.0, 2.5], start=1)] == [
        True,
        True,
        False,
        False,
    ]
    assert (best.score, best.step, best.waited) == (2.0, 2, 2)
    assert best.improved(1.0, 5)
    assert best.waited == 0


def test_a_score_that_is_no_number_is_never_the_best() -> None:
    best = BestWeights()
    assert not best.improved(float("nan"), 1)
    assert best.improved(1.0, 2)


def test_it_comes_back_from_a_checkpoint() -> None:
    best = BestWeights()
    best.improved(2.0, 3)
    best.improved(2.5, 6)
    other = BestWeights()
    other.load(best.values())
    assert (other.score, other.step, other.waited) == (2.0, 3, 1)


def test_what_it_keeps_does_not_change_with_the_weights() -> None:
    best, weights, buffer = BestWeights(), torch.ones(2), torch.zeros(1)
    best.keep([weights], {"b": buffer})
    weights += 1
    buffer += 1
    assert torch.equal(best.share[0], torch.ones(2))
    assert torch.equal(best.buffers["b"], torch.zeros(1))


def test_before_the_first_validation_there_is_nothing_to_keep() -> None:
    best = BestWeights()
    assert best.values() == {}
    best.load({})
    assert (best.score, best.step) == (float("inf"), 0)
