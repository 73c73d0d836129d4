// What a save sends is small, and makes of the old take the new one.
const test = require("node:test");
const assert = require("node:assert");

const loaded = import("./load.mjs").then(({ load }) => load(["changes.js"], ["changeBetween"]));

const stroke = (from, count) => Array.from({ length: count }, (_, i) => ({ x: 0.5, y: 0.25, t: from + i / 100 }));
const words = (text) => text.split(" ").filter(Boolean).map((utterance, i) => (
  { utterance, start_time: i, end_time: i + 0.5 }));
const record = (caption, traces, studio = { mode: "type" }) => (
  { caption, timed_caption: words(caption), traces, studio });

function applied(old, change) { // as data_tools/store/drafts/changes.py does
  const made = structuredClone(old), { caption, words: list, traces } = change;
  if (caption) {
    const letters = [...made.caption];
    letters.splice(caption[0], caption[1], ...caption[2]);
    made.caption = letters.join("");
  }
  if (list) made.timed_caption.splice(list[0], list[1], ...list[2]);
  if (traces) {
    const strokes = traces[2].map((points) => points.map(([x, y, t]) => ({ x, y, t })));
    made.traces.length = Math.min(made.traces.length, traces[0]);
    if (made.traces.length) made.traces.at(-1).splice(traces[1], Infinity, ...strokes.shift());
    made.traces.push(...strokes);
  }
  if (change.studio) made.studio = change.studio;
  return made;
}

const CASES = {
  "more points": [record("a", [stroke(0, 50)]), record("a", [stroke(0, 60)])],
  "a new stroke": [record("a", [stroke(0, 50)]), record("a", [stroke(0, 50), stroke(1, 5)])],
  "more points and a new stroke": [record("", [stroke(0, 50)]), record("", [stroke(0, 55), stroke(1, 5)])],
  "points undone": [record("a", [stroke(0, 50), stroke(1, 9)]), record("a", [stroke(0, 20)])],
  "undone and drawn anew": [record("", [stroke(0, 50)]), record("", [[...stroke(0, 20), ...stroke(9, 4)]])],
  "all undone": [record("a", [stroke(0, 50)]), record("a", [])],
  "the first stroke": [record("a", []), record("a", [stroke(0, 3)])],
  "other first points": [record("a", [stroke(0, 9), stroke(1, 9)]), record("a", [stroke(5, 9)])],
  "a word more": [record("a red", [stroke(0, 5)]), record("a red ball", [stroke(0, 5)])],
  "a word in the middle": [record("a ball", []), record("a red ball", [])],
  "letters beyond the basic plane": [record("a 😀 dog", []), record("a 😀😁 dig 😀", [])],
  "all text gone": [record("a red ball", []), record("", [])],
  "another way in": [record("a", []), record("a", [], { mode: "speak" })],
};

for (const [name, [old, next]] of Object.entries(CASES)) {
  test(`${name}: the change makes the new take`, async () => {
    const { changeBetween } = await loaded, change = changeBetween(old, next);
    assert.deepStrictEqual(applied(old, JSON.parse(JSON.stringify(change))), next);
  });
}

test("a change of half an hour's take is as small as what is new", async () => {
  const { changeBetween } = await loaded, text = "word ".repeat(3000).trim();
  const old = record(text, Array.from({ length: 100 }, (_, i) => stroke(20 * i, 2000)));
  const next = record(text + " more", [...old.traces.slice(0, -1), [...old.traces.at(-1), ...stroke(2000, 125)]]);
  const change = JSON.stringify(changeBetween(old, next));
  assert.ok(change.length < 5000, `${change.length} bytes`);
  assert.ok(JSON.stringify(next).length > 5e6);
});

test("nothing new is nothing sent", async () => {
  const { changeBetween } = await loaded, same = record("a red ball", [stroke(0, 50)]);
  assert.deepStrictEqual(changeBetween(same, structuredClone(same)), {});
});
