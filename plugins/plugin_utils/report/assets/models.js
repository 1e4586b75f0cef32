// SPDX-License-Identifier: GPL-3.0-or-later
// The view of models: a chart for each model, metric and hardware, drawn when it comes into sight.
const PER_PAGE = 24;
const DIRECTIONS = { higher: "higher is better", lower: "lower is better", "": "direction not declared" };
let drawn = [];

function models() {
  const found = seriesShown();
  if (!found.length) return [empty("No numbers", "No run that passes the filters printed a number.")];
  const pages = Math.ceil(found.length / PER_PAGE), page = Math.min(pages, Math.max(1, Number(state.page) || 1));
  const cards = found.slice((page - 1) * PER_PAGE, page * PER_PAGE).map(modelCard);
  return [chartKey(), make("div", { class: "charts" }, cards), pager(page, pages, plural(found.length, "chart"))];
}

function chartKey() {
  const sample = (picture, text) => make("li", {}, draw("svg", { class: "key", viewBox: "0 0 18 14", "aria-hidden": "true" }, picture), text);
  return make("ul", { class: "legend", "aria-label": "How to read the charts" },
    sample([draw("line", { class: "ink", x1: 0, x2: 18, y1: 7, y2: 7 }), draw("circle", { class: "ink", cx: 9, cy: 7, r: 3 })], "mean of a campaign"),
    sample([draw("rect", { class: "ink pale", x: 0, y: 2, width: 18, height: 10 }), draw("path", { class: "ink", d: "M9 2V12M6 2H12M6 12H12" })], "its 95\u00a0% interval (Student's t)"),
    sample([4, 9, 14].map((x) => draw("circle", { class: "ink dim", cx: x, cy: 5 + (x % 5), r: 1.6 })), "one run"),
    sample(draw("path", { class: "cross", d: "M5 3L13 11M13 3L5 11" }), "runs failed"),
    sample(draw("path", { class: "dash", d: "M9 0V14" }), "level changed"),
    make("li", { class: "quiet" }, "Drag to zoom, double-click to go back."));
}

function seriesShown() {
  const wanted = new Set(chosen("host", "status", "class", "campaign").map((index) => run.text("model", index)));
  const found = DATA.series.filter((line) => wanted.has(line.of) && (!state.gpu || line.hardware === state.gpu));
  const order = (a, b) => alike(a.model, b.model) || alike(a.unit, b.unit) || alike(a.hardware, b.hardware);
  return state.sort === "change" ? found.sort((a, b) => change(b) - change(a) || order(a, b)) : found.sort(order);
}

const change = (line) => Math.max(0, ...line.changes.map(([, share]) => Math.abs(share)));

function modelCard(line) {
  const box = make("div", { class: "plot" }), tip = make("div", { class: "tip", hidden: true });
  const frame = make("div", { class: "frame", tabindex: "0", role: "group", "aria-roledescription": "chart", "aria-label": spoken(line) }, box, tip);
  const late = make("div", {}), title = "c-" + DATA.series.indexOf(line);
  const data = make("details", { class: "data" }, make("summary", {}, "Data"), late);
  data.addEventListener("toggle", () => late.replaceChildren(pointTable(line)), { once: true });
  sight.observe(box);
  waiting.set(box, () => drawn.push(keys(frame, chart(line, single(line), box, tip), line)));
  return make("figure", { class: "card chart", "aria-labelledby": title },
    make("figcaption", {}, make("h2", { id: title }, breakable(line.model)),
      make("p", { class: "quiet" }, breakable(line.unit || "no unit"), ", " + DIRECTIONS[line.better]), make("p", { class: "quiet" }, line.hardware)),
    verdictsOf(line), latest(line), frame, data);
}

function spoken(line) {
  const last = line.points[line.points.length - 1];
  return "Chart of " + line.model + " on " + line.hardware + ", " + plural(line.points.length, "campaign") + ". Last: " + sentence(line, last) + ". Arrow keys read the points.";
}

// What changed last, in words.
function latest(line) {
  if (!line.changes.length) return null;
  const [place, share] = line.changes[line.changes.length - 1], kind = verdict(line, share);
  return make("p", { class: "change " + kind }, make("strong", {}, shownShare(share)), " since " + line.points[place][P.campaign] + (kind ? ", " + kind : ""));
}

// [point, value] of each single run that passes the filters, where the run printed nothing but this number.
function single(line) {
  const places = new Map(line.points.map((point, place) => [point[P.campaign], place])), found = [];
  for (const index of chosen()) {
    if (run.status(index) !== "SUCCESS" || RUNS.value[index] === null || run.text("model", index) !== line.model) continue;
    if (run.text("unit", index) === line.unit && run.text("hardware", index) === line.hardware) found.push([places.get(run.campaign(index).name), RUNS.value[index]]);
  }
  return thin(found, 3000);
}

function pointTable(line) {
  const columns = ["Campaign", "Start", "Mean", "95 % interval", "Runs", "Failed"].map((name, place) => ({ name, class: place > 1 ? "number" : null }));
  const rows = [...line.points].reverse().map((point) => make("tr", {}, make("th", { scope: "row" }, breakable(point[P.campaign])), make("td", {}, shownTime(point[P.time])),
    make("td", { class: "number" }, shownNumber(point[P.mean])), make("td", { class: "number" }, point[P.low] === null ? "one run" : shownNumber(point[P.low]) + " to " + shownNumber(point[P.high])),
    make("td", { class: "number" }, point[P.count]), make("td", { class: "number" }, point[P.failed])));
  return table("Points of " + line.model + " on " + line.hardware + ", newest first", columns, rows);
}

// -- charts appear when they are looked at --------------------------------------------------------------------------------------------

const waiting = new Map();
const sight = new IntersectionObserver((seen) => {
  for (const entry of seen) if (entry.isIntersecting && waiting.has(entry.target)) {
    waiting.get(entry.target)();
    waiting.delete(entry.target);
    sight.unobserve(entry.target);
  }
}, { rootMargin: "300px" });

function forget() {
  for (const plot of drawn) plot.destroy();
  drawn = [];
  waiting.clear();
  sight.disconnect();
}

// Arrow keys move over the points and say them.
function keys(frame, plot, line) {
  let place = -1;
  frame.addEventListener("keydown", (event) => {
    if (event.key === "Escape") plot.setCursor({ left: -10, top: -10 });
    const next = { ArrowRight: place + 1, ArrowLeft: place - 1, Home: 0, End: line.points.length - 1 }[event.key];
    if (next === undefined) return;
    event.preventDefault();
    place = Math.min(line.points.length - 1, Math.max(0, next));
    plot.setCursor({ left: plot.valToPos(line.points[place][P.time], "x"), top: 10 });
    say(line.points[place][P.campaign] + ": " + sentence(line, line.points[place]));
  });
  return plot;
}

addEventListener("resize", () => {
  for (const plot of drawn) {
    const width = plot.root.parentElement.clientWidth;
    plot.setSize({ width, height: heightFor(width) });
  }
});
