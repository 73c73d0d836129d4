// The player: a sentence, a photograph, under each word the place the model looks at, beside the
// place where a person pointed. gr.HTML runs this once per mount (element, props, watch).

const root = element.querySelector(".player");
const find = (selector) => root.querySelector(selector);
const MODEL = new Stage(find(".model"), { attention: true, predicted: true });
const PERSON = new Stage(find(".stage.person"), { person: true });
const audio = new Audio();
const options = {
  isSmooth: true, isCommon: false, isTinted: false, hasPath: true, hasBox: false,
  isTogether: root.clientWidth < 640, opacity: 0.8,
};
const keys = {
  s: "isSmooth", c: "isCommon", k: "isTinted", p: "hasPath", b: "hasBox", v: "isTogether",
};
const state = { hover: null, pinned: [], time: null, isPlaying: false, cell: null };
let item = null, photo = null, shown = null, clock = 0, frame = 0, chips = [], cards = [];

// ------------------------------------------------------------------ what is looked at

function chosen() { // word indices: under the pointer, else kept, else spoken now
  if (state.hover !== null) return [state.hover];
  if (state.pinned.length) return state.pinned;
  const now = state.time === null ? -1 : wordAt(item.words, state.time);
  return now < 0 ? [] : [now];
}

function massOf(words) { return joint(item.masses, words); }

function scaled(mass) { // mass -> 0..1 of the scale the legend names
  const top = options.isCommon ? item.highest : Math.max(...mass) || 1;
  return { top, values: mass.map((v) => v / top) };
}

function eased(values) { // while playing, attention glides from word to word
  if (!state.isPlaying || shown?.length !== values.length) return values;
  return values.map((v, i) => shown[i] + 0.22 * (v - shown[i]));
}

function tableOf(words) {
  const ramp = options.isTinted && words.length ? wordRamp(item.colors[words.at(-1)]) : VIRIDIS;
  return lookup(ramp, veil(options.opacity));
}

// ------------------------------------------------------------------ drawing

function redraw() { frame ||= requestAnimationFrame(draw); }

function draw(now) {
  frame = 0;
  if (!element.isConnected) return stop();
  if (!item) return;
  if (state.isPlaying) advance(now);
  const words = chosen(), mass = massOf(words);
  const scale = mass && scaled(mass);
  shown = scale && eased(scale.values);
  const view = {
    ...options, values: shown, table: tableOf(words), chosen: words, photo, cell: state.cell,
    time: state.hover === null && !state.pinned.length ? state.time : null,
  };
  if (item.maps) MODEL.draw(item, view);
  if (!PERSON.figure.hidden) PERSON.draw(item, view);
  drawLayers(words, view);
  mark(words);
  if (scale) legend(scale.top, words);
  if (state.isPlaying) redraw();
  root.dispatchEvent(new CustomEvent("drawn", { detail: words }));
}

function mark(words) { // the chips and cards of these words, and their names under the pictures
  const names = words.map((i) => item.words[i].text).join(" + ");
  const isRead = words.some((i) => item.peaks?.[i]);
  const shape = item.isStretched ? "(a very long picture, shown shorter) " : "";
  find(".model .says").textContent = shape + (names && (isRead ? "looks here for" : "did not read so far:") + " “" + names + "”");
  const isOne = MODEL.layers.person;
  const isGrounded = words.some((i) => item.strokes.some((s) => cutStroke(s, ...item.windows[i]).length));
  find(".stage.person .says").textContent = shape + (!names ? "pointed along this path"
    : isGrounded ? "pointed here" : "did not point while saying this");
  find(".model .and").hidden = !isOne;
  for (const list of [chips, cards]) {
    list.forEach((chip, i) => chip.classList.toggle("on", words.includes(i)));
  }
  chips.forEach((chip, i) => { chip.tabIndex = i === (words.at(-1) ?? 0) ? 0 : -1; }); // one tab stop
}

function legend(top, words) {
  const percent = (v) => (100 * v).toFixed(v < 0.0995 ? 1 : 0) + "%";
  find(".high").textContent = percent(top) + " of the attention in one cell";
  find(".scale").textContent = options.isCommon ? "one scale for all words" : "each word on its own scale";
  const ramp = options.isTinted && words.length ? wordRamp(item.colors[words.at(-1)]) : VIRIDIS;
  find(".ramp").style.background = "linear-gradient(to right, " + ramp.join(", ") + ")";
}

