// The recorder: a photograph, a pointer, typed words, one clock. It asks Python by link.js. Needs
// colors, typing, drawing, changes, link, shelf and voice.

const root = element.querySelector(".recorder"), find = (selector) => root.querySelector(selector);
const frame = find(".frame"), photo = find(".photo"), caption = find(".caption");
const trace = new Trace(find(".trace")), link = new Link(), shelf = new Shelf();
const RESTING = 0.1; // seconds; a pointer that has been still for longer is noted at each keystroke
const round = (value, digits) => Math.round(value * 10 ** digits) / 10 ** digits;

let task = { collections: [], image: null };
let state = "empty"; // empty, loading (the picture is not shown yet), idle, recording, review, sending
let mode = localStorage.getItem("loctex-mode") ?? "type"; // speak, type, trace: the way in
let take = newTake();
let cleared = null; // the take that "Bring it back" brings back
let hovered = null, playing = null; // index of a word; {from (s), began (ms)}
let position = 0; // seconds, in review
const pointer = { x: 0, y: 0, isInside: false, isNewStroke: true };

function newTake() {
  return {
    id: newTakeId(), image: task.image, mode, strokes: [], undone: [], typing: Object.assign(new Typing(), { isPhrased: mode === "trace" }),
    origin: 0, elapsed: 0, version: 0, savedVersion: 0, acknowledged: null, // {revision, record}: what the server has
    voice: null, heard: null, aligned: null, isCorrected: false,
    steps: [], // what was typed and corrected, the latest last: undo.js
  };
}

function clock(timeStamp = performance.now()) { // seconds since "start"; stands still when stopped
  return state === "recording" ? Math.max(0, (timeStamp - take.origin) / 1000) : take.elapsed;
}

function setState(next) {
  state = next;
  root.dataset.state = state;
  root.dataset.mode = take.mode;
  caption.readOnly = state === "sending" || (state === "idle" && take.mode !== "trace")
    || (state === "recording" && take.mode !== "type");
  for (const button of root.querySelectorAll("[data-mode-of]")) {
    button.setAttribute("aria-checked", String(button.dataset.modeOf === take.mode));
    button.disabled = state !== "idle";
  }
  for (const button of root.querySelectorAll(".controls button, .timeline button")) {
    button.disabled = state === "sending" || state === "empty";
  }
  find(".toggle span").textContent = { recording: "Stop", review: "Continue" }[state] ?? "Start";
  find("[data-do=submit]").disabled = !["recording", "review"].includes(state);
  find("[data-do=clear]").disabled = find("[data-do=submit]").disabled;
  find("[data-do=previous]").disabled = !["loading", "idle", "review"].includes(state);
  find("[data-do=next]").disabled = find("[data-do=previous]").disabled;
  find(".controls .toggle").disabled = !["idle", "recording", "review"].includes(state);
  showWords();
  showWave();
  showPhrase();
}

// ------------------------------------------------------------------ recording

async function start() {
  if (state !== "idle" && state !== "review") return;
  if (!isShown()) return note("The picture is not shown: nothing can be pointed at. Skip it.", "", null, "bad");
  if (take.mode === "trace" && !take.typing.text.trim()) {
    caption.focus();
    return note("Type the caption first; its phrases then advance while you point.");
  }
  if (take.mode === "speak" && !microphone.isOpen) {
    if (!await openMicrophone() || (state !== "idle" && state !== "review")) return;
  }
  pause();
  take.origin = performance.now() - take.elapsed * 1000;
  pointer.isNewStroke = true;
  setState("recording");
  note();
  if (take.mode === "speak") {
    take.voice ??= new Voice();
    find(".heard").textContent = "Recording your voice";
    microphone.start(take.voice, take.origin, take.elapsed);
  } else if (take.mode === "trace") beginTrace();
  (take.mode === "type" ? caption : root).focus({ preventScroll: true });
  addResting();
  requestAnimationFrame(draw);
}

function stop() {
  if (state !== "recording") return;
  addResting();
  take.elapsed = position = clock();
  take.version++;
  setState("review");
  (take.mode === "speak" ? caption : root).focus({ preventScroll: true });
  if (take.mode === "speak") return microphone.stop(take.elapsed).then(() => { setAudio(); showWave(); });
}

function addPoint(clientX, clientY, time) {
  const box = frame.getBoundingClientRect();
  const x = (clientX - box.left) / box.width, y = (clientY - box.top) / box.height;
  Object.assign(pointer, { x: clientX, y: clientY });
  pointer.isInside = x >= 0 && x <= 1 && y >= 0 && y <= 1;
  if (!pointer.isInside) pointer.isNewStroke = true;
  if (!pointer.isInside || state !== "recording") return;
  if (pointer.isNewStroke) take.strokes.push([]);
  pointer.isNewStroke = false;
  forget("points");
  take.version++;
  take.strokes.at(-1).push([round(x, 5), round(y, 5), round(Math.max(time, lastTime()), 3)]);
}

function lastTime() { return take.strokes.at(-1)?.at(-1)?.[2] ?? take.strokes.at(-2)?.at(-1)?.[2] ?? 0; }

function addResting() { // where the pointer rests while its owner types
  if (pointer.isInside && (pointer.isNewStroke || clock() - lastTime() > RESTING)) {
    addPoint(pointer.x, pointer.y, clock());
  }
}

