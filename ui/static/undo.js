// Undo and redo by pieces that a person meant: a word, a correction, a second or two of pointing.
// Continues recorder.js. What was done last is told by the clock of the recording; what is done
// while it stands still (typing in review) comes after all pointing.

const PIECE = 1.5; // seconds of pointing that go at once
const TOGETHER = 2000; // milliseconds of rest after which typing is a new step

function snapshot() { return { text: take.typing.text, times: take.typing.times }; }

function noteText(before) { // after an edit of the text: a new word, or more of the last step
  const after = snapshot(), last = take.steps.at(-1), edit = changeOf(before.text, after.text);
  const isMore = last?.kind === "text" && last.after.times === before.times && last.isInsert === edit.isInsert
    && performance.now() - last.changed < TOGETHER && edit.from === last.next && !edit.beginsWord;
  const step = isMore ? last : { kind: "text", before };
  Object.assign(step, { after, at: clock(), changed: performance.now(), isInsert: edit.isInsert, next: edit.next });
  if (!isMore) take.steps.push(step);
  forget("text", "times");
}

function noteTimes(before, isMore = false) { // after a word was moved on the line of time
  if (before.times === take.typing.times) return;
  const last = take.steps.at(-1), after = snapshot();
  if (isMore && last?.kind === "times") last.after = after;
  else take.steps.push({ kind: "times", before, after, at: clock() });
  forget("text", "times");
  showWords();
}

function changeOf(old, text) { // where an edit began, where typing that goes on would, and is it a new word
  let from = 0, end = 0;
  const shorter = Math.min(old.length, text.length);
  while (from < shorter && old[from] === text[from]) from++;
  while (end < shorter - from && old.at(-1 - end) === text.at(-1 - end)) end++;
  const inserted = text.slice(from, text.length - end), isInsert = old.length - from - end === 0;
  const beginsWord = isInsert && Boolean(inserted.trim()) && (from === 0 || isBlank(text[from - 1]));
  return { from: isInsert ? from : old.length - end, next: from + (isInsert ? inserted.length : 0), isInsert, beginsWord };
}

function forget(...kinds) { // something else was done instead: what was undone cannot be redone
  if (take.undone.length) take.undone = take.undone.filter(({ kind }) => !kinds.includes(kind));
}

function canUndo() {
  if (["recording", "review"].includes(state)) return Boolean(take.steps.length || take.strokes.length);
  return state === "idle" && Boolean(take.steps.length); // a caption that Trace will follow
}

function canRedo() { return ["idle", "recording", "review"].includes(state) && take.undone.length > 0; }

function undo() { // what was done last
  if (!canUndo()) return;
  const step = take.steps.at(-1);
  if (step && (!take.strokes.length || step.at >= lastTime())) undoStep();
  else undoPoints();
  showChange();
}

function undoText() { // in the text field: of the text alone
  const index = take.steps.findLastIndex(({ kind }) => kind === "text");
  if (index < 0 || !canUndo()) return;
  take.steps.length = index + 1; // corrections of times are of words that will change
  undoStep();
  showChange();
}

function undoPointing() { // or the correction of a word's time that came after it
  if (!canUndo()) return;
  if (take.steps.at(-1)?.kind === "times") undoStep();
  else undoPoints();
  showChange();
}

function redo(isText = false) {
  const index = isText ? take.undone.findLastIndex(({ kind }) => kind === "text") : take.undone.length - 1;
  if (index < 0 || !canRedo()) return;
  const [step] = take.undone.splice(index, 1);
  if (step.kind === "points") {
    if (step.isWhole) take.strokes.push(step.points);
    else take.strokes.at(-1).push(...step.points);
    pointer.isNewStroke = true;
  } else {
    restore(step, step.before, step.after);
    take.steps.push(step);
  }
  showChange();
}

function undoStep() {
  const step = take.steps.pop();
  restore(step, step.after, step.before);
  take.undone.push(step);
}

function undoPoints() { // the end of the last stroke; a beginning too short to be meant goes with it
  const stroke = take.strokes.at(-1);
  if (!stroke) return;
  const end = stroke.at(-1)[2], from = stroke.findIndex(([, , time]) => time > end - PIECE);
  const cut = stroke[from][2] - stroke[0][2] < PIECE / 2 ? 0 : from;
  const points = stroke.splice(cut);
  if (!stroke.length) take.strokes.pop();
  take.undone.push({ kind: "points", points, isWhole: cut === 0 });
  pointer.isNewStroke = true;
}

function restore(step, from, to) { // the times too, unless the words have got others meanwhile
  const isSame = take.typing.times === from.times;
  if (isSame) Object.assign(take.typing, to);
  else take.typing.edit(to.text, to.text.length, clock());
  if (step.kind === "times") return;
  Object.assign(take, { heard: null, aligned: null });
  const { next } = changeOf(from.text, to.text);
  caption.value = to.text;
  if (document.activeElement === caption) caption.setSelectionRange(next, next);
}

function showChange() {
  take.version++;
  showWords();
  showWave();
}

caption.addEventListener("beforeinput", (event) => { // the browser's menu asks for it, too
  if (!["historyUndo", "historyRedo"].includes(event.inputType)) return;
  event.preventDefault();
  if (event.inputType === "historyUndo") undoText();
  else redo(true);
});
