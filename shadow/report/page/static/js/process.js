// SPDX-License-Identifier: GPL-2.0-only
// One process from top to bottom. The moment chosen drives all sections below the charts.

import { adviceCards } from "./advice.js";
import { element, fill, section } from "./dom.js";
import { FlameGraph } from "./flame.js";
import { bytes } from "./format.js";
import { headline } from "./headline.js";
import { lacksOf } from "./lacks.js";
import { Mappings } from "./mappings.js";
import { MapView } from "./mapview.js";
import { momentAt } from "./model.js";
import { MomentControl } from "./moment.js";
import { Occupancy } from "./occupancy.js";
import { OriginTables } from "./origins.js";
import { PolicyTable } from "./policies.js";
import { provenance } from "./provenance.js";
import { TimeChart } from "./timechart.js";

/** The sections of a process. */
export class ProcessView {
  constructor(model) {
    this.model = model;
    const { plain, points, cells } = model;
    this.choose = (moment) => this.show(moment);
    const chooseTime = (time) => this.show(momentAt(this.model, time));
    this.moment = new MomentControl(model, this.choose);
    this.chart = points ? new TimeChart(points, plain.kernel.policy, chooseTime) : null;
    this.map = cells?.count ? new MapView(model) : null;
    this.parts = {
      occupancy: new Occupancy(model),
      mappings: new Mappings(model),
      origins: new OriginTables(model),
      policies: new PolicyTable(model),
    };
    this.top = element("div", {}, headline(model, this.choose), this.warnings());
    this.end = element("div", {}, ...provenance(model));
    this.node = element("div.process", {}, ...this.sections());
  }

  sections() {
    const { model, parts } = this;
    const { plain } = model;
    return [
      this.top,
      this.chart &&
        section(
          "time",
          "Over time",
          "What this kernel kept, and what it would have kept under other policies: none (older kernels), pt_reclaim (newer ones), dontneed_zero (a small patch), pte_ref (the RFC). Drag to zoom, double-click to go back; click to choose the moment that everything below shows.",
          this.chart.node,
          this.moment.node,
        ),
      this.map &&
        section(
          "map",
          "Address space",
          `A cell is a slot: ${bytes(model.geometry.slot)} of addresses with one PTE page. A crossed box is an empty one. Point at a cell, or use the arrow keys (E: the next empty one).`,
          this.map.node,
        ),
      section("occupancy", "How full the PTE pages are", "", parts.occupancy.node),
      section(
        "mappings",
        "By mapping",
        "Whose memory the page tables serve. A table that mappings share counts in part for each.",
        parts.mappings.node,
      ),
      section(
        "origins",
        "By origin",
        "Which calls left the empty PTE pages behind, and who made them.",
        parts.origins.node,
      ),
      section("policies", "By policy", "", parts.policies.node),
      model.more.stacks && this.stacks(model.more.stacks),
      section("advice", "What to do", "", adviceCards(plain.advice, plain.advice_limits)),
      section("provenance", "How these figures were obtained", "", this.end),
    ];
  }

  stacks(tree) {
    const graph = new FlameGraph(tree);
    return section(
      "stacks",
      "Stacks",
      "Which code emptied the empty PTE pages. A frame is as wide as the PTE pages below it; click to enlarge it.",
      graph.node,
      graph.path,
    );
  }

  /** What is missing, in short; the last section says it again with everything else. */
  warnings() {
    const lacks = lacksOf(this.model);
    if (!lacks.length) return null;
    return element(
      "details.lacking",
      { id: "lacks", open: true },
      element("summary", {}, `This report lacks something (${lacks.length})`),
      element("ul", {}, ...lacks.map((sentence) => element("li", {}, sentence))),
    );
  }

  /** Draw what needs a width; the node must be in the document. */
  start() {
    this.chart?.start();
    this.map?.start();
    this.show(this.model.moments.length - 1);
  }

  /** Show newer data of the same process, on a live page. */
  update(model) {
    this.model = model;
    renew(this.top, headline(model, this.choose), this.warnings());
    renew(this.end, ...provenance(model));
    for (const part of [this.moment, ...Object.values(this.parts)]) part.model = model;
    this.chart?.update(model.points);
    this.map?.update(model);
    this.show(model.moments.length - 1);
  }

  show(moment) {
    this.shown = moment;
    this.moment.show(moment);
    const { seconds } = this.model.moments[moment];
    this.chart?.show(seconds);
    this.map?.show(moment);
    for (const part of Object.values(this.parts)) part.show(moment);
  }
}

/** Replace the content only if it differs, so that a text under selection stays. */
function renew(parent, ...children) {
  const made = fill(element("div"), ...children);
  if (made.textContent !== parent.textContent) parent.replaceChildren(...made.childNodes);
}
