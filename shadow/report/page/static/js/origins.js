// SPDX-License-Identifier: GPL-2.0-only
// What emptied the empty PTE pages, and who made them, at the moment shown.

import { element, figure, fill } from "./dom.js";
import { bytes, count, seconds } from "./format.js";
import { mappingName } from "./model.js";
import { bar, table } from "./table.js";

const NS_A_SECOND = 1e9;
const MOST_ORIGINS = 12;

/** The two tables by origin. */
export class OriginTables {
  constructor(model) {
    this.model = model;
    this.node = element("div");
  }

  show(moment) {
    const { origins } = this.model.moments[moment];
    if (!origins) {
      fill(
        this.node,
        element(
          "p.lack",
          {},
          "Page tables alone do not show who made or emptied them: follow the process, or record it.",
        ),
      );
    } else if (!origins.emptied.length) {
      fill(this.node, element("p", {}, "No PTE page is empty at this moment."));
    } else {
      fill(
        this.node,
        this.part("Emptied by", "emptied", origins.emptied),
        this.part("Made by", "made", origins.made),
      );
    }
  }

  part(title, path, origins) {
    const total = origins.reduce((sum, origin) => sum + origin.pte_pages, 0);
    const rows = origins
      .slice(0, MOST_ORIGINS)
      .map((origin, at) => [
        origin.call,
        sizeOf(origin),
        origin.thread ?? "–",
        origin.kind ? mappingName(origin, this.model.page) : "–",
        figure(`origins.${path}.${at}.pte_pages`, count(origin.pte_pages)),
        bar(origin.pte_pages, total, "empty"),
        this.when(origin),
      ]);
    const left = origins.slice(MOST_ORIGINS).reduce((sum, origin) => sum + origin.pte_pages, 0);
    if (left)
      rows.push([
        `${origins.length - MOST_ORIGINS} other origins`,
        "",
        "",
        "",
        count(left),
        bar(left, total, "empty"),
        "",
      ]);
    return table(
      `${title} (the empty PTE pages)`,
      ["Call", "Size", "Thread", "Mapping", "#PTE pages", "", "After the start"],
      rows,
    );
  }

  when(origin) {
    if (!origin.last_ns) return "before the window";
    const begin = this.model.plain.window.start_ns;
    const [first, last] = [origin.first_ns, origin.last_ns].map((time) =>
      seconds(Math.max(time - begin, 0) / NS_A_SECOND),
    );
    return !origin.first_ns || first === last ? last : `${first} to ${last}`;
  }
}

function sizeOf({ least_bytes: least, most_bytes: most }) {
  if (!most) return "–";
  return least === most ? bytes(least) : `${bytes(least)} to ${bytes(most)}`;
}
