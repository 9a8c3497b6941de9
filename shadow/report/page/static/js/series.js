// SPDX-License-Identifier: GPL-2.0-only
// Counts over time that a live page collects while it is open.

import { POLICIES } from "./cells.js";

const MOST_POINTS = 1800;

/** Points that grow by one with each view of a process. */
export class Series {
  constructor() {
    this.seconds = [];
    this.pte_pages = {};
    this.empty = {};
    for (const policy of POLICIES) {
      this.pte_pages[policy] = [];
      this.empty[policy] = [];
    }
  }

  add(seconds, policies) {
    if (seconds <= (this.seconds.at(-1) ?? -1)) return;
    this.seconds.push(seconds);
    for (const policy of POLICIES) {
      this.pte_pages[policy].push(policies[policy].pte_pages);
      this.empty[policy].push(policies[policy].empty);
    }
    if (this.seconds.length > MOST_POINTS) this.thin();
  }

  /** Drop every other point. */
  thin() {
    const half = (values) => values.filter((_, at) => at % 2 === 0);
    this.seconds = half(this.seconds);
    for (const policy of POLICIES) {
      this.pte_pages[policy] = half(this.pte_pages[policy]);
      this.empty[policy] = half(this.empty[policy]);
    }
  }
}
