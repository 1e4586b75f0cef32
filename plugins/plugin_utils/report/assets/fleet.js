// SPDX-License-Identifier: GPL-3.0-or-later
// The view of the fleet: hosts by metrics, each cell against the median of the hosts of its hardware.
const HOSTS_PER_PAGE = 100;
const STEPS = [0.01, 0.02, 0.05, 0.1]; // differences at which a cell becomes darker

function fleetView() {
  const { hosts, hardware, columns, cells } = DATA.fleet;
  if (!hosts.length) return [empty("No hosts", "There is no run to show.")];
  const rows = chosen("status", "class"), wantedHosts = new Set(), wantedModels = new Set();
  for (const index of rows) {
    wantedHosts.add(run.text("host", index));
    wantedModels.add(run.text("model", index));
  }
  const shown = columns.map((column, place) => place).filter((place) => wantedModels.has(columns[place][3]));
  const byHost = new Map();
  for (const cell of cells) {
    if (!byHost.has(cell[0])) byHost.set(cell[0], new Map());
    byHost.get(cell[0]).set(cell[1], cell);
  }
  const list = hosts.map((name, place) => ({ name, place, hardware: hardware[place], cells: byHost.get(place) || new Map() })).filter((host) => wantedHosts.has(host.name));
  for (const host of list) [host.failed, host.worst] = judged(host, shown, columns);
  list.sort(state.sort === "host" ? (a, b) => alike(a.name, b.name)
    : (a, b) => b.worst - a.worst || b.failed - a.failed || alike(a.name, b.name));
  const pages = Math.max(1, Math.ceil(list.length / HOSTS_PER_PAGE)), page = Math.min(pages, Math.max(1, Number(state.page) || 1));
  const part = list.slice((page - 1) * HOSTS_PER_PAGE, page * HOSTS_PER_PAGE);
  return [make("section", { class: "card", "aria-labelledby": "s-fleet" }, make("h2", { id: "s-fleet" }, "Hosts by metrics"), fleetKey(),
    table("Hosts by metrics: difference from the median of hosts with the same hardware", fleetHead(shown, columns), part.map((host) => hostRow(host, shown, columns)), { class: "heat" }),
    pager(page, pages, plural(list.length, "host")))];
}

// (failed runs, the largest difference to the worse side), what hosts are sorted by.
function judged(host, shown, columns) {
  let failed = 0, worst = 0;
  for (const place of shown) {
    const cell = host.cells.get(place);
    if (!cell) continue;
    failed += cell[5];
    if (cell[3] !== null) worst = Math.max(worst, worseBy(cell[3], columns[place][2]));
  }
  return [failed, worst];
}

// How much worse a difference is; where nobody says which direction is better, any difference is.
const worseBy = (difference, better) => (better === "higher" ? -difference : better === "lower" ? difference : Math.abs(difference));

function fleetKey() {
  const sample = (kind, step, text) => make("span", { class: "sample" }, make("span", { class: "swatch " + kind + step, "aria-hidden": "true" }), text);
  return make("div", { class: "heat-key" },
    make("p", { class: "quiet" }, "Difference from the median of the hosts with the same hardware. Worst hosts first; ",
      make("a", { href: link({ sort: state.sort === "host" ? null : "host", page: null }) }, state.sort === "host" ? "sort by difference" : "sort by name"), "."),
    make("p", { class: "samples" }, sample("worse", 4, "worse by 10 % and more"), sample("worse", 2, "2 %"), sample("near", 0, "within 1 %"), sample("better", 2, "2 %"), sample("better", 4, "better by 10 % and more"),
      make("span", { class: "sample" }, make("span", { class: "lost", "aria-hidden": "true" }, MARKS.FAILURE), "failed runs")));
}

function fleetHead(shown, columns) {
  return [{ name: "Host", class: "corner" }, { name: "Hardware", class: "wide" },
    ...shown.map((place) => ({ name: columns[place][0], class: "metric", head: [make("a", { href: link({ view: "models", model: columns[place][3], page: null }) }, breakable(columns[place][0])),
      make("span", { class: "quiet unit" }, breakable(shownUnit(columns[place][1]))), columns[place][2] ? null : make("span", { class: "unseen" }, " direction not declared")] }))];
}

function hostRow(host, shown, columns) {
  return make("tr", {}, make("th", { scope: "row", class: "corner" }, make("a", { href: link({ view: "runs", host: host.name, page: null, sort: null }) }, breakable(host.name)), hostBadge(host.name)),
    make("td", { class: "wide" }, host.hardware), shown.map((place) => heatCell(host.cells.get(place), columns[place])));
}

function hostBadge(name) {
  const verdict = hostVerdict(name);
  return verdict ? [" ", verdictBadge(verdict)] : null;
}

function heatCell(cell, column) {
  if (!cell) return make("td", { class: "cell" }, make("span", { class: "unseen" }, "not run"));
  const [, , value, difference, count, failed] = cell;
  const lost = failed ? make("span", { class: "lost" }, MARKS.FAILURE + (failed > 1 ? failed : ""), make("span", { class: "unseen" }, " failed ")) : null;
  const text = difference === null ? shownNumber(value) : shownShare(difference);
  const title = [value === null ? "no number" : shownNumber(value) + " " + column[1], count ? plural(count, "run") : "", failed ? failed + " failed" : ""].filter(Boolean).join(", ");
  return make("td", { class: "cell number " + shade(difference, column[2]), title }, text, text && lost ? " " : null, lost);
}

function shade(difference, better) {
  if (difference === null) return "";
  const step = STEPS.filter((least) => Math.abs(difference) >= least).length;
  if (!step) return "near0";
  return (better ? (worseBy(difference, better) > 0 ? "worse" : "better") : "other") + step;
}
