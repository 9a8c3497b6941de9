// SPDX-License-Identifier: GPL-2.0-only
// Makes elements. Texts become text nodes, so a name from a process is never markup.

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
      made.setAttribute(key, String(value));
    }
  }
  fill(made, ...children);
  return made;
}

/** Replace the content of an element. */
export function fill(parent, ...children) {
  parent.replaceChildren(...children.flat().filter((each) => each !== null && each !== undefined));
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
