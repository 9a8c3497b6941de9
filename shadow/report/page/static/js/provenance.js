// SPDX-License-Identifier: GPL-2.0-only
// How each figure was obtained and checked, the losses, the host and the versions.

import { element, figure } from "./dom.js";
import { bytes, count, counted, seconds } from "./format.js";
import { lacksOf } from "./lacks.js";
import { table } from "./table.js";

const NS = 1e9;
const SEEDS = {
  census: "ptescope read all page tables at the start, and then followed events.",
  counted: "ptescope read pagemap and VmPTE at the start, and then followed events.",
  none: "ptescope followed events only; what was there before is missing.",
};
const METHODS = { census: "the page tables", counted: "pagemap and VmPTE", none: "nothing" };

/** The last section of a process. */
export function provenance(model) {
  const lacks = lacksOf(model);
  return [
    lacks.length
      ? element("ul.lacks", {}, ...lacks.map((sentence) => element("li", {}, sentence)))
      : element("p", {}, "Nothing is known to be missing."),
    element(
      "dl.facts",
      {},
      ...facts(model).flatMap(([name, ...text]) => [
        element("dt", {}, name),
        element("dd", {}, ...text),
      ]),
    ),
    events(model.plain.window.events),
  ];
}

function facts(model) {
  const { plain, more, page, source } = model;
  const { audit, kernel, now, process, window: seen } = plain;
  const length = (seen.end_ns - seen.start_ns) / NS;
  return [
    ["How the figures were obtained", plain.reading ? plain.reading.how : SEEDS[kernel.seed]],
    ["Policies", "All are computed from the same events; only the one of this kernel happened."],
    [
      "Time",
      `${seconds(length)}${more.wall_ms ? `, from ${new Date(more.wall_ms).toISOString()}` : ""}`,
    ],
    [
      "Events",
      figure(
        "window.events",
        count(Object.values(seen.events).reduce((sum, each) => sum + each, 0)),
      ),
      ", ",
      figure("window.lost", count(seen.lost)),
      " lost",
    ],
    ["Checked", ...checked(audit)],
    [
      "VmPTE",
      figure("now.vm_pte_predicted_kib", count(now.vm_pte_predicted_kib)),
      " kB predicted",
      ...(now.vm_pte_kib
        ? [", ", figure("now.vm_pte_kib", count(now.vm_pte_kib)), " kB reported by the kernel"]
        : []),
    ],
    [
      "Entries",
      figure("now.refs", count(now.refs)),
      " in all, ",
      figure("now.sparse", count(now.sparse)),
      " PTE pages with fewer than 32",
    ],
    [
      "Upper levels",
      figure("now.pmd_pages", count(now.pmd_pages)),
      " PMD pages, ",
      figure("now.pud_pages", count(now.pud_pages)),
      " PUD pages, ",
      figure("now.thp_deposits", count(now.thp_deposits)),
      " deposited under huge pages",
    ],
    ["Process", `${process.comm}, pid ${process.pid}${process.exe ? `, ${process.exe}` : ""}`],
    ["Allocator", ...allocatorText(process)],
    ...remedyFacts(process.remedy),
    [
      "Kernel",
      `${kernel.release}, policy ${kernel.policy}, ${kernel.levels} levels, pages of ${bytes(kernel.page_size)}`,
    ],
    [
      "Probes",
      Object.entries(kernel.probes)
        .map(([way, names]) => `${way}: ${counted(names.length, "source")}`)
        .join(", ") || "none",
    ],
    ["Host", more.host || "not known"],
    ["Source", source?.name ?? "this host"],
    ["Made by", `ptescope ${page.version}${page.made ? `, ${page.made}` : ""}`],
  ];
}

function checked(audit) {
  if (!audit.runs) return ["never in full"];
  return [
    figure("audit.runs", count(audit.runs)),
    ` times against ${METHODS[audit.method]}; the last time `,
    figure("audit.compared", count(audit.compared)),
    ` of ${count(audit.compared + audit.not_compared)} PTE pages. In all checks: PTE pages wrong `,
    figure("audit.pte_pages_diff", count(audit.pte_pages_diff)),
    ", empty missing ",
    figure("audit.empty_missing", count(audit.empty_missing)),
    ", extra ",
    figure("audit.empty_extra", count(audit.empty_extra)),
    ", entries wrong ",
    figure("audit.refs_diff", count(audit.refs_diff)),
    ", corrected ",
    figure("audit.repaired", count(audit.repaired)),
  ];
}

function allocatorText({ allocator }) {
  if (!allocator) return ["not known"];
  const settings = Object.entries(allocator.settings).map(([name, value]) => `${name}=${value}`);
  return [
    `${allocator.name} ${allocator.version ?? ""} (${allocator.linked ?? "?"})`,
    settings.length ? element("code", {}, ` ${settings.join(" ")}`) : "",
  ];
}

/** What the remedy for jemalloc has done, if the process has it. */
function remedyFacts(remedy) {
  if (!remedy) return [];
  const counters = Object.keys(remedy).filter((name) => name !== "state");
  const shown = counters.flatMap((name, at) => [
    `${at ? ", " : ""}${name.replace("_", " ")} `,
    figure(`process.remedy.${name}`, count(remedy[name])),
  ]);
  return [["Remedy", `${remedy.state.replace("_", " ")}: `, ...shown]];
}

function events(kinds) {
  const rows = Object.entries(kinds).map(([kind, number]) => [
    kind,
    figure(`window.events.${kind}`, count(number)),
  ]);
  return rows.length ? table("Events by kind", ["Kind", "#Events"], rows) : null;
}
