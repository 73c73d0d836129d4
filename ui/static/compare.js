// Two to four models on one picture: each word's attention side by side, what one has more than the
// first, and the scores of each word. gr.HTML runs this once per mount (element, props, watch).

const root = element.querySelector(".comparison");
const find = (selector) => root.querySelector(selector);
const options = { isSmooth: true, isCommon: false, isDifference: false, hasPerson: true };
const keys = { s: "isSmooth", c: "isCommon", d: "isDifference", t: "hasPerson" };
const ORANGES = ["#1d4e89", "#4f87bd", "#a9c8e3", "#f4f1ea", "#f3c083", "#dd8432", "#a04e0c"];
let item = null, photo = null, panels = [], chips = [], rows = [], frame = 0;
let hover = null, kept = [];

function chosen() { return hover === null ? kept : [hover]; }

function redraw() { frame ||= requestAnimationFrame(draw); }

function resized(mass, [h, w], [toH, toW]) { // mass on another grid, spread evenly; its sum stays
  if (h === toH && w === toW) return mass;
  const out = new Float32Array(toH * toW);
  const share = (i, from, to, k) => Math.max(0, Math.min((i + 1) / to, (k + 1) / from) - Math.max(i / to, k / from)) * from;
  for (let y = 0; y < toH; y++) for (let r = Math.floor(y * h / toH); r < (y + 1) * h / toH; r++) {
    for (let x = 0; x < toW; x++) for (let c = Math.floor(x * w / toW); c < (x + 1) * w / toW; c++) {
      out[y * toW + x] += mass[r * w + c] * share(y, h, toH, r) * share(x, w, toW, c);
    }
  }
  return out;
}

function draw() {
  frame = 0;
  if (!element.isConnected || !item) return;
  const words = chosen(), masses = panels.map(({ model }) => joint(model.masses, words));
  const top = Math.max(1e-9, ...masses.filter(Boolean).map((mass) => Math.max(...mass)));
  const changes = options.isDifference && masses[0] ? differences(masses) : null;
  panels.forEach((panel, k) => {
    const mass = masses[k], view = { chosen: words, photo, cell: null, time: null, hasPath: false, hasBox: false, isSmooth: options.isSmooth };
    const isChange = changes && k > 0 && mass;
    const peak = options.isCommon ? top : mass && Math.max(...mass) || 1;
    const values = isChange ? changes.values[k] : mass && mass.map((v) => v / peak);
    const table = isChange ? lookup(ORANGES, (v) => 0.85 * Math.min(1, 2.4 * Math.abs(v - 0.5))) : lookup(VIRIDIS, veil(0.85));
    panel.stage.layers.person = options.hasPerson && words.length > 0;
    const grid = isChange ? changes.grid : panel.model.grid;
    panel.stage.draw({ ...item, grid, pieces: [] }, { ...view, values, table });
  });
  find(".change").hidden = !changes;
  find(".high").textContent = options.isCommon ? (100 * top).toFixed(0) + "% of the attention in one cell"
    : "the strongest cell of each model";
  find(".attention .ramp").style.background = "linear-gradient(to right, " + VIRIDIS.join(", ") + ")";
  find(".change .ramp").style.background = "linear-gradient(to right, " + ORANGES.join(", ") + ")";
  for (const list of [chips, rows]) list.forEach((one, i) => one.classList.toggle("on", words.includes(i)));
  root.dispatchEvent(new CustomEvent("drawn", { detail: words }));
}

function differences(masses) { // each minus the first, 0..1 with 0.5 for no change
  const grid = panels.reduce((best, { model }) => (model.grid[0] * model.grid[1] > best[0] * best[1] ? model.grid : best), [1, 1]);
  const same = masses.map((mass, k) => mass && resized(mass, panels[k].model.grid, grid));
  const changes = same.map((mass) => mass && mass.map((v, i) => v - same[0][i]));
  const most = Math.max(1e-9, ...changes.flatMap((change) => (change ? [...change].map(Math.abs) : [])));
  return { grid, values: changes.map((change) => change && change.map((v) => 0.5 + v / most / 2)) };
}

// ------------------------------------------------------------------ a new item

