// SPDX-License-Identifier: GPL-3.0-or-later
// The page of one run: what it printed, why it ended as it did, where and with what, and how to run it again.
function detail(index) {
  const head = make("header", { class: "run-head" }, make("p", {}, make("a", { href: link({ run: null, view: state.view || "runs" }) }, "\u2190 All " + (VIEWS[state.view] || "Runs").toLowerCase())),
    make("h2", { id: "s-run" }, breakable(run.text("model", index)), make("span", { class: "quiet" }, " on "), breakable(run.text("host", index))),
    make("p", { class: "run-facts" }, badge(run.status(index), run.text("class", index)), make("span", { class: "quiet" },
      [RUNS.repeat[index] > 1 ? "repeat " + RUNS.repeat[index] : "", RUNS.attempt[index] > 1 ? "attempt " + RUNS.attempt[index] : "", run.text("hardware", index), shownTime(RUNS.started[index]), run.campaign(index).name].filter(Boolean).join(" \u00b7 "))));
  const body = make("div", { class: "run-body", "aria-busy": "true" }, make("p", { class: "quiet" }, "Unpacking"));
  detailsOf(index).then((found) => fillRun(body, index, found), (error) => body.replaceChildren(make("p", {}, "The details of this run cannot be unpacked: this browser is too old (" + error + "). They stand in runs/" + RUNS.id[index] + " of the campaign's folder.")))
    .finally(() => body.removeAttribute("aria-busy"));
  return [make("article", { "aria-labelledby": "s-run" }, head, body)];
}

function fillRun(body, index, found) {
  const parts = [results(found), reasonOf(index, found), make("div", { class: "packed" }, timing(found), place(index, found), image(found), provenance(index, found)), log(index, found), environment(found), again(index, found)];
  body.replaceChildren(...parts.flat().filter(Boolean));
}

function results(found) {
  const numbers = found.metrics || [];
  if (!numbers.length) return null;
  const extra = found.extra || [], names = [...new Set(extra.flatMap((columns) => Object.keys(columns)))];
  const columns = [{ name: "Result", class: "number" }, { name: "Metric" }, { name: "Better" }, { name: "Of" }, ...names.map((name) => ({ name }))];
  const rows = numbers.map(([model, text, unit, better], place) => make("tr", {}, make("td", { class: "number strong" }, Number.isFinite(Number(text)) && text !== "" ? shownNumber(Number(text)) : text || "\u2013"), make("td", {}, unit),
    make("td", {}, better || "not declared"), make("td", {}, breakable(model)), names.map((name) => make("td", {}, (extra[place] || {})[name] || ""))));
  return section(numbers.length === 1 ? "Result" : "Results", table("Results of this run", columns, rows));
}

function reasonOf(index, found) {
  if (!found.reason && !found.errors && !found.notes && !found.attempts) return null;
  const errors = (found.errors || []).map(([number, line]) => make("li", {}, make("span", { class: "quiet" }, "line " + number + "  "), make("code", {}, line)));
  const tries = (found.attempts || []).map(([number, status, failureClass, why]) => make("li", {}, "attempt " + number + ": " + (failureClass || status || "no record") + (why ? ", " + why : "")));
  return section(run.status(index) === "SUCCESS" ? "Notes" : "Why", found.reason ? make("p", { class: "reason big" }, found.reason) : null,
    errors.length ? [make("h3", {}, "Error lines in its output"), make("ul", { class: "lines" }, errors)] : null, tries.length ? [make("h3", {}, "Earlier attempts"), make("ul", {}, tries)] : null,
    found.notes ? make("ul", {}, found.notes.map((note) => make("li", {}, note))) : null);
}

function timing(found) {
  const times = found.timings || {};
  return section("Time", facts([["Started", shownTime(times.started)], ["Finished", shownTime(times.finished)], ["Run", shownSeconds(times.run)], ["Model's own script", shownSeconds(times.model)], ["Waited for its machine", shownSeconds(times.queue)], ["Staging", shownSeconds(times.stage)], ["Image build", shownSeconds(times.build)],
    ["Exit code", found.exit_code]]) || make("p", { class: "quiet" }, "It never ran."));
}

