// SPDX-License-Identifier: GPL-2.0-only
// Unpacks the compressed columns that shadow/report/page/columns.py makes.

async function inflated(text) {
  const characters = atob(text);
  const packed = new Uint8Array(characters.length);
  for (let at = 0; at < packed.length; at += 1) packed[at] = characters.charCodeAt(at);
  const stream = new Blob([packed]).stream().pipeThrough(new DecompressionStream("deflate"));
  return new Uint8Array(await new Response(stream).arrayBuffer());
}

/**
 * A column: its bytes come by significance, the low bytes of all values first.
 * @param {string} text the packed column
 * @param {Function} Kind the typed array of its values
 */
export async function unpacked(text, Kind) {
  const planes = await inflated(text);
  const width = Kind.BYTES_PER_ELEMENT;
  const length = planes.length / width;
  const bytes = new Uint8Array(planes.length);
  for (let plane = 0; plane < width; plane += 1) {
    const from = plane * length;
    for (let at = 0; at < length; at += 1) bytes[at * width + plane] = planes[from + at];
  }
  return new Kind(bytes.buffer);
}

/** Compressed JSON. */
export async function unpackedJson(text) {
  return JSON.parse(new TextDecoder().decode(await inflated(text)));
}