function open() {
  const next = JSON.parse(props.value || "{}");
  find(".shown").hidden = !next.models;
  find(".empty").hidden = Boolean(next.models);
  find(".empty").textContent = next.message ?? "";
  item = null;
  if (!next.models) return;
  item = readItem({ ...next, maps: null });
  panels = next.models.map((model) => {
    const read = { ...model, masses: massesOf(model, item.words.length) };
    const figure = document.createElement("figure"), caption = document.createElement("figcaption");
    const frame = document.createElement("div"), canvas = document.createElement("canvas");
    const name = document.createElement("b"), facts = document.createElement("span");
    figure.className = "stage";
    frame.className = "photo";
    canvas.setAttribute("role", "img");
    canvas.setAttribute("aria-label", "Where " + model.label + " looks");
    name.textContent = model.label;
    facts.textContent = model.facts;
    caption.append(name, document.createElement("br"), facts);
    frame.append(canvas);
    figure.append(frame, caption);
    return { model: read, stage: new Stage(figure, { attention: true }), figure };
  });
  find(".panels").replaceChildren(...panels.map(({ figure }) => figure));
  buildWords();
  kept = [next.first ?? 0];
  hover = null;
  const image = new Image();
  image.onload = () => { photo = image; arrange(); };
  image.src = item.image;
  arrange();
}

function buildWords() {
  const on = (node, i) => {
    node.addEventListener("pointerenter", (event) => { if (event.pointerType !== "touch") { hover = i; redraw(); } });
    node.addEventListener("pointerleave", () => { hover = null; redraw(); });
    node.addEventListener("click", (event) => {
      kept = event.shiftKey && !kept.includes(i) ? [...kept, i] : [i];
      redraw();
    });
  };
  chips = item.words.map(({ text }, i) => {
    const chip = document.createElement("button"), label = document.createElement("span");
    Object.assign(chip, { type: "button", className: "word" });
    chip.style.setProperty("--word", item.colors[i]);
    label.textContent = text;
    chip.append(label);
    on(chip, i);
    return chip;
  });
  find(".sentence").replaceChildren(...chips);
  find(".sentence").classList.toggle("long", chips.length > 60);
  const head = document.createElement("tr");
  head.append(cell("th", item.strokes.length ? "On the person's trace" : "Strongest cell"), ...panels.map(({ model }) => cell("th", model.label)));
  rows = item.words.map(({ text }, i) => {
    const row = document.createElement("tr"), name = cell("th", text);
    name.style.setProperty("--word", item.colors[i]);
    const best = Math.max(...panels.map(({ model }) => model.inside?.[i] ?? -1));
    row.append(name, ...panels.map(({ model }) => scoreCell(model, i, best)));
    on(row, i);
    return row;
  });
  find(".scoretable").replaceChildren(head, ...rows);
}

function cell(kind, text) {
  const node = document.createElement(kind);
  node.textContent = text;
  return node;
}

function scoreCell(model, i, best) { // hit or miss, and the share of the attention on the person's trace
  const inside = model.inside?.[i], hit = model.hits?.[i];
  const peak = (100 * model.peaks[i]).toFixed(0) + "% in one cell";
  const node = cell("td", inside === null ? "" : inside === undefined ? peak : (100 * inside).toFixed(0) + "%");
  if (hit === true || hit === false) node.prepend(cell("i", hit ? "✓" : "–"));
  node.classList.toggle("best", panels.length > 1 && inside !== null && inside === best && best > 0);
  node.title = inside === null ? "no trace of this word" : inside === undefined ? "" : (hit ? "the strongest cell meets the person's trace"
    : "the strongest cell is elsewhere") + "; the number is the share of the attention on that trace";
  return node;
}

function arrange() { // as many beside each other as read well
  if (!item) return;
  const room = find(".panels").clientWidth, count = panels.length;
  const columns = room < 520 ? 1 : room < 900 ? Math.min(2, count) : count;
  const width = Math.floor(Math.min((room - 14 * (columns - 1)) / columns, 0.56 * window.innerHeight * item.aspect));
  root.style.setProperty("--width", Math.max(40, width) + "px");
  root.style.setProperty("--aspect", item.aspect);
  for (const { stage } of panels) stage.fit({ ...item, pieces: [] }, photo);
  for (const button of root.querySelectorAll("[data-option]")) {
    button.setAttribute("aria-pressed", options[button.dataset.option]);
  }
  redraw();
}

function toggle(option) { options[option] = !options[option]; arrange(); }

for (const button of root.querySelectorAll("[data-option]")) {
  button.addEventListener("click", () => toggle(button.dataset.option));
}
root.addEventListener("keydown", (event) => {
  if (!item || event.ctrlKey || event.metaKey || event.altKey) return;
  const by = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
  if (by) kept = [Math.min(chips.length - 1, Math.max(0, (chosen().at(-1) ?? 0) + by))];
  else if (keys[event.key]) toggle(keys[event.key]);
  else return;
  hover = null;
  event.preventDefault();
  redraw();
});
let lastWidth = 0;
new ResizeObserver(([{ contentRect }]) => {
  if (contentRect.width === lastWidth) return;
  lastWidth = contentRect.width;
  arrange();
}).observe(root);
watch("value", open);
open();
root.comparison = { options, redraw, draw, panels: () => panels };