function place(index, found) {
  const host = found.host || {}, gpu = host.gpu || {}, cpu = host.cpu || {}, gpus = found.gpus || {}, os = host.os || {};
  const where = Object.entries(found.place || {}).filter(([name, value]) => name !== "host" && typeof value !== "object").map(([name, value]) => [name.charAt(0).toUpperCase() + name.slice(1).replaceAll("_", " "), value]);
  return section("Place", facts([["Host", run.text("host", index) + (host.hostname && host.hostname !== run.text("host", index) ? " (" + host.hostname + ")" : "")], ...where, ["Runtime", run.text("runtime", index)],
    ["GPU", gpu.vendor && gpu.vendor !== "NONE" ? [gpu.count, "\u00d7", gpu.product || gpu.architecture || gpu.vendor].filter(Boolean).join(" ") : gpu.vendor ? "none" : ""],
    ["GPUs of this run", gpus.indexes && gpus.indexes.length ? gpus.indexes.join(", ") : gpus.count], ["Driver", gpu.driver], ["ROCm or CUDA", gpu.runtime_version],
    ["CPU", cpu.model ? cpu.model + ", " + cpu.count + " cores" : ""], ["CPUs of this run", found.cpus], ["Governor", cpu.governor], ["NUMA balancing", host.numa_balancing], ["Memory", host.memory_bytes ? shownBytes(host.memory_bytes) : ""],
    ["System", os.name], ["Kernel", host.kernel], ["Container", (found.target || {}).container], ["Job", (found.target || {}).job_id]]));
}

function image(found) {
  const known = found.image;
  if (!known) return null;
  return section("Image", facts([["Name", breakable(known.name || "")], ["Digest", breakable(known.digest || "")], ["Dockerfile", known.dockerfile], ["Base", known.base_docker], ["Given", known.given ? "yes: not built by us" : ""]]));
}

function provenance(index, found) {
  const known = found.provenance || {};
  return section("Provenance", facts([["Run id", known.run_id], ["Repository", known.repository], ["Commit", known.repository_commit ? known.repository_commit + (known.repository_has_changes ? " with uncommitted changes" : "") : ""], ["Model's commit", known.model_commit],
    ["mad.engine", known.mad_engine], ["Tags", run.tags(index).join(", ")], ["Arguments", found.args], ["Judged by", { target: "its host", plan: "the plan", controller: "the controller" }[known.judged_by]], ["Artifacts", (found.artifacts || []).join(", ")]]));
}

function log(index, found) {
  const lines = found.log || [], campaign = run.campaign(index), file = "runs/" + RUNS.id[index] + "/run.log";
  const whole = campaign.logs ? make("a", { href: (campaign.logs === "." ? "" : campaign.logs.split("/").map(encodeURIComponent).join("/") + "/") + file }, file) : make("code", {}, campaign.folder + "/" + file);
  if (!lines.length) return section("Log", make("p", { class: "quiet" }, "There is no log of this run."));
  return section("Log", make("p", { class: "quiet" }, found.log_note ? "These are " + found.log_note + "; the whole log is " : "The whole log; also in ", whole),
    make("pre", { class: "log", tabindex: "0", role: "region", "aria-label": "Last lines of the log" }, lines.map((line) => line + "\n")));
}

function environment(found) {
  const names = Object.keys(found.env || {}).sort(), secret = found.secret_env || [];
  if (!names.length && !secret.length && !found.command && !found.options) return null;
  const rows = [...names.map((name) => make("tr", {}, make("th", { scope: "row" }, make("code", {}, name)), make("td", {}, make("code", {}, shownValue(found.env[name]))))),
    ...secret.map((name) => make("tr", {}, make("th", { scope: "row" }, make("code", {}, name)), make("td", { class: "quiet" }, "secret, not kept")))];
  const launcher = found.launcher || {};
  return section("Environment", facts([["Command", found.command ? make("code", {}, found.command) : ""], ["Launcher", launcher.name ? launcher.name + ", " + plural(launcher.nnodes || 1, "node") + ", " + launcher.nproc_per_node + " processes each" : ""], ["Engine options", found.options ? make("code", {}, found.options) : ""]]),
    rows.length ? table("Environment variables", [{ name: "Variable" }, { name: "Value" }], rows) : null);
}

const shownValue = (value) => (value && typeof value === "object" ? "decided on the host: " + (value.unresolved || JSON.stringify(value)) : String(value));

function again(index, found) {
  return section("Repeat", found.repeat ? copyable("Repeat this run, in a campaign of its own", found.repeat) : null);
}
