"""Pretended backward: a backward pass over tensors of a pretended GPU, node by node.

PyTorch's own engine asks the driver for the device's streams, and fails where there is no driver.
"""

from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any
from unittest import mock

import torch
from torch import Tensor

Node = Any
"""A function of autograd's graph, for which PyTorch has no type."""


def pretended_backward(loss: Tensor) -> None:
    """Add the gradients of a scalar to the `grad` of what it was computed from, as `loss.backward()` does.

    Hooks on tensors are not called. The loss is detached, so that what a node has saved goes with it.
    """
    root = loss.grad_fn
    loss.detach_()
    # By this number checkpointing knows one pass from another; without one it would recompute a block for each tensor.
    with torch.no_grad(), mock.patch("torch._C._current_graph_task_id", return_value=1):
        waiting, nodes = _graph(root)
        number = id(root)
        # Else the whole graph would stay with its first node.
        del root
        _walk(number, waiting, nodes, torch.ones_like(loss))


def _walk(root: int, waiting: Counter[int], nodes: dict[int, Node], gradient: Tensor) -> None:
    gradients: dict[int, list[Tensor | None]] = {root: [gradient]}
    ready = [root]
    while ready:
        number = ready.pop()
        # The last reference to the node, and so to the tensors that it has saved.
        for target, place, result in _results(nodes.pop(number), gradients.pop(number, [])):
            if result is not None:
                known = gradients.setdefault(id(target), [None] * len(target._input_metadata))
                known[place] = _sum(known[place], result, target._input_metadata[place])
            waiting[id(target)] -= 1
            if not waiting[id(target)]:
                ready.append(id(target))


def _graph(root: Node) -> tuple[Counter[int], dict[int, Node]]:
    """How many gradients each node waits for, and the nodes, which keep their numbers while somebody holds them."""
    waiting, nodes, found = Counter[int](), {id(root): root}, [root]
    while found:
        for target, _ in found.pop().next_functions:
            if target is None:
                continue
            waiting[id(target)] += 1
            if id(target) not in nodes:
                nodes[id(target)] = target
                found.append(target)
    return waiting, nodes


def _results(node: Node, given: list[Tensor | None]) -> Iterator[tuple[Node, int, Tensor | None]]:
    """The nodes that wait for this one, which of their gradients it has, and the gradient."""
    targets = [edge for edge in node.next_functions if edge[0] is not None]
    if all(one is None for one in given):
        results: Sequence[Tensor | None] = [None] * len(targets)
    elif node.name() == "torch::autograd::AccumulateGrad":
        results = []
        _accumulate(node.variable, given)
    elif hasattr(node, "needs_input_grad"):
        # A function in Python answers for all of its arguments, tensors or not.
        results = _of_python(node, given)
    else:
        answer = node(*given)
        answers = answer if isinstance(answer, tuple) else (answer,)
        edges = zip(answers, node.next_functions, strict=True)
        results = [one for one, (target, _) in edges if target is not None]
        del answer, answers, edges
    given.clear()
    del node
    for (target, place), result in zip(targets, results, strict=True):
        yield target, place, result


def _of_python(node: Node, given: list[Tensor | None]) -> list[Tensor | None]:
    answer = node.apply(*given)
    answers = answer if isinstance(answer, tuple) else (answer,)
    return [one for one, needed in zip(answers, node.needs_input_grad, strict=True) if needed]


def _accumulate(variable: Tensor, given: Sequence[Tensor | None]) -> None:
    [gradient] = given
    if gradient is None:
        return
    if variable.grad is None:
        variable.grad = gradient
    else:
        variable.grad += gradient


def _sum(known: Tensor | None, result: Tensor, expected: Any) -> Tensor:
    """The sum of two gradients in the shape and type that a node takes, to which PyTorch's engine brings each."""
    if result.shape != tuple(expected.shape):
        result = result.sum_to_size(expected.shape)
    result = result.to(expected.dtype)
    return result if known is None else known + result
