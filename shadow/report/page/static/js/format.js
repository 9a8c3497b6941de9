// SPDX-License-Identifier: GPL-2.0-only
// Numbers, sizes, times and addresses as text.

const NUMBER = new Intl.NumberFormat("en-US");
const ENTRY_BYTES = 8;

/** A whole number with separators. */
export function count(number) {
  return NUMBER.format(number);
}

/** A number of tables, which mappings can share: fractions have one digit. */
export function tables(number) {
  if (Number.isInteger(number)) return count(number);
  return number < 0.05 ? "<0.1" : NUMBER.format(Number(number.toFixed(1)));
}

/** A number with a noun: 1 process, 2 processes. */
export function counted(number, noun) {
  if (number === 1) return `1 ${noun}`;
  return `${count(number)} ${noun}${/(s|x|ch|sh)$/.test(noun) ? "es" : "s"}`;
}

/** A size in a unit that needs few digits. */
export function bytes(number) {
  const units = ["B", "KiB", "MiB", "GiB", "TiB", "PiB"];
  let unit = 0;
  let left = number;
  while (left >= 1024 && unit < units.length - 1) {
    left /= 1024;
    unit += 1;
  }
  const digits = Number.isInteger(left) || unit < 2 ? 0 : 1;
  return `${left.toFixed(digits)} ${units[unit]}`;
}

/** The page tables of a kernel: bytes of a page, entries of a PTE page, bytes of a slot. */
export function geometryOf(kernel) {
  const page = kernel.page_size;
  const entries = page / ENTRY_BYTES;
  return { page, entries, slot: page * entries };
}

/** The size of page tables, of a kernel with pages of so many bytes. */
export function pagesSize(pages, pageBytes) {
  return bytes(pages * pageBytes);
}

/** A part of a whole in percent. */
export function share(part, whole) {
  return whole ? `${((100 * part) / whole).toFixed(1)} %` : "–";
}

/** Seconds since the start of the window. */
export function seconds(number) {
  if (number < 0.1) return `${(number * 1000).toFixed(number < 0.01 ? 1 : 0)} ms`;
  if (number < 600) return `${number.toFixed(1)} s`;
  const whole = Math.round(number);
  const parts = [Math.floor(whole / 3600), Math.floor((whole % 3600) / 60), whole % 60];
  return parts.map((part) => String(part).padStart(2, "0")).join(":");
}

/** Seconds on an axis whose ticks are `step` apart. */
export function axisSeconds(number, step) {
  if (number >= 600) return seconds(number);
  const [value, unit] = step >= 0.1 ? [number, "s"] : [number * 1000, "ms"];
  return `${NUMBER.format(Number(value.toPrecision(6)))} ${unit}`;
}

/** The first address of a slot, from its number (address / size). */
export function slotAddress(slot, slotBytes) {
  return `0x${(BigInt(slot) * BigInt(slotBytes)).toString(16).padStart(12, "0")}`;
}

/** The size of a call, from its bounds in bytes. */
export function callSize(least, most) {
  if (!most) return "";
  return least === most ? ` of ${bytes(least)}` : ` of ${bytes(least)} to ${bytes(most)}`;
}
