"""Windows of short and long attention where several processes share the rows of a grid."""

from functools import lru_cache

from pelagos.models.layers.row_layout import Regrouping, RowLayout, regrouped


@lru_cache(256)
def attention_rows(layout: RowLayout, window: int, *, long: bool) -> Regrouping:
    """How the rows of windows come together: neighbours in short attention, rows spread evenly in long attention."""
    rows = layout.starts[-1]
    number = rows // window
    if not long:
        return regrouped(
            layout, [range(first, first + window) for first in range(0, rows, window)], range(rows)
        )
    members = [range(first, rows, number) for first in range(number)]
    homes = [row % number * window + row // number for row in range(rows)]
    # The order of places first is that in which long attention cuts the axis of a whole grid, too.
    return regrouped(layout, members, homes, by_place=True)
