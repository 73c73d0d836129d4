// The trace over the photograph. Strokes are lists of [x, y, t]: fractions of the image, seconds.

const TAIL = 4; // seconds; while recording and in replay, what is older fades

function wordBegunBy(words, time) { // index of the last word begun by then; -1 before the first
  let low = 0, high = words.length;
  while (low < high) {
    const middle = (low + high) >> 1;
    if (words[middle].start <= time) low = middle + 1;
    else high = middle;
  }
  return low - 1;
}

class Trace {
  constructor(canvas) { this.canvas = canvas; }

  fit() { // backing store = CSS box x device pixels; true if it changed
    this.ratio = window.devicePixelRatio || 1;
    const width = Math.round(this.canvas.clientWidth * this.ratio);
    const height = Math.round(this.canvas.clientHeight * this.ratio);
    if (this.canvas.width === width && this.canvas.height === height) return false;
    Object.assign(this.canvas, { width, height });
    return true;
  }

  // view: {now (s), isMoving: fade with age, only: index of one word or null, hasHead}
  draw(strokes, words, view) {
    const context = this.canvas.getContext("2d");
    context.lineCap = context.lineJoin = "round";
    context.globalAlpha = 1;
    context.clearRect(0, 0, this.canvas.width, this.canvas.height);
    const pieces = strokes.flatMap((stroke) => this.pieces(stroke, words, view));
    for (const isHalo of [true, false]) {
      for (const { path, color, alpha } of pieces) {
        if (isHalo && alpha < 0.3) continue;
        context.globalAlpha = isHalo ? 0.45 * alpha : alpha;
        context.strokeStyle = isHalo ? "#0b0f19" : color;
        context.lineWidth = (isHalo ? 6.5 : 4) * this.ratio;
        context.stroke(path);
      }
    }
    if (view.hasHead) this.head(context, strokes, words, view);
  }

  pieces(stroke, words, view) { // runs of one word and one age: few paths for thousands of points
    const pieces = [], { width, height } = this.canvas;
    let key = null, previous = null;
    for (const [x, y, t] of stroke) {
      if (t > view.now) break;
      const word = words.length ? Math.max(0, wordBegunBy(words, t)) : Math.floor(12 * t / (view.now || 1));
      const age = view.isMoving ? Math.min(5, Math.floor(5 * (view.now - t) / TAIL)) : 0;
      if (key !== word * 8 + age) {
        key = word * 8 + age;
        const isOut = view.only !== null && view.only !== word;
        const color = words.length ? wordColor(word, words.length) : wordColor(Math.min(word, 11), 12);
        pieces.push({ path: new Path2D(), color, alpha: isOut ? 0.25 : 0.95 - 0.09 * age });
        const [fromX, fromY] = previous ?? [x, y];
        pieces.at(-1).path.moveTo(fromX * width, fromY * height);
      }
      pieces.at(-1).path.lineTo(x * width, y * height);
      previous = [x, y];
    }
    return pieces;
  }

  head(context, strokes, words, { now }) { // where the pointer was at this moment, if anywhere
    const stroke = strokes.findLast((points) => points[0][2] <= now);
    if (!stroke || stroke.at(-1)[2] < now - 0.3) return;
    const after = stroke.findIndex((point) => point[2] > now);
    const [x1, y1, t1] = stroke.at(after < 0 ? -1 : after);
    const [x0, y0, t0] = stroke[Math.max(0, (after < 0 ? stroke.length : after) - 1)];
    const share = t1 > t0 ? Math.min(1, (now - t0) / (t1 - t0)) : 1;
    context.globalAlpha = 1;
    context.beginPath();
    context.arc((x0 + share * (x1 - x0)) * this.canvas.width, (y0 + share * (y1 - y0)) * this.canvas.height,
      8 * this.ratio, 0, 7);
    context.fillStyle = wordColor(Math.max(0, wordBegunBy(words, now)), words.length);
    context.fill();
    context.lineWidth = 2.5 * this.ratio;
    context.strokeStyle = "#ffffff";
    context.stroke();
  }
}
