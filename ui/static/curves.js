// The curves of a run: plotly's own script, drawn again in place, so that a zoom survives.
const root = element.querySelector(".curves");
const charts = root.querySelector(".charts");
const message = root.querySelector(".message");
const hint = root.querySelector(".hint");
const plots = new Map(); // title -> the parts of a chart

function plotly() {
  window.loctexPlotly ??= new Promise((resolve, reject) => {
    const { root: site, api_prefix } = window.gradio_config;
    const script = document.createElement("script");
    script.src = `${site}${api_prefix}/file=${PLOTLY}`;
    script.onload = () => resolve(window.Plotly);
    script.onerror = () => {
      window.loctexPlotly = undefined; // the next value tries again
      reject(new Error("plotly.min.js did not load"));
    };
    document.head.append(script);
  });
  return window.loctexPlotly;
}

function isDark() {
  return document.body.classList.contains("dark");
}

function colorOf(name) {
  return getComputedStyle(root).getPropertyValue(name).trim();
}

function makeChart(title) {
  const figure = document.createElement("figure");
  figure.className = "chart";
  figure.innerHTML = "<h3></h3><p class='note'></p><ul></ul><div class='plot'></div>";
  figure.querySelector("h3").textContent = title;
  const plot = figure.querySelector(".plot");
  plot.setAttribute("role", "img");
  const chart = { figure, plot, note: figure.querySelector(".note"), legend: figure.querySelector("ul") };
  const resizing = new ResizeObserver(() => {
    if (plot.clientWidth && plot._fullLayout) window.Plotly.Plots.resize(plot);
  });
  resizing.observe(plot);
  chart.remove = () => {
    resizing.disconnect();
    window.Plotly.purge(plot);
    figure.remove();
  };
  return chart;
}

function shortNumber(value, isShare) {
  if (value === undefined || value === null) return "";
  if (isShare) return `${Number((value * 100).toPrecision(2))}%`;
  const size = Math.abs(value);
  if (size !== 0 && size < 0.001) return value.toExponential(1);
  return String(Number(value.toPrecision(size >= 1000 ? 4 : 3)));
}

function colorNames(lines) {
  let number = 0; // a chance line has the color of the line before it, which it belongs to
  return lines.map((line) =>
    `--curve-${line.color ?? ((line.is_chance ? number : ++number) - 1) % 6 + 1}`);
}

function writeLegend(chart, panel, colors) {
  chart.note.textContent = panel.note;
  const now = (line) => shortNumber(line.y.at(-1), panel.is_share);
  chart.legend.replaceChildren(...panel.lines.flatMap((line, i) => {
    if (line.is_chance) return [];
    const item = document.createElement("li");
    const swatch = document.createElement("span");
    swatch.className = "swatch";
    swatch.style.setProperty("--line", `var(${colors[i]})`);
    const last = document.createElement("b");
    last.textContent = now(line);
    const next = panel.lines[i + 1];
    item.append(swatch, line.name, last, next?.is_chance ? `(chance ${now(next)})` : "");
    return [item];
  }));
  const said = panel.lines.map((line) => `${line.name} ${now(line)}`).join(", ");
  chart.plot.setAttribute("aria-label", `${panel.title} by ${panel.by ?? "step"}; at the end: ${said}`);
}

function traceOf(line, color, isShare) {
  const isSparse = line.x.length <= 60 && !line.is_chance;
  return {
    type: "scatter", name: line.name, x: line.x, y: line.y,
    mode: isSparse ? "lines+markers" : "lines",
    line: { color, width: 2, dash: line.is_chance ? "dot" : "solid" },
    marker: { color, size: line.x.length === 1 ? 8 : 4 },
    hovertemplate: isShare ? "%{y:.1%}" : "%{y:.4g}",
    ...(line.error && { error_y: { type: "data", array: line.error, color, thickness: 1.5, width: 4 } }),
  };
}

function daysOf(panel) { // never the hours between two days, however few there are
  const days = [...new Set(panel.lines.flatMap((line) => line.x))];
  return { type: "date", tickformat: "%-d %b", tickangle: 0, ...(days.length < 7 && { tickvals: days }) };
}

function layoutOf(value, panel) {
  const grid = isDark() ? "rgba(255,255,255,0.09)" : "rgba(15,23,42,0.08)";
  const text = isDark() ? "#a9b2c3" : "#526075";
  const axis = { gridcolor: grid, zeroline: false, tickfont: { color: text, size: 11 }, automargin: true };
  return {
    uirevision: value.run, // the zoom stays as long as the run is the same
    margin: { l: 8, r: 8, t: 8, b: 8 }, showlegend: false, hovermode: "x unified", dragmode: "zoom",
    paper_bgcolor: "rgba(0,0,0,0)", plot_bgcolor: "rgba(0,0,0,0)",
    font: { family: getComputedStyle(root).fontFamily, color: colorOf("--body-text-color"), size: 12 },
    hoverlabel: { bgcolor: colorOf("--background-fill-primary"), bordercolor: grid },
    xaxis: panel.ticks ? {
      ...axis, type: "log", tickvals: panel.ticks, ticktext: panel.ticks.map((x) => x.toLocaleString("en")),
      hoverformat: ",d", title: { text: panel.by, font: { color: text, size: 12 } },
    } : {
      ...axis, range: value.steps ? [0, value.steps] : undefined, nticks: 6, hoverformat: value.hover ?? ",d",
      ...(panel.by === "day" && daysOf(panel)),
    },
    yaxis: { ...axis, nticks: 5, rangemode: "tozero", tickformat: panel.is_share ? ".0%" : "" },
  };
}

async function draw() {
  const value = JSON.parse(props.value || "{}");
  const panels = value.panels ?? [];
  root.dataset.theme = isDark() ? "dark" : "light";
  message.textContent = panels.length ? "" : value.message ?? "";
  hint.hidden = panels.length === 0;
  if (panels.length) await plotly();
  if (!element.isConnected) return;
  for (const [title, chart] of plots) {
    if (!panels.some((panel) => panel.title === title)) {
      chart.remove();
      plots.delete(title);
    }
  }
  for (const [i, panel] of panels.entries()) {
    if (!plots.has(panel.title)) plots.set(panel.title, makeChart(panel.title));
    const chart = plots.get(panel.title);
    if (charts.children[i] !== chart.figure) charts.insertBefore(chart.figure, charts.children[i] ?? null);
    chart.figure.classList.toggle("wide", Boolean(panel.ticks)); // a chart that stands alone
    const colors = colorNames(panel.lines);
    writeLegend(chart, panel, colors);
    const traces = panel.lines.map((line, n) => traceOf(line, colorOf(colors[n]), panel.is_share));
    const options = { displayModeBar: false, showSendToCloud: false, displaylogo: false };
    window.Plotly.react(chart.plot, traces, layoutOf(value, panel), options);
  }
}

let turn = Promise.resolve(); // one drawing after another: an older value never wins
function drawNext() {
  turn = turn.then(draw).catch((error) => {
    message.textContent = `The curves cannot be drawn: ${error.message}`;
  });
}

watch("value", drawNext);
const theme = new MutationObserver(() => (element.isConnected ? drawNext() : theme.disconnect()));
theme.observe(document.body, { attributes: true, attributeFilter: ["class"] });
drawNext();
