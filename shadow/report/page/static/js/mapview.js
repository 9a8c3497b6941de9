// SPDX-License-Identifier: GPL-2.0-only
// The address space as a map: a canvas over the visible rows, with hover, keyboard and zoom.

import { entriesUnder, POLICIES } from "./cells.js";
import { element, fill } from "./dom.js";
import { bytes, count } from "./format.js";
import { describeCell } from "./mapcell.js";
import { drawMap, drawSelection, mapColours } from "./mapdraw.js";
import { keyTarget } from "./mapkeys.js";
import { COLUMNS, fittingColumns, MapLayout } from "./maplayout.js";
import { mapLegend } from "./maplegend.js";
import { onColours } from "./theme.js";
import { hideTip, showTip } from "./tip.js";

const PRINT_WIDTH = 1000;
const PRINT_HEIGHT = 1200;

/** The map of one process. */
export class MapView {
  constructor(model) {
    this.model = model;
    this.moment = model.moments.length - 1;
    this.policy = Math.max(POLICIES.indexOf(model.plain.kernel.policy), 0);
    this.selected = null;
    this.columns = null;
    this.canvas = element("canvas", { "aria-hidden": "true" });
    this.overlay = element("canvas.overlay", { "aria-hidden": "true" });
    this.spacer = element("div.map-spacer", {}, this.canvas, this.overlay);
    this.frame = element(
      "div.map-frame",
      {
        tabindex: 0,
        role: "application",
        "aria-label": "Map of the address space. Arrow keys choose a slot, E the next empty one.",
        onscroll: () => this.soon(),
        onkeydown: (event) => this.key(event),
        onpointermove: (event) => this.hover(event),
        onpointerleave: () => this.leave(),
        onpointerdown: (event) => this.hover(event),
        onblur: () => hideTip(),
      },
      this.spacer,
    );
    this.summary = element("p.small", { id: "map-summary" });
    this.node = element("div.map", {}, this.controls(), mapLegend(), this.frame, this.summary);
  }

  /** Draw; the node must be in the document, so that it has a width. */
  start() {
    this.colours = mapColours();
    this.lay();
    onColours(() => {
      this.colours = mapColours();
      this.soon();
    });
    new ResizeObserver(() => this.frame.clientWidth !== this.width && this.lay()).observe(
      this.node,
    );
    addEventListener("beforeprint", () => this.print());
    addEventListener("afterprint", () => this.lay());
  }

  controls() {
    const choices = POLICIES.map((policy, at) =>
      element(
        "option",
        { value: at, selected: at === this.policy },
        policy === this.model.plain.kernel.policy ? `${policy} (this kernel)` : policy,
      ),
    );
    const policy = element(
      "select",
      { onchange: () => this.choosePolicy(Number(policy.value)) },
      ...choices,
    );
    const zoom = (by) => () => this.zoom(by);
    this.scale = element("span.small");
    return element(
      "div.controls",
      {},
      this.model.plain.policies && Object.keys(this.model.plain.policies).length
        ? element("label", {}, "PTE pages under ", policy)
        : null,
      element("button", { type: "button", "aria-label": "smaller cells", onclick: zoom(1) }, "−"),
      element("button", { type: "button", "aria-label": "larger cells", onclick: zoom(-1) }, "+"),
      this.scale,
    );
  }

  choosePolicy(policy) {
    this.policy = policy;
    this.show(this.moment);
  }

  zoom(by) {
    const at = COLUMNS.indexOf(this.layout.columns) + by;
    const columns = COLUMNS[Math.min(Math.max(at, 0), COLUMNS.length - 1)];
    const middle = this.layout.rows[this.layout.rowAt(this.frame.scrollTop)]?.first ?? 0;
    this.columns = columns;
    this.lay();
    this.reveal(this.selected ?? middle);
  }

  /** Lay the rows out for the width of the page. */
  lay() {
    const width = this.frame.clientWidth;
    if (!width) return;
    this.width = width;
    const columns = this.columns ?? fittingColumns(this.model.cells, width);
    this.layout = new MapLayout(this.model.cells, columns, width);
    this.frame.classList.remove("printed");
    this.spacer.style.blockSize = `${this.layout.total}px`;
    const span = bytes(columns * this.model.geometry.slot);
    this.scale.textContent = `${count(columns)} slots, ${span}, a row`;
    this.draw();
  }

