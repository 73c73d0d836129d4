// What a person types knows when: the words' times follow each edit.
const test = require("node:test");
const assert = require("node:assert");

const loaded = import("./load.mjs").then(({ load }) => load(["typing.js"], ["Typing"]));

async function typed(text, start = 0, step = 0.1) { // one letter after the other
  const { Typing } = await loaded, typing = new Typing();
  for (let i = 1; i <= text.length; i++) typing.edit(text.slice(0, i), i, start + i * step);
  return typing;
}

test("words typed one after the other begin when their letters were typed", async () => {
  const words = (await typed("a red car")).words();
  assert.deepStrictEqual(words.map(({ text }) => text.trim()), ["a", "red", "car"]);
  assert.ok(words[0].start < words[1].start && words[1].start < words[2].start);
  assert.ok(Math.abs(words[2].end - 0.9) < 1e-9);
});

test("the texts of the words are the caption", async () => {
  const words = (await typed("on the left, a dog")).words();
  assert.strictEqual(words.map(({ text }) => text).join(" "), "on the left, a dog");
});

test("a correction keeps the time of what it replaces", async () => {
  const typing = await typed("a rad car"), before = typing.words();
  typing.edit("a red car", 4, 9);
  assert.deepStrictEqual(typing.words().map(({ start }) => start), before.map(({ start }) => start));
});

test("a word put into the middle afterwards takes the gap between its neighbors", async () => {
  const typing = await typed("a car");
  typing.edit("a big car", 6, 30);
  const [first, big, car] = typing.words();
  assert.ok(big.start >= first.end && big.end <= car.start && big.end < 1);
});

test("starts never decrease, whatever is typed where", async () => {
  const typing = await typed("one two three");
  typing.edit("zero one two three", 5, 20);
  typing.edit("zero one and two three", 13, 21);
  const starts = typing.words().map(({ start }) => start);
  assert.deepStrictEqual(starts, [...starts].sort((a, b) => a - b));
});

test("an empty text has no words", async () => {
  const typing = await typed("a");
  typing.edit("", 0, 5);
  assert.deepStrictEqual(typing.words(), []);
});

test("a word that was moved on the line of time keeps its new place", async () => {
  const typing = await typed("a red car");
  typing.retime(1, 4, 5);
  assert.deepStrictEqual([typing.words()[1].start, typing.words()[1].end], [4, 5]);
});
