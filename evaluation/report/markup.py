"""Fragments of a report's HTML. All text is escaped; `backticks` set code."""

import re
from collections.abc import Mapping, Sequence
from html import escape

import numpy as np
from numpy.typing import NDArray

from pelagos.evaluation.inference.estimate import Estimate
from pelagos.evaluation.report.chart import Style
from pelagos.evaluation.report.figures import ColourScale, tick
from pelagos.evaluation.report.graticule import Canvas

Array = NDArray[np.float64]
Plain = str | float | int | None
Cell = Plain | Estimate
"""Of a table; an estimate is shown with its interval beneath."""


def text(raw: str) -> str:
    """Escaped text with `code`.

    >>> text("a < b, `make demo`")
    'a &lt; b, <code>make demo</code>'
    """
    return re.sub(r"`([^`]+)`", r"<code>\1</code>", escape(raw))


def number(value: Plain) -> str:
    """A value by itself: three significant digits, thousands apart, – for none, ∞.

    >>> number(0.08031), number(1234567), number(None), number("a"), number(2.5e-7)
    ('0.0803', '1 234 567', '–', 'a', '2.5·10⁻⁷')
    """
    if isinstance(value, str):
        return value
    if value is None or np.isnan(value):
        return "–"
    if np.isinf(value):
        return "∞" if value > 0 else "−∞"
    if isinstance(value, (int, np.integer)) or 1000 <= abs(value) < 1e9:
        return f"{value:,.0f}".replace(",", " ").replace("-", "−")
    if 1e-3 <= abs(value) < 1000:
        return f"{value:#.3g}".rstrip(".").replace("-", "−")
    return tick(float(f"{value:.2e}"))


