// What goes to Python and comes back: tasks, drafts, submissions. Continues recorder.js.

function record() { // the public Localized Narratives line; Python sets whose it is and of what
  const { dataset_id, image_id } = task.image;
  return {
    dataset_id, image_id, annotator_id: 0, caption: take.typing.text.trim(),
    timed_caption: take.typing.words().map(({ text, start, end }) => (
      { utterance: text, start_time: round(start, 3), end_time: round(end, 3) })),
    traces: take.strokes.map((stroke) => stroke.map(([x, y, t]) => ({ x, y, t }))),
  };
}

function message() {
  return {
    take_id: take.id, collection: task.collection, image: task.image.id, annotator: task.annotator,
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

function shelve() { // -> the draft, kept in this browser
  const draft = { ...message(), saved: Date.now() / 1000 };
  shelf.put(draft);
  return draft;
}

function isUnsaved() {
  return take.version !== take.savedVersion && ["recording", "review"].includes(state);
}

let isSaving = false;

async function keep() { // the draft, here and on the server
  if (!isUnsaved()) return;
  const { version } = take, kept = take, draft = shelve();
  if (isSaving) return; // the server is slow or gone; the next one is soon enough
  isSaving = true;
  const answer = await link.ask("save", draft, 4000);
  isSaving = false;
  if (answer.saved) kept.savedVersion = Math.max(kept.savedVersion, version);
  if (kept !== take || state === "sending") return;
  if (answer.saved) say("saved", "draft saved " + time());
  else say("unsaved", "not saved, retrying");
  if (answer.problem) note(answer.problem, "", null, "bad");
}

const saving = setInterval(() => (element.isConnected ? keep() : clearInterval(saving)), 2000);
window.addEventListener("pagehide", () => { if (element.isConnected && isUnsaved()) shelve(); });

async function submit() {
  if (state === "recording") stop();
  if (state !== "review" || composing !== null) return;
  pause();
  setState("sending");
  say("none", "submitting");
  const isKept = take.version === take.savedVersion; // then the server has it all
  const sent = shelve();
  let answer = await link.ask("submit", isKept ? { ...sent, record: null } : sent);
  if (answer.isMissing) answer = await link.ask("submit", sent);
  while (answer.isLost && element.isConnected) { // the same take twice is one narrative
    say("unsaved", "not submitted, retrying");
    note("The studio does not answer. Your take is kept in this browser; trying again.", "", null, "bad");
    answer = await link.ask("submit", sent);
  }
  if (answer.problem) {
    setState("review");
    say("unsaved", "not submitted");
    return note(answer.problem, "", null, "bad");
  }
  shelf.drop(sent.take_id);
  show(answer);
  say("done", "submitted " + time());
}

async function go(action, body = {}, patience) { // to another image, or collection
  pause();
  const asked = state;
  const answer = await link.ask(action, { collection: task.collection, image: task.image?.id, ...body }, patience);
  if (answer.isLost) return note("The studio does not answer. Try again.", "", null, "bad");
  if (answer.problem) return note(answer.problem, "", null, "bad");
  if (answer.share === undefined && state === asked) show(answer); // else a take has begun meanwhile
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
    take = Object.assign(cleared.take, { elapsed: cleared.elapsed, savedVersion: -1 });
    review();
  });
}

function reset() {
  take = newTake();
  caption.value = "";
  position = 0;
  pause();
  setState("idle");
  rest();
}

function rest() { // keys go to the recorder, unless the person is somewhere else on the page
  const { activeElement } = document;
  if (activeElement === document.body || root.contains(activeElement)) root.focus({ preventScroll: true });
}

function review() {
  caption.value = take.typing.text;
  position = take.elapsed;
  setState("review");
  rest();
}

function undo(isRedo) {
  const [from, to] = isRedo ? [take.undone, take.strokes] : [take.strokes, take.undone];
  if (!from.length || !["recording", "review"].includes(state)) return;
  to.push(from.pop());
  pointer.isNewStroke = true;
  take.version++;
  showWords();
}

// ------------------------------------------------------------------ a new task

function show(answer) { // {collections, collection, progress: [done, total], image, draft, annotator, empty}
  task = answer;
  const select = find(".collection");
  select.replaceChildren(...task.collections.map(({ id, name }) => new Option(name, id)));
  select.value = task.collection;
  select.hidden = !task.collections.length;
  const [done, total] = task.progress ?? [0, 0];
  find(".count").textContent = total ? done + " of " + total + " narrated" : "";
  find(".bar .progress").hidden = !total;
  find(".bar .progress i").style.width = (total ? 100 * done / total : 0) + "%";
  note();
  reset();
  if (!task.image) return showEmpty();
  root.style.setProperty("--ratio", task.image.width / task.image.height);
  photo.alt = task.image.name;
  photo.src = window.gradio_config.root + window.gradio_config.api_prefix + "/file=" + task.image.path;
  if (task.draft) recover(newest(task.draft));
  requestAnimationFrame(draw);
}

function newest(draft) { // the copy in this browser is taken just before the server's
  const own = shelf.all().find(({ take_id }) => take_id === draft.take_id);
  return own && !(own.saved < draft.saved - 10) ? own : draft;
}

photo.addEventListener("error", () => {
  if (task.image) note("The picture of this image cannot be loaded. Skip it.", "", null, "bad");
});

function recover({ take_id, record: { caption: written, timed_caption: words, traces }, saved }) {
  take.id = take_id;
  take.typing = Typing.from(written, words.map(({ utterance, start_time, end_time }) => (
    { text: utterance, start: start_time, end: end_time })));
  take.strokes = traces.map((stroke) => stroke.map(({ x, y, t }) => [x, y, t]));
  take.elapsed = Math.max(lastTime(), ...words.map((word) => word.end_time), 0);
  take.version = 1;
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

find(".collection").addEventListener("change", async (event) => {
  await keep();
  go("choose", { collection: Number(event.target.value) });
});

// A tab that comes into sight, the first time too, asks what there is to do, until it is told.
let isAsking = false;

new IntersectionObserver(async ([entry]) => {
  const isFree = () => element.isConnected && ["empty", "idle"].includes(state);
  if (!entry.isIntersecting || isAsking || !isFree()) return;
  isAsking = true;
  const drafts = shelf.all().map(({ take_id, image, collection, annotator }) => (
    { take_id, image, collection, annotator }));
  while (isFree() && !await go("open", { drafts }));
  isAsking = false;
}).observe(root);
