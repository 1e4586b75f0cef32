// SPDX-License-Identifier: GPL-3.0-or-later
// One chart: a model's metric on one hardware over time, with 95 % intervals, every run, failures and changes of level.
// uPlot draws the axes, the line and the cursor; `behind` and `above` draw the rest.
const P = { campaign: 0, time: 1, count: 2, mean: 3, low: 4, high: 5, least: 6, most: 7, failed: 8 };
const css = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();
const heightFor = (width) => Math.round(Math.min(320, Math.max(200, width * 0.46)));

// `dots`: [point of the line, value] of single runs.
function chart(line, dots, box, tip) {
  const rem = parseFloat(getComputedStyle(document.documentElement).fontSize), font = Math.round(rem * 0.84) + "px system-ui, sans-serif";
  const width = box.clientWidth || 480, axis = { stroke: css("--muted"), font, labelFont: font, labelGap: 0, gap: 4,
    grid: { stroke: css("--grid"), width: 1 }, ticks: { stroke: css("--grid"), width: 1, size: 4 } };
  const options = {
    width, height: heightFor(width), padding: [rem, rem * 1.6, 0, 0], legend: { show: false }, tzDate: (time) => uPlot.tzDate(new Date(time * 1e3), "Etc/UTC"),
    scales: { x: { time: true, range: spaced }, y: { range: () => bounds(line) } },
    axes: [
      { ...axis, label: "start of the campaign (UTC)", labelSize: rem * 1.35, size: rem * 1.7, space: rem * 5.2, values: dates },
      { ...axis, label: shownUnit(line.unit) || "value", labelSize: rem * 1.35, space: rem * 2.6, size: (u, values) => rem * (1 + 0.56 * longest(values)), values: (u, values) => values.map(shownNumber) },
    ],
    series: [{}, { stroke: css("--series"), width: 1.75, spanGaps: true, points: { show: false } }],
    cursor: { y: false, drag: { x: true, y: false }, points: { size: 10, width: 2 } },
    hooks: { drawClear: [(u) => behind(u, line)], draw: [(u) => above(u, line, dots, rem)], setCursor: [(u) => hover(u, line, tip)] },
  };
  return new uPlot(options, [line.points.map((point) => point[P.time]), line.points.map((point) => point[P.mean])], box);
}

const longest = (values) => (values || []).reduce((most, text) => Math.max(most, String(text).length), 3);

function spaced(u, low, high) {
  if (u.data[0].length === 1) return [u.data[0][0] - 43200, u.data[0][0] + 43200]; // one point is a day, not the years that uPlot gives it
  const room = (high - low) * 0.05 || 43200;
  return [low - room, high + room];
}

// Failures stand below the numbers, the names of changes above them; noise of half a per cent must not fill the chart.
function bounds(line) {
  const all = line.points.flatMap((point) => [point[P.least], point[P.most], point[P.low], point[P.high]]).filter((value) => value !== null);
  if (!all.length) return [0, 1];
  const low = all.reduce((a, b) => Math.min(a, b)), high = all.reduce((a, b) => Math.max(a, b)), middle = (low + high) / 2;
  const half = Math.max(high - low, Math.abs(middle) * 0.02, Number.MIN_VALUE * 1e6) / 2 || 1;
  return [middle - half * 1.45, middle + half * 1.3];
}

function dates(u, values, place, space, step) {
  let day = "";
  return values.map((value) => {
    const text = new Date(value * 1000).toISOString(), date = text.slice(5, 10), shown = step >= 86400 ? date : date === day ? text.slice(11, 16) : date + " " + text.slice(11, 16);
    day = date;
    return shown;
  });
}

// -- what is drawn --------------------------------------------------------------------------------------------------------------------

function clipped(u, paint) {
  const { ctx } = u, ratio = devicePixelRatio || 1;
  ctx.save();
  ctx.beginPath();
  ctx.rect(u.bbox.left, u.bbox.top, u.bbox.width, u.bbox.height);
  ctx.clip();
  paint(ctx, ratio, (time) => u.valToPos(time, "x", true), (value) => u.valToPos(value, "y", true));
  ctx.restore();
}

// The interval as a band, and a line where the level changed.
function behind(u, line) {
  clipped(u, (ctx, ratio, x, y) => {
    const known = line.points.filter((point) => point[P.low] !== null);
    ctx.fillStyle = css("--series");
    ctx.globalAlpha = 0.14;
    ctx.beginPath();
    known.forEach((point, place) => (place ? ctx.lineTo(x(point[P.time]), y(point[P.high])) : ctx.moveTo(x(point[P.time]), y(point[P.high]))));
    for (const point of [...known].reverse()) ctx.lineTo(x(point[P.time]), y(point[P.low]));
    ctx.fill();
    ctx.globalAlpha = 1;
    ctx.strokeStyle = css("--muted");
    ctx.lineWidth = ratio;
    ctx.setLineDash([4 * ratio, 4 * ratio]);
    for (const [place] of line.changes) stroke(ctx, [[edge(line, place, x), u.bbox.top], [edge(line, place, x), u.bbox.top + u.bbox.height]]);
  });
}

