// SPDX-License-Identifier: GPL-2.0-only
// Where each cell of the map lies: rows of as many slots as fit, and folds where nothing is.

export const FOLD_HEIGHT = 22;
const LABEL_HEIGHT = 18;
const LINE_HEIGHT = 13;
const MOST_ROWS = 240;
const CLEAR = 11;
const LARGEST = 26;
export const COLUMNS = [16, 32, 64, 128, 256, 512, 1024];

/** The rows of a map for a width in pixels. */
export class MapLayout {
  /**
   * @param {Cells} cells the cells
   * @param {number} columns slots of a row
   * @param {number} width pixels of the whole map
   */
  constructor(cells, columns, width) {
    this.cells = cells;
    this.columns = columns;
    this.wide = width >= 760;
    this.gutter = width >= 480 ? 126 : 104;
    this.margin = this.wide ? 250 : 0;
    // Whole pixels: a canvas draws them sharper, and much faster.
    const fits = Math.floor((width - this.gutter - this.margin - 4) / columns);
    this.size = Math.min(Math.max(fits, 1), LARGEST);
    this.height = Math.max(this.size, 3);
    this.rows = [];
    this.place();
  }

  place() {
    const { slots, count } = this.cells;
    let y = 2;
    let before = null;
    let names = "";
    for (let first = 0; first < count; ) {
      const base = Math.floor(slots[first] / this.columns) * this.columns;
      let end = first;
      while (end < count && slots[end] < base + this.columns) end += 1;
      const gap = before === null ? 0 : slots[first] - before - 1;
      const fold = before !== null && base > this.rows[this.rows.length - 1].base + this.columns;
      if (fold) y += FOLD_HEIGHT;
      const owners = this.ownersOf(first, end);
      const isNew = owners.join("\n") !== names;
      names = owners.join("\n");
      if (isNew && !this.wide) y += LABEL_HEIGHT;
      this.rows.push({ base, first, end, y, fold: fold ? gap : 0, owners, isNew });
      before = slots[end - 1];
      y += this.height + (this.size >= 7 ? 4 : 1);
      first = end;
    }
    this.total = y + 4;
    this.label();
  }

  /** Give labels to as many rows as have room for one; each speaks for the rows up to the next. */
  label() {
    let labelled = null;
    for (const row of this.rows) {
      const room = labelled === null ? LABEL_HEIGHT : row.y - labelled.y;
      if (room >= LINE_HEIGHT || (row.fold && room > 0)) {
        labelled = row;
        row.label = { owners: [], isNew: false, end: row.end };
      }
      const { label } = labelled;
      label.end = row.end;
      label.isNew ||= row.isNew;
      if (row.isNew) label.owners = [...new Set([...label.owners, ...row.owners])];
    }
  }

  ownersOf(first, end) {
    const seen = new Set();
    for (let at = first; at < end; at += 1) seen.add(this.cells.owner[at]);
    return [...seen].map((owner) => (owner < 0 ? "no known mapping" : this.cells.owners[owner]));
  }

  /** The index of the first row that ends below `y`. */
  rowAt(y) {
    let low = 0;
    let high = this.rows.length - 1;
    while (low < high) {
      const middle = (low + high) >> 1;
      if (this.rows[middle].y + this.height < y) low = middle + 1;
      else high = middle;
    }
    return low;
  }

  x(slot, row) {
    return this.gutter + (slot - row.base) * this.size;
  }

  /** The cell at a point, or null. */
  cellAt(x, y) {
    const row = this.rows[this.rowAt(y - 2)];
    if (!row || y < row.y - 2 || y > row.y + this.height + 2) return null;
    const slot = row.base + Math.floor((x - this.gutter) / this.size);
    return this.indexOf(slot, row);
  }

  indexOf(slot, row) {
    for (let at = row.first; at < row.end; at += 1) if (this.cells.slots[at] === slot) return at;
    return null;
  }

  /** The row of a cell, by its number. */
  rowOf(cell) {
    let low = 0;
    let high = this.rows.length - 1;
    while (low < high) {
      const middle = (low + high) >> 1;
      if (this.rows[middle].end <= cell) low = middle + 1;
      else high = middle;
    }
    return low;
  }
}

/** The most columns whose cells show their shape, or more where that gives too many rows. */
export function fittingColumns(cells, width) {
  const usable = COLUMNS.filter((columns) => new MapLayout(NO_CELLS, columns, width).size >= 2);
  const clear = usable.filter((columns) => new MapLayout(NO_CELLS, columns, width).size >= CLEAR);
  const best = clear.at(-1) ?? COLUMNS[0];
  if (rowsWith(cells, best) <= MOST_ROWS) return best;
  return usable.find((columns) => rowsWith(cells, columns) <= MOST_ROWS) ?? usable.at(-1) ?? best;
}

const NO_CELLS = { slots: [], count: 0, owner: [], owners: [] };

function rowsWith({ slots, count }, columns) {
  let rows = 0;
  let last = -1;
  for (let at = 0; at < count; at += 1) {
    const row = Math.floor(slots[at] / columns);
    if (row !== last) rows += 1;
    last = row;
  }
  return rows;
}
