// SPDX-License-Identifier: GPL-3.0-or-later
// What is shown: the view and the filters. All of it stands in the fragment of the address, so that a link shows what its sender saw.
const VIEWS = { overview: "Overview", models: "Models", fleet: "Fleet", runs: "Runs" };
const FILTERS = [
  { key: "campaign", label: "Campaign", of: (index) => [run.campaign(index).name] },
  { key: "status", label: "Status", of: (index) => [run.status(index)] },
  { key: "class", label: "Failure class", of: (index) => [run.text("class", index)].filter(Boolean) },
  { key: "model", label: "Model", of: (index) => [run.text("model", index)] },
  { key: "tag", label: "Tag", of: (index) => run.tags(index) },
  { key: "host", label: "Host", of: (index) => [run.text("host", index)] },
  { key: "gpu", label: "Hardware", of: (index) => [run.text("hardware", index)] },
];
const OTHERS = ["view", "run", "q", "sort", "page"];

let state = {};

function readState() {
  const given = new URLSearchParams(location.hash.slice(1));
  state = {};
  for (const key of [...FILTERS.map((filter) => filter.key), ...OTHERS]) if (given.get(key)) state[key] = given.get(key);
  if (!(state.view in VIEWS)) delete state.view;
}

// The fragment for the present state with changes; null takes a key away.
function link(changes) {
  const next = { ...state, ...changes };
  const words = new URLSearchParams();
  for (const key of ["view", "run", ...FILTERS.map((filter) => filter.key), "q", "sort", "page"]) if (next[key]) words.set(key, next[key]);
  return "#" + words;
}

function go(changes, quietly) {
  const address = link(changes);
  if (address === location.hash) return;
  if (!quietly) {
    location.hash = address;
    return;
  }
  history.replaceState(null, "", address);
  show(true);
}

// Indexes of the runs that pass every filter but those named.
function chosen(...without) {
  const active = FILTERS.filter((filter) => state[filter.key] && !without.includes(filter.key));
  const words = without.includes("q") ? [] : (state.q || "").toLowerCase().split(/\s+/).filter(Boolean);
  const found = [];
  for (let index = 0; index < COUNT; index++) {
    if (active.every((filter) => filter.of(index).includes(state[filter.key])) && matches(index, words)) found.push(index);
  }
  return found;
}

function matches(index, words) {
  if (!words.length) return true;
  const text = (["model", "host", "class", "reason", "unit"].map((name) => run.text(name, index)).join(" ") + " " + RUNS.id[index]).toLowerCase();
  return words.every((word) => text.includes(word));
}

const filtered = () => FILTERS.some((filter) => state[filter.key]) || Boolean(state.q);

// -- the bar --------------------------------------------------------------------------------------------------------------------------

function choices(filter) {
  const counted = new Map();
  for (const index of chosen(filter.key)) for (const value of filter.of(index)) counted.set(value, (counted.get(value) || 0) + 1);
  if (state[filter.key] && !counted.has(state[filter.key])) counted.set(state[filter.key], 0);
  return [...counted].sort(([a], [b]) => alike(a, b));
}

function filterBar() {
  const boxes = FILTERS.map((filter) => {
    const found = choices(filter);
    if (found.length < 2 && !state[filter.key]) return null;
    const options = found.map(([value, count]) => make("option", { value, selected: value === state[filter.key] }, value + " (" + count.toLocaleString("en") + ")"));
    const select = make("select", { id: "f-" + filter.key, onchange: (event) => go({ [filter.key]: event.target.value, page: null, run: null }, true) },
      make("option", { value: "" }, "all"), options);
    return make("label", { class: state[filter.key] ? "field active" : "field", for: select.id }, make("span", {}, filter.label), select);
  });
  const search = make("input", { type: "search", id: "f-q", value: state.q || "", placeholder: "model, host, reason, id", autocomplete: "off" });
  let timer = 0;
  search.addEventListener("input", () => {
    clearTimeout(timer);
    timer = setTimeout(() => go({ q: search.value.trim(), page: null, run: null }, true), 200);
  });
  const active = FILTERS.filter((filter) => state[filter.key]).length + (state.q ? 1 : 0);
  const reset = active ? make("a", { class: "reset", href: link({ ...Object.fromEntries(FILTERS.map((filter) => [filter.key, null])), q: null, page: null }) }, "Clear filters") : null;
  const shown = chosen().length;
  const tally = make("p", { class: "tally", id: "tally" }, active ? shown.toLocaleString("en") + " of " + plural(COUNT, "run") : plural(COUNT, "run"));
  return make("details", { class: "filters", open: wide() || keptOpen, ontoggle: (event) => { keptOpen = event.target.open; } },
    make("summary", {}, "Filters", active ? make("span", { class: "count" }, active) : null),
    make("div", { class: "fields" }, make("label", { class: state.q ? "field active" : "field", for: "f-q" }, make("span", {}, "Search"), search), boxes, reset, tally));
}

let keptOpen = false;
const wide = () => matchMedia("(min-width: 48rem)").matches;
