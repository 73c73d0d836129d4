// The player's sizes, buttons, keys, and the pointer over its pictures.

function arrange() { // the largest pictures that fit: side by side or one below the other
  if (!item) return;
  const hasBoth = Boolean(item.maps && item.strokes.length), isOne = hasBoth && options.isTogether;
  MODEL.layers.person = isOne;
  MODEL.figure.hidden = !item.maps;
  PERSON.figure.hidden = isOne || Boolean(item.maps && !item.strokes.length);
  const shownStages = [MODEL, PERSON].filter(({ figure }) => !figure.hidden), num = shownStages.length;
  const box = find(".stages"), isFull = document.fullscreenElement === root || root.matches(".full-page");
  const limit = Math.max(220, (isFull ? 0.7 : 0.58) * window.innerHeight);
  const most = (box.clientWidth - 16 * (num - 1)) / num;
  const beside = limit * item.aspect > 0.9 * most ? most : limit * item.aspect;
  const below = Math.min(box.clientWidth, Math.max(200, limit / num) * item.aspect);
  const isBelow = below > 1.6 * beside; // side by side reads better, unless it is much smaller
  const width = Math.max(40, Math.floor(isBelow ? below : beside));
  box.classList.toggle("below", isBelow);
  box.style.setProperty("--width", width + "px");
  box.style.setProperty("--aspect", item.aspect);
  for (const card of cards) card.style.setProperty("--aspect", item.aspect);
  for (const stage of shownStages) stage.fit(item, photo);
  arrangeLayers();
  showOptions();
  redraw();
}

function showOptions() {
  for (const button of root.querySelectorAll("[data-option]")) {
    button.setAttribute("aria-pressed", options[button.dataset.option]);
  }
}

function toggle(option) {
  options[option] = !options[option];
  arrange();
}

function fullscreen() { // phones without the interface get the whole page instead
  if (document.fullscreenElement) document.exitFullscreen();
  else if (root.requestFullscreen) root.requestFullscreen();
  else { root.classList.toggle("full-page"); arrange(); }
}

const actions = {
  fullscreen,
  help: () => { find(".help").hidden = !find(".help").hidden; },
  play: () => (state.isPlaying ? stop() : play()),
  release: () => { find(".help").hidden = true; Object.assign(state, { pinned: [], hover: null }); },
};

root.addEventListener("keydown", (event) => {
  if (!item || event.ctrlKey || event.metaKey || event.altKey) return;
  const isSlider = event.target.matches("input[type=range]");
  const does = {
    " ": item.duration && actions.play, f: actions.fullscreen, "?": actions.help,
    Escape: actions.release,
    ArrowRight: !isSlider && (() => step(isRightToLeft() ? -1 : 1)),
    ArrowLeft: !isSlider && (() => step(isRightToLeft() ? 1 : -1)),
  }[event.key] || (keys[event.key] && (() => toggle(keys[event.key])));
  if (!does) return;
  event.preventDefault();
  does();
  redraw();
});

function isRightToLeft() { return getComputedStyle(find(".sentence")).direction === "rtl"; }

for (const button of root.querySelectorAll("[data-option]")) {
  button.addEventListener("click", () => toggle(button.dataset.option));
}
for (const button of root.querySelectorAll("[data-action]")) {
  button.addEventListener("click", actions[button.dataset.action]);
}
find(".play").addEventListener("click", () => { actions.play(); redraw(); });
find(".time").addEventListener("input", (event) => seek(Number(event.target.value)));
find(".opacity input").addEventListener("input", (event) => {
  options.opacity = Number(event.target.value);
  redraw();
});
root.addEventListener("fullscreenchange", arrange);

// ------------------------------------------------------------------ the pointer over a picture

function read(event) { // the raw value under the pointer, and which words look there
  state.cell = cellAt(MODEL.canvas, item.grid, event);
  if (!state.cell) return leave();
  const [row, column] = state.cell, w = item.grid[1], words = chosen();
  chips.forEach((chip, i) => {
    const part = item.peaks[i] && item.masses[i][row * w + column] / item.peaks[i];
    chip.style.setProperty("--glow", Math.round(60 * part) + "%");
  });
  tell(event, massOf(words)?.[row * w + column], words);
  redraw();
}

function tell(event, mass, words) {
  const output = find(".reading"), [h, w] = item.grid, box = find(".stages").getBoundingClientRect();
  const names = words.map((i) => item.words[i].text).join(" + ");
  output.hidden = mass === undefined;
  if (output.hidden) return;
  output.textContent = names + ": " + (100 * mass).toFixed(1) + "% of its attention in this cell, "
    + (mass * h * w).toFixed(1) + " times an even spread";
  output.style.left = Math.min(event.clientX - box.left + 14, box.width - 230) + "px";
  output.style.top = event.clientY - box.top + 18 + "px";
}

function leave() {
  state.cell = null;
  find(".reading").hidden = true;
  for (const chip of chips) chip.style.removeProperty("--glow");
  redraw();
}

MODEL.canvas.addEventListener("pointermove", (event) => item && read(event));
MODEL.canvas.addEventListener("pointerdown", (event) => item && read(event));
MODEL.canvas.addEventListener("pointerleave", () => item && leave());

// ------------------------------------------------------------------ a picture let fall here

root.addEventListener("dragover", (event) => {
  if (!props.accepts) return;
  event.preventDefault();
  root.classList.add("open");
});
root.addEventListener("dragleave", () => root.classList.remove("open"));
root.addEventListener("drop", async (event) => {
  root.classList.remove("open");
  const [file] = event.dataTransfer.files;
  if (!props.accepts || !file) return;
  event.preventDefault();
  const { path } = await upload(file);
  trigger("dropped", { path });
});

// ------------------------------------------------------------------ start

let lastWidth = 0;
new ResizeObserver(([{ contentRect }]) => {
  if (contentRect.width === lastWidth) return;
  if (!lastWidth) options.isTogether = contentRect.width < 640; // first shown: a phone gets one picture
  lastWidth = contentRect.width;
  arrange();
  if (photo && item) drawCards();
}).observe(root);
watch("value", open);
open();
root.player = { state, options, audio, redraw, wordColor, wordRamp, VIRIDIS, layers: () => layers }; // for tests and exports
