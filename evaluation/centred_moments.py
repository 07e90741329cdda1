"""Centred moments of forecast and truth, gathered chunk by chunk without losing digits to a large mean.

⟨x²⟩ − ⟨x⟩² of a field with mean/std 10⁶ has four digits left in double precision. `point_sums` takes every
chunk's own mean off first, and two chunks merge by the rule of Chan, Golub and LeVeque (1979):
M = M_a + M_b + δ_x δ_y w_a w_b / (w_a + w_b), with δ the difference of the chunks' means.

A mean is kept as `reference` + `offset`: as a single number it would be rounded to its own last digit, which
is 10⁻¹⁰ of the deviation where mean/std is 10⁶, and δ would inherit that.
"""

from collections.abc import Mapping

import xarray as xr

WEIGHT, REFERENCE, OFFSET, CENTRED = "weight", "reference_", "offset_", "centred_"
FIELDS = ("forecast", "truth")
PRODUCTS: Mapping[str, tuple[str, str]] = {
    "squared_forecast": ("forecast", "forecast"),
    "squared_truth": ("truth", "truth"),
    "product": ("forecast", "truth"),
}
"""What is summed: the product of the deviations of these two fields."""


def merge(a: xr.Dataset, b: xr.Dataset, prefix: str) -> dict[str, xr.DataArray]:
    """The moments of two chunks together, of arrays on the same axes; a chunk without weight is left out.

    Args:
        a: the moments of one chunk.
        b: the moments of another, which shares no point with the first.
        prefix: of all names.
    """
    ours, theirs = a[prefix + WEIGHT], b[prefix + WEIGHT]
    total, both = ours + theirs, (ours > 0) & (theirs > 0)
    over = total.where(total > 0, 1.0)
    merged, differences = {WEIGHT: total}, {}
    for name in FIELDS:
        reference, offset = prefix + REFERENCE + name, prefix + OFFSET + name
        # The references are near each other: their difference is exact, or nearly so.
        difference = (b[reference] - a[reference]) + (b[offset] - a[offset])
        differences[name] = difference.where(both, 0.0)
        merged[REFERENCE + name] = a[reference].where(ours > 0, b[reference])
        moved = a[offset] + differences[name] * (theirs / over)
        merged[OFFSET + name] = moved.where(ours > 0, b[offset])
    for product, (first, second) in PRODUCTS.items():
        between = differences[first] * differences[second] * (ours * theirs / over)
        merged[CENTRED + product] = a[prefix + CENTRED + product] + b[prefix + CENTRED + product] + between
    return {prefix + name: values for name, values in merged.items()}


def pool(moments: xr.Dataset, dims: tuple[str, ...], prefix: str) -> dict[str, xr.DataArray]:
    """The moments over dimensions together."""
    weight = moments[prefix + WEIGHT]
    total = weight.sum(dims, skipna=False)
    over = total.where(total > 0, 1.0)
    pooled, deviations = {WEIGHT: total}, {}
    for name in FIELDS:
        each = moments[prefix + REFERENCE + name]
        reference = (weight * each).sum(dims, skipna=False) / over
        # An entry without weight has no mean either.
        offsets = ((each - reference) + moments[prefix + OFFSET + name]).where(weight > 0, 0.0)
        offset = (weight * offsets).sum(dims, skipna=False) / over
        pooled |= {REFERENCE + name: reference, OFFSET + name: offset}
        deviations[name] = (offsets - offset).where(weight > 0, 0.0)
    for product, (first, second) in PRODUCTS.items():
        between = (weight * deviations[first] * deviations[second]).sum(dims, skipna=False)
        pooled[CENTRED + product] = moments[prefix + CENTRED + product].sum(dims, skipna=False) + between
    return {prefix + name: values for name, values in pooled.items()}


def prefixes(moments: xr.Dataset) -> tuple[str, ...]:
    """What the names of the sets of moments begin with, in order."""
    names = [str(name) for name in moments.data_vars]
    return tuple(name.removesuffix(WEIGHT) for name in names if name.endswith(WEIGHT))
