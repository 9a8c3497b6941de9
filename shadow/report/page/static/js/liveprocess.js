// SPDX-License-Identifier: GPL-2.0-only
// One process, live: the same sections as in a report, updated in place.

import { element, fill, visible } from "./dom.js";
import { bytes } from "./format.js";
import { modelOf, processName } from "./model.js";
import { ProcessView } from "./process.js";
import { Series } from "./series.js";

const NS_PER_SECOND = 1e9;

/** The page of one process that the daemon follows. */
export class LiveProcess {
  constructor(place, page) {
    this.place = place;
    this.page = page;
    this.series = new Series();
    this.view = null;
  }

  async show(data) {
    if (!data.document) {
      this.showCounted(data);
      return;
    }
    const [plain] = data.document.processes;
    const { start_ns: start, end_ns: end } = plain.window;
    this.series.add((end - start) / NS_PER_SECOND, plain.policies);
    const page = { ...this.page, sources: data.sources };
    const model = { ...(await modelOf(plain, data.more, page)), points: this.series };
    document.title = visible(`${processName(plain)} – ptescope`);
    if (this.view) this.view.update(model);
    else {
      this.view = new ProcessView(model);
      fill(this.place, this.back(data), this.view.node);
      this.view.start();
    }
  }

  back(data) {
    return element("p", {}, element("a", { href: "/" }, `All processes of ${data.hostname}`));
  }

  showCounted(data) {
    this.view = null;
    const { row } = data;
    fill(
      this.place,
      this.back(data),
      element(
        "h1",
        {},
        `${row.comm} (pid ${row.pid}) has ${bytes(row.vm_pte_kib * 1024)} of page tables`,
      ),
      element(
        "p",
        {},
        "ptescope only counts this process: its page tables are smaller than --min-vmpte, it was " +
          "not selected, or the memory limit is reached. So it is not known how many are empty.",
      ),
    );
  }
}
