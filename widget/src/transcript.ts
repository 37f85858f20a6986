// The conversation as it is shown: bubbles, cards, sources, quick replies, thumbs.

import { button, icon, make, spokenOnly } from "./dom";
import type { Button, Message, Urgency } from "./message";
import type { Strings } from "./strings";
import { link, safeAddress, write } from "./text";

/** What the visitor can do in the transcript. */
export interface Acts {
  choose(button: Button): void;
  rate(id: string, helpful: boolean, reason?: string): Promise<void>;
}

export class Transcript {
  /** The one live region for replies: what is added to it is read out, once. */
  readonly log: HTMLElement;
  readonly #waiting: HTMLElement;
  #isQuiet = false;
  #loudAgain?: ReturnType<typeof setTimeout>;

  constructor(
    readonly strings: Strings,
    readonly server: string,
    readonly acts: Acts,
  ) {
    this.log = make("div", {
      class: "log",
      part: "log",
      role: "log",
      tabindex: "0",
      "aria-label": strings.log,
    });
    this.#waiting = make("div", { class: "waiting", "aria-hidden": "true" }, make("i"), make("i"), make("i"));
  }

  clear(): void {
    this.log.replaceChildren();
  }

  /** Add something that is no message, such as a question to the visitor. */
  note(...nodes: (Node | string)[]): HTMLElement {
    const note = make("div", { class: "note", part: "note" }, ...nodes);
    this.log.append(note);
    return note;
  }

