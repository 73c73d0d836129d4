// The film of a run: for each picture a strip of moments, the attention of one word on each.
const root = element.querySelector(".film");
const message = root.querySelector(".message");
const reels = root.querySelector(".reels");
const hint = root.querySelector(".hint");
const chosen = new Map(); // picture -> the word a person chose
let drawnRun = "";

function bytesOf(text, length) { // base64 of (W, N) bytes -> one Uint8Array per word
  const bytes = Uint8Array.from(atob(text), (c) => c.charCodeAt(0));
  return Array.from({ length: bytes.length / length }, (_, i) => bytes.subarray(i * length, (i + 1) * length));
}

function firstWord(picture) { // one that was found on the way, else the first
  const before = picture.hits[0], now = picture.hits.at(-1);
  const learned = now.findIndex((hit, i) => hit && !before[i]);
  return learned >= 0 ? learned : Math.max(0, now.indexOf(true));
}

function sentence(picture, word, pick) {
  const line = document.createElement("p");
  line.className = "said";
  let at = 0;
  picture.words.forEach((part, i) => {
    line.append(picture.caption.slice(at, part.span[0]));
    const button = document.createElement("button");
    button.type = "button";
    button.textContent = part.text;
    button.style.setProperty("--word", wordColor(i, picture.words.length));
    button.setAttribute("aria-pressed", String(i === word));
    button.addEventListener("click", () => pick(i));
    line.append(button);
    at = part.span[1];
  });
  line.append(picture.caption.slice(at));
  return line;
}

function shot(picture, image, cells, grid, color, caption, hit) {
  const figure = document.createElement("figure");
  figure.className = "shot";
  const canvas = document.createElement("canvas");
  [canvas.width, canvas.height] = [picture.width, picture.height];
  const pen = canvas.getContext("2d");
  pen.filter = "grayscale(1) brightness(0.8)";
  pen.drawImage(image, 0, 0, canvas.width, canvas.height);
  pen.filter = "none";
  const [h, w] = grid;
  const map = document.createElement("canvas");
  [map.width, map.height] = [w, h];
  const pixels = new ImageData(w, h);
  const [r, g, b] = [1, 3, 5].map((i) => parseInt(color.slice(i, i + 2), 16));
  cells.forEach((value, i) => pixels.data.set([r, g, b, 225 * (value / 255) ** 1.3], 4 * i));
  map.getContext("2d").putImageData(pixels, 0, 0);
  pen.imageSmoothingQuality = "high";
  pen.drawImage(map, 0, 0, canvas.width, canvas.height);
  const line = document.createElement("figcaption");
  if (hit !== undefined) {
    const dot = document.createElement("span");
    dot.className = hit ? "dot hit" : "dot";
    dot.title = hit ? "meets the person's trace" : "does not meet the person's trace";
    dot.style.setProperty("--word", color);
    line.append(dot);
  }
  line.append(caption);
  canvas.setAttribute("role", "img");
  canvas.setAttribute("aria-label", `${caption}${hit === undefined ? "" : hit ? ", found" : ", not found"}`);
  figure.append(canvas, line);
  return figure;
}

function drawReel(reel, picture, number, image, value) {
  const word = Math.min(chosen.get(number) ?? firstWord(picture), picture.words.length - 1);
  const color = wordColor(word, picture.words.length);
  const length = value.grid[0] * value.grid[1];
  const pick = (i) => {
    chosen.set(number, i);
    drawReel(reel, picture, number, image, value);
    reel.querySelectorAll(".said button")[i].focus();
  };
  const strip = document.createElement("div");
  strip.className = "strip";
  value.steps.forEach((step, k) => {
    const name = step === 0 ? "before" : `step ${step.toLocaleString("en")}`;
    const cells = bytesOf(picture.maps[k], length)[word];
    strip.append(shot(picture, image, cells, value.grid, color, name, picture.hits[k][word]));
  });
  const person = shot(picture, image, bytesOf(picture.trace, length)[word], value.grid, color, "the person");
  person.classList.add("person");
  strip.append(person);
  const left = reel.querySelector(".strip")?.scrollLeft ?? 0;
  reel.replaceChildren(sentence(picture, word, pick), strip);
  strip.scrollLeft = left;
}

async function draw() {
  const value = JSON.parse(props.value || "{}");
  const pictures = value.pictures ?? [];
  if (value.run !== drawnRun) {
    chosen.clear();
    drawnRun = value.run;
  }
  message.textContent = pictures.length ? "" : value.message ?? "";
  hint.hidden = pictures.length === 0;
  while (reels.children.length > pictures.length) reels.lastChild.remove();
  for (const [number, picture] of pictures.entries()) {
    const image = new Image();
    image.src = `data:image/jpeg;base64,${picture.image}`;
    await image.decode();
    if (!reels.children[number]) {
      const reel = document.createElement("section");
      reel.className = "reel";
      reels.append(reel);
    }
    drawReel(reels.children[number], picture, number, image, value);
  }
}

let turn = Promise.resolve(); // one drawing after another: an older value never wins
function drawNext() {
  turn = turn.then(draw).catch((error) => {
    message.textContent = `The film cannot be drawn: ${error.message}`;
  });
}
watch("value", drawNext);
drawNext();
