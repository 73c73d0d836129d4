// Trace: the caption is there first; its phrases advance while the annotator points. Continues
// recorder.js. A phrase lasts while Space (or the pen, or a finger) is held; a tap ends it at once,
// and the next one begins.

const HELD = 300; // milliseconds from which a press is a hold
const steps = { index: 0, from: 0, down: null }; // the phrase to come; seconds; ms when pressed

function phrases() { return take.mode === "trace" ? take.typing.words() : []; }

function begunPhrases(words) { // while tracing, those to come have no time yet
  return take.mode !== "trace" ? words
    : words.map((word, i) => (i > steps.index ? { ...word, start: Infinity } : word));
}

function beginTrace() {
  Object.assign(steps, { from: take.elapsed, down: null });
  if (!take.elapsed) steps.index = 0;
  showPhrase();
}

function press(timeStamp) {
  if (take.mode !== "trace" || state !== "recording" || steps.down !== null) return;
  steps.down = timeStamp;
  showPhrase();
}

function release(timeStamp) {
  if (steps.down === null) return;
  const isHeld = timeStamp - steps.down >= HELD, now = clock(timeStamp);
  const from = isHeld ? clock(steps.down) : steps.from;
  steps.down = null;
  if (state !== "recording") return;
  take.typing.retime(steps.index, from, now);
  Object.assign(steps, { index: steps.index + 1, from: now });
  take.version++;
  showWords();
  if (steps.index >= phrases().length) finish();
  else showPhrase();
}

function stepBack() { // the phrase before, once more
  if (!steps.index) return;
  steps.index--;
  steps.from = clock();
  take.typing.retime(steps.index, null, null);
  take.version++;
  showWords();
  showPhrase();
}

function showPhrase() {
  const isTracing = take.mode === "trace" && state === "recording";
  find(".phrase").hidden = !isTracing;
  if (!isTracing) return;
  const all = phrases();
  find(".phrase").style.setProperty("--word", wordColor(steps.index, all.length));
  find(".phrase").classList.toggle("held", steps.down !== null);
  find(".phrase b").textContent = all[steps.index]?.text ?? "";
  find(".phrase span").textContent = all[steps.index + 1]?.text ?? "";
}

frame.addEventListener("pointerdown", (event) => { if (event.pointerType !== "mouse") press(event.timeStamp); });
for (const name of ["pointerup", "pointercancel"]) {
  frame.addEventListener(name, (event) => { if (event.pointerType !== "mouse") release(event.timeStamp); });
}
