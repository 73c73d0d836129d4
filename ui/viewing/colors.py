"""A word's color, as ui/static/colors.js gives it: the same on the page and in figures."""

import math

VIRIDIS = (
    "#440154",
    "#482878",
    "#3e4a89",
    "#31688e",
    "#26828e",
    "#1f9e89",
    "#35b779",
    "#6ece58",
    "#b5de2b",
    "#fde725",
)


def oklch(lightness: float, chroma: float, hue: float) -> str:
    """OKLCH (hue in degrees) -> "#rrggbb", less colorful where sRGB ends (Ottosson, 2020)."""
    a, b = chroma * math.cos(math.radians(hue)), chroma * math.sin(math.radians(hue))

    l, m, s = (  # noqa: E741
        (lightness + p * a + q * b) ** 3
        for p, q in (
            (0.3963377774, 0.2158037573),
            (-0.1055613458, -0.0638541728),
            (-0.0894841775, -1.2914855480),
        )
    )

    linear = (
        4.0767416621 * l - 3.3077115913 * m + 0.2309699292 * s,
        -1.2684380046 * l + 2.6097574011 * m - 0.3413193965 * s,
        -0.0041960863 * l - 0.7034186147 * m + 1.7076147010 * s,
    )

    if chroma > 0.005 and not all(-1e-4 < v < 1.0001 for v in linear):
        return oklch(lightness, chroma - 0.005, hue)

    values = (min(1.0, max(0.0, v)) for v in linear)
    srgb = (12.92 * v if v <= 0.0031308 else 1.055 * v ** (1 / 2.4) - 0.055 for v in values)
    return "#" + "".join(f"{math.floor(255 * v + 0.5):02x}" for v in srgb)


def word_color(index: int, total: int) -> str:
    """Of word `index` of `total`: from cool to warm along the sentence."""
    position = index / (total - 1) if total > 1 else 0.0
    return oklch(0.6 + 0.05 * position, 0.18, (205 + 225 * position) % 360)
