// A photograph and what lies over it: attention, boxes, traces. Positions are fractions of the image
// until the line that draws them; cell (row, column) of an h x w map covers
// [column/w, (column+1)/w] x [row/h, (row+1)/h]. Shared by the page and by exported files.

const MAX_ASPECT = 6; // a 1 x 5000 image is shown 1 : 6, so that it can be seen at all

function readItem(payload) { // the payload of ui/inspect/tab.py -> the same with what drawing needs
  const item = { ...payload };
  item.masses = item.maps ? massesOf(item, item.words.length) : item.words.map(() => null);
  item.layers = (item.layers ?? []).map((layer) => (
    { ...layer, masses: massesOf(layer, item.words.length) }));
  item.highest = Math.max(0, ...(item.peaks ?? []));
  item.colors = item.words.map((_, i) => wordColor(i, item.words.length));
  item.pieces = item.strokes.flatMap((stroke) => piecesOf(stroke, item.words));
  item.isStretched = Math.max(item.width / item.height, item.height / item.width) > MAX_ASPECT;
  item.aspect = Math.min(MAX_ASPECT, Math.max(1 / MAX_ASPECT, item.width / item.height));
  return item;
}

function massesOf({ grid: [h, w], maps, peaks }, count) { // per word (h * w), their sum about 1
  const bytes = Uint8Array.from(atob(maps), (c) => c.charCodeAt(0));
  return Array.from({ length: count }, (_, i) => Float32Array.from(
    bytes.subarray(i * h * w, (i + 1) * h * w), (v) => v / 255 * peaks[i]));
}

function joint(masses, words) { // the joint map of these words: mean of their maps, mass 1
  if (!words.length || !masses[0]) return null;
  const mass = new Float32Array(masses[0].length);
  for (const i of words) masses[i].forEach((v, k) => { mass[k] += v / words.length; });
  return mass.some((v) => v > 0) ? mass : null; // null: no word that the model has read
}

const veil = (opacity) => (v) => opacity * (0.15 + 0.75 * v); // more opaque where there is more

function wordAt(words, time) { // the last word begun by then; -1 before the first
  let low = 0, high = words.length;
  while (low < high) {
    const middle = (low + high) >> 1;
    if (words[middle].start <= time) low = middle + 1;
    else high = middle;
  }
  return low - 1;
}

function piecesOf(stroke, words) { // [x, y, t, ...] -> [{word, points: [x, y, t, ...]}], joined ends
  const pieces = [];
  for (let i = 0; i < stroke.length; i += 3) {
    const word = Math.max(0, wordAt(words, stroke[i + 2]));
    const point = stroke.slice(i, i + 3), last = pieces.at(-1);
    if (last?.word === word) last.points.push(...point);
    else {
      last?.points.push(...point);
      pieces.push({ word, points: point });
    }
  }
  return pieces;
}

function cutStroke(stroke, start, end) { // the part of [x, y, t, ...] in [start, end], ends interpolated
  const part = [];
  const between = (i, time) => {
    const share = (time - stroke[i + 2]) / (stroke[i + 5] - stroke[i + 2]);
    for (const k of [0, 1]) part.push(stroke[i + k] + share * (stroke[i + 3 + k] - stroke[i + k]));
    part.push(time);
  };
  for (let i = 0; i < stroke.length; i += 3) {
    const now = stroke[i + 2], next = stroke[i + 5];
    if (now >= start && now <= end) part.push(stroke[i], stroke[i + 1], now);
    if (now < start && next > start) between(i, start);
    if (now < end && next > end) between(i, end);
  }
  return part;
}

function taps(from, to) { // Catmull-Rom: for each of `to` samples, 4 indices and 4 weights into `from`
  return Array.from({ length: to }, (_, i) => {
    const at = (i + 0.5) * from / to - 0.5, base = Math.floor(at), t = at - base;
    const weights = [
      t * (t * (2 - t) - 1) / 2, (t * t * (3 * t - 5) + 2) / 2,
      t * (t * (4 - 3 * t) + 1) / 2, t * t * (t - 1) / 2,
    ];
    return weights.map((weight, k) => [Math.min(from - 1, Math.max(0, base - 1 + k)), weight]);
  });
}

