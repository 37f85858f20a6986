// Elements and icons, made without a word of HTML.

type Attributes = Record<string, string | undefined>;

/** Make an element. `class` and `part` are attributes like all others. */
export function make<Name extends keyof HTMLElementTagNameMap>(
  name: Name,
  attributes: Attributes = {},
  ...children: (Node | string)[]
): HTMLElementTagNameMap[Name] {
  const element = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) {
    if (value !== undefined) element.setAttribute(key, value);
  }
  element.append(...children);
  return element;
}

/** Make a button. */
export function button(
  attributes: Attributes,
  act: () => void,
  ...children: (Node | string)[]
): HTMLButtonElement {
  const element = make("button", { type: "button", ...attributes }, ...children);
  element.addEventListener("click", act);
  return element;
}

/** Text for those who listen. */
export function spokenOnly(text: string): HTMLElement {
  return make("span", { class: "spoken" }, text);
}

const ICONS = {
  chat: "M5 5h14a2 2 0 012 2v8a2 2 0 01-2 2h-7l-5 4v-4H5a2 2 0 01-2-2V7a2 2 0 012-2zM8 9.5h8M8 12.5h5",
  close: "M6 6l12 12M18 6L6 18",
  send: "M12 19V5M6 11l6-6 6 6",
  copy: "M12 4v11M7.5 11l4.5 4.5 4.5-4.5M5 20h14",
  thumb: "M7 11l4-7c2 0 3 1 2 6h5.5a1.5 1.5 0 011.4 2l-2 6a1.5 1.5 0 01-1.4 1H7zm0 0H4v8h3",
  alert: "M12 4l9 16H3zM12 10v4.5M12 17v.4",
  phone: "M6 4h3l1.5 4-2 1.5a11 11 0 006 6l1.5-2 4 1.5v3a2 2 0 01-2 2A15 15 0 014 6a2 2 0 012-2z",
  lock: "M6 11h12v9H6zM8.5 11V8a3.5 3.5 0 017 0v3",
};

/** Draw an icon; it says nothing to those who listen. */
export function icon(name: keyof typeof ICONS): SVGElement {
  const space = "http://www.w3.org/2000/svg";
  const drawing = document.createElementNS(space, "svg");
  const path = document.createElementNS(space, "path");
  drawing.setAttribute("viewBox", "0 0 24 24");
  drawing.setAttribute("aria-hidden", "true");
  drawing.setAttribute("class", "icon");
  path.setAttribute("d", ICONS[name]);
  drawing.append(path);
  return drawing;
}
