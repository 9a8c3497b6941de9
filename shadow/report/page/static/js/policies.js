// SPDX-License-Identifier: GPL-2.0-only
// What each policy of the kernel would have done with the same events.

import { POLICIES } from "./cells.js";
import { element, figure, fill } from "./dom.js";
import { count } from "./format.js";
import { table } from "./table.js";

const POLICY_MEANINGS = {
  none: "frees a PTE page only at munmap and exit (Linux before 6.14, on arm64 before 7.0)",
  pt_reclaim:
    "frees it when one MADV_DONTNEED covers all that it maps (Linux 6.14 and later, on arm64 7.0 and later)",
  dontneed_zero: "frees it when any MADV_DONTNEED leaves it empty (a patch of these)",
  pte_ref: "frees it when its last entry is gone (the RFC)",
};
const POLICY_FIGURES = ["pte_pages", "empty", "peak", "mean", "freed", "reallocated", "attempts"];
const POLICY_COLUMNS = [
  "#PTE pages",
  "#empty",
  "#peak",
  "#mean",
  "#freed",
  "#allocated again",
  "#attempts",
];

/** The table by policy. */
export class PolicyTable {
  constructor(model) {
    this.model = model;
    this.node = element("div");
  }

  show(moment) {
    const { policies } = this.model.moments[moment];
    const known = POLICIES.filter((policy) => policies?.[policy]);
    if (!known.length) {
      fill(
        this.node,
        element("p.lack", {}, "A single reading shows only what the running kernel did."),
      );
      return;
    }
    const rows = known.map((policy) => [
      element(
        "span",
        {},
        element(
          "strong",
          {},
          policy,
          policy === this.model.plain.kernel.policy ? " (this kernel)" : "",
        ),
        ` ${POLICY_MEANINGS[policy]}`,
      ),
      ...POLICY_FIGURES.map((column) =>
        figure(`policies.${policy}.${column}`, count(policies[policy][column])),
      ),
    ]);
    fill(
      this.node,
      table("The same events under each policy", ["Policy", ...POLICY_COLUMNS], rows),
    );
  }
}
