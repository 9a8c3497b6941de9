// SPDX-License-Identifier: GPL-2.0-only
// PTE pages and empty ones over time, drawn by uPlot: drag to zoom, click to choose a moment.

import { POLICIES } from "./cells.js";
import { element } from "./dom.js";
import { axisSeconds, count, seconds } from "./format.js";
import { colour, onColours } from "./theme.js";

const HEIGHT = 190;
const DASHES = { none: [2, 4], pt_reclaim: [], dontneed_zero: [6, 2, 2, 2], pte_ref: [8, 4] };

/** Two charts with one time axis. */
export class TimeChart {
  /**
   * @param {Object} points the times, and counts by policy
   * @param {string} running the policy of the kernel
   * @param {Function} choose called with the seconds of a click
   */
  constructor(points, running, choose) {
    this.points = points;
    this.running = running;
    this.choose = choose;
    this.chosen = null;
    this.charts = [];
    this.node = element("div.charts");
    this.back = element(
      "button",
      { type: "button", hidden: true, onclick: () => this.zoom(null, null) },
      "Show the whole time",
    );
    this.node.append(this.back);
  }

  /** Draw; the node must be in the document, so that it has a width. */
  start() {
    this.add("PTE pages", "pte_pages");
    this.add("Empty PTE pages", "empty");
    onColours(() => {
      for (const chart of this.charts) chart.redraw(false, true);
    });
    new ResizeObserver(() => this.resize()).observe(this.node);
  }

  add(title, column) {
    const frame = element("div.chart", { role: "img", "aria-label": `${title} over time` });
    this.node.append(frame);
    const chart = new uPlot(this.options(title), this.data(column), frame);
    chart.column = column;
    this.charts.push(chart);
    chart.over.addEventListener("click", () => {
      const { left } = chart.cursor;
      if (!this.dragged && left >= 0) this.choose(chart.posToVal(left, "x"));
    });
  }

  data(column) {
    return [this.points.seconds, ...POLICIES.map((policy) => this.points[column][policy])];
  }

  options(title) {
    const axis = {
      stroke: () => colour("--muted"),
      grid: { stroke: () => colour("--line"), width: 1 },
    };
    return {
      title,
      width: this.width(),
      height: HEIGHT,
      cursor: {
        sync: { key: "time" },
        drag: { x: true, y: false, dist: 5 },
        bind: {
          mousedown: (_chart, _target, handler) => (event) => {
            this.dragged = false;
            handler(event);
          },
        },
      },
      scales: {
        x: { time: false },
        y: { range: (_chart, _least, most) => [0, Math.max(most * 1.08, 4)] },
      },
      axes: [
        {
          ...axis,
          size: 34,
          values: (_chart, ticks, _axis, _space, step) =>
            ticks.map((tick) => axisSeconds(tick, step)),
        },
        {
          ...axis,
          size: 62,
          values: (_chart, ticks) =>
            ticks.map((tick) => (Number.isInteger(tick) ? count(tick) : "")),
        },
      ],
      series: [
        { label: "after", value: (_chart, value) => (value === null ? "–" : seconds(value)) },
        ...POLICIES.map((policy) => this.series(policy)),
      ],
      hooks: {
        draw: [(chart) => this.mark(chart)],
        setCursor: [(chart) => chart.cursor.left < 0 && this.showLegend(chart)],
        setScale: [(chart, key) => key === "x" && this.follow(chart)],
        setSelect: [
          (chart) => {
            this.dragged = chart.select.width > 0;
          },
        ],
      },
    };
  }

  series(policy) {
    const running = policy === this.running;
    return {
      label: running ? `${policy} (this kernel)` : policy,
      stroke: () => colour(`--policy-${policy.replaceAll("_", "-")}`),
      width: running ? 2.5 : 1.5,
      dash: running ? [] : DASHES[policy].length ? DASHES[policy] : [4, 4],
      points: { show: false },
      value: (_chart, value) => (value === null ? "–" : count(value)),
    };
  }

  /** Mark the chosen moment with a line. */
  mark(chart) {
    if (this.chosen === null) return;
    const { ctx, bbox } = chart;
    const x = Math.round(chart.valToPos(this.chosen, "x", true));
    if (x < bbox.left || x > bbox.left + bbox.width) return;
    ctx.save();
    ctx.strokeStyle = colour("--accent");
    ctx.lineWidth = 2 * devicePixelRatio;
    ctx.beginPath();
    ctx.moveTo(x, bbox.top);
    ctx.lineTo(x, bbox.top + bbox.height);
    ctx.stroke();
    ctx.restore();
  }

  /** Give the other chart the time range of this one. */
  follow(chart) {
    const { min, max } = chart.scales.x;
    const all = this.points.seconds;
    this.back.hidden = min <= all[0] && max >= all[all.length - 1];
    for (const other of this.charts) {
      const scale = other.scales.x;
      if (other !== chart && (scale.min !== min || scale.max !== max))
        other.setScale("x", { min, max });
    }
  }

  zoom(from, to) {
    const all = this.points.seconds;
    const range = { min: from ?? all[0], max: to ?? all[all.length - 1] };
    for (const chart of this.charts) chart.setScale("x", range);
  }

  show(time) {
    this.chosen = time;
    for (const chart of this.charts) {
      this.showLegend(chart);
      chart.redraw(false, false);
    }
  }

  /** The legend has the counts of the chosen moment while no pointer chooses others. */
  showLegend(chart) {
    if (this.chosen === null) return;
    const idx = chart.valToIdx(this.chosen);
    if (chart.legend.idx !== idx) chart.setLegend({ idx }, false);
  }

  /** Take more points, on a live page. */
  update(points) {
    this.points = points;
    for (const chart of this.charts) chart.setData(this.data(chart.column), this.back.hidden);
  }

  width() {
    return Math.max(this.node.clientWidth, 240);
  }

  resize() {
    const width = this.width();
    for (const chart of this.charts) {
      if (chart.width !== width) chart.setSize({ width, height: HEIGHT });
    }
  }
}