function enlarge(values, h, w, times) { // (h, w) -> (h * times, w * times), separable
  const columns = taps(w, w * times), rows = taps(h, h * times), width = w * times;
  const wide = new Float32Array(h * width), out = new Float32Array(h * times * width);
  for (let y = 0; y < h; y++) {
    columns.forEach((tap, x) => {
      for (const [i, weight] of tap) wide[y * width + x] += weight * values[y * w + i];
    });
  }
  rows.forEach((tap, y) => {
    for (const [i, weight] of tap) {
      for (let x = 0; x < width; x++) out[y * width + x] += weight * wide[i * width + x];
    }
  });
  return out;
}

class Stage {
  constructor(figure, layers, detail = 128) { // layers: {attention, predicted, person} drawn here
    Object.assign(this, { figure, layers, detail });
    this.canvas = figure.querySelector("canvas");
    this.overlay = document.createElement("canvas");
    this.ground = document.createElement("canvas");
  }

  fit(item, photo) { // backing store = CSS box x device pixels; the photograph is scaled once
    this.ratio = window.devicePixelRatio || 1;
    const width = Math.max(1, Math.round(this.canvas.clientWidth * this.ratio));
    const height = Math.max(1, Math.round(this.canvas.clientHeight * this.ratio));
    for (const canvas of [this.canvas, this.ground]) Object.assign(canvas, { width, height });
    const ground = this.ground.getContext("2d");
    ground.imageSmoothingQuality = "high";
    if (photo) ground.drawImage(photo, 0, 0, width, height);
    this.paths = item.pieces.map((piece) => this.path(piece.points));
  }

  path(points) { // [x, y, t, ...] fractions -> Path2D in device pixels
    const path = new Path2D(), { width, height } = this.canvas;
    for (let i = 0; i < points.length; i += 3) {
      path.lineTo(points[i] * width, points[i + 1] * height);
    }
    if (points.length === 3) path.arc(points[0] * width, points[1] * height, this.ratio, 0, 7);
    return path;
  }

  draw(item, view) { // view: {values, table, isSmooth, chosen, time, hasPath, hasBox, cell}
    if (this.ratio !== (window.devicePixelRatio || 1)) this.fit(item, view.photo);
    const context = this.canvas.getContext("2d");
    context.lineCap = context.lineJoin = "round";
    context.globalAlpha = 1;
    context.clearRect(0, 0, this.canvas.width, this.canvas.height);
    context.drawImage(this.ground, 0, 0);
    if (this.layers.attention && view.values) this.drawAttention(context, item, view);
    if (this.layers.predicted && view.hasBox) this.drawBoxes(context, item, view);
    if (this.layers.predicted && view.hasPath) this.drawPredicted(context, item, view);
    if (this.layers.person) this.drawPerson(context, item, view);
    if (view.cell) this.drawCell(context, item, view.cell);
  }

  drawAttention(context, item, { values, table, isSmooth }) { // values: (h * w) in 0..1
    const [h, w] = item.grid, times = isSmooth ? Math.max(1, Math.round(this.detail / Math.max(h, w))) : 1;
    const shown = times > 1 ? enlarge(values, h, w, times) : values;
    if (this.overlay.width !== w * times || this.overlay.height !== h * times) {
      Object.assign(this.overlay, { width: w * times, height: h * times });
    }
    const pixels = new ImageData(w * times, h * times);
    const bytes = new Uint32Array(pixels.data.buffer), colors = new Uint32Array(table.buffer);
    for (let i = 0; i < bytes.length; i++) {
      bytes[i] = colors[Math.max(0, Math.min(255, Math.round(255 * shown[i])))];
    }
    this.overlay.getContext("2d").putImageData(pixels, 0, 0);
    context.imageSmoothingEnabled = isSmooth;
    context.drawImage(this.overlay, 0, 0, this.canvas.width, this.canvas.height);
  }

  line(context, path, color, width, alpha = 1, halo = 0.55) { // a dark halo keeps it legible on any photo
    context.globalAlpha = alpha * halo;
    context.strokeStyle = "#0b0f19";
    context.lineWidth = (width + 2.5) * this.ratio;
    context.stroke(path);
    context.globalAlpha = alpha;
    context.strokeStyle = color;
    context.lineWidth = width * this.ratio;
    context.stroke(path);
  }

