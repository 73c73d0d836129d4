// The voice of a take and the words under it, on one line of time; words are dragged to correct.
// Continues recorder.js.

const wave = find(".wave"), lane = find(".lane"), microphone = new Microphone(showLevel);
const PIXELS = 90; // a second; longer takes scroll
const audio = new Audio();

function showLevel({ peak, warning }) {
  const level = Math.max(0, 1 + Math.log10(Math.max(1e-3, peak / 32768)) / 3); // 60 dB
  find(".meter i").style.width = 100 * level + "%";
  const text = state === "recording" || state === "idle" ? warning : "";
  find(".warning").textContent = text;
  find(".warning").hidden = !text;
}

async function openMicrophone() { // -> is it open
  try {
    await microphone.open(); // the level is the microphone test
    find(".heard").textContent = "Say something: the bar should move.";
    return true;
  } catch (error) {
    find(".heard").textContent = "No microphone";
    note(error.message, "", null, "bad");
    return false;
  }
}

function showWave() {
  const isShown = take.mode === "speak" && state === "review" && take.voice;
  wave.hidden = !isShown;
  if (!isShown) return;
  const width = Math.max(wave.clientWidth, Math.round(take.elapsed * PIXELS));
  const canvas = find(".wave canvas"), ratio = window.devicePixelRatio || 1;
  find(".line").style.width = width + "px";
  Object.assign(canvas, { width: Math.min(16000, width * ratio), height: 44 * ratio });
  const context = canvas.getContext("2d"), bars = Math.floor(width / 3);
  context.fillStyle = getComputedStyle(wave).color;
  take.voice.peaks(bars).forEach(([low, high], i) => {
    const top = 22 - 21 * Math.min(1, 1.5 * high), bottom = 22 - 21 * Math.max(-1, 1.5 * low);
    context.fillRect(i * canvas.width / bars, top * ratio, 2 * canvas.width / width,
      Math.max(1, bottom - top) * ratio);
  });
  showLane();
}

function showLane() {
  const words = needsTimes() ? [] : take.typing.words(), total = take.elapsed || 1;
  lane.dataset.hint = listening ? "Finding the words in your voice" : words.length ? ""
    : take.typing.text.trim() ? "Enter finds the words in your voice" : "Now type what you said";
  while (lane.children.length > words.length) lane.lastChild.remove();
  words.forEach(({ text, start, end }, i) => {
    const span = lane.children[i] ?? lane.appendChild(document.createElement("span"));
    const { confidence, is_guessed } = take.heard?.[i] ?? {};
    span.textContent = text;
    span.tabIndex = 0;
    span.classList.toggle("guessed", Boolean(is_guessed));
    span.style.setProperty("--word", wordColor(i, words.length));
    span.style.left = 100 * start / total + "%";
    span.style.width = 100 * Math.max(0.01, end - start) / total + "%";
    span.title = text + ": " + start.toFixed(2) + " to " + end.toFixed(2) + " s"
      + (is_guessed ? ", guessed: drag it to its place" : confidence === undefined ? ""
        : ", " + Math.round(100 * confidence) + "% sure");
  });
}

function retime(index, start, end) { // one word, between its neighbors' starts
  const words = take.typing.words(), least = words[index - 1]?.start ?? 0;
  const most = words[index + 1]?.start ?? take.elapsed;
  const from = Math.min(most, Math.max(least, start));
  take.typing.retime(index, from, Math.min(take.elapsed, Math.max(from, end)));
  if (take.heard?.[index]) take.heard[index] = { confidence: 1, is_guessed: false };
  take.isCorrected = true;
  take.version++;
  showWords();
  showLane();
}

let dragged = null; // {index, part: -1 start, 0 both, 1 end, x, start, end}

lane.addEventListener("pointerdown", (event) => {
  const index = [...lane.children].indexOf(event.target);
  if (index < 0) return;
  const box = event.target.getBoundingClientRect(), edge = Math.min(8, box.width / 3);
  const part = event.clientX < box.left + edge ? -1 : event.clientX > box.right - edge ? 1 : 0;
  const { start, end } = take.typing.words()[index];
  dragged = { index, part, x: event.clientX, start, end, before: snapshot() };
  event.target.focus();
  event.target.setPointerCapture(event.pointerId);
  event.preventDefault();
});
lane.addEventListener("pointermove", (event) => {
  if (!dragged) return;
  const { index, part, x, start, end } = dragged;
  const moved = (event.clientX - x) / lane.clientWidth * take.elapsed;
  retime(index, part <= 0 ? start + moved : start, part >= 0 ? end + moved : end);
});
for (const name of ["pointerup", "pointercancel"]) {
  lane.addEventListener(name, () => {
    if (dragged) noteTimes(dragged.before);
    dragged = null;
  });
}
lane.addEventListener("keydown", (event) => { // arrows move a word, with Shift its end
  const index = [...lane.children].indexOf(event.target), step = { ArrowLeft: -0.02, ArrowRight: 0.02 }[event.key];
  if (index < 0 || !step) return;
  const { start, end } = take.typing.words()[index];
  const before = snapshot();
  retime(index, event.shiftKey ? start : start + step, end + step);
  noteTimes(before, event.repeat);
  event.preventDefault();
  event.stopPropagation();
});
find(".line").addEventListener("pointerdown", (event) => {
  if (event.target.parentElement === lane) return;
  const box = find(".line").getBoundingClientRect();
  pause();
  position = Math.min(take.elapsed, (event.clientX - box.left) / box.width * take.elapsed);
  draw();
});

// ------------------------------------------------------------------ when the words were said

let listening = null; // the alignment that is on its way

function needsTimes() {
  return take.mode === "speak" && take.voice && !take.isCorrected && take.typing.text.trim()
    && take.aligned !== take.typing.text;
}

async function timeWords() { // -> is it done; asks Python for the times of the caption's words
  if (!needsTimes()) return true;
  while (listening) await listening;
  if (!needsTimes()) return true;
  const asked = take, text = take.typing.text;
  say("none", "finding the words in your voice");
  listening = askForTimes(text);
  showLane();
  const answer = await listening;
  listening = null;
  showLane();
  if (asked !== take || answer.isLost) return false;
  if (answer.problem) {
    say("none", "");
    note(answer.problem, "", null, "bad");
    return false;
  }
  if (text !== take.typing.text) return timeWords(); // edited meanwhile
  take.typing = Typing.from(text, answer.words);
  Object.assign(take, { heard: answer.words, aligned: text, version: take.version + 1 });
  const num = answer.words.filter((word) => word.is_guessed).length;
  say("done", num ? num + " of " + answer.words.length + " words guessed: look at their times"
    : "all words found in your voice");
  showWords();
  showWave();
  return true;
}

async function askForTimes(caption) {
  for (let tries = 0; tries < 20; tries++) { // the server must have all of the voice and the draft
    if (!isUnsaved()) break;
    await keep();
    if (isUnsaved()) await new Promise((resolve) => setTimeout(resolve, 200));
  }
  return link.ask("align", { take_id: take.id, caption }, 120000);
}

async function propose() { // what a Whisper checkpoint hears
  if (take.mode !== "speak" || state !== "review" || take.typing.text.trim()) return;
  say("none", "listening to your voice");
  for (let tries = 0; tries < 20 && isUnsaved(); tries++) await keep();
  const answer = await link.ask("propose", { take_id: take.id }, 120000);
  if (answer.problem || answer.isLost) return note(answer.problem ?? "The studio does not answer.", "", null, "bad");
  caption.value = answer.caption;
  caption.dispatchEvent(new Event("input"));
  say("none", "proposed: mend the words");
}
