// SPDX-License-Identifier: GPL-3.0-or-later
// Making elements. Text is only ever set as text: nothing here, and nothing that uses it, takes markup.
const SVG = "http://www.w3.org/2000/svg";

function fill(element, attributes, children) {
  for (const [name, value] of Object.entries(attributes || {})) {
    if (value === null || value === undefined || value === false) continue;
    if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else element.setAttribute(name, value === true ? "" : String(value));
  }
  for (const child of children.flat(Infinity)) {
    if (child !== null && child !== undefined && child !== false) element.append(child instanceof Node ? child : String(child));
  }
  return element;
}

const make = (name, attributes, ...children) => fill(document.createElement(name), attributes, children);
const draw = (name, attributes, ...children) => fill(document.createElementNS(SVG, name), attributes, children);

const MARKS = { SUCCESS: "\u2713", FAILURE: "\u2715", SKIPPED: "\u2013", PENDING: "\u2026" };

// Status by colour, mark and word: never by colour alone.
function badge(status, failureClass) {
  return make("span", { class: "badge " + status.toLowerCase() },
    make("span", { "aria-hidden": "true" }, MARKS[status] + " "), failureClass || status.toLowerCase());
}

// A table in a region that scrolls by itself and can be reached with the keyboard. `columns`: [{name, class, title}].
function table(caption, columns, rows, options) {
  const head = columns.map((column) => make("th", { scope: "col", class: column.class, "aria-sort": column.sorted || null }, column.head || column.name));
  return make("div", { class: "scroll " + ((options || {}).class || ""), tabindex: "0", role: "region", "aria-label": caption },
    make("table", {}, make("caption", { class: (options || {}).shown ? null : "unseen" }, caption),
      make("thead", {}, make("tr", {}, head)), make("tbody", {}, rows)));
}

// Rows of name and value, without those that say nothing.
function facts(pairs) {
  const told = pairs.filter(([, value]) => value !== null && value !== undefined && value !== "");
  return told.length ? make("dl", { class: "facts" }, told.map(([name, value]) => make("div", {}, make("dt", {}, name), make("dd", {}, value)))) : null;
}

function section(title, ...children) {
  const id = "s-" + title.toLowerCase().replaceAll(/[^a-z0-9]+/g, "-");
  return make("section", { "aria-labelledby": id, class: "card" }, make("h2", { id }, title), children);
}

// Text with a button that copies it.
function copyable(label, text) {
  const box = make("code", {}, text);
  const button = make("button", { type: "button", class: "small", onclick: () => copy(text, box, button) }, "Copy");
  button.setAttribute("aria-label", "Copy: " + label);
  return make("div", { class: "command" }, make("div", { class: "command-head" }, make("span", {}, label), button), make("pre", {}, box));
}

async function copy(text, box, button) {
  try {
    await navigator.clipboard.writeText(text);
  } catch (error) { // a page that was opened from a disk may not be allowed to: select it instead
    const range = document.createRange();
    range.selectNodeContents(box);
    getSelection().removeAllRanges();
    getSelection().addRange(range);
    document.execCommand("copy");
  }
  button.textContent = "Copied";
  say("Copied");
  setTimeout(() => { button.textContent = "Copy"; }, 1500);
}

function say(text) {
  document.getElementById("live").textContent = text;
}

// Names are long and differ anywhere: let them break after their separators.
function breakable(text) {
  return text.split(/(?<=[/_.\-:])/).flatMap((part, place) => (place ? [make("wbr"), part] : [part]));
}
