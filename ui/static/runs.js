// The table of runs: choose, sort, filter, star, open. What differs and what was reached.
const root = element.querySelector(".table");
const filter = root.querySelector("input[type=search]");
const starred = root.querySelector(".starred");
const count = root.querySelector(".count");
const [head, body] = [root.querySelector("thead"), root.querySelector("tbody")];
const MOST = 6; // as ui/train/compare.py
let order = { key: "", falls: false };
let picks = null; // what was chosen here, once something was: clicks are faster than answers

const known = () => JSON.parse(props.value || '{"rows": [], "scores": [], "settings": []}');
const named = (name) => { // train.learning_rate -> learning rate
  const text = name.slice(name.indexOf(".") + 1).replaceAll("_", " ");
  return text[0].toUpperCase() + text.slice(1);
};

function columns(value) {
  return [
    { key: "name", title: "Run", of: (row) => row.name },
    { key: "state", title: "State", of: (row) => row.state },
    { key: "step", title: "Steps", of: (row) => row.step, isNumber: true },
    ...value.scores.map((name) => ({ key: `score ${name}`, title: name, of: (row) => row.scores[name], isScore: true, isNumber: true })),
    ...value.settings.map((name) => ({ key: `setting ${name}`, title: named(name), of: (row) => row.settings[name], hint: name })),
    { key: "note", title: "Note", of: (row) => row.note },
  ];
}

function compared(a, b) { // numbers by size, all else by name; what is missing comes last
  const [x, y] = [Number(a), Number(b)];
  return a !== "" && b !== "" && Number.isFinite(x) && Number.isFinite(y)
    ? x - y : String(a).localeCompare(String(b), "en", { numeric: true });
}

function shownRows(value) {
  const sought = filter.value.toLowerCase().split(/\s+/).filter(Boolean);
  const text = (row) => [row.name, row.state, row.note, ...Object.values(row.settings)].join(" ").toLowerCase();
  const rows = value.rows.filter((row) => (!starred.checked || row.star) && sought.every((word) => text(row).includes(word)));
  const column = columns(value).find((c) => c.key === order.key);
  if (column) {
    const isMissing = (row) => column.of(row) === undefined || column.of(row) === "";
    rows.sort((a, b) => isMissing(a) - isMissing(b) || (isMissing(a) ? 0 : (order.falls ? -1 : 1) * compared(column.of(a), column.of(b))));
  }
  return rows;
}

function part(name, text = "", properties = {}) {
  const made = document.createElement(name);
  made.textContent = text;
  return Object.assign(made, properties);
}

function headLine(list) {
  const line = part("tr");
  line.append(part("th"), part("th"));
  for (const column of list) {
    const cell = part("th", "", { className: column.isNumber ? "number" : "", title: column.hint ?? "" });
    const button = part("button", column.title, { type: "button" });
    button.addEventListener("click", () => {
      order = { key: column.key, falls: order.key === column.key ? !order.falls : Boolean(column.isNumber) };
      draw();
    });
    if (order.key === column.key) cell.setAttribute("aria-sort", order.falls ? "descending" : "ascending");
    cell.append(button);
    line.append(cell);
  }
  return line;
}

function bodyLine(row, list, best, picked) {
  const line = part("tr");
  const box = part("input", "", { type: "checkbox", checked: picked.includes(row.name) });
  box.disabled = !box.checked && picked.length >= MOST;
  box.setAttribute("aria-label", `compare ${row.name}`);
  box.addEventListener("change", () => {
    const names = box.checked ? [...picked, row.name] : picked.filter((name) => name !== row.name);
    picks = names;
    draw();
    trigger("pick", { runs: names });
  });
  const star = part("button", row.star ? "★" : "☆", { type: "button", className: "star", title: row.star ? "Take the star away" : "Give it a star" });
  star.setAttribute("aria-pressed", String(row.star));
  star.setAttribute("aria-label", `star ${row.name}`);
  star.addEventListener("click", () => trigger("star", { run: row.name, star: !row.star }));
  for (const made of [box, star]) {
    const cell = part("td");
    cell.append(made);
    line.append(cell);
  }
  for (const column of list) {
    const value = column.of(row);
    const cell = part("td", "", { className: column.isNumber ? "number" : column.key === "note" ? "note" : "" });
    if (column.key === "name") {
      const open = part("button", value, { type: "button", className: "name" });
      open.addEventListener("click", () => trigger("open", { run: row.name }));
      cell.append(open);
      if (box.checked) {
        const swatch = part("span", "", { className: "swatch" });
        swatch.style.setProperty("--line", `var(--curve-${picked.indexOf(row.name) + 1})`);
        cell.append(swatch);
      }
    } else if (column.isScore && value !== undefined) {
      cell.textContent = `${(100 * value).toFixed(1)}%`;
      cell.classList.toggle("top", value === best[column.key]);
    } else {
      cell.textContent = typeof value === "number" ? value.toLocaleString("en") : value ?? "";
      if (column.key === "note") cell.title = value;
    }
    line.append(cell);
  }
  return line;
}

function draw() {
  const value = known(), rows = shownRows(value), list = columns(value);
  const picked = (picks ?? value.picked ?? []).filter((name) => value.rows.some((row) => row.name === name));
  const best = Object.fromEntries(list.filter((c) => c.isScore).map((c) =>
    [c.key, Math.max(...rows.map((row) => c.of(row)).filter((v) => v !== undefined))]));
  head.replaceChildren(headLine(list));
  body.replaceChildren(...rows.map((row) => bodyLine(row, list, best, picked)));
  if (!rows.length) {
    const cell = part("td", value.rows.length ? "No run fits the filter." : "No run yet.", { colSpan: list.length + 2, className: "none" });
    const line = part("tr");
    line.append(cell);
    body.append(line);
  }
  count.textContent = `${rows.length} of ${value.rows.length} runs · ${picked.length} of at most ${MOST} chosen`;
}

filter.addEventListener("input", draw);
starred.addEventListener("change", draw);
watch("value", draw);
draw();
