// SPDX-License-Identifier: GPL-3.0-or-later
// Putting it together: the address says what to show, every change of it shows that.
const SHOWN = { overview, models, fleet: fleetView, runs: runsView };

function show(quietly) {
  readState();
  const content = document.getElementById("content"), focused = document.activeElement && document.activeElement.id, caret = document.activeElement && document.activeElement.selectionStart;
  forget();
  const index = state.run ? indexOf(state.run) : -1, view = state.view || "overview";
  const parts = index >= 0 ? detail(index) : SHOWN[view]();
  document.getElementById("filters").replaceChildren(filterBar());
  document.getElementById("filters").hidden = index >= 0 || COUNT === 0;
  navigation(view);
  content.replaceChildren(...parts.flat().filter(Boolean));
  if (quietly) restore(focused, caret);
  else if (started) settle(content, index, view);
}

let started = false;

function restore(focused, caret) {
  const element = focused && document.getElementById(focused);
  if (element) {
    element.focus();
    if (element.type === "search") element.setSelectionRange(caret, caret);
  }
  say(document.getElementById("tally").textContent);
}

// After a step to somewhere else: from its top, and said aloud.
function settle(content, index, view) {
  scrollTo(0, 0);
  content.focus({ preventScroll: true });
  say(index >= 0 ? run.text("model", index) + " on " + run.text("host", index) : VIEWS[view] + ", " + document.getElementById("tally").textContent);
}

function navigation(view) {
  const nav = document.getElementById("views");
  nav.hidden = false;
  nav.replaceChildren(...Object.entries(VIEWS).map(([key, name]) => make("a", { href: link({ view: key === "overview" ? null : key, run: null, page: null, sort: null }), "aria-current": key === view ? "page" : null }, name)));
}

// -- light and dark -------------------------------------------------------------------------------------------------------------------

const THEMES = { auto: "Auto", light: "Light", dark: "Dark" };

function remembered() {
  try { return localStorage.getItem("mad-theme") || "auto"; } catch (error) { return "auto"; } // a page from a disk may have no storage
}

function setTheme(name) {
  const button = document.getElementById("theme");
  document.documentElement.dataset.theme = name;
  button.hidden = false;
  button.textContent = "Theme: " + THEMES[name];
  try { localStorage.setItem("mad-theme", name); } catch (error) { /* then it holds for this visit */ }
}

document.getElementById("theme").addEventListener("click", () => {
  const names = Object.keys(THEMES);
  setTheme(names[(names.indexOf(document.documentElement.dataset.theme) + 1) % names.length]);
  show(true);
});
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => show(true));

setTheme(remembered() in THEMES ? remembered() : "auto");
addEventListener("hashchange", () => show());
document.getElementById("foot").append("Made by mad.engine " + (CAMPAIGNS[0] || {}).version + ". This page loads nothing and sends nothing.");
show();
started = true;
