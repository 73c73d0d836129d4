// What goes to Python and comes back: tasks, drafts, submissions. Continues recorder.js.

const SAVING = 1000; // milliseconds: with the way to the server, at most two seconds are at stake
const LONG = 60000; // milliseconds: half an hour of pointing takes seconds to read and to check
const paces = [performance.now()]; // when the page was opened, and each take submitted

function record() { // the public Localized Narratives line; Python sets whose it is and of what
  const { id, dataset_id, image_id } = take.image;
  return {
    dataset_id, image_id, annotator_id: 0, caption: take.typing.text.trim(),
    timed_caption: take.typing.words().map(({ text, start, end }) => (
      { utterance: text, start_time: round(start, 3), end_time: round(end, 3) })),
    traces: take.strokes.map((stroke) => stroke.map(([x, y, t]) => ({ x, y, t }))),
    studio: { image: id, mode: take.mode, isVoiced: Boolean(take.voice), heard: take.heard, isCorrected: take.isCorrected },
  };
}

function message() {
  return {
    take_id: take.id, collection: task.collection, image: take.image.id, annotator: task.annotator,
    record: record(),
  };
}

function say(kind, text) { // kind: none, saved, unsaved, done
  find(".saved").dataset.kind = kind;
  find(".saved").textContent = text;
}

function time(seconds = Date.now() / 1000) { // -> "12:03:41" on this clock
  return new Date(1000 * seconds).toLocaleTimeString([], { hourCycle: "h23" });
}

function note(text = "", label = "", act = null, kind = "plain") {
  find(".note").hidden = !text;
  find(".note").dataset.kind = kind;
  find(".note span").textContent = text;
  find(".note .action").hidden = !label;
  find(".note .action").textContent = label;
  find(".note .action").onclick = () => { note(); act(); };
}

function shelve(isClosing) { // -> the draft, kept in this browser with what is new of its voice
  const draft = { ...message(), saved: Date.now() / 1000 }, { voice } = take;
  if (isClosing) shelf.putNow(draft);
  const end = voice?.length ?? 0;
  const piece = voice && { at: voice.shelved, samples: voice.samples.slice(voice.shelved, end) };
  if (voice) voice.shelved = end;
  shelf.put(draft, piece);
  return draft;
}

function isUnsaved() {
  const isBehind = take.version !== take.savedVersion || (take.voice && take.voice.sent < take.voice.length);
  return Boolean(isBehind) && ["recording", "review"].includes(state);
}

let isSaving = false;

async function keep() { // the draft, here and on the server
  if (!isUnsaved()) return;
  const { version, voice } = take, kept = take, draft = shelve();
  if (isSaving) return; // the server is slow or gone; the next one is soon enough
  isSaving = true;
  const answer = await send(kept, draft, voice && voice.sent < voice.length ? voice.piece(voice.sent) : null);
  isSaving = false;
  if (answer.saved) kept.savedVersion = Math.max(kept.savedVersion, version);
  if (answer.heard !== undefined) voice.sent = Math.min(answer.heard, voice.length);
  if (kept !== take || state === "sending") return;
  if (answer.saved) say("saved", "draft saved " + time());
  else say("unsaved", "not saved, retrying");
  if (answer.problem) note(answer.problem, "", null, "bad");
}

async function send(kept, draft, piece) { // what changed since the last save, or all of it
  const { record, ...about } = draft, { acknowledged } = kept, revision = newTakeId();
  const question = { ...about, revision, voice: piece };
  let answer = { isBehind: true };
  if (acknowledged) {
    const change = changeBetween(acknowledged.record, record);
    answer = await link.ask("save", { ...question, base: acknowledged.revision, change }, 4000);
  }
  if (answer.isBehind) answer = await link.ask("save", { ...question, record }, 4000);
  kept.acknowledged = answer.saved ? { revision, record } : null; // unsure what the server has: all of it
  return answer;
}

const saving = setInterval(() => (element.isConnected ? keep() : clearInterval(saving)), SAVING);
window.addEventListener("pagehide", () => { if (element.isConnected && isUnsaved()) shelve(true); });

async function submit() {
  if (state === "recording") await stop();
  if (state !== "review" || composing !== null || !await timeWords() || state !== "review") return;
  pause();
  setState("sending");
  say("none", "submitting");
  const isKept = take.version === take.savedVersion; // then the server has it all
  const whole = { ...shelve(), num_samples: take.voice?.length ?? 0 }, { voice } = take;
  let sent = isKept ? { ...whole, record: null } : whole, answer = {};
  while (element.isConnected) { // the same take twice is one narrative
    answer = await link.ask("submit", sent, LONG);
    if (answer.isMissing) sent = whole;
    else if (answer.heard !== undefined) await send(take, whole, voice.piece(answer.heard));
    else if (answer.isLost) {
      say("unsaved", "not submitted, retrying");
      note("The studio does not answer. Your take is kept in this browser; trying again.", "", null, "bad");
    } else break;
  }
  if (answer.problem) {
    setState("review");
    say("unsaved", "not submitted");
    return note(answer.problem, "", null, "bad");
  }
  shelf.drop(whole.take_id);
  paces.push(performance.now());
  show(answer);
  say("done", "submitted " + time());
}