def duration(seconds: float) -> str:
    """Seconds for people.

    >>> duration(0.42), duration(38.2), duration(125), duration(7260)
    ('0.42 s', '38 s', '2 min 5 s', '2 h 1 min')
    """
    if seconds < 10:
        return f"{seconds:.2g} s"
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    hours, minutes = divmod(whole // 60, 60)
    return f"{hours} h {minutes} min" if hours else f"{minutes} min {whole % 60} s"


def unit_name(units: str) -> str:
    """UDUNITS with raised exponents.

    >>> unit_name("kg m-2 s-1")
    'kg m⁻² s⁻¹'
    """
    raised = str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")
    return re.sub(r"(?<=[A-Za-z])-?\d+", lambda exponent: exponent.group().translate(raised), units)


def cards(entries: Sequence[tuple[str, Plain, str]]) -> str:
    """Key numbers: (label, value, note)."""
    parts = [
        f'<div class="card"><div class="label">{text(label)}</div>'
        f'<div class="value">{escape(number(value))}</div><div class="label">{text(note)}</div></div>'
        for label, value, note in entries
    ]
    return f'<div class="cards">{"".join(parts)}</div>'


_CLASSES = {"units": "unit", "model": "path"}
"""Of the cells of columns that are no numbers, by the column's name."""


def table(columns: Sequence[str], rows: Sequence[Sequence[Cell]], lowest: Sequence[str]) -> str:
    """A table, columns of numbers on the right with as many decimals each; the lowest of some in bold."""
    assert all(len(row) == len(columns) for row in rows), "as many cells as columns"
    by_column = [_column([row[i] for row in rows], name in lowest) for i, name in enumerate(columns)]
    numeric = [_is_numeric([row[i] for row in rows]) for i in range(len(columns))]
    classes = [
        "number" if one else _CLASSES.get(name, "") for name, one in zip(columns, numeric, strict=True)
    ]
    kinds = [f' class="{one}"' if one else "" for one in classes]
    head = "".join(f"<th{kind}>{text(name)}</th>" for name, kind in zip(columns, kinds, strict=True))
    body = ""
    for line in zip(*by_column, strict=True):
        cells = "".join(f"<td{kind}>{cell}</td>" for cell, kind in zip(line, kinds, strict=True))
        body += f"<tr>{cells}</tr>"
    return f'<div class="scroll"><table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>'


def facts(title: str, known: Mapping[str, str]) -> str:
    """A list of labels and values under a title."""
    lines = "".join(f"<dt>{text(label)}</dt><dd>{text(value)}</dd>" for label, value in known.items())
    return f'<div class="facts"><h3>{text(title)}</h3><dl>{lines}</dl></div>'


def details(title: str, content: str) -> str:
    """A text as it is, folded."""
    return f"<details><summary>{text(title)}</summary><pre>{escape(content)}</pre></details>"


def links(entries: Mapping[str, str], name: str) -> str:
    """Links to files, by their text; what a data URI holds is saved under a name."""
    shown = []
    for label, target in entries.items():
        kind = re.match(r"data:\w+/(\w+)", target)
        save = f' download="{escape(name)}.{kind.group(1)}"' if kind else ""
        shown.append(f'<a href="{escape(target)}"{save}>{text(label)}</a>')
    return f'<p class="links">{"".join(shown)}</p>'


def legend(styles: Mapping[str, Style]) -> str:
    """The methods with their lines."""
    entries = [
        f'<span><i style="border-top:2.5px {style.dash} var({style.variable})"></i>{text(name)}</span>'
        for name, style in styles.items()
    ]
    return f'<div class="legend">{"".join(entries)}</div>'


def bars(seconds: Mapping[str, float]) -> str:
    """A bar a stage."""
    longest = max(seconds.values(), default=0.0) or 1.0
    rows = [
        f'<div>{text(name)}</div><div class="track"><i style="width:{100 * value / longest:.1f}%"></i></div>'
        f'<div class="amount">{duration(value)}</div>'
        for name, value in seconds.items()
    ]
    return f'<div class="stages">{"".join(rows)}</div>'


def image_row(
    label: str, frames: Sequence[Array], scale: ColourScale, canvas: Canvas, notes: Sequence[str] = ()
) -> str:
    """A row of pictures of (H, W) frames, the label before them and a note under each."""
    cells = [f'<div class="row">{text(label)}</div>']
    for i, frame in enumerate(frames):
        note = f'<div class="score">{escape(notes[i])}</div>' if notes else ""
        shown = (
            f'<img src="{scale.image(frame)}" alt="{escape(label)}, column {i + 1}"'
            f' style="aspect-ratio:{canvas.ratio:.3f}">'
        )
        cells.append(f'<div><div class="map">{shown}{canvas.lines}</div>{note}</div>')
    return "".join(cells)


def colour_bar(label: str, scale: ColourScale, units: str) -> str:
    """A colour scale with its ends and middle; an end beyond which there are values is pointed, and says so."""
    unit = "" if units == "1" else f" [{unit_name(units)}]"
    low, middle, high = aligned([scale.low, (scale.low + scale.high) / 2, scale.high])
    ends = (
        f"<span>{'≤ ' * scale.below}{low}</span><span>{middle}</span><span>{'≥ ' * scale.above}{high}</span>"
    )
    kind = {(0, 0): "", (1, 0): "under", (0, 1): "over", (1, 1): "both"}[scale.below, scale.above]
    strip = f'<img class="{kind}" src="{scale.bar()}" alt="colour scale">'
    beyond = [f"down to {number(scale.least)}"] * scale.below + [f"up to {number(scale.most)}"] * scale.above
    note = f'<div class="beyond">single values reach {" and ".join(beyond)}</div>' if beyond else ""
    return f'<div class="bar">{text(label + unit)}{strip}<div class="ends">{ends}</div>{note}</div>'


def _is_numeric(cells: Sequence[Cell]) -> bool:
    return not any(isinstance(cell, str) for cell in cells)


def aligned(values: Sequence[float]) -> list[str]:
    """Numbers that stand beside each other, with as many decimals each.

    >>> aligned([-12.5, 0.0, 12.5]), aligned([0.001, 250.0])
    (['−12.5', '0.0', '12.5'], ['0.00100', '250'])
    """
    return [_aligned(value, values) for value in values]


def interval(estimate: Estimate) -> str:
    """The ends of an estimate's interval, as precise as the estimate itself; nothing where there are none.

    >>> interval(Estimate(0.1234, 0.101, 0.2, 9, 0))
    '0.101 to 0.200'
    """
    if np.isnan(estimate.low) or np.isnan(estimate.high):
        return ""
    known = [one for one in (estimate.value, estimate.low, estimate.high) if np.isfinite(one)]
    return f"{_aligned(estimate.low, known)} to {_aligned(estimate.high, known)}"


def _column(cells: Sequence[Cell], bold_lowest: bool) -> list[str]:
    values = [cell.value if isinstance(cell, Estimate) else cell for cell in cells]
    finite = [float(v) for v in values if not isinstance(v, str) and v is not None and np.isfinite(v)]
    shown = [escape(_aligned(value, finite)) for value in values]
    if bold_lowest and finite:
        shown = [f"<b>{s}</b>" if value == min(finite) else s for value, s in zip(values, shown, strict=True)]
    ends = [interval(cell) if isinstance(cell, Estimate) else "" for cell in cells]
    return [f"{s}<small>{escape(end)}</small>" if end else s for s, end in zip(shown, ends, strict=True)]


def _aligned(cell: Plain, column: Sequence[float]) -> str:
    """The number with its column's decimals, which its smallest needs, unless sizes differ too much."""
    sizes = [abs(value) for value in column if value != 0]
    whole = isinstance(cell, (str, int, np.integer)) or cell is None or not np.isfinite(cell)
    # The bounds are those of `number`, so that a number and the interval beneath are written alike.
    if whole or not sizes or min(sizes) < 1e-3 or max(sizes) / min(sizes) > 500 or max(sizes) >= 1e4:
        return number(cell)
    decimals = max(0, 2 - int(np.floor(np.log10(min(sizes)))) - (max(sizes) / min(sizes) > 20))
    return f"{cell:.{decimals}f}".replace("-", "−")
