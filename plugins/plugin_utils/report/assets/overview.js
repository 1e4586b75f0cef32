// SPDX-License-Identifier: GPL-3.0-or-later
// The overview: what came out, what failed and why, and each model in one line.
function overview() {
  const found = chosen();
  return [tiles(found), comparisons(), diagnoses(), make("div", { class: "columns" }, failureClasses(found), reasons(found)), modelTable(found), aboutCampaigns()];
}

function counted(found) {
  const counts = [0, 0, 0, 0];
  for (const index of found) counts[RUNS.status[index]]++;
  return Object.fromEntries(STATUSES.map((status, place) => [status, counts[place]]));
}

function tiles(found) {
  const counts = counted(found), hosts = new Set(found.map((index) => RUNS.host[index])), models = new Set(found.map((index) => RUNS.model[index]));
  const times = found.map((index) => RUNS.started[index]).filter((time) => time !== null);
  const ends = found.map((index) => (RUNS.started[index] === null ? null : RUNS.started[index] + (RUNS.seconds[index] || 0))).filter((time) => time !== null);
  const wall = times.length ? ends.reduce((a, b) => Math.max(a, b)) - times.reduce((a, b) => Math.min(a, b)) : null;
  const status = (name, word) => (counts[name] || name === "SUCCESS" || name === "FAILURE"
    ? tile(counts[name].toLocaleString("en"), word, counts[name] ? name.toLowerCase() : "", link({ view: "runs", status: name, page: null, run: null })) : null);
  const share = found.length ? Math.floor((1000 * counts.SUCCESS) / found.length) / 10 : 0; // 99.96 is not 100
  return make("section", { class: "tiles", "aria-label": "Summary" },
    tile(found.length.toLocaleString("en"), found.length === 1 ? "run" : "runs", "", link({ view: "runs", page: null, run: null })),
    status("SUCCESS", "succeeded" + (found.length ? ", " + share + "\u00a0%" : "")), status("FAILURE", "failed"), status("SKIPPED", "skipped"), status("PENDING", "without a row yet"),
    tile(models.size.toLocaleString("en"), models.size === 1 ? "model" : "models", "", link({ view: "models", run: null })),
    tile(hosts.size.toLocaleString("en"), hosts.size === 1 ? "host" : "hosts", "", link({ view: "fleet", run: null })),
    wall === null || CAMPAIGNS.length > 1 ? null : tile(shownSeconds(wall), "first start to last end", ""));
}

function tile(value, label, kind, address) {
  const content = [make("strong", {}, value), make("span", {}, label)];
  return address ? make("a", { class: "tile " + kind, href: address }, content) : make("div", { class: "tile " + kind }, content);
}

function failureClasses(found) {
  const counts = new Map();
  for (const index of found) if (run.status(index) === "FAILURE") counts.set(run.text("class", index), (counts.get(run.text("class", index)) || 0) + 1);
  const sorted = [...counts].sort((a, b) => b[1] - a[1]), most = sorted.length ? sorted[0][1] : 1;
  if (!sorted.length) return section("Failures by class", make("p", { class: "quiet" }, found.length ? "No run failed." : "No run to show."));
  const rows = sorted.map(([name, count]) => make("tr", {},
    make("th", { scope: "row" }, make("a", { href: link({ view: "runs", class: name, status: "FAILURE", page: null }) }, name)),
    make("td", { class: "bar-cell" }, bar(count / most)), make("td", { class: "number" }, count.toLocaleString("en"))));
  return section("Failures by class", table("Failed runs by failure class", [{ name: "Class" }, { name: "Share", head: make("span", { class: "unseen" }, "Share") }, { name: "Runs", class: "number" }], rows));
}

function bar(share) {
  return draw("svg", { class: "bar", viewBox: "0 0 100 8", preserveAspectRatio: "none", "aria-hidden": "true" },
    draw("rect", { class: "bar-back", width: 100, height: 8 }), draw("rect", { class: "bar-fill", width: Math.max(0.8, 100 * share), height: 8 }));
}

const MOST_REASONS = 12;

// The same reason on many hosts stands once; numbers in it do not make it another one.
function reasons(found) {
  const groups = new Map();
  for (const index of found) {
    if (run.status(index) !== "FAILURE" && run.status(index) !== "SKIPPED") continue;
    const key = (run.text("class", index) || "skipped") + ": " + run.text("reason", index).replaceAll(/[0-9]+/g, "#");
    if (!groups.has(key)) groups.set(key, []);
    groups.get(key).push(index);
  }
  const sorted = [...groups.values()].sort((a, b) => b.length - a.length);
  if (!sorted.length) return section("Most frequent reasons", make("p", { class: "quiet" }, "Nothing to explain."));
  const items = sorted.slice(0, MOST_REASONS).map((members) => {
    const first = members[0], hosts = new Set(members.map((index) => RUNS.host[index])).size;
    return make("li", {}, make("div", { class: "reason-head" }, badge(run.status(first), run.text("class", first)),
      make("span", { class: "quiet" }, plural(members.length, "run") + " on " + plural(hosts, "host")),
      make("a", { href: link({ view: "runs", run: keyOf(first) }), "aria-label": "Example: " + run.text("model", first) + " on " + run.text("host", first) }, "example")),
      make("p", { class: "reason" }, run.text("reason", first)));
  });
  const left = sorted.length - items.length;
  return section("Most frequent reasons", make("ol", { class: "reasons" }, items), left > 0 ? make("p", { class: "quiet" }, "and " + plural(left, "rarer reason") + ": see Runs") : null);
}

