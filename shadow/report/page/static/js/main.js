// SPDX-License-Identifier: GPL-2.0-only
// Starts the page: from the data inside it, or from the daemon that serves it.

import { element, fill, visible } from "./dom.js";
import { sourcesWithoutProcess } from "./lacks.js";
import { startLive } from "./live.js";
import { modelOf, processName } from "./model.js";
import { ProcessView } from "./process.js";
import { overview } from "./several.js";
import { watchTheme } from "./theme.js";

const place = document.getElementById("page");

function embedded(id) {
  return JSON.parse(document.getElementById(id).textContent);
}

/** The process that the address chooses, or the most wasteful one. */
function chosenProcess(processes) {
  const found = /^#process-(\d+)$/.exec(location.hash);
  if (found && processes[Number(found[1])]) return Number(found[1]);
  return processes.reduce(
    (best, plain, at) => (plain.now.empty > processes[best].now.empty ? at : best),
    0,
  );
}

async function showReport(report, page) {
  const at = chosenProcess(report.processes);
  const model = await modelOf(report.processes[at], page.processes[at], page);
  document.title = visible(`${processName(model.plain)} – ptescope`);
  const view = new ProcessView(model);
  const missing = sourcesWithoutProcess(page).map((text) => element("p.lack", {}, text));
  const several = report.processes.length > 1 ? overview(report, at) : null;
  fill(place, ...missing, several, view.node);
  view.start();
  await nextFrame();
  performance.mark("shown");
  document.documentElement.dataset.ready = "true";
}

function nextFrame() {
  return new Promise((resolve) => requestAnimationFrame(() => requestAnimationFrame(resolve)));
}

async function start() {
  watchTheme();
  const page = embedded("more");
  if (page.live) {
    startLive(place, page);
    return;
  }
  const report = embedded("document");
  if (!report.processes.length) {
    fill(place, element("p", {}, "This report has no process."));
    return;
  }
  await showReport(report, page);
  let shown = chosenProcess(report.processes);
  addEventListener("hashchange", () => {
    const at = chosenProcess(report.processes);
    if (!location.hash.startsWith("#process-") || at === shown) return;
    shown = at;
    showReport(report, page);
  });
}

start().catch((error) => {
  fill(place, element("p.lack", {}, `This page cannot show its data: ${error.message}.`));
  throw error;
});
