// A word has one color everywhere, readable on a light and on a dark page.
const test = require("node:test");
const assert = require("node:assert");

const names = ["oklch", "wordColor", "wordRamp", "lookup", "VIRIDIS"];
const loaded = import("./load.mjs").then(({ load }) => load(["colors.js"], names));

function luminance(color) { // WCAG 2
  const [r, g, b] = [1, 3, 5].map((i) => {
    const v = parseInt(color.slice(i, i + 2), 16) / 255;
    return v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4;
  });
  return 0.2126 * r + 0.7152 * g + 0.0722 * b;
}

test("black, white and gray come out of OKLCH exactly", async () => {
  const { oklch } = await loaded;
  assert.deepStrictEqual([oklch(0, 0, 0), oklch(1, 0, 0)], ["#000000", "#ffffff"]);
});

test("each of up to 40 words has a color of its own", async () => {
  const { wordColor } = await loaded;
  for (const total of [2, 7, 20, 40]) {
    const colors = Array.from({ length: total }, (_, i) => wordColor(i, total));
    assert.strictEqual(new Set(colors).size, total);
  }
});

test("a word's color has a contrast of 3 with white and with a dark page", async () => {
  const { wordColor } = await loaded;
  for (let i = 0; i < 40; i++) {
    const own = luminance(wordColor(i, 40));
    assert.ok(1.05 / (own + 0.05) >= 3, `white, ${i}`);
    assert.ok((own + 0.05) / (luminance("#0b0f19") + 0.05) >= 3, `dark, ${i}`);
  }
});

test("a word's ramp and viridis rise in lightness", async () => {
  const { wordColor, wordRamp, VIRIDIS } = await loaded;
  for (const ramp of [VIRIDIS, wordRamp(wordColor(0, 5)), wordRamp(wordColor(3, 5))]) {
    const values = ramp.map(luminance);
    assert.strictEqual(values.length, 10);
    for (let i = 1; i < 10; i++) assert.ok(values[i] > values[i - 1], `${ramp[i]}`);
  }
});

test("a lookup table begins and ends with the ramp's own colors", async () => {
  const { lookup } = await loaded, table = lookup(["#102030", "#ffffff"], (part) => part);
  assert.deepStrictEqual([...table.slice(0, 4)], [16, 32, 48, 0]);
  assert.deepStrictEqual([...table.slice(1020)], [255, 255, 255, 255]);
});
