// SPDX-License-Identifier: GPL-2.0-only
// PTE pages by their number of entries, at the moment shown.

import { element, fill } from "./dom.js";
import { count, share } from "./format.js";
import { bar, table } from "./table.js";

const BANDS = [
  [0, 0],
  [1, 1],
  [2, 7],
  [8, 31],
  [32, 127],
  [128, 383],
  [384, 511],
  [512, 512],
];

/** The histogram. */
export class Occupancy {
  constructor(model) {
    this.model = model;
    this.node = element("div");
  }

  show(moment) {
    const { now } = this.model.moments[moment];
    const sums = BANDS.map(([low, high]) =>
      now.occupancy.slice(low, high + 1).reduce((sum, pages) => sum + pages, 0),
    );
    const most = Math.max(...sums);
    const rows = BANDS.map(([low, high], at) => [
      low === high ? String(low) : `${low}–${high}`,
      element("span", { "data-band": `${low}-${high}` }, count(sums[at])),
      share(sums[at], now.pte_pages),
      bar(sums[at], most, high === 0 ? "empty" : ""),
    ]);
    fill(
      this.node,
      table("PTE pages by their number of entries", ["Entries", "#PTE pages", "#of all", ""], rows),
    );
  }
}
