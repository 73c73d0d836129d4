// Text whose every character knows when it was typed, on the clock of the recording.
//
// What is typed at the end of the text carries the time of its keystrokes. A correction keeps the
// time of what it replaces. A word put into the middle afterwards has no time of its own: it takes
// the gap between its neighbors, as Localized Narratives does.

const PAUSE = 2; // seconds after which letters added to the last word are a correction of it
const UNSPACED = /[\p{Script=Han}\p{Script=Hiragana}\p{Script=Katakana}\p{Script=Thai}]/u;

class Typing {
  constructor() {
    this.text = "";
    this.isPhrased = false; // a "word" is then a phrase, as in "next to | the red car"
    this.times = []; // per character [first, last] in seconds, or null where it has none
  }

  // The text after one edit; `caret` stands behind what was inserted (settles "aa" -> "aaa").
  edit(text, caret, now, began = now) {
    const old = this.text, most = Math.min(old.length, text.length - caret);
    let suffix = 0, prefix = 0;
    while (suffix < most && old.at(-1 - suffix) === text.at(-1 - suffix)) suffix++;
    const limit = Math.min(old.length, text.length) - suffix;
    while (prefix < limit && old[prefix] === text[prefix]) prefix++;
    const num = text.length - suffix - prefix, removed = this.times.slice(prefix, old.length - suffix);
    const isAtEnd = !text.slice(text.length - suffix).trim();
    let time = isAtEnd ? [began, now] : spanOf(removed);
    const left = this.times[prefix - 1];
    const isInWord = num > 0 && !isBlank(text[prefix]) && left && !isBlank(old[prefix - 1]);
    if (isAtEnd && isInWord && began - left[1] > PAUSE) time = left;
    const head = this.times.slice(0, prefix), tail = this.times.slice(old.length - suffix);
    this.times = [...head, ...Array(num).fill(time), ...tail];
    this.text = text;
  }

  // [{text, start, end}] in seconds; starts never decrease; their texts are the caption's.
  words() {
    const words = this.pieces().map(([from, to]) => {
      const span = spanOf(this.times.slice(from, to));
      return { text: this.text.slice(from, to), start: span?.[0], end: span?.[1] };
    });
    for (let i = 0; i < words.length; i++) {
      if (words[i].start !== undefined) continue;
      let next = i;
      while (words[next] && words[next].start === undefined) next++;
      const low = words[i - 1]?.end ?? 0, high = Math.max(low, words[next]?.start ?? low);
      const step = (high - low) / (next - i);
      for (let k = i; k < next; k++) {
        words[k].start = low + (k - i) * step;
        words[k].end = low + (k - i + 1) * step;
      }
    }
    return words;
  }

  retime(index, start, end) { // of the word with this index; null: it has none
    const [from, to] = this.pieces()[index];
    this.times = [...this.times].fill(start === null ? null : [start, end], from, to); // undo has the old one
  }

  pieces() { return this.isPhrased ? phrasesOf(this.text) : piecesOf(this.text); }

  static from(caption, words) { // words: [{text, start, end}] in the caption's order
    const typing = new Typing();
    typing.text = caption;
    typing.times = Array(caption.length).fill(null);
    let at = 0;
    for (const { text, start, end } of words) {
      const from = caption.indexOf(text, at);
      if (from < 0) continue;
      at = from + text.length;
      typing.times.fill([start, end], from, at);
    }
    return typing;
  }
}

function isBlank(character) { return !character.trim(); }

function spanOf(times) { // the known [first, last] of some characters; null if none is known
  const known = times.filter(Boolean);
  if (!known.length) return null;
  return [Math.min(...known.map((t) => t[0])), Math.max(...known.map((t) => t[1]))];
}

function piecesOf(text) { // [from, to] of each word; scripts without spaces are segmented
  const pieces = [];
  for (const { 0: run, index } of text.matchAll(/[^ \t\r\n\u00a0\u3000]+/g)) {
    if (!UNSPACED.test(run) || !Intl.Segmenter) pieces.push([index, index + run.length]);
    else {
      for (const part of new Intl.Segmenter(undefined, { granularity: "word" }).segment(run)) {
        const from = index + part.index, to = from + part.segment.length;
        if (part.isWordLike || !pieces.length || pieces.at(-1)[1] < index) pieces.push([from, to]);
        else pieces.at(-1)[1] = to; // punctuation stays with the word before it
      }
    }
  }
  return pieces;
}

const BEFORE = new Set(("and or but with without on in at of to from by near behind under above below over beside "
  + "between into onto along around across through next where which who that while there is are").split(" "));

function phrasesOf(text) { // [from, to]: cut behind punctuation and before what opens a phrase
  const phrases = [];
  let isOpener = true; // the phrase has only words like "and there are" so far
  for (const [from, to] of piecesOf(text)) {
    const last = phrases.at(-1), word = text.slice(from, to).toLowerCase().replace(/[^a-z]/g, "");
    const isCut = !last || /[.,;:!?]$/.test(text.slice(last[0], last[1])) || (BEFORE.has(word) && !isOpener);
    if (isCut) phrases.push([from, to]);
    else last[1] = to;
    isOpener = BEFORE.has(word) && (isCut || isOpener);
  }
  return phrases;
}
