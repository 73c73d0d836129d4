// Keys of the tab Review, wherever the focus is, except in a text.
function isTyping(target) {
  return target.closest("input, textarea, select, [contenteditable=true]") !== null;
}

function press(event) {
  if (!element.isConnected) return document.removeEventListener("keydown", press);
  if (!element.checkVisibility() || event.ctrlKey || event.metaKey || event.altKey) return;
  if (event.key === "Escape" && isTyping(event.target)) return event.target.blur();
  if (event.defaultPrevented || isTyping(event.target)) return;
  const find = (selector) => document.querySelector(selector);
  const step = (by) => {
    const rows = [...document.querySelectorAll("#review-rows [data-id]")];
    const now = rows.findIndex((row) => row.getAttribute("aria-pressed") === "true");
    rows[now + by]?.click();
  };
  const actions = {
    a: () => find("#review-accept").click(),
    x: () => find("#review-reason :is(input, textarea)").focus(),
    e: () => find("#review-words textarea").focus(),
    ArrowDown: () => step(1),
    ArrowUp: () => step(-1),
  };
  if (!actions[event.key]) return;
  event.preventDefault();
  actions[event.key]();
}

document.addEventListener("keydown", press);
