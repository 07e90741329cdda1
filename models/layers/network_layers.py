"""Network layers: which weights of a network read variables, which write them, and what lies between."""

from collections.abc import Iterable, Iterator
from typing import Protocol, runtime_checkable

from torch import nn

from pelagos.preprocessing.errors import DataError

LayerNames = tuple[tuple[str, ...], ...]
"""How the names of each layer's weights begin, from the layer that reads variables to the one that writes them."""


@runtime_checkable
class Layered(Protocol):
    """A network that knows the order of its layers."""

    def layer_names(self) -> LayerNames:
        """The layers, from input to output; each weight belongs to one of them."""


def layers_of(network: nn.Module) -> LayerNames | None:
    """The layers of a network; None of one that does not tell them, as a network from elsewhere need not."""
    return network.layer_names() if isinstance(network, Layered) else None


def layer_numbers(layers: LayerNames, names: Iterable[str]) -> dict[str, int]:
    """The number of the layer of each weight, by its name.

    Raises:
        DataError: a weight belongs to no layer, or to several.
    """
    numbers = {}
    for name in names:
        found = [number for number, prefixes in enumerate(layers) if name.startswith(prefixes)]
        if len(found) != 1:
            raise DataError(
                f"the weight {name} belongs to {len(found)} layers of layer_names(); one is right"
            )
        numbers[name] = found[0]
    return numbers


def within(name: str, layers: LayerNames) -> LayerNames:
    """The layers of a submodule as those of the network that holds it under a name.

    >>> within("body", (("stem.",), ("head.",)))
    (('body.stem.',), ('body.head.',))
    """
    return tuple(tuple(f"{name}.{prefix}" for prefix in prefixes) for prefixes in layers)


def repeated_blocks(network: nn.Module) -> Iterator[nn.Module]:
    """The members of a network's module lists that have no lists of their own: what it repeats.

    >>> [type(block).__name__ for block in repeated_blocks(nn.Sequential(nn.ModuleList([nn.ReLU(), nn.GELU()])))]
    ['ReLU', 'GELU']
    """
    for modules in network.modules():
        if isinstance(modules, nn.ModuleList):
            for block in modules:
                if not any(isinstance(part, nn.ModuleList) for part in block.modules()):
                    yield block
