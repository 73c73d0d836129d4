// What a take has become since a save: a small change instead of the whole take, as
// data_tools/store/drafts/changes.py reads it.

function changeBetween(old, record) { // two records -> {caption, words, traces, studio}, what differs
  const change = {};
  if (old.caption !== record.caption) { // by code points, as Python counts
    const [start, numRemoved, added] = splice([...old.caption], [...record.caption], Object.is);
    change.caption = [start, numRemoved, added.join("")];
  }
  const words = splice(old.timed_caption, record.timed_caption, isSameWord);
  if (words[1] || words[2].length) change.words = words;
  const traces = strokesSince(old.traces, record.traces);
  if (traces) change.traces = traces;
  if (JSON.stringify(old.studio) !== JSON.stringify(record.studio)) change.studio = record.studio;
  return change;
}

function splice(old, list, isSame) { // -> [start, numRemoved, added] that makes one of the other
  const start = numSame(old, list, isSame), most = Math.min(old.length, list.length) - start;
  let end = 0;
  while (end < most && isSame(old.at(-1 - end), list.at(-1 - end))) end++;
  return [start, old.length - start - end, list.slice(start, list.length - end)];
}

function strokesSince(old, traces) { // -> [numStrokes, numPoints, strokes]; null where none changed
  const triples = (points) => points.map(({ x, y, t }) => [x, y, t]);
  const numEqual = numSame(old, traces, isSameStroke);
  if (numEqual === old.length && numEqual === traces.length) return null;
  const shared = numEqual < old.length && numEqual < traces.length
    ? numSame(old[numEqual], traces[numEqual], isSamePoint) : 0;
  const numStrokes = shared ? numEqual + 1 : numEqual, last = traces[numStrokes - 1] ?? [];
  const numPoints = shared || last.length, continued = numStrokes ? [triples(last.slice(numPoints))] : [];
  return [numStrokes, numPoints, [...continued, ...traces.slice(numStrokes).map(triples)]];
}

function numSame(old, list, isSame) { // at their beginning
  const most = Math.min(old.length, list.length);
  let count = 0;
  while (count < most && isSame(old[count], list[count])) count++;
  return count;
}

function isSamePoint(a, b) { return a.x === b.x && a.y === b.y && a.t === b.t; }

function isSameStroke(a, b) { return a.length === b.length && a.every((point, i) => isSamePoint(point, b[i])); }

function isSameWord(a, b) {
  return a.utterance === b.utterance && a.start_time === b.start_time && a.end_time === b.end_time;
}
