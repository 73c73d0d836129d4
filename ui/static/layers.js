// Every map the model has for the chosen words, side by side, with the raw number under the pointer.

const ABOUT = { // by the first word of a layer's name
  both: "attention and contrastive head together: what is shown and scored",
  attention: "trained by people's traces",
  contrastive: "the head that matches whole pictures and sentences, cell by cell",
  "grad-cam": "where the matching score would change",
  soft: "the picture as training dims it",
};
const DARKNESS = lookup(["#000000", "#000000"], (v) => v); // of a soft mask: 1 hides a cell
const titled = (name) => name === "grad-cam" ? "Grad-CAM"
  : name[0].toUpperCase() + name.slice(1).replace(/(\d)x(\d)/, "$1 × $2");
let layers = [];

function buildLayers() {
  const list = item.layers.length > 1 ? item.layers : [];
  find(".layers").hidden = !list.length;
  layers = list.map((layer) => {
    const figure = document.createElement("figure"), caption = document.createElement("figcaption");
    const photo = document.createElement("div"), name = document.createElement("b");
    const canvas = document.createElement("canvas"), number = document.createElement("span");
    Object.assign(figure, { className: "stage layer" });
    Object.assign(photo, { className: "photo" });
    photo.append(canvas);
    name.textContent = titled(layer.name);
    caption.append(name, " ", number);
    figure.append(photo, caption);
    const stage = new Stage(figure, { attention: true });
    const one = { ...layer, figure, number, stage, cell: null };
    number.textContent = one.about = ABOUT[layer.name.split(" ")[0]] ?? "";
    canvas.addEventListener("pointermove", (event) => { one.cell = cellAt(canvas, layer.grid, event); redraw(); });
    canvas.addEventListener("pointerleave", () => { one.cell = null; redraw(); });
    return one;
  });
  find(".strip").replaceChildren(...layers.map(({ figure }) => figure));
}

function cellAt(canvas, [h, w], event) { // [row, column] under the pointer; null outside
  const box = canvas.getBoundingClientRect();
  const x = (event.clientX - box.left) / box.width, y = (event.clientY - box.top) / box.height;
  return x < 0 || y < 0 || x >= 1 || y >= 1 ? null : [Math.floor(y * h), Math.floor(x * w)];
}

function arrangeLayers() { // a third of the page each, two on a phone
  if (!layers.length || !find(".layers").open) return;
  const room = find(".strip").clientWidth, count = Math.min(layers.length, room < 560 ? 2 : 4);
  const width = Math.floor(Math.min((room - 12 * (count - 1)) / count, 320, 300 * item.aspect));
  find(".strip").style.setProperty("--width", width + "px");
  find(".strip").style.setProperty("--aspect", item.aspect);
  for (const { stage } of layers) stage.fit({ pieces: [] }, photo);
}

function drawLayers(words, view) {
  if (!find(".layers").open) return;
  for (const layer of layers) {
    const mass = joint(layer.masses, words), top = mass && (Math.max(...mass) || 1);
    const isMask = layer.name === "soft mask", { grid, cell } = layer;
    const values = mass && mass.map((v) => (isMask ? v : v / top));
    const table = isMask ? DARKNESS : view.table;
    layer.stage.draw({ grid, pieces: [] }, { ...view, values, table, cell, hasPath: false, hasBox: false });
    const at = cell && mass && mass[cell[0] * grid[1] + cell[1]];
    layer.number.textContent = typeof at !== "number" ? layer.about
      : isMask ? Math.round(100 * (1 - at)) + "% of this cell is left"
      : (100 * at).toFixed(2) + "% in this cell; even: " + (100 / (grid[0] * grid[1])).toFixed(2) + "%";
  }
}

find(".layers").addEventListener("toggle", () => { if (item) { arrangeLayers(); redraw(); } });
