// One color per word, the same in chips, traces, attention and tables: time runs from cool to warm
// (teal, blue, violet, pink, orange, amber). Equal lightness keeps a contrast of at least 3 with
// white and with a dark page. OKLCH to sRGB after Ottosson, "A perceptual color space" (2020).

function oklch(lightness, chroma, hue) { // lightness 0..1, hue in degrees -> "#rrggbb"
  const a = chroma * Math.cos(hue * Math.PI / 180), b = chroma * Math.sin(hue * Math.PI / 180);
  const l = (lightness + 0.3963377774 * a + 0.2158037573 * b) ** 3;
  const m = (lightness - 0.1055613458 * a - 0.0638541728 * b) ** 3;
  const s = (lightness - 0.0894841775 * a - 1.2914855480 * b) ** 3;
  const rgb = [
    4.0767416621 * l - 3.3077115913 * m + 0.2309699292 * s,
    -1.2684380046 * l + 2.6097574011 * m - 0.3413193965 * s,
    -0.0041960863 * l - 0.7034186147 * m + 1.7076147010 * s,
  ];
  const isShowable = rgb.every((v) => v > -1e-4 && v < 1.0001);
  if (!isShowable && chroma > 0.005) return oklch(lightness, chroma - 0.005, hue);
  return "#" + rgb.map((v) => {
    v = Math.min(1, Math.max(0, v));
    v = v <= 0.0031308 ? 12.92 * v : 1.055 * v ** (1 / 2.4) - 0.055;
    return Math.round(255 * v).toString(16).padStart(2, "0");
  }).join("");
}

function wordColor(index, total) { // index 0..total-1 -> "#rrggbb"
  const part = total > 1 ? index / (total - 1) : 0;
  return oklch(0.6 + 0.05 * part, 0.18, (205 + 225 * part) % 360);
}

const VIRIDIS = [
  "#440154", "#482878", "#3e4a89", "#31688e", "#26828e", "#1f9e89", "#35b779", "#6ece58", "#b5de2b",
  "#fde725",
]; // van der Walt and Smith, matplotlib: rising lightness, read alike by color-blind people

function wordRamp(color) { // the same rise in lightness, in one word's hue -> 10 colors
  const [r, g, b] = [1, 3, 5].map((i) => (parseInt(color.slice(i, i + 2), 16) / 255) ** 2.2);
  const l = Math.cbrt(0.4122214708 * r + 0.5363325363 * g + 0.0514459929 * b);
  const m = Math.cbrt(0.2119034982 * r + 0.6806995451 * g + 0.1073969566 * b);
  const s = Math.cbrt(0.0883024619 * r + 0.2817188376 * g + 0.6299787005 * b);
  const hue = Math.atan2(
    0.0259040371 * l + 0.7827717662 * m - 0.808675766 * s,
    1.9779984951 * l - 2.428592205 * m + 0.4505937099 * s,
  ) * 180 / Math.PI;
  return Array.from({ length: 10 }, (_, i) =>
    oklch(0.22 + 0.73 * i / 9, 0.04 + 0.18 * Math.sin(Math.PI * i / 9) ** 0.8, hue));
}

function lookup(colors, alphaOf) { // hex colors, alphaOf(0..1) -> 0..1; gives 256 x RGBA bytes
  const table = new Uint8ClampedArray(1024);
  const rgb = colors.map((c) => [1, 3, 5].map((i) => parseInt(c.slice(i, i + 2), 16)));
  for (let i = 0; i < 256; i++) {
    const at = i / 255 * (rgb.length - 1), low = Math.min(rgb.length - 2, Math.floor(at));
    for (let k = 0; k < 3; k++) {
      table[4 * i + k] = rgb[low][k] + (at - low) * (rgb[low + 1][k] - rgb[low][k]);
    }
    table[4 * i + 3] = 255 * alphaOf(i / 255);
  }
  return table;
}