// -- models ---------------------------------------------------------------------------------------------------------------------------

function modelTable(found) {
  const groups = new Map();
  for (const index of found) {
    const key = [RUNS.model[index], RUNS.unit[index], RUNS.hardware[index]].join();
    const model = RUNS.model[index];
    if (!groups.has(model)) groups.set(model, { model, runs: [], values: new Map() });
    const group = groups.get(model);
    group.runs.push(index);
    if (run.status(index) === "SUCCESS" && RUNS.value[index] !== null) {
      if (!group.values.has(key)) group.values.set(key, []);
      group.values.get(key).push(index);
    }
  }
  const rows = [...groups.values()].sort((a, b) => alike(TEXTS[a.model], TEXTS[b.model])).flatMap(modelRows);
  if (!rows.length) return null;
  const columns = [{ name: "Model" }, { name: "Runs", class: "number" }, { name: "Failed", class: "number" }, { name: "Hardware", class: "wide" },
    { name: "Median", class: "number" }, { name: "Metric", class: "wide" }, { name: "Spread", class: "number wide" }, { name: "Each run", class: "strip-cell wide" }];
  return section("Models", table("Models: runs, failures, median result", columns, rows.slice(0, MOST_MODELS), { class: "models" }),
    rows.length > MOST_MODELS ? make("p", { class: "quiet" }, "and " + plural(rows.length - MOST_MODELS, "more line") + ": narrow the filters") : null);
}

const MOST_MODELS = 500;

function modelRows(group) {
  const failed = group.runs.filter((index) => run.status(index) === "FAILURE").length;
  const parts = group.values.size ? [...group.values.values()] : [[]];
  return parts.map((members, place) => {
    const values = members.map((index) => RUNS.value[index]), middle = median(values);
    const more = members.length ? RUNS.results[members[0]] - 1 : 0;
    const spread = values.length > 1 && middle ? deviation(values) / Math.abs(middle) : null;
    return make("tr", {},
      place ? make("td", {}) : make("th", { scope: "row" }, make("a", { href: link({ view: "models", model: TEXTS[group.model], run: null }) }, breakable(TEXTS[group.model]))),
      make("td", { class: "number" }, place ? "" : group.runs.length.toLocaleString("en")),
      make("td", { class: "number" + (failed ? " bad" : "") }, place ? "" : failed.toLocaleString("en")),
      make("td", { class: "wide" }, members.length ? run.text("hardware", members[0]) : ""),
      make("td", { class: "number" }, members.length ? shownNumber(middle) : "\u2013", members.length ? make("span", { class: "narrow quiet loose" }, breakable(shownUnit(run.text("unit", members[0]))), make("br"), run.text("hardware", members[0])) : null),
      make("td", { class: "wide" }, members.length ? breakable(run.text("unit", members[0])) : make("span", { class: "quiet" }, "no number"),
        more > 0 ? make("span", { class: "quiet" }, " and " + more + " more") : null),
      make("td", { class: "number wide" }, spread === null ? "" : shownShare(spread).replace("+", "\u00b1")),
      make("td", { class: "strip-cell wide" }, values.length > 1 ? strip(values) : null));
  });
}

function deviation(values) {
  const mean = values.reduce((sum, value) => sum + value, 0) / values.length;
  return Math.sqrt(values.reduce((sum, value) => sum + (value - mean) ** 2, 0) / (values.length - 1));
}

// Every value as a tick on one line, the median taller.
function strip(values) {
  const low = values.reduce((a, b) => Math.min(a, b)), high = values.reduce((a, b) => Math.max(a, b)), width = high - low || 1;
  const at = (value) => 2 + (156 * (value - low)) / width;
  const ticks = thin([...values].sort((a, b) => a - b), 400).map((value) => draw("line", { class: "tick", x1: at(value), x2: at(value), y1: 6, y2: 14 }));
  return draw("svg", { class: "strip", viewBox: "0 0 160 20", role: "img", "aria-label": "from " + shownNumber(low) + " to " + shownNumber(high) },
    draw("line", { class: "rule", x1: 0, x2: 160, y1: 10, y2: 10 }), ticks,
    draw("line", { class: "tick middle", x1: at(median(values)), x2: at(median(values)), y1: 2, y2: 18 }));
}

// At most so many of them, evenly taken.
function thin(values, most) {
  return values.length <= most ? values : Array.from({ length: most }, (unused, place) => values[Math.round((place * (values.length - 1)) / (most - 1))]);
}

// -- where it comes from --------------------------------------------------------------------------------------------------------------

function aboutCampaigns() {
  const parts = CAMPAIGNS.map((campaign) => make("div", { class: "about" },
    CAMPAIGNS.length > 1 ? make("h3", {}, campaign.name) : null,
    facts([["Began", shownTime(campaign.started || campaign.created)], ["Ended", shownTime(campaign.finished)], ["Repository", campaign.repository],
      ["Commit", campaign.commit ? campaign.commit + (campaign.dirty ? " with uncommitted changes" : "") : "unknown: no git, or no git repository"],
      ["mad.engine", campaign.version], ["Folder", campaign.folder]]),
    campaign.resume ? copyable("Take this campaign up again", campaign.resume) : null,
    campaign.notes.length ? make("details", {}, make("summary", {}, plural(campaign.notes.length, "note")), make("ul", {}, campaign.notes.map((note) => make("li", {}, note)))) : null));
  return section(CAMPAIGNS.length > 1 ? "Campaigns" : "Campaign", parts);
}
