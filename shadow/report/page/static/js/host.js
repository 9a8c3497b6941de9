// SPDX-License-Identifier: GPL-2.0-only
// The host, live: its processes by what they waste, growth, losses, and the daemon's own cost.

import { element, fill, visible } from "./dom.js";
import { bytes, count, counted, pagesSize, share } from "./format.js";
import { bar, table } from "./table.js";

const ORDERS = {
  empty: ["empty PTE pages", (row) => row.empty ?? -1],
  size: ["size of page tables", (row) => row.vm_pte_kib],
  growth: ["growth", (row) => row.pte_pages_per_second],
  events: ["events", (row) => row.events_per_second],
};
const NS_PER_S = 1e9;

/** The page of the host. */
export class HostView {
  constructor(place) {
    this.order = "empty";
    this.before = null;
    this.data = null;
    const options = Object.entries(ORDERS).map(([name, [text]]) =>
      element("option", { value: name }, text),
    );
    const menu = element(
      "select",
      {
        id: "order",
        onchange: () => {
          this.order = menu.value;
          this.render();
        },
      },
      ...options,
    );
    this.finding = element("section", { id: "finding" });
    this.rows = element("div");
    this.cost = element("section", { id: "cost" });
    fill(
      place,
      this.finding,
      element(
        "section",
        { id: "processes" },
        element("h2", {}, "Processes"),
        element("p.controls", {}, element("label", {}, "Sorted by ", menu)),
        this.rows,
      ),
      this.cost,
    );
  }

  async show(data) {
    this.before = this.data;
    this.data = data;
    document.title = visible(`${data.hostname} – ptescope`);
    this.render();
  }

  render() {
    const { data } = this;
    fill(this.finding, ...this.sentences());
    const [, weight] = ORDERS[this.order];
    const rows = [...data.processes].sort((one, other) => weight(other) - weight(one));
    const most = Math.max(...data.processes.map((row) => row.empty ?? 0));
    const headings = [
      "Process",
      "Cgroup",
      "",
      "#VmPTE",
      "#PTE pages",
      "#empty",
      "",
      "#of all",
      "#growth/s",
      "#events/s",
      "#lost",
    ];
    fill(
      this.rows,
      table(
        "Processes of this host",
        headings,
        rows.map((row) => processRow(row, most)),
      ),
      data.left_out ? element("p.small", {}, `${count(data.left_out)} more have less.`) : null,
    );
    fill(this.cost, ...this.costs());
  }

  sentences() {
    const { data } = this;
    const [worst] = data.processes;
    const most = worst?.empty
      ? ` ${worst.comm} (pid ${worst.pid}) wastes most: ${pagesSize(worst.empty, data.page_size)}.`
      : "";
    return [
      data.empty
        ? element(
            "h1",
            {},
            `${data.hostname} wastes `,
            element("strong", {}, pagesSize(data.empty, data.page_size)),
            ` in ${counted(data.empty, "empty PTE page")}.${most}`,
          )
        : element("h1", {}, `No followed process of ${data.hostname} wastes page tables.`),
      element(
        "p.explanation",
        {},
        `These are ${share(data.empty, data.pte_pages)} of the ${count(data.pte_pages)} PTE pages of the ` +
          `${counted(data.followed, "process")} that ptescope follows. All page tables of the host take ` +
          `${bytes(data.vm_pte_kib * 1024)}. Linux ${data.release}, policy ${data.policy}.`,
      ),
      ...data.notes.map((note) => element("p.lack", {}, note)),
    ];
  }

  costs() {
    const { cost } = this.data;
    const facts = [
      ["Processor", this.processorShare()],
      ["Memory", `${bytes(cost.memory_bytes)}, ${bytes(cost.shadow_bytes)} of it for shadows`],
      ["Events", `${count(cost.events)}, ${count(cost.lost)} lost`],
      [
        "Ring",
        `${share(cost.ring_used_bytes, cost.ring_bytes)} of ${bytes(cost.ring_bytes)} in use`,
      ],
      ["Test event", cost.sees_events ? "came back" : "did not come back: no events arrive"],
      ["Failures", counted(cost.failures, "process")],
      ["Forks that ended unread", count(cost.uncounted_forks)],
    ];
    return [
      element("h2", {}, "What ptescope itself takes"),
      element(
        "dl.facts",
        {},
        ...facts.flatMap(([name, text]) => [element("dt", {}, name), element("dd", {}, text)]),
      ),
    ];
  }

  processorShare() {
    const { cost, time_ns: now } = this.data;
    const total = `${cost.cpu_seconds.toFixed(1)} s in all`;
    const passed = this.before ? (now - this.before.time_ns) / NS_PER_S : 0;
    if (passed <= 0) return total;
    return `${share(cost.cpu_seconds - this.before.cost.cpu_seconds, passed)} of a CPU, ${total}`;
  }
}

function processRow(row, most) {
  const known = row.empty !== null;
  const growth = row.pte_pages_per_second;
  return [
    element("a", { href: `/process/${row.pid}` }, `${row.comm} (pid ${row.pid})`),
    element("span.small", {}, row.cgroup),
    row.following === "followed" ? "" : row.following,
    bytes(row.vm_pte_kib * 1024),
    known ? count(row.pte_pages) : null,
    known ? element("span", { "data-pid": row.pid, "data-row": "empty" }, count(row.empty)) : null,
    known ? bar(row.empty, most, "empty") : "",
    known ? share(row.empty, row.pte_pages) : null,
    known ? `${growth > 0 ? "+" : ""}${growth.toFixed(1)}` : null,
    known ? count(Math.round(row.events_per_second)) : null,
    known ? count(row.lost) : null,
  ];
}
