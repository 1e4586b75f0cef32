// SPDX-License-Identifier: GPL-3.0-or-later
// The view of runs: every planned run once, a page at a time.
const RUNS_PER_PAGE = 100;

const by = (name) => (a, b) => alike(run.text(name, a), run.text(name, b));
const byNumber = (name) => (a, b) => (RUNS[name][a] === null) - (RUNS[name][b] === null) || RUNS[name][a] - RUNS[name][b];
const RUN_COLUMNS = [
  { key: "status", name: "Status", order: (a, b) => RUNS.status[a] - RUNS.status[b] || by("class")(a, b), cell: (index) => badge(run.status(index), run.text("class", index)) },
  { key: "model", name: "Model", order: by("model"), row: true, cell: (index) => [make("a", { href: link({ run: keyOf(index) }) }, breakable(run.text("model", index))),
    RUNS.repeat[index] > 1 ? make("span", { class: "quiet" }, " #" + RUNS.repeat[index]) : null, make("span", { class: "narrow quiet" }, breakable(run.text("host", index)))] },
  { key: "host", name: "Host", order: by("host"), class: "wide", cell: (index) => breakable(run.text("host", index)) },
  { key: "gpu", name: "Hardware", order: by("hardware"), class: "wider", cell: (index) => run.text("hardware", index) },
  { key: "value", name: "Result", order: byNumber("value"), class: "number", cell: (index) => shownResult(index) },
  { key: "unit", name: "Metric", order: by("unit"), class: "wide", cell: (index) => [breakable(run.text("unit", index)), RUNS.results[index] > 1 ? make("span", { class: "quiet" }, " and " + (RUNS.results[index] - 1) + " more") : null] },
  { key: "seconds", name: "Time", order: byNumber("seconds"), class: "number wide", cell: (index) => shownSeconds(RUNS.seconds[index]) },
  { key: "started", name: "Start", order: byNumber("started"), class: "wider", cell: (index) => shownTime(RUNS.started[index]) },
  { key: "reason", name: "Reason", order: by("reason"), class: "wider", cell: (index) => make("span", { class: "cut", title: run.text("reason", index) }, run.status(index) === "SUCCESS" ? "" : run.text("reason", index)) },
];

function shownResult(index) {
  return RUNS.value[index] === null ? run.text("text", index) || "\u2013" : shownNumber(RUNS.value[index]);
}

function runsView() {
  const found = chosen();
  if (!found.length) return [empty("No runs", COUNT ? "No run passes the filters." : "This campaign has no runs.")];
  const [name, backwards] = [(state.sort || "").replace("-", ""), (state.sort || "").startsWith("-")];
  const column = RUN_COLUMNS.find((known) => known.key === name);
  if (column) found.sort((a, b) => (backwards ? -1 : 1) * column.order(a, b) || a - b);
  else found.sort((a, b) => RUNS.status[a] - RUNS.status[b] || a - b);
  const pages = Math.ceil(found.length / RUNS_PER_PAGE), page = Math.min(pages, Math.max(1, Number(state.page) || 1));
  const rows = found.slice((page - 1) * RUNS_PER_PAGE, page * RUNS_PER_PAGE).map((index) => make("tr", {}, RUN_COLUMNS.map((known) =>
    make(known.row ? "th" : "td", { class: known.class, scope: known.row ? "row" : null }, known.cell(index)))));
  return [make("section", { class: "card", "aria-labelledby": "s-runs" }, make("h2", { id: "s-runs" }, "Runs"),
    table("Table of runs", RUN_COLUMNS.map(sortable), rows, { class: "runs" }), pager(page, pages, plural(found.length, "run")))];
}

function sortable(column) {
  const now = state.sort === column.key ? "ascending" : state.sort === "-" + column.key ? "descending" : null;
  const next = now === "ascending" ? "-" + column.key : column.key;
  return { name: column.name, class: column.class, sorted: now, head: make("a", { class: "sorter", href: link({ sort: next, page: null }) }, column.name,
    make("span", { "aria-hidden": "true" }, now === "ascending" ? " \u2191" : now === "descending" ? " \u2193" : "")) };
}

function pager(page, pages, what) {
  if (pages < 2) return make("p", { class: "pager" }, what);
  const step = (target, text) => (target < 1 || target > pages ? null : make("a", { href: link({ page: target === 1 ? null : target }) }, text));
  return make("nav", { class: "pager", "aria-label": "Pages" }, step(page - 1, "Previous"), make("span", {}, "Page " + page + " of " + pages + ", " + what), step(page + 1, "Next"));
}

function empty(title, text) {
  return make("section", { class: "card empty" }, make("h2", {}, title), make("p", { class: "quiet" }, text),
    filtered() ? make("p", {}, make("a", { href: "#view=" + (state.view || "overview") }, "Clear filters")) : null);
}
