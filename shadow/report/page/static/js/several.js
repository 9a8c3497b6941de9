// SPDX-License-Identifier: GPL-2.0-only
// The overview of several processes: a sentence, and a table from which one is chosen.

import { adviceCards } from "./advice.js";
import { element } from "./dom.js";
import { bytes, count, counted, pagesSize, share } from "./format.js";
import { LITTLE_RULES, severity, VERDICTS } from "./headline.js";
import { processName } from "./model.js";
import { bar, table } from "./table.js";

/**
 * The overview.
 * @param {Object} report the JSON document
 * @param {number} chosen the process shown below
 */
export function overview(report, chosen) {
  const { processes, families } = report;
  const order = processes
    .map((_, at) => at)
    .sort((one, other) => processes[other].now.empty - processes[one].now.empty);
  return element(
    "section",
    { id: "overview" },
    element("p.lead", {}, leadOf(processes, order)),
    processTable(processes, order, chosen),
    ...(families ?? []).map(familyCard),
  );
}

function leadOf(processes, order) {
  const sum = (name) => processes.reduce((total, plain) => total + plain.now[name], 0);
  const [empty, all] = [sum("empty"), sum("pte_pages")];
  const who = counted(processes.length, "process");
  if (!empty) return `${who} waste nothing: all of their ${count(all)} PTE pages map something.`;
  return (
    `${who} waste ${pagesSize(empty, processes[0].kernel.page_size)} of kernel memory: ${count(empty)} of their ${count(all)} ` +
    `PTE pages map nothing (${share(empty, all)}). ${processName(processes[order[0]])} wastes most.`
  );
}

function processTable(processes, order, chosen) {
  const most = processes[order[0]].now.empty;
  const rows = order.map((at) => {
    const { now, window: seen } = processes[at];
    const link = { href: `#process-${at}`, "aria-current": at === chosen ? "true" : null };
    return [
      element("a", link, processName(processes[at])),
      element("span", { "data-process": at, "data-figure": "now.pte_pages" }, count(now.pte_pages)),
      element("span", { "data-process": at, "data-figure": "now.empty" }, count(now.empty)),
      bar(now.empty, most, "empty"),
      share(now.empty, now.pte_pages),
      count(seen.lost),
      VERDICTS[severity(processes[at])],
    ];
  });
  return table(
    "Processes, the most wasteful first",
    ["Process", "#PTE pages", "#empty", "", "#of all", "#lost events", ""],
    rows,
  );
}

function familyCard(family) {
  return element(
    "details",
    { open: !LITTLE_RULES.includes(family.advice?.[0]?.rule) },
    element(
      "summary",
      {},
      `Together (${family.by} ${family.key}): ${count(family.empty)} of ${count(family.pte_pages)} PTE pages empty, VmPTE ${bytes(family.vm_pte_kib * 1024)}`,
    ),
    family.advice ? adviceCards(family.advice, family.advice_limits) : null,
  );
}
