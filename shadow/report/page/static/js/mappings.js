// SPDX-License-Identifier: GPL-2.0-only
// Which mappings own the page tables, at the moment shown.

import { element, figure, fill } from "./dom.js";
import { bytes, count, share, tables } from "./format.js";
import { mappingName } from "./model.js";
import { bar, table } from "./table.js";

const MOST_MAPPINGS = 12;
const MAPPING_COLUMNS = [
  "Mapping",
  "#PTE pages",
  "#empty",
  "",
  "#sparse",
  "#entries",
  "#upper tables",
  "#size",
  "#of all",
];

/** The table by mapping. */
export class Mappings {
  constructor(model) {
    this.model = model;
    this.every = false;
    this.node = element("div");
  }

  show(moment) {
    this.moment = moment;
    const uses = this.model.moments[moment].mappings;
    if (!uses) {
      fill(
        this.node,
        element(
          "p.lack",
          {},
          "The mappings are not known, so page tables cannot be assigned to them.",
        ),
      );
      return;
    }
    const shown = this.every ? uses : uses.slice(0, MOST_MAPPINGS);
    const button = element(
      "button",
      {
        type: "button",
        onclick: () => {
          this.every = !this.every;
          this.show(this.moment);
        },
      },
      this.every ? "Show fewer" : `Show all ${count(uses.length)}`,
    );
    fill(
      this.node,
      table(
        "Page tables by mapping",
        MAPPING_COLUMNS,
        shown.map((use, at) => this.row(use, at)),
      ),
      uses.length > MOST_MAPPINGS ? button : null,
    );
  }

  row(use, at) {
    const value = (name, text) => figure(`mappings.${at}.${name}`, text);
    return [
      element("span.name", { title: use.name ?? "" }, mappingName(use, this.model.page)),
      value("pte_pages", tables(use.pte_pages)),
      value("empty", tables(use.empty)),
      use.empty ? bar(use.empty, use.pte_pages, "empty") : "",
      value("sparse", tables(use.sparse)),
      value("entries", count(use.entries)),
      tables(use.pmd_pages + use.pud_pages + use.thp_deposits),
      bytes(use.bytes),
      share(use.share, 1),
    ];
  }
}