  dot(context, x, y, color, radius, alpha = 1) { // x, y fractions; radius in CSS pixels
    const path = new Path2D();
    path.arc(x * this.canvas.width, y * this.canvas.height, radius * this.ratio, 0, 7);
    this.line(context, path, "#ffffff", 2, alpha);
    context.fillStyle = color;
    context.fill(path);
  }

  drawBoxes(context, item, { chosen }) {
    const { width, height } = this.canvas;
    for (const i of chosen) {
      const [left, top, right, bottom] = item.boxes[i], path = new Path2D();
      path.roundRect(left * width, top * height, (right - left) * width, (bottom - top) * height,
        6 * this.ratio);
      context.setLineDash([7 * this.ratio, 6 * this.ratio]);
      this.line(context, path, "#ffffff", 2);
      context.setLineDash([]);
    }
  }

  drawPredicted(context, item, { chosen, time }) { // fades where unsure, and far from the chosen word
    const last = time === null ? item.path.length - 1 : Math.max(0, wordAt(item.words, time));
    const near = (i) => 1 - 0.25 * Math.min(...chosen.map((word) => Math.abs(word - i)));
    const alpha = (i) => (0.12 + 0.88 * Math.min(1, item.certainty[i] / 0.35))
      * (chosen.length ? Math.max(0.15, near(i)) : 1);
    for (let i = 1; i <= last; i++) {
      this.line(context, this.bend(item.path, i), item.colors[i], 2.5, Math.min(alpha(i - 1), alpha(i)));
    }
    for (let i = 0; i <= last; i++) this.dot(context, ...item.path[i], item.colors[i], 3, alpha(i));
    for (const i of chosen) this.dot(context, ...item.path[i], item.colors[i], 8);
  }

  bend(points, i) { // from point i - 1 to point i, on one Catmull-Rom curve through all
    const { width, height } = this.canvas, path = new Path2D();
    const at = (k) => points[Math.min(points.length - 1, Math.max(0, k))];
    const [a, b, c, d] = [at(i - 2), at(i - 1), at(i), at(i + 1)];
    const scale = ([x, y]) => [x * width, y * height];
    const lean = (p, q, from, sign) => [0, 1].map((k) => p[k] + sign * (q[k] - from[k]) / 6);
    path.moveTo(...scale(b));
    path.bezierCurveTo(...scale(lean(b, c, a, 1)), ...scale(lean(c, d, b, -1)), ...scale(c));
    return path;
  }

  drawPerson(context, item, { chosen, time }) { // all of it faint, the chosen words strong
    const end = time ?? Infinity, rest = chosen.length ? 0.28 : 0.85;
    item.pieces.forEach(({ word, points }, i) => {
      if (points[2] > end) return;
      const isWhole = points.at(-1) <= end;
      const path = isWhole ? this.paths[i] : this.path(cutStroke(points, -Infinity, end));
      this.line(context, path, item.colors[word], 2.5, rest);
    });
    for (const i of chosen) {
      const [from, to] = item.windows[i];
      for (const stroke of item.strokes) {
        const part = cutStroke(stroke, from, Math.min(to, end));
        if (part.length) this.line(context, this.path(part), item.colors[i], 5, 1, 0.9);
      }
    }
    if (time !== null) this.drawPointer(context, item, time);
  }

  drawPointer(context, item, time) { // where the person points at this moment, if anywhere
    const stroke = item.strokes.findLast((points) => points[2] <= time);
    if (!stroke || stroke.at(-1) < time - 0.3) return;
    const [x, y] = cutStroke(stroke, -Infinity, time).slice(-3);
    this.dot(context, x, y, item.colors[Math.max(0, wordAt(item.words, time))], 8);
  }

  drawCell(context, item, [row, column]) {
    const [h, w] = item.grid, { width, height } = this.canvas, path = new Path2D();
    path.rect(column / w * width, row / h * height, width / w, height / h);
    this.line(context, path, "#ffffff", 1);
  }
}
