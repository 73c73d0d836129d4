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
