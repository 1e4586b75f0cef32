// SPDX-License-Identifier: GPL-3.0-or-later
// What compare and diagnose said: verdicts with effect and interval, hosts that are off. The page shows them, it judges nothing itself.
const VERDICT_MARKS = { regressed: "\u2715", inconclusive: "?", improved: "\u2713", same: "=", failing: "\u2715", slow: "\u2715", unsteady: "\u2248", rule: "\u2715" };
const MOST_LINES = 300;

function verdictBadge(verdict) {
  return make("span", { class: "badge verdict " + verdict }, make("span", { "aria-hidden": "true" }, VERDICT_MARKS[verdict] + " "), verdict);
}

const shownChange = (ratio) => (ratio === null ? "" : shownShare(ratio - 1, Math.abs(ratio - 1) < 0.0095 ? 2 : 1));

// Whether something that was said of a model and a hardware passes the filters; what the runs do not know passes unless they are narrowed.
function passes() {
  const narrowed = state.model || state.tag || state.q, models = new Set(chosen("campaign", "status", "class", "host", "gpu").map((index) => run.text("model", index)));
  const known = new Set(RUNS.model ? RUNS.model.map((place) => TEXTS[place]) : []);
  return (model, hardware) => (known.has(model) ? models.has(model) : !narrowed) && (!state.gpu || !hardware || hardware === state.gpu);
}

// -- compare --------------------------------------------------------------------------------------------------------------------------

function comparisons() {
  return DATA.comparisons.map((told) => {
    const pass = passes(), lines = told.lines.filter((line) => pass(line.of, line.hardware));
    const one = new Set(lines.map((line) => line.hardware)).size < 2, most = widest(lines);
    const columns = [{ name: "Verdict" }, { name: "Model" }, { name: "Metric", class: "wide" }, one ? null : { name: "Hardware", class: "wide" }, { name: "Before", class: "number wide" },
      { name: "Now", class: "number wide" }, { name: "Change", class: "number" }, { name: "Interval", class: "number wide" }, { name: "", head: make("span", { class: "unseen" }, "Picture of the interval"), class: "wider" }, { name: "Runs", class: "number wider" }].filter(Boolean);
    const rows = lines.slice(0, MOST_LINES).map((line) => verdictRow(line, one, most, told.margin));
    return section("Against " + told.baseline, make("p", {}, verdictCounts(lines)), make("p", { class: "quiet" }, comparedWords(told, lines, one)),
      rows.length ? table("Verdicts of " + told.candidate + " against " + told.baseline, columns, rows, { class: "verdicts" }) : null,
      lines.length > MOST_LINES ? make("p", { class: "quiet" }, "and " + plural(lines.length - MOST_LINES, "more line") + ": narrow the filters") : null,
      hiddenLines(told.lines.length - lines.length), whys(lines), notesOf(told.notes));
  });
}

function verdictCounts(lines) {
  const counts = ["regressed", "inconclusive", "improved", "same"].map((name) => [name, lines.filter((line) => line.verdict === name).length]).filter(([, count]) => count);
  return counts.length ? counts.flatMap(([name, count]) => [make("strong", { class: "told " + name }, count.toLocaleString("en") + " " + name), " "]) : "Nothing to compare.";
}

function comparedWords(told, lines, one) {
  const margin = told.margin === null ? "" : "; less than " + shownShare(told.margin, 3).replace("+", "").replace(/\.?0+(?=\u00a0)/, "") + " counts as the same";
  return told.candidate + " against " + told.baseline + (one && lines.length ? ", on " + (lines[0].hardware || "unknown hardware") : "") + margin + ". The interval holds the true change with " + certainty(lines) + " certainty.";
}

function certainty(lines) {
  const found = [...new Set(lines.map((line) => line.confidence).filter((value) => value !== null))].sort();
  return (found.length ? found : [0.95]).map((value) => Math.round(100 * value)).join(" or ") + "\u00a0%";
}

const shownInterval = (line) => (line.low === null ? "" : shownChange(line.low).replace("\u00a0%", "") + " to " + shownChange(line.high));

// What compare said of one chart's numbers, for its card: verdict, change and interval.
function verdictsOf(series) {
  const alone = DATA.series.filter((other) => other.model === series.model && other.unit === series.unit).length === 1;
  const items = DATA.comparisons.flatMap((told) => told.lines
    .filter((line) => line.model === series.model && line.metric === (series.unit || "performance") && (alone || line.hardware === series.hardware))
    .map((line) => make("li", {}, verdictBadge(line.verdict), " ", make("strong", {}, shownChange(line.effect)),
      make("span", { class: "quiet" }, (line.effect === null ? line.reason : ", interval " + (shownInterval(line) || "none")) + ", " + (DATA.comparisons.length > 1 ? told.candidate + " " : "") + "against " + told.baseline),
      line.args ? make("span", { class: "quiet args" }, line.args) : null)));
  return items.length ? make("ul", { class: "judged", "aria-label": "Verdicts" }, items) : null;
}