async function go(action, body = {}, patience) { // to another image, or collection; false: refused
  pause();
  const asked = state;
  const answer = await link.ask(action, { collection: task.collection, image: task.image?.id, ...body }, patience);
  if (answer.isLost) return note("The studio does not answer. Try again.", "", null, "bad");
  if (answer.problem) {
    note(answer.problem, "", null, "bad");
    return false;
  }
  const hasBegun = state === "recording" && asked !== "recording";
  if (answer.share === undefined && !hasBegun) show(answer);
  return answer;
}

function discard() {
  shelf.drop(take.id);
  link.ask("discard", { take_id: take.id });
}

function clear() {
  if (!["recording", "review"].includes(state)) return;
  cleared = { take, elapsed: clock() };
  discard();
  reset();
  say("none", "");
  note("Take cleared.", "Bring it back", () => {
    if (cleared.take.image.id !== task.image?.id) return;
    take = Object.assign(cleared.take, { elapsed: cleared.elapsed, savedVersion: -1 });
    review();
  });
}

function reset() {
  take = newTake();
  if (take.mode === "trace" && task.given) take.typing.edit(task.given, task.given.length, 0);
  caption.value = take.typing.text;
  position = 0;
  pause();
  microphone.stop(0);
  find(".question").textContent = task.question || find(".question").dataset[mode];
  caption.placeholder = find(".question").dataset[mode + "Text"];
  setState("idle");
  rest();
}

function rest() { // keys go to the recorder, unless the person is somewhere else on the page
  const { activeElement } = document;
  if (activeElement === document.body || root.contains(activeElement)) root.focus({ preventScroll: true });
}

function review() {
  if (take.voice) setAudio();
  caption.value = take.typing.text;
  position = take.elapsed;
  setState("review");
  rest();
}

function setMode(next) {
  if (state !== "idle") return;
  if (next === mode) return rest(); // Space then starts, and does not press the button again
  mode = next;
  localStorage.setItem("loctex-mode", mode);
  if (mode !== "speak") microphone.close();
  note();
  reset();
  if (mode === "speak") openMicrophone();
  if (mode === "trace" && !take.typing.text) caption.focus();
}

// ------------------------------------------------------------------ a new task

function show(answer) { // {collections, collection, progress: [done, total], image, draft, annotator, empty}
  task = answer;
  showCollections();
  const [done, total] = task.progress ?? [0, 0];
  find(".count").textContent = total ? countText(task.counts) : "";
  find(".count").title = pace(total - done);
  find(".pace").textContent = pace(total - done);
  find(".bar .progress").hidden = !total;
  find(".bar .progress i").style.width = (total ? 100 * done / total : 0) + "%";
  note();
  find("[data-do=rules]").hidden = !task.is_admin || !task.collection;
  find(".consent").hidden = task.keeps_voice;
  setView(1, 0, 0);
  reset();
  if (!task.image) return showEmpty();
  root.style.setProperty("--ratio", task.image.width / task.image.height);
  showPhoto();
}

// ------------------------------------------------------------------ the picture

const address = (path) => (
  new URL(window.gradio_config.root + window.gradio_config.api_prefix + "/file=" + path, document.baseURI).href);
const ahead = new Image(); // of the next task, so that it is here when it is asked for

function isShown() { // is the picture of the task on the screen, whole
  return Boolean(task.image) && photo.src === address(task.image.path) && photo.complete && photo.naturalWidth > 0;
}

async function showPhoto() { // nothing can be recorded until the picture of the task is shown
  const { image } = task;
  photo.alt = image.name;
  if (!isShown()) {
    setState("loading");
    photo.src = address(image.path);
    await photo.decode().catch(() => {}); // another picture was asked for, or this one is broken
    if (task.image !== image || state !== "loading") return;
    if (!isShown()) return showBroken();
    setState("idle");
    rest();
  }
  if (task.next) ahead.src = address(task.next);
  if (task.draft) recover(task.draft);
  requestAnimationFrame(draw);
}

function showBroken() {
  setState("idle"); // "Start" says why it does not; an unsent take can still be submitted
  if (task.draft) recover(task.draft);
  note("The picture of this image cannot be loaded. Skip it.", "", null, "bad");
}

function showCollections() {
  const select = find(".collection");
  select.replaceChildren(...task.collections.map(({ id, name }) => new Option(name, id)));
  select.value = task.collection;
  select.hidden = !task.collections.length;
}

function countText({ described, skipped, left }) { // "3 described, 1 skipped, 13 left"
  return described + " described, " + (skipped ? skipped + " skipped, " : "") + left + " left";
}