  /**
   * Show messages at the end.
   * @param rated the id of the visitor's message that they answer, if that can be rated.
   */
  add(messages: Message[], rated?: string): void {
    this.#endTurn();
    let card: HTMLElement | undefined;
    let level: Urgency | undefined;
    const shown: HTMLElement[] = [];
    // An emergency interrupts what is being read; all else waits for its turn.
    const isAlarm = messages.some(({ metadata }) => /^(emergency|crisis)$/.test(metadata?.urgency ?? ""));
    if (!this.#isQuiet) {
      clearTimeout(this.#loudAgain);
      this.log.setAttribute("aria-live", isAlarm ? "assertive" : "polite");
    }
    for (const message of messages) {
      const urgency = message.from ? undefined : message.metadata?.urgency;
      if (!urgency || urgency !== level) {
        card = urgency && this.#card(urgency);
        if (card) shown.push(card);
        level = urgency;
      }
      const bubble = this.#bubble(message);
      if (card) card.append(bubble);
      else if (message.text) shown.push(bubble);
      const picture = this.#picture(message);
      if (picture) shown.push(picture);
    }
    const last = messages.at(-1);
    const choices = this.#choices(messages.flatMap(({ buttons }) => buttons ?? []), card);
    if (last?.metadata?.sources?.length) shown.push(this.#sources(last));
    if (rated && !level && last?.metadata?.topic?.includes("/")) shown.push(this.#thumbs(rated));
    if (choices) shown.push(choices);
    this.log.append(...shown);
    this.#reveal(shown[0]);
  }

  /** Offer quick replies that belong to no message. */
  offer(buttons: Button[]): void {
    this.log.append(...[this.#choices(buttons) ?? []].flat());
  }

  /** Show or hide that an answer is on its way. */
  wait(yes: boolean): void {
    if (yes) {
      this.log.append(this.#waiting);
      this.#reveal(this.#waiting);
    } else this.#waiting.remove();
  }

  /** Show all again without reading it out. */
  quietly(show: () => void): void {
    clearTimeout(this.#loudAgain);
    this.#isQuiet = true;
    this.log.setAttribute("aria-live", "off");
    show();
    this.#isQuiet = false;
    this.#loudAgain = setTimeout(() => this.log.setAttribute("aria-live", "polite"), 500);
  }

  /** Bring the last message into view. */
  showEnd(): void {
    this.log.scrollTop = this.log.scrollHeight;
  }

  /** The beginning of what is new stays in view, so that nobody has to scroll up to read it. */
  #reveal(first: HTMLElement | undefined): void {
    const before = first?.previousElementSibling as HTMLElement | null | undefined;
    const question = before?.matches(".visitor") && before.offsetHeight < 120 ? before : first;
    if (question) this.log.scrollTop = question.offsetTop - this.log.offsetTop - 12;
  }

  /** Suggestions and thumbs belong to the last answer only. */
  #endTurn(): void {
    for (const old of this.log.querySelectorAll(".choices:not(.calls), .thumbs")) old.remove();
  }

  #card(urgency: Urgency): HTMLElement {
    const words = this.strings.urgency[urgency] ?? this.strings.urgency.urgent;
    const head = make("p", { class: "level" }, icon("alert"), words);
    return make("div", { class: `card ${urgency === "soon" ? "soon" : "alarm"}`, part: "card" }, head);
  }

  #bubble({ text, from, metadata }: Message): HTMLElement {
    const words = make("span", { lang: from ? undefined : (metadata?.language ?? "en") });
    if (from) words.append(text);
    else write(words, text, this.strings.newTab);
    const kind = from ?? "assistant";
    return make(
      "div",
      { class: `bubble ${kind}`, part: `bubble ${kind}`, dir: "auto" },
      spokenOnly(`${from ? this.strings.you : this.strings.assistant} `),
      words,
    );
  }

  /** Pictures come from the server or the site itself: nobody else learns who reads here. */
  #picture({ image, metadata }: Message): HTMLElement | undefined {
    const url = safeAddress(image);
    if (!url) return undefined;
    const alt = metadata?.image_alt ?? "";
    if (url.origin === new URL(this.server).origin || url.origin === location.origin) {
      return make("img", { class: "picture", src: url.href, alt, loading: "lazy" });
    }
    return make("p", { class: "sources" }, link(url, alt || url.host, this.strings.newTab));
  }

  #sources({ metadata }: Message): HTMLElement {
    const line = make("p", { class: "sources", part: "sources", lang: "en" });
    line.append(`${this.strings.sources} `);
    metadata?.sources?.forEach(({ label, url }, place) => {
      if (place) line.append(" · ");
      const address = safeAddress(url);
      line.append(address ? link(address, label, this.strings.newTab) : label);
    });
    return line;
  }

  #choices(buttons: Button[], card?: HTMLElement): HTMLElement | undefined {
    const offered = new Map<string, Button>();
    for (const one of buttons) if (!offered.has(one.payload)) offered.set(one.payload, one);
    const group = make("div", { class: "choices", part: "choices", role: "group", "aria-label": this.strings.suggestions });
    const calls = make("div", { class: "choices calls" });
    for (const one of offered.values()) {
      const url = safeAddress(one.payload);
      if (!url) {
        group.append(button({ class: "choice", part: "choice", lang: "en" }, () => this.acts.choose(one), one.title));
      } else if (url.protocol === "tel:") {
        const call = link(url, one.title, "", "call");
        call.prepend(icon("phone"));
        calls.append(call);
      } else group.append(link(url, one.title, this.strings.newTab, "choice"));
    }
    // What to call stays with the advice when the conversation goes on.
    if (calls.childElementCount) (card ?? group).append(...(card ? [calls] : [...calls.childNodes]));
    return group.childElementCount ? group : undefined;
  }

  #thumbs(id: string): HTMLElement {
    const { strings } = this;
    const row = make("div", { class: "thumbs", part: "thumbs", role: "group", "aria-label": strings.helped });
    const say = (words: string): void => {
      const thanks = make("p", { tabindex: "-1" }, words);
      row.replaceChildren(thanks);
      thanks.focus();
    };
    const rate = (helpful: boolean): void => {
      void this.acts.rate(id, helpful).then(() => {
        say(helpful ? strings.thanks : strings.whyNot);
        if (helpful) return;
        for (const [reason, words] of Object.entries(strings.reasons)) {
          row.append(
            button({ class: "choice" }, () => void this.acts.rate(id, false, reason).then(() => say(strings.thanks)), words),
          );
        }
      });
    };
    row.append(
      make("span", { "aria-hidden": "true" }, strings.helped),
      button({ class: "plain", "aria-label": strings.helpful }, () => rate(true), icon("thumb")),
      button({ class: "plain down", "aria-label": strings.notHelpful }, () => rate(false), icon("thumb")),
    );
    return row;
  }
}