function verdictRow(line, one, most, margin) {
  const interval = shownInterval(line);
  return make("tr", {}, make("td", {}, verdictBadge(line.verdict)),
    make("th", { scope: "row" }, make("a", { href: link({ view: "models", model: line.of, run: null, page: null }) }, breakable(line.model)), line.args ? make("span", { class: "quiet args" }, line.args) : null,
      make("span", { class: "narrow quiet" }, breakable(shownUnit(line.metric)))),
    make("td", { class: "wide" }, breakable(line.metric), line.better ? null : make("span", { class: "quiet" }, " (direction not declared)")), one ? null : make("td", { class: "wide" }, line.hardware),
    make("td", { class: "number wide" }, shownNumber(line.medians[0]), line.declared ? make("span", { class: "quiet" }, " declared") : null), make("td", { class: "number wide" }, shownNumber(line.medians[1])),
    make("td", { class: "number strong" }, shownChange(line.effect) || "\u2013", make("span", { class: "narrow quiet" }, interval)),
    make("td", { class: "number wide" }, interval || "none"), make("td", { class: "wider" }, intervalPicture(line, most, margin)),
    make("td", { class: "number wider" }, line.runs.map((count) => (count === null ? "" : count)).join(" : ")));
}

// The largest change that the pictures of intervals show, at most a doubling: what is wider runs out of them.
function widest(lines) {
  const ends = lines.flatMap((line) => [line.low, line.high, line.effect]).filter((value) => value !== null).map((value) => Math.abs(value - 1));
  return Math.min(1, 1.1 * ends.reduce((a, b) => Math.max(a, b), 0.03));
}

function intervalPicture(line, most, margin) {
  if (line.effect === null) return null;
  const at = (ratio) => Math.max(0, Math.min(160, 80 + (80 * (ratio - 1)) / most));
  return draw("svg", { class: "interval " + line.verdict, viewBox: "0 0 160 20", "aria-hidden": "true" },
    margin ? draw("rect", { class: "margin", x: at(1 - margin), y: 0, width: at(1 + margin) - at(1 - margin), height: 20 }) : null,
    draw("line", { class: "rule", x1: 80, x2: 80, y1: 0, y2: 20 }),
    line.low === null ? null : draw("line", { class: "span", x1: at(line.low), x2: at(line.high), y1: 10, y2: 10 }),
    draw("circle", { class: "dot", cx: at(line.effect), cy: 10, r: 3.5 }));
}

// Each reason once, with those it concerns, and how many runs would probably decide.
function whys(lines) {
  const groups = new Map();
  for (const line of lines) if (line.reason) groups.set(line.reason, [...(groups.get(line.reason) || []), (line.model + " " + line.args).trim()]);
  if (!groups.size) return null;
  const items = [...groups].map(([reason, names]) => make("li", {}, reason + ": ", make("span", { class: "quiet" }, [...new Set(names)].slice(0, 8).join(", ") + (names.length > 8 ? " and " + (names.length - 8) + " more" : ""))));
  const needed = lines.map((line) => line.repeats_needed).filter(Boolean), most = needed.reduce((a, b) => Math.max(a, b), 0);
  return [make("h3", {}, "Why it is inconclusive"), make("ul", { class: "whys" }, items),
    needed.length ? make("p", { class: "quiet" }, plural(needed.length, "line") + " would probably be decided with mad_repeats=" + most + " on both sides.") : null];
}

const hiddenLines = (count) => (count ? make("p", { class: "quiet" }, plural(count, "line") + " hidden by the filters.") : null);
const notesOf = (notes) => (notes.length ? make("ul", { class: "whys" }, notes.map((note) => make("li", {}, note))) : null);

// -- diagnose -------------------------------------------------------------------------------------------------------------------------

function diagnoses() {
  return DATA.diagnoses.map((told) => {
    const hosts = told.hosts.filter((host) => (!state.host || host.host === state.host) && (!state.gpu || host.hardware === state.gpu));
    const counts = Object.entries(told.counts).map(([name, count]) => count.toLocaleString("en") + " " + name).join(", ");
    const columns = [{ name: "Host" }, { name: "Verdict" }, { name: "What speaks against it" }, { name: "Value", class: "number wide" }, { name: "Its class", class: "number wide" }, { name: "Off by", class: "number" }, { name: "Runs", class: "number wider" }];
    const rows = hosts.flatMap((host) => host.evidence.map((one, place) => evidenceRow(host, one, place)));
    return section("Hosts of " + told.candidate, make("p", { class: "quiet" }, "Each against the core of its own hardware class: " + (counts || "nothing to judge") + "."),
      rows.length ? table("Hosts that are off", columns, rows.slice(0, MOST_LINES)) : make("p", { class: "quiet" }, told.hosts.length ? "None of them passes the filters." : "No host is off."),
      rows.length > MOST_LINES ? make("p", { class: "quiet" }, "and " + plural(rows.length - MOST_LINES, "more line") + ": narrow the filters") : null,
      told.unjudged.length ? make("p", { class: "quiet" }, "Not judged (" + told.why + "): " + told.unjudged.slice(0, 8).join(", ") + (told.unjudged.length > 8 ? " and " + (told.unjudged.length - 8) + " more" : "")) : null,
      notesOf(told.notes));
  });
}

function evidenceRow(host, one, place) {
  return make("tr", {}, place ? make("td", {}) : make("th", { scope: "row" }, make("a", { href: link({ view: "runs", host: host.host, page: null, run: null }) }, breakable(host.host))),
    make("td", {}, verdictBadge(one.kind)), make("td", {}, breakable((one.model + " " + one.args).trim()), make("span", { class: "quiet loose" }, " ", breakable(one.metric))),
    make("td", { class: "number wide" }, shownNumber(one.value)), make("td", { class: "number wide" }, shownNumber(one.usual)),
    make("td", { class: "number strong" }, one.kind === "failing" ? "all fail" : one.deviation === null ? "" : shownShare(one.deviation)), make("td", { class: "number wider" }, one.runs));
}

// The verdict on a host, for its line in the heat map.
function hostVerdict(name) {
  for (const told of DATA.diagnoses) for (const host of told.hosts) if (host.host === name) return host.verdict;
  return "";
}