const edge = (line, place, x) => Math.round(place ? (x(line.points[place - 1][P.time]) + x(line.points[place][P.time])) / 2 : x(line.points[place][P.time]));

function above(u, line, dots, rem) {
  clipped(u, (ctx, ratio, x, y) => {
    ctx.strokeStyle = ctx.fillStyle = css("--series");
    ctx.globalAlpha = 0.4;
    dots.forEach(([place, value], number) => disc(ctx, x(line.points[place][P.time]) + (((number * 7) % 11) - 5) * ratio, y(value), 1.8 * ratio));
    ctx.globalAlpha = 1;
    for (const point of line.points) if (point[P.mean] !== null) whisker(ctx, point, x(point[P.time]), y, ratio);
    ctx.strokeStyle = css("--bad");
    ctx.lineWidth = 2 * ratio;
    for (const point of line.points) if (point[P.failed]) cross(ctx, x(point[P.time]), u.bbox.top + u.bbox.height - 9 * ratio, 4 * ratio);
    ctx.font = "600 " + Math.round(rem * 0.86 * ratio) + "px system-ui, sans-serif";
    ctx.textBaseline = "top";
    line.changes.forEach(([place, share]) => {
      const at = edge(line, place, x), text = shownShare(share), right = at + ctx.measureText(text).width + 8 * ratio < u.bbox.left + u.bbox.width;
      ctx.textAlign = right ? "left" : "right";
      ctx.fillStyle = css(verdict(line, share) === "worse" ? "--bad" : verdict(line, share) === "better" ? "--good" : "--ink");
      ctx.fillText(text, at + (right ? 5 : -5) * ratio, u.bbox.top + 3 * ratio);
    });
  });
}

// Whether a change is for the better; "" where nobody says which direction that is.
const verdict = (line, share) => (!line.better || !share ? "" : share > 0 === (line.better === "higher") ? "better" : "worse");

function whisker(ctx, point, x, y, ratio) {
  ctx.lineWidth = 1.5 * ratio;
  if (point[P.low] !== null) {
    stroke(ctx, [[x, y(point[P.low])], [x, y(point[P.high])]]);
    for (const end of [point[P.low], point[P.high]]) stroke(ctx, [[x - 4 * ratio, y(end)], [x + 4 * ratio, y(end)]]);
  }
  disc(ctx, x, y(point[P.mean]), 3.5 * ratio);
}

function disc(ctx, x, y, size) {
  ctx.beginPath();
  ctx.arc(x, y, size, 0, 2 * Math.PI);
  ctx.fill();
}

function cross(ctx, x, y, arm) {
  stroke(ctx, [[x - arm, y - arm], [x + arm, y + arm]]);
  stroke(ctx, [[x - arm, y + arm], [x + arm, y - arm]]);
}

function stroke(ctx, places) {
  ctx.beginPath();
  places.forEach(([x, y], index) => (index ? ctx.lineTo(x, y) : ctx.moveTo(x, y)));
  ctx.stroke();
}

// -- what stands under the cursor -----------------------------------------------------------------------------------------------------

function hover(u, line, tip) {
  const point = u.cursor.left < 0 ? null : line.points[u.cursor.idx];
  tip.hidden = !point;
  if (!point) return;
  tip.replaceChildren(make("strong", {}, point[P.campaign]), make("span", { class: "quiet" }, " " + shownTime(point[P.time])), make("div", {}, sentence(line, point)));
  const left = u.cursor.left + u.bbox.left / (devicePixelRatio || 1), room = tip.parentElement.clientWidth;
  const wanted = left > room / 2 ? left - tip.offsetWidth - 14 : left + 14;
  tip.style.transform = "translate(" + Math.round(Math.max(0, Math.min(room - tip.offsetWidth, wanted))) + "px, 0.2rem)";
}

function sentence(line, point) {
  const parts = [point[P.mean] === null ? "no number" : shownNumber(point[P.mean]) + " " + line.unit];
  if (point[P.low] !== null) parts.push("95 % interval " + shownNumber(point[P.low]) + " to " + shownNumber(point[P.high]));
  parts.push(plural(point[P.count], "run"));
  if (point[P.failed]) parts.push(point[P.failed] + " failed");
  return parts.join(", ");
}
