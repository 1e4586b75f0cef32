// SPDX-License-Identifier: GPL-3.0-or-later
// The data of the page: columns out of the JSON element, details of runs out of compressed chunks, unpacked when they are wanted.
"use strict";
const DATA = JSON.parse(document.getElementById("data").textContent);
const TEXTS = DATA.texts;
const STATUSES = ["FAILURE", "SKIPPED", "PENDING", "SUCCESS"];
const RUNS = DATA.runs;
const COUNT = (RUNS.id || []).length;
const CAMPAIGNS = DATA.campaigns;

const run = {
  text: (column, index) => TEXTS[RUNS[column][index]],
  status: (index) => STATUSES[RUNS.status[index]],
  tags: (index) => RUNS.tags[index].map((place) => TEXTS[place]),
  campaign: (index) => CAMPAIGNS[RUNS.campaign[index]],
};

// A key that names one run in the address of the page: its id, with the campaign where there are several.
function keyOf(index) {
  return CAMPAIGNS.length > 1 ? run.campaign(index).name + "/" + RUNS.id[index] : RUNS.id[index];
}

function indexOf(key) {
  for (let index = 0; index < COUNT; index++) if (keyOf(index) === key) return index;
  return -1;
}

const chunks = new Map();

async function unpacked(number) {
  const packed = atob(document.getElementById("details-" + number).textContent);
  const bytes = Uint8Array.from(packed, (character) => character.charCodeAt(0));
  const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("deflate"));
  return JSON.parse(await new Response(stream).text());
}

// The details of one run; rejects where the browser is too old to unpack them.
async function detailsOf(index) {
  const number = Math.floor(index / DATA.chunk);
  if (!chunks.has(number)) chunks.set(number, unpacked(number));
  return (await chunks.get(number))[index % DATA.chunk];
}

// -- text for people ------------------------------------------------------------------------------------------------------------------

const collator = new Intl.Collator("en", { numeric: true });
const alike = (a, b) => collator.compare(a, b);
const plural = (count, word) => count.toLocaleString("en") + " " + word + (count === 1 ? "" : "s");

function shownNumber(value) {
  if (value === null || value === undefined || !Number.isFinite(value)) return "";
  const size = Math.abs(value);
  if (size !== 0 && (size < 1e-3 || size >= 1e15)) return value.toExponential(3);
  if (Number.isInteger(value) || size >= 1e5) return Math.round(value).toLocaleString("en");
  return Number(value.toPrecision(5)).toLocaleString("en", { maximumFractionDigits: 10 });
}

function shownSeconds(value) {
  if (value === null || value === undefined) return "";
  if (value < 9.95) return value.toFixed(1) + " s";
  if (value < 60) return Math.round(value) + " s";
  const whole = Math.round(value), hours = Math.floor(whole / 3600), minutes = Math.floor(whole / 60) % 60;
  const two = (number) => String(number).padStart(2, "0");
  if (hours >= 48) return Math.floor(hours / 24) + " d " + (hours % 24) + " h";
  return hours ? hours + "h" + two(minutes) + "m" : minutes + "m" + two(whole % 60) + "s";
}

function shownShare(value, digits) {
  if (value === null || value === undefined || !Number.isFinite(value)) return "";
  const text = (100 * value).toFixed(digits === undefined ? 1 : digits);
  return (Number(text) > 0 ? "+" : Number(text) < 0 ? "\u2212" : "") + text.replace("-", "") + "\u00a0%";
}

function shownTime(seconds) {
  return seconds === null || seconds === undefined ? "" : new Date(seconds * 1000).toISOString().slice(0, 16).replace("T", " ") + " UTC";
}

function shownBytes(value) {
  if (!Number.isFinite(value)) return "";
  const units = ["B", "kB", "MB", "GB", "TB"];
  let place = 0;
  for (; value >= 1000 && place < units.length - 1; place++) value /= 1000;
  return (place && value < 10 ? value.toFixed(1) : Math.round(value)) + " " + units[place];
}

const UNITS = { "_per_second": "/s", "_per_sec": "/s" };
// samples_per_second is written samples/s: the unit's own name stays in tables and hover text.
function shownUnit(unit) {
  for (const [ending, short] of Object.entries(UNITS)) if (unit.endsWith(ending)) return unit.slice(0, -ending.length).replaceAll("_", " ") + short;
  return unit.replaceAll("_", " ");
}

function median(values) {
  if (!values.length) return null;
  const sorted = [...values].sort((a, b) => a - b), middle = sorted.length >> 1;
  return sorted.length % 2 ? sorted[middle] : (sorted[middle - 1] + sorted[middle]) / 2;
}
