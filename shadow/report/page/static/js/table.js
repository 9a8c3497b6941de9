// SPDX-License-Identifier: GPL-2.0-only
// A table whose wide form scrolls inside itself.

import { element } from "./dom.js";

const NARROW = 5;

/**
 * A table.
 * @param {string} caption what it shows
 * @param {string[]} headings of the columns; one that starts with "#" is of numbers
 * @param {(Node|string)[][]} rows their cells
 */
export function table(caption, headings, rows) {
  const numeric = headings.map((heading) => heading.startsWith("#"));
  const cell = (content, column) =>
    element(numeric[column] ? "td.number" : "td", {}, content ?? "–");
  return element(
    "div.scroll",
    { tabindex: 0, role: "region", "aria-label": caption },
    element(
      headings.length > NARROW ? "table.wide" : "table",
      {},
      element("caption", {}, caption),
      element(
        "thead",
        {},
        element(
          "tr",
          {},
          ...headings.map((heading, column) =>
            element(
              numeric[column] ? "th.number" : "th",
              { scope: "col" },
              heading.replace(/^#/, ""),
            ),
          ),
        ),
      ),
      element("tbody", {}, ...rows.map((row) => element("tr", {}, ...row.map(cell)))),
    ),
  );
}

/** A bar that shows a part of a whole; the number stands beside it. */
export function bar(part, whole, kind = "") {
  const fillBar = element(`span.bar-fill${kind ? `.${kind}` : ""}`);
  fillBar.style.inlineSize = `${whole ? Math.min((100 * part) / whole, 100) : 0}%`;
  return element("span.bar-track", { "aria-hidden": "true" }, fillBar);
}