  /** Show all rows on paper, or as many as a sheet takes. */
  print() {
    this.width = PRINT_WIDTH;
    const columns = this.columns ?? fittingColumns(this.model.cells, this.width);
    this.layout = new MapLayout(this.model.cells, columns, this.width);
    this.frame.classList.add("printed");
    this.spacer.style.blockSize = "auto";
    this.draw(PRINT_HEIGHT);
  }

  show(moment) {
    this.moment = moment;
    this.states = this.model.cells.statesAt(moment);
    let [pages, empty] = [0, 0];
    for (const state of this.states) {
      const entries = entriesUnder(state, this.policy);
      if (entries >= 0) pages += 1;
      if (entries === 0) empty += 1;
    }
    fill(
      this.summary,
      "The map shows ",
      element("span", { "data-map": "pages" }, count(pages)),
      " PTE pages, ",
      element("span", { "data-map": "empty" }, count(empty)),
      " of them empty.",
      this.model.cells.momentOf(moment) === moment ? "" : " (State of the last moment with a map.)",
    );
    this.soon();
  }

  /** Take newer cells of the same process, on a live page. */
  update(model) {
    const slot = this.selected === null ? null : this.model.cells.slots[this.selected];
    this.model = model;
    const at = slot === null ? -1 : model.cells.slots.indexOf(slot);
    this.selected = at < 0 ? null : at;
    this.states = model.cells.statesAt(0);
    this.lay();
  }

  soon() {
    if (this.waiting) return;
    this.waiting = true;
    requestAnimationFrame(() => {
      this.waiting = false;
      this.draw();
    });
  }

  draw(most = this.frame.clientHeight) {
    if (!this.layout || !this.states) return;
    const height = Math.min(most, Math.max(this.layout.total, 1));
    const { policy, states, width } = this;
    const scale = devicePixelRatio || 1;
    const { geometry } = this.model;
    const view = { top: this.top(), height, width, scale, policy, states, geometry };
    drawMap(this.context(this.canvas, height), this.layout, view, this.colours);
    this.mark(height);
  }

  /** The first visible pixel of the map. */
  top() {
    return this.frame.classList.contains("printed") ? 0 : this.frame.scrollTop;
  }

  /** Frame the selected cell. */
  mark(height = Number.parseFloat(this.canvas.style.blockSize)) {
    const view = { top: this.top(), height, width: this.width, selected: this.selected };
    drawSelection(this.context(this.overlay, height), this.layout, view, this.colours);
  }

  /** The context of a canvas of this height, in pixels of the page. */
  context(canvas, height) {
    const scale = devicePixelRatio || 1;
    const [wide, tall] = [Math.round(this.width * scale), Math.round(height * scale)];
    if (canvas.width !== wide || canvas.height !== tall) {
      [canvas.width, canvas.height] = [wide, tall];
      canvas.style.inlineSize = `${this.width}px`;
      canvas.style.blockSize = `${height}px`;
      this.spacer.style.setProperty("--map-height", `${height}px`);
    }
    const ctx = canvas.getContext("2d");
    ctx.setTransform(scale, 0, 0, scale, 0, 0);
    return ctx;
  }

  hover(event) {
    const box = this.frame.getBoundingClientRect();
    const cell = this.layout.cellAt(
      event.clientX - box.left,
      event.clientY - box.top + this.frame.scrollTop,
    );
    if (cell === null) this.leave();
    else this.select(cell);
  }

  leave() {
    hideTip();
  }

  key(event) {
    if (event.key === "+" || event.key === "-") this.zoom(event.key === "+" ? -1 : 1);
    else if (event.key === "Escape") hideTip();
    else {
      const cell = keyTarget(event.key, this);
      if (cell === null) return;
      this.reveal(cell);
      this.select(cell);
    }
    event.preventDefault();
  }

  reveal(cell) {
    const { y } = this.layout.rows[this.layout.rowOf(cell)];
    const { scrollTop, clientHeight } = this.frame;
    if (y < scrollTop + 20 || y + this.layout.height > scrollTop + clientHeight - 20) {
      this.frame.scrollTop = y - clientHeight / 2;
    }
  }

  select(cell) {
    this.selected = cell;
    const row = this.layout.rows[this.layout.rowOf(cell)];
    const box = this.frame.getBoundingClientRect();
    const x = box.left + this.layout.x(this.model.cells.slots[cell], row) + this.layout.size;
    const y = box.top + row.y - this.frame.scrollTop + this.layout.height;
    showTip(describeCell(this.model, cell, this.moment, this.policy), x, y);
    this.mark();
  }
}