function onMove(event) {
  if (!event.isPrimary) return;
  const events = event.getCoalescedEvents?.() ?? [];
  for (const point of events.length ? events : [event]) {
    addPoint(point.clientX, point.clientY, clock(point.timeStamp));
  }
}

function onLeave(event) {
  if (event.isPrimary) Object.assign(pointer, { isInside: false, isNewStroke: true });
}

frame.addEventListener("pointermove", onMove);
frame.addEventListener("pointerdown", onMove);
for (const name of ["pointerleave", "pointercancel"]) frame.addEventListener(name, onLeave);
frame.addEventListener("pointerup", (event) => { if (event.pointerType === "touch") onLeave(event); });

// ------------------------------------------------------------------ words

let composing = null; // seconds: when an input method began the piece that is not yet final

caption.addEventListener("compositionstart", (event) => { composing = clock(event.timeStamp); });
caption.addEventListener("compositionend", (event) => {
  const began = composing;
  composing = null;
  onText(event, began);
});
caption.addEventListener("input", (event) => { if (composing === null) onText(event); });

function onText(event, began) {
  const now = clock(event.timeStamp);
  if (take.heard) take.heard = null;
  const before = snapshot();
  take.typing.edit(caption.value, caption.selectionEnd, now, began ?? now);
  noteText(before);
  take.version++;
  addResting();
  showWords();
  if (take.mode === "speak") showLane();
}

function showWords() {
  const words = take.typing.words(), chips = find(".chips");
  while (chips.children.length > words.length) chips.lastChild.remove();
  words.forEach(({ text, start, end }, i) => {
    const chip = chips.children[i] ?? chips.appendChild(document.createElement("span"));
    chip.textContent = text;
    chip.style.setProperty("--word", wordColor(i, words.length));
    chip.title = start.toFixed(2) + " to " + end.toFixed(2) + " s";
  });
  chips.scrollLeft = chips.scrollWidth;
  fitCaption();
  find("[data-do=undo]").disabled = !canUndo();
  find("[data-do=redo]").disabled = !canRedo();
  draw();
}

function fitCaption() {
  caption.style.height = "auto";
  caption.style.height = caption.scrollHeight + "px";
}

find(".chips").addEventListener("pointerover", (event) => {
  hovered = state === "review" ? [...find(".chips").children].indexOf(event.target) : -1;
  if (hovered < 0) hovered = null;
  draw();
});
find(".chips").addEventListener("pointerleave", () => { hovered = null; draw(); });

// ------------------------------------------------------------------ drawing and replay

function draw() {
  if (!element.isConnected || state === "empty") return;
  trace.fit();
  const isPlaying = Boolean(playing), isLive = state === "recording";
  const words = isLive ? begunPhrases(take.typing.words()) : take.typing.words();
  if (isPlaying && take.voice) position = audio.ended ? take.elapsed : audio.currentTime;
  else if (isPlaying) position = Math.min(take.elapsed, playing.from + (performance.now() - playing.began) / 1000);
  const isWhole = !isLive && !isPlaying && position >= take.elapsed;
  const now = isLive ? clock() : isWhole ? Infinity : position;
  trace.draw(take.strokes, words, { now, isMoving: !isWhole, only: hovered, hasHead: !isLive && !isWhole });
  const lit = isLive || isWhole ? -1 : wordBegunBy(words, position);
  [...find(".chips").children].forEach((chip, i) => chip.classList.toggle("lit", i === lit));
  if (!isLive && !isWhole && lit >= 0) follow(find(".chips").children[lit]);
  showTime(isLive ? now : position);
  if (isPlaying && position >= take.elapsed) { pause(); draw(); }
  else if (isPlaying || isLive) requestAnimationFrame(draw);
}

function follow(chip) { // keep the word that is said in sight
  const chips = find(".chips"), at = chip.offsetLeft - chips.offsetLeft;
  if (at < chips.scrollLeft || at + chip.offsetWidth > chips.scrollLeft + chips.clientWidth) {
    chips.scrollLeft = at - chips.clientWidth / 2;
  }
}

function showTime(seconds) {
  const text = (time) => Math.floor(time / 60) + ":" + String(Math.floor(time % 60)).padStart(2, "0");
  find(".clock span").textContent = text(seconds);
  find(".at").textContent = text(Math.min(seconds, take.elapsed)) + " / " + text(take.elapsed);
  find(".seek").max = take.elapsed;
  find(".seek").value = position;
  find(".seek").style.setProperty("--done", 100 * position / (take.elapsed || 1) + "%");
  find(".cursor").style.left = 100 * Math.min(1, position / (take.elapsed || 1)) + "%";
}

function replay() {
  if (playing) return pause();
  if (state === "recording") stop();
  if (state !== "review" || !take.elapsed) return;
  if (position >= take.elapsed) position = 0;
  playing = { from: position, began: performance.now() };
  if (take.voice) {
    audio.currentTime = position;
    audio.play();
  }
  root.classList.add("playing");
  draw();
}

function setAudio() { // what replay plays
  if (audio.src) URL.revokeObjectURL(audio.src);
  audio.src = URL.createObjectURL(take.voice.wav());
}

function pause() {
  playing = null;
  audio.pause();
  root.classList.remove("playing");
}

find(".seek").addEventListener("input", (event) => {
  pause();
  position = Number(event.target.value);
  draw();
});
const observer = new ResizeObserver(() => { requestAnimationFrame(fitCaption); draw(); showWave(); });
observer.observe(frame);
