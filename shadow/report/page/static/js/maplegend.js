// SPDX-License-Identifier: GPL-2.0-only
// The legend of the map, drawn by the same function as the cells.

import { ABSENT } from "./cells.js";
import { element } from "./dom.js";
import { drawCell, mapColours } from "./mapdraw.js";
import { onColours } from "./theme.js";

const SIZE = 15;
const SHARP = 2;
const KINDS = [
  [0, false, "empty: maps nothing"],
  [0.05, false, "few entries"],
  [0.5, false, "half full"],
  [1, false, "all entries"],
  [0.6, true, "all lazyfree: empty after reclaim"],
  [ABSENT, false, "no PTE page at this moment"],
];

export function mapLegend() {
  const canvases = [];
  const items = KINDS.map(([part, lazy, text]) => {
    const canvas = element("canvas", {
      width: SHARP * SIZE,
      height: SHARP * SIZE,
      "aria-hidden": "true",
    });
    canvases.push([canvas, part, lazy]);
    return element("li", {}, canvas, text);
  });
  const draw = () => {
    const colours = mapColours();
    for (const [canvas, part, lazy] of canvases) {
      const ctx = canvas.getContext("2d");
      ctx.setTransform(SHARP, 0, 0, SHARP, 0, 0);
      drawCell(ctx, SHARP, SIZE, [part, lazy], colours);
    }
  };
  requestAnimationFrame(draw);
  onColours(draw);
  return element("ul.legend", { "aria-label": "legend" }, ...items);
}
