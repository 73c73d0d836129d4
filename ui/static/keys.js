// Buttons and keys of the recorder. Continues session.js.

const actions = {
  toggle: () => (state === "recording" ? finish() : start()),
  submit, replay, clear,
  undo, redo: () => redo(), pointing: undoPointing,
  previous: async () => { await keep(); go("previous"); },
  next: async () => { await keep(); go("next"); },
  skip: () => { find(".reasons").hidden = !find(".reasons").hidden; },
  help: () => { find(".help").hidden = !find(".help").hidden; },
  text: () => caption.focus(),
  again: () => { clear(); start(); },
  speak: () => setMode("speak"), type: () => setMode("type"), trace: () => setMode("trace"),
  nearer: () => zoom(1.25), farther: () => zoom(0.8), whole: () => setView(1, 0, 0),
  propose, back: stepBack, rules: showRules,
};
const letters = { r: "replay", u: "pointing", c: "clear", s: "skip", p: "previous", n: "next", t: "text", a: "again", w: "propose" };
const signs = { "+": "nearer", "=": "nearer", "-": "farther", 0: "whole" };
const ways = { 1: "speak", 2: "type", 3: "trace" };
const arrows = { ArrowLeft: [60, 0], ArrowRight: [-60, 0], ArrowUp: [0, 60], ArrowDown: [0, -60] };

async function finish() {
  await stop();
  keep();
  if (take.mode === "speak" && task.can_propose) propose();
}

function showRules() { // an admin's sheet: what this collection asks, and whether it keeps voices
  const sheet = find(".rules");
  sheet.hidden = !sheet.hidden;
  find(".rules textarea").value = task.question;
  find(".rules input").checked = !task.keeps_voice;
  if (!sheet.hidden) find(".rules textarea").focus();
}

find(".rules .keep").addEventListener("click", async () => {
  const rules = { question: find(".rules textarea").value, keeps_voice: !find(".rules input").checked };
  find(".rules").hidden = true;
  await keep();
  go("ask_for", rules);
});
for (const button of root.querySelectorAll("[data-mode-of]")) {
  button.addEventListener("click", () => setMode(button.dataset.modeOf));
}
caption.addEventListener("blur", () => { if (state === "review") timeWords(); });
document.addEventListener("keyup", (event) => { if (event.code === "Space") release(event.timeStamp); });

for (const button of root.querySelectorAll("[data-do]")) {
  button.addEventListener("click", () => {
    actions[button.dataset.do]();
    if (state === "recording" && take.mode === "type") caption.focus({ preventScroll: true });
  });
}
for (const button of root.querySelectorAll("[data-reason]")) {
  button.addEventListener("click", () => skip(button.dataset.reason));
}
find(".note .close").addEventListener("click", () => note());

async function skip(reason) {
  find(".reasons").hidden = true;
  const isLater = reason === "later"; // then an open take waits with its image
  if (state === "recording") await stop();
  if (isLater) await keep();
  else if (state === "review") discard();
  if (await go("skip", { reason })) say("none", isLater ? "put off: it comes again" : "skipped");
}

function escape() {
  const sheets = [find(".help"), find(".reasons"), find(".rules")].filter((sheet) => !sheet.hidden);
  for (const sheet of sheets) sheet.hidden = true;
  if (sheets.length) return;
  if (state === "recording") finish();
  else root.focus({ preventScroll: true });
}

function onKey(event) { // a key nobody wants is left to the browser
  if (!element.isConnected) return document.removeEventListener("keydown", onKey);
  if (root.offsetParent === null || state === "sending" || event.isComposing) return;
  const { target, code, key } = event, isText = target === caption;
  if (!isText && target.matches?.("input:not([type=range]), textarea, select, [contenteditable]")) return;
  const hasModifier = event.ctrlKey || event.metaKey || event.altKey;
  if (code === "Space" && state === "recording" && take.mode === "trace") {
    event.preventDefault();
    return event.repeat ? null : press(event.timeStamp);
  }
  if (state === "recording" && take.mode === "type" && !isText && key.length === 1 && !hasModifier) {
    return caption.focus({ preventScroll: true }); // what is typed is text, wherever the focus was
  }
  // After a click on the tab "Annotate" the focus is there; Space must start a take all the same.
  const action = actionOf(event, isText, target.closest?.("button:not([role=tab])"));
  if (!action) return;
  event.preventDefault();
  if (!event.repeat) action(code, key);
}

function actionOf({ code, key, ctrlKey, metaKey, altKey, shiftKey }, isText, button) {
  if (state === "empty") return null;
  if (key === "Enter" && (ctrlKey || metaKey)) return submit;
  if ((ctrlKey || metaKey) && !altKey && ["z", "y"].includes(key.toLowerCase())) {
    const isRedo = shiftKey || key.toLowerCase() === "y", isOfText = isText && !caption.readOnly;
    if (isOfText) return isRedo ? () => redo(true) : undoText; // in the text field they belong to the text
    return isRedo ? actions.redo : undo;
  }
  if (ctrlKey || metaKey) return null;
  if (key === "Escape") return escape;
  if (altKey || !isText) {
    const letter = altKey ? code.slice(3).toLowerCase() : key.toLowerCase(); // Alt changes `key` on a Mac
    if (letter === "u" && shiftKey) return actions.redo;
    if (letters[letter]) return actions[letters[letter]];
  }
  if (key === "Enter" && !button) {
    return isText && state !== "recording" ? () => root.focus() : actions.toggle;
  }
  if (isText) return null;
  if (key === "?") return actions.help;
  const reason = !find(".reasons").hidden && find(".reasons").querySelectorAll("[data-reason]")[key - 1];
  if (reason) return () => skip(reason.dataset.reason);
  if (ways[key] && state === "idle") return actions[ways[key]];
  if (signs[key]) return actions[signs[key]];
  if (key === "Backspace" && state === "recording" && take.mode === "trace") return stepBack;
  if (arrows[key] && view.scale > 1) return () => pan(...arrows[key]);
  if (key === " " && !button) return state === "review" ? replay : state === "idle" ? start : null;
  return null;
}

document.addEventListener("keydown", onKey);
setState("empty");