// ------------------------------------------------------------------ the recording's clock

function advance(now) {
  state.time = item.voice ? audio.currentTime : (now - clock) / 1000;
  if (state.time >= item.duration || (item.voice && audio.ended)) {
    stop();
    state.time = item.duration;
  }
  showTime();
}

function play() {
  if (state.time === null || state.time >= item.duration) state.time = item.begin;
  Object.assign(state, { isPlaying: true, pinned: [], hover: null });
  clock = performance.now() - 1000 * state.time;
  if (item.voice) {
    audio.currentTime = state.time;
    audio.play().catch(goOnWithoutVoice);
  }
  root.classList.add("playing");
  redraw();
}

function goOnWithoutVoice(error) { // a file that cannot be played; a pause meanwhile is no error
  if (error.name === "AbortError") return;
  clock = performance.now() - 1000 * state.time;
  item.voice = null;
}

function stop() {
  state.isPlaying = false;
  audio.pause();
  root.classList.remove("playing");
}

function seek(time) {
  Object.assign(state, { time, hover: null, pinned: [] });
  clock = performance.now() - 1000 * time;
  if (item.voice) audio.currentTime = time;
  showTime();
  redraw();
}

function showTime() {
  const text = (seconds) => Math.floor(seconds / 60) + ":" + (seconds % 60).toFixed(1).padStart(4, "0");
  const time = state.time ?? item.begin;
  find(".time").value = time;
  find(".clock").textContent = text(time) + " / " + text(item.duration);
  const chip = chips[wordAt(item.words, state.time ?? -1)], box = find(".sentence");
  if (!chip || !state.isPlaying || box.scrollHeight <= box.clientHeight) return;
  box.scrollTop = chip.offsetTop - box.offsetTop - box.clientHeight / 2;
}

function timeline() { // the slider's track: each word's time in the word's color
  const length = item.duration - item.begin, stops = [];
  const stop = (color, time) => stops.push(color + " " + (100 * (time - item.begin) / length).toFixed(2) + "%");
  let last = item.begin;
  item.words.forEach(({ start, end }, i) => {
    if (start > last) { stop("var(--line)", last); stop("var(--line)", start); }
    stop(item.colors[i], start);
    stop(item.colors[i], last = Math.max(last, end));
  });
  stop("var(--line)", last);
  Object.assign(find(".time"), { min: item.begin, max: item.duration });
  find(".time").style.setProperty("--track", "linear-gradient(to right, " + stops.join(", ") + ")");
}

// ------------------------------------------------------------------ words

function choose(index, isMore) { // keep a word, or let it go; with isMore, beside those kept
  const isKept = state.pinned.includes(index);
  if (isMore) state.pinned = isKept ? state.pinned.filter((i) => i !== index) : [...state.pinned, index];
  else state.pinned = isKept && state.pinned.length === 1 ? [] : [index];
  stop();
  state.hover = null;
  redraw();
}

function chip(index, kind) {
  const button = document.createElement("button"), label = document.createElement("span");
  Object.assign(button, { type: "button", className: kind, title: titleOf(index) });
  button.style.setProperty("--word", item.colors[index]);
  label.textContent = item.words[index].text;
  button.append(label);
  const hit = item.hits?.[index];
  if (item.peaks?.[index] === 0) button.classList.add("unread");
  if (item.hits) button.classList.add(hit === null ? "untold" : hit ? "hit" : "miss");
  const leave = () => { state.hover = null; redraw(); };
  const enter = () => { if (!state.isPlaying) { state.hover = index; redraw(); } };
  button.addEventListener("pointerenter", (event) => event.pointerType === "touch" || enter());
  button.addEventListener("pointerleave", leave);
  button.addEventListener("focus", () => button.matches(":focus-visible") && enter());
  button.addEventListener("blur", leave);
  button.addEventListener("click", (event) => choose(index, event.shiftKey || event.metaKey));
  return button;
}

