// SPDX-License-Identifier: GPL-2.0-only
// Makes elements. Texts become text nodes, so a name from a process is never markup, and characters
// that hide, reorder or end text become visible escapes, as in the other reports.

const INVISIBLE =
  /(?! )(?:[\p{C}\p{Z}\u115f\u1160\u2800\u3164\uffa0]|\p{Default_Ignorable_Code_Point})/gu;

/** One visible line of text. */
export function visible(text) {
  return text.replace(INVISIBLE, (character) => {
    const code = character.codePointAt(0);
    if (code < 0x100) return `\\x${code.toString(16).padStart(2, "0")}`;
    if (code < 0x10000) return `\\u${code.toString(16).padStart(4, "0")}`;
    return `\\U${code.toString(16).padStart(8, "0")}`;
  });
}

/** A child as it may stand in the page. */
function shown(child) {
  return typeof child === "string" ? visible(child) : child;
}

/**
 * An element.
 * @param {string} tag its name, with classes after dots
 * @param {Object<string, any>} attributes attributes; on… are event handlers
 * @param {...(Node|string|number|null)} children its content
 */
export function element(tag, attributes = {}, ...children) {
  const [name, ...classes] = tag.split(".");
  const made = document.createElement(name);
  made.classList.add(...classes);
  for (const [key, value] of Object.entries(attributes)) {
    if (key.startsWith("on")) made.addEventListener(key.slice(2), value);
    else if (value === true) made.setAttribute(key, "");
    else if (value !== false && value !== null && value !== undefined) {
      made.setAttribute(key, visible(String(value)));
    }
  }
  fill(made, ...children);
  return made;
}

/** Replace the content of an element. */
export function fill(parent, ...children) {
  const there = children.flat().filter((each) => each !== null && each !== undefined);
  parent.replaceChildren(...there.map(shown));
  return parent;
}

/** A number that the JSON document has at `path`, relative to its process. */
export function figure(path, text) {
  return element("span.figure", { "data-figure": path }, text);
}

/** A section of the page with a heading and an explanation. */
export function section(id, title, explanation, ...children) {
  return element(
    "section",
    { id, "aria-labelledby": `${id}-title` },
    element("h2", { id: `${id}-title` }, title),
    explanation ? element("p.explanation", {}, explanation) : null,
    ...children,
  );
}
