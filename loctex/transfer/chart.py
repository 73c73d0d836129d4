"""A label-efficiency curve as SVG: score over number of labels, with a bar of one deviation."""

import math
from collections.abc import Sequence
from html import escape

WIDTH, HEIGHT = 720, 400
LEFT, RIGHT, TOP, BOTTOM = 52, 16, 44, 44  # margins, in pixels
COLORS = ("#4f46e5", "#0d9488", "#c2570c", "#a21caf", "#4d7c0f", "#64748b")
STYLE = (
    "text { font: 12px system-ui, sans-serif; fill: #334155 } "
    ".title { font-weight: 600; font-size: 14px } "
    ".grid { stroke: #e2e8f0 } .back { fill: #fff }"
)


def svg(result: dict) -> str:
    """The rows of an efficiency result.json as a picture; their order is the legend's."""
    counts, rows = result["counts"], result["rows"]
    top = max(m + s for row in rows for m, s in zip(row["mean"], row["std"], strict=True))
    ticks = _ticks(top)
    measure = {"accuracy": "Accuracy", "map": "Mean AP"}[result["measure"]]

    elements = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" role="img" '
        f'aria-label="{measure} by number of labels"><style>{STYLE}</style>',
        f'<rect class="back" width="{WIDTH}" height="{HEIGHT}"/>',
        f'<text class="title" x="{LEFT}" y="18">{measure} by number of labels '
        f"({result['num_test']:,} images to test on)</text>",
        *(_horizontal(value, ticks[-1]) for value in ticks),
        *(_count(count, counts) for count in counts),
        f'<text x="{WIDTH / 2}" y="{HEIGHT - 8}" text-anchor="middle">labels</text>',
    ]

    x = LEFT
    for row, color in zip(rows, COLORS * len(rows), strict=False):
        elements.append(_curve(row, counts, ticks[-1], color))
        elements.append(
            f'<rect x="{x}" y="28" width="14" height="3" fill="{color}"/>'
            f'<text x="{x + 19}" y="34">{escape(row["name"])}</text>'
        )
        x += 34 + round(6.4 * len(row["name"]))

    return "\n".join([*elements, "</svg>\n"])


def _ticks(top: float) -> list[float]:
    """0 and the multiples of 1, 2 or 5 parts up to the first above `top`; at most 7 of them."""
    sizes = (factor * 10**power for power in range(-4, 1) for factor in (1, 2, 5))
    size = next(size for size in sizes if top / size <= 6)
    return [k * size for k in range(math.ceil(top / size) + 1)]


def _x(count: int, counts: Sequence[int]) -> float:
    low, high = math.log(counts[0]), math.log(counts[-1])
    share = (math.log(count) - low) / (high - low) if high > low else 0.5
    return LEFT + 14 + share * (WIDTH - LEFT - RIGHT - 28)


def _y(value: float, top: float) -> float:
    return HEIGHT - BOTTOM - value / top * (HEIGHT - BOTTOM - TOP - 6)


def _horizontal(value: float, top: float) -> str:
    y = _y(value, top)
    return (
        f'<line class="grid" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{y:.1f}" y2="{y:.1f}"/>'
        f'<text x="{LEFT - 8}" y="{y + 4:.1f}" text-anchor="end">{100 * value:g} %</text>'
    )


def _count(count: int, counts: Sequence[int]) -> str:
    y = HEIGHT - BOTTOM + 18
    return f'<text x="{_x(count, counts):.1f}" y="{y}" text-anchor="middle">{count:,}</text>'


def _curve(row: dict, counts: Sequence[int], top: float, color: str) -> str:
    points = [
        (_x(count, counts), _y(mean, top), _y(mean + std, top), _y(mean - std, top))
        for count, mean, std in zip(counts, row["mean"], row["std"], strict=True)
    ]
    line = " ".join(f"{x:.1f},{y:.1f}" for x, y, _, _ in points)
    bars = "".join(f"M{x:.1f} {a:.1f}V{b:.1f}" for x, _, a, b in points)
    return (
        f'<polyline points="{line}" fill="none" stroke="{color}" stroke-width="2"/>'
        f'<path d="{bars}" stroke="{color}" stroke-width="1.5"/>'
    )
