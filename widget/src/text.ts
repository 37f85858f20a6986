// A text as DOM nodes: a small part of Markdown, and addresses that can be followed. Never HTML.

import { make, spokenOnly } from "./dom";

const TOKEN = new RegExp(
  [
    /\[([^\]\n]+)\]\(([^)\s]+)\)/, // [words](address)
    /\*\*([^*\n]+)\*\*/, // bold
    /\*([^*\s](?:[^*\n]*[^*\s])?)\*/, // italic
    /(https?:\/\/[^\s<>"]*[^\s<>".,;:!?)\]'])/,
    /([\w.+-]+@[\w-]+(?:\.[\w-]+)+)/,
    /((?<![\w.\/])(?:\+?1[ .-])?\(?\d{3}\)?[ .-]\d{3}[ .-]\d{4}(?!\w)|(?<!\w)\+\d[\d ().-]{7,}\d)/,
  ]
    .map(({ source }) => source)
    .join("|"),
  "g",
);
const ITEM = /^\s*(?:[-•*]|(\d{1,2})[.)])\s+(.*)$/;

/** Return an address that may be followed, or undefined. */
export function safeAddress(address: string | undefined): URL | undefined {
  try {
    const url = new URL(address ?? "");
    return /^(https?|tel|mailto):$/.test(url.protocol) ? url : undefined;
  } catch {
    return undefined;
  }
}

/** Make a link; other sites open in a tab of their own, so that the chat stays. */
export function link(url: URL, words: string, newTab: string, className?: string): HTMLElement {
  const isElsewhere = url.protocol.startsWith("http") && url.origin !== location.origin;
  return make(
    "a",
    {
      href: url.href,
      class: className,
      ...(isElsewhere && { target: "_blank", rel: "noopener noreferrer" }),
    },
    words,
    ...(isElsewhere ? [spokenOnly(` (${newTab})`)] : []),
  );
}

/** Put a text into an element. */
export function write(parent: HTMLElement, text: string, newTab: string): void {
  let list: HTMLElement | undefined;
  text.split("\n").forEach((line, place) => {
    const item = ITEM.exec(line);
    if (item) {
      const kind = item[1] ? "ol" : "ul";
      if (list?.localName !== kind) {
        list = make(kind, item[1] && item[1] !== "1" ? { start: item[1] } : {});
        parent.append(list);
      }
      const entry = make("li");
      words(entry, item[2] ?? "", newTab);
      list.append(entry);
    } else {
      if (place && !list) parent.append(make("br"));
      list = undefined;
      words(parent, line, newTab);
    }
  });
}

function words(parent: HTMLElement, text: string, newTab: string): void {
  let end = 0;
  for (const match of text.matchAll(TOKEN)) {
    const [all, label, address, bold, italic, web, mail, phone] = match;
    parent.append(text.slice(end, match.index));
    end = match.index + all.length;
    const target = address ?? web ?? (mail ? `mailto:${mail}` : phone && `tel:${phone.replace(/[^\d+]/g, "")}`);
    const url = safeAddress(target);
    if (url) parent.append(link(url, label ?? all.replace(/^https?:\/\/(www\.)?|\/$/g, ""), newTab));
    else if (bold ?? italic) {
      const strong = make(bold ? "strong" : "em");
      words(strong, bold ?? italic ?? "", newTab);
      parent.append(strong);
    } else parent.append(all);
  }
  parent.append(text.slice(end));
}
