// SPDX-License-Identifier: GPL-2.0-only
// PTE pages by their number of entries, at the moment shown.

import { element, fill } from "./dom.js";
import { count, share } from "./format.js";
import { bar, table } from "./table.js";

/** Where bands of 2 and more entries end, in 512ths of all entries. */
const BAND_ENDS = [8, 32, 128, 384, 512];

function bandsOf(entries) {
  const ends = [2, ...BAND_ENDS.map((end) => (end * entries) / 512)];
  const between = ends.slice(1).map((end, at) => [ends[at], end - 1]);
  return [[0, 0], [1, 1], ...between, [entries, entries]];
}

/** The histogram. */
export class Occupancy {
  constructor(model) {
    this.model = model;
    this.node = element("div");
  }

  show(moment) {
    const { now } = this.model.moments[moment];
    const bands = bandsOf(this.model.geometry.entries);
    const sums = bands.map(([low, high]) =>
      now.occupancy.slice(low, high + 1).reduce((sum, pages) => sum + pages, 0),
    );
    const most = Math.max(...sums);
    const rows = bands.map(([low, high], at) => [
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