function pace(num) { // "40 s each, 12 min left"
  const gaps = paces.slice(1).map((at, i) => (at - paces[i]) / 1000).slice(-20).sort((a, b) => a - b);
  if (!gaps.length || num <= 0) return "";
  const each = gaps[gaps.length >> 1], left = each * num;
  const text = (s) => (s < 90 ? Math.round(s) + " s" : s < 5400 ? Math.round(s / 60) + " min" : (s / 3600).toFixed(1) + " h");
  return text(each) + " each, " + text(left) + " left";
}

async function newest(draft) { // the copy in this browser is taken just before the server's
  const own = (await shelf.all()).find(({ take_id }) => take_id === draft.take_id);
  return own && (!draft.record || !(own.saved < draft.saved - 10)) ? { ...own, heard: draft.heard } : draft;
}

async function recoverVoice(draft) { // -> Voice of what this browser has, and the server
  const voice = new Voice();
  for (const { at, samples } of await shelf.voice(draft.take_id)) {
    if (at <= voice.length) voice.write(at, samples);
  }
  voice.shelved = voice.length;
  voice.sent = Math.min(draft.heard ?? 0, voice.length);
  while (voice.length < (draft.heard ?? 0)) {
    const answer = await link.ask("voice", { take_id: draft.take_id, at: voice.length }, 30000);
    if (!answer.pcm) break;
    voice.write(voice.length, Voice.decode(answer.pcm));
    voice.sent = voice.length;
  }
  return voice;
}

async function recover(known) {
  const { image } = task, draft = await newest(known);
  const { take_id, record: { caption: written, timed_caption: words, traces, studio }, saved } = draft;
  const voice = studio?.isVoiced ? await recoverVoice(draft) : null;
  if (image !== task.image || state !== "idle") return;
  const typing = Object.assign(Typing.from(written, words.map(({ utterance, start_time, end_time }) => (
    { text: utterance, start: start_time, end: end_time }))), { isPhrased: studio?.mode === "trace" });
  Object.assign(take, newTake(), {
    id: take_id, mode: studio?.mode ?? "type", typing, voice, heard: studio?.heard ?? null, version: 1,
    aligned: studio?.heard ? written : null, isCorrected: Boolean(studio?.isCorrected),
    strokes: traces.map((stroke) => stroke.map(({ x, y, t }) => [x, y, t])),
  });
  take.elapsed = Math.max(lastTime(), ...words.map((word) => word.end_time), (voice?.length ?? 0) / RATE);
  mode = take.mode; // a browser that was killed has forgotten the way in
  review();
  say("saved", "draft saved " + time(saved));
  note("This take was not submitted: continue, replay or submit it.", "Discard", () => {
    discard();
    reset();
    say("none", "");
  });
}

function showEmpty() {
  setState("empty");
  const { title, text, choices } = task.empty;
  find(".empty h2").textContent = title;
  find(".empty p").textContent = text;
  find(".empty .choices").replaceChildren(...choices.map(({ label, action }) => {
    const button = Object.assign(document.createElement("button"), { type: "button", textContent: label });
    button.onclick = () => choose(action, button);
    return button;
  }));
}

async function choose(action, button) {
  if (action === "data") return trigger("data");
  button.disabled = true;
  find(".waiting").hidden = false;
  let answer = { share: 0 };
  while (answer?.share !== undefined) { // long work comes in parts
    find(".waiting i").style.width = 100 * answer.share + "%";
    answer = await go(action, {}, 60000);
  }
  find(".waiting").hidden = true;
  button.disabled = false;
}

async function refreshCollections() { // a take is open: only the list of what there is grows
  const answer = await link.ask("collections");
  if (!answer.known) return;
  task.collections = answer.known;
  showCollections();
}

document.addEventListener("click", async (event) => { // "Describe them", in another tab
  const id = Number(event.target.closest?.("[data-collection]")?.dataset.collection);
  if (!id || !element.isConnected) return;
  isAsking = true; // the tab that opens asks for nothing else meanwhile
  if (state === "recording") await stop();
  await keep();
  await go("choose", { collection: id });
  isAsking = false;
});

find(".collection").addEventListener("change", async (event) => {
  await keep();
  go("choose", { collection: Number(event.target.value) });
});

// A tab that comes into sight, the first time too, asks what there is to do, until it is told.
let isAsking = false;

new IntersectionObserver(async ([entry]) => {
  const isFree = () => element.isConnected && ["empty", "idle"].includes(state);
  if (!entry.isIntersecting || isAsking) return;
  if (!isFree()) return refreshCollections();
  isAsking = true;
  const drafts = (await shelf.all()).map(({ take_id, image, collection, annotator }) => (
    { take_id, image, collection, annotator }));
  while (isFree() && await go("open", { drafts }, LONG) === undefined);
  isAsking = false;
}).observe(root);