function titleOf(index) {
  const { start, end } = item.words[index], hit = item.hits?.[index];
  const time = start.toFixed(1) + " to " + end.toFixed(1) + " s";
  return time + (hit === true ? ", model and person agree" : hit === false ? ", they differ" : "");
}

function step(by) { // arrow keys walk through the words
  const now = chosen().at(-1), last = item.words.length - 1;
  const next = now === undefined ? 0 : Math.min(last, Math.max(0, now + by));
  stop();
  Object.assign(state, { pinned: [next], hover: null });
  if (root.contains(document.activeElement) && document.activeElement.matches(".word")) {
    chips[next].focus();
  }
  chips[next].scrollIntoView({ block: "nearest" });
  redraw();
}

function drawCards() { // under each word, its place: small pictures of photograph and attention
  const small = document.createElement("canvas"), table = lookup(VIRIDIS, veil(0.9));
  Object.assign(small, { width: 256, height: Math.round(256 / item.aspect) });
  small.getContext("2d").drawImage(photo, 0, 0, small.width, small.height);
  cards.forEach((card, i) => {
    const stage = new Stage(card, { attention: true }, 48);
    stage.fit({ pieces: [] }, small);
    const { values } = scaled(item.masses[i]);
    stage.draw(item, { values, table, isSmooth: true, chosen: [], cell: null });
  });
}

// ------------------------------------------------------------------ a new item

function open() { // props.value: a JSON string, or {"message": ...} when there is nothing to show yet
  stop();
  const next = JSON.parse(props.value || "{}");
  find(".shown").hidden = !next.words;
  find(".empty").hidden = Boolean(next.words);
  find(".empty").textContent = next.message ?? "";
  if (!next.words) { item = null; return; }
  item = readItem(next);
  photo = shown = null;
  Object.assign(state, { hover: null, time: null, cell: null, pinned: item.maps ? surest() : [] });
  audio.src = item.voice ?? "";
  build();
  const image = new Image();
  image.onload = () => { photo = image; arrange(); drawCards(); };
  image.onerror = () => { find(".reading").textContent = "The picture could not be loaded."; };
  image.src = item.image;
  arrange();
  if (root.getBoundingClientRect().top < 0) root.scrollIntoView({ block: "start" }); // chosen far below
}

function surest() { // what to show first: a word that names something, whose place is clearest
  const names = { noun: 1, color: 1, verb: 0.4, relation: 0.3, other: 0.1 };
  const agrees = (i) => (item.hits?.[i] === false ? 0.5 : item.hits?.[i] === null ? 0.2 : 1);
  const weight = item.words.map(({ kind }, i) => item.certainty[i] * names[kind] * agrees(i));
  return weight.length ? [weight.indexOf(Math.max(...weight))] : [];
}

function build() { // chips, cards, scores: everything whose number depends on the item
  const isModel = Boolean(item.maps), numWords = item.words.length;
  root.classList.toggle("no-maps", !isModel);
  root.classList.toggle("no-time", item.duration <= item.begin);
  root.classList.toggle("one-stage", !isModel || !item.strokes.length);
  find(".stage.person b").textContent = item.isSimulated ? "Simulated narrator" : "Person";
  find(".and b").textContent = item.isSimulated ? "simulated narrator" : "person";
  chips = item.words.map((_, i) => chip(i, "word"));
  find(".sentence").replaceChildren(...chips);
  find(".sentence").classList.toggle("long", numWords > 60);
  cards = isModel && numWords <= 60 ? item.words.map((_, i) => chip(i, "card")) : [];
  for (const card of cards) {
    card.prepend(document.createElement("canvas"));
    card.tabIndex = -1;
  }
  find(".sheet").replaceChildren(...cards);
  find(".scores").replaceChildren(...(item.scores ?? []).map(({ name, value, help, note, is_low }) => {
    const row = document.createElement("div"), dt = document.createElement("dt");
    const dd = document.createElement("dd"), small = document.createElement("small");
    Object.assign(row, { title: help, className: is_low ? "low" : "" });
    dt.textContent = name;
    dd.textContent = value;
    small.textContent = note ?? "";
    dd.append(small);
    row.append(dt, dd);
    return row;
  }));
  buildLayers();
  timeline();
  showTime();
}
