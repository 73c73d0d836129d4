// A closer look at the photograph. The frame is moved and scaled as a whole, and a point is a
// fraction of the frame's box wherever that is, so coordinates stay right. Continues recorder.js.

const view = { scale: 1, x: 0, y: 0 }; // x, y: pixels
const stage = find(".stage");

function setView(scale, x, y) { // the photograph always covers the middle of the stage
  view.scale = Math.min(8, Math.max(1, scale));
  const most = (view.scale - 1) / 2;
  view.x = Math.max(-most * frame.offsetWidth, Math.min(most * frame.offsetWidth, x));
  view.y = Math.max(-most * frame.offsetHeight, Math.min(most * frame.offsetHeight, y));
  frame.style.transform = view.scale === 1 ? ""
    : "translate(" + view.x + "px, " + view.y + "px) scale(" + view.scale + ")";
  stage.classList.toggle("zoomed", view.scale > 1);
}

function zoom(factor, clientX, clientY) { // what lies under the point stays there
  const box = stage.getBoundingClientRect();
  const x = (clientX ?? box.left + box.width / 2) - box.left - box.width / 2;
  const y = (clientY ?? box.top + box.height / 2) - box.top - box.height / 2;
  const scale = Math.min(8, Math.max(1, view.scale * factor)), share = scale / view.scale;
  setView(scale, x - (x - view.x) * share, y - (y - view.y) * share);
}

function pan(x, y) { setView(view.scale, view.x + x, view.y + y); }

stage.addEventListener("wheel", (event) => {
  if (state === "empty") return;
  event.preventDefault();
  if (event.shiftKey) pan(-(event.deltaX || event.deltaY), event.deltaX ? -event.deltaY : 0);
  else zoom(Math.exp(-event.deltaY / 400), event.clientX, event.clientY);
}, { passive: false });

let grip = null; // where the middle button holds the photograph
stage.addEventListener("pointerdown", (event) => {
  if (event.button !== 1 || view.scale === 1) return;
  grip = { x: event.clientX, y: event.clientY };
  event.preventDefault();
});
stage.addEventListener("pointermove", (event) => {
  if (!grip) return;
  pan(event.clientX - grip.x, event.clientY - grip.y);
  grip = { x: event.clientX, y: event.clientY };
});
for (const name of ["pointerup", "pointerleave"]) stage.addEventListener(name, () => { grip = null; });
