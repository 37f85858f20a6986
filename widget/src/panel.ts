// The panel: fetched when the visitor first reaches for the chat. What it shows is in transcript.ts,
// what is said in conversation.ts; here is what connects them.

import { Client, type Failure } from "./client";
import { Conversation, type Listener, type Trouble } from "./conversation";
import { button, icon, make, spokenOnly } from "./dom";
import type { Memory } from "./memory";
import type { Message } from "./message";
import styles from "./panel.css";
import { stringsFor } from "./strings";
import { safeAddress } from "./text";
import { Transcript } from "./transcript";

const LONGEST = 1000; // characters, as on the server
const COUNT_FROM = 800;
const PHONE = "(max-width: 480px), (max-height: 420px)";

// Sent in English, which the assistant understands; a test sees that both are.
const ASK_PERSON = "Can I talk to a person?";
const ASK_PRIVACY = "What do you store about me?";

/** What the panel needs of the element around it. */
export interface Host {
  readonly element: HTMLElement;
  readonly root: HTMLElement;
  readonly launcher: HTMLButtonElement;
  /** The live region for all that is no reply. */
  readonly status: HTMLElement;
  /** The office's own contact details. */
  readonly fallback: HTMLElement;
  readonly memory: Memory;
  readonly server: string;
  readonly language: string;
  /** Aborts when the element leaves the page. */
  readonly signal: AbortSignal;
  announce(words: string): void;
  unread(count: number): void;
  tell(name: string, detail?: object): void;
}

/** Put the panel into the element. */
export function createPanel(host: Host): Panel {
  return new Panel(host);
}

export class Panel implements Listener {
  readonly #host: Host;
  readonly #strings;
  readonly #conversation: Conversation;
  readonly #transcript: Transcript;
  readonly #dialog: HTMLDialogElement;
  readonly #lock = icon("lock");
  readonly #noticeWords = make("p");
  readonly #notice: HTMLElement;
  readonly #input: HTMLTextAreaElement;
  readonly #counter = make("p", { id: "counter", class: "counter" });
  readonly #send: HTMLButtonElement;
  readonly #actions = make("div", { class: "actions", part: "actions" });
  #consent: HTMLElement | undefined;
  #unread = 0;
  #wasUnreachable = false;
  #waitTimer: ReturnType<typeof setTimeout> | undefined;

  constructor(host: Host) {
    this.#host = host;
    const strings = (this.#strings = stringsFor(host.language));
    this.#conversation = new Conversation(new Client(host.server), host.memory, this);
    this.#transcript = new Transcript(strings, host.server, {
      choose: ({ payload }) => this.say({ postback: payload }),
      rate: (id, helpful, reason) =>
        this.#conversation.rate(id, helpful, reason).catch((error: Failure) => {
          this.#fail(error, strings.failedAct);
          throw error;
        }),
    });
    this.#input = make("textarea", {
      id: "input",
      part: "input",
      rows: "1",
      enterkeyhint: "send",
      autocomplete: "off",
      placeholder: strings.input,
      "aria-describedby": "counter",
    });
    this.#send = make(
      "button",
      { class: "send", part: "send", type: "submit", "aria-label": strings.send, title: strings.send },
      icon("send"),
    );
    this.#notice = make(
      "div",
      { class: "notice", part: "notice", hidden: "" },
      this.#noticeWords,
      button({ class: "choice" }, () => this.#conversation.hurry(), strings.retry),
    );
    this.#dialog = make(
      "dialog",
      { class: "panel", part: "panel", "aria-labelledby": "heading" },
      this.#header(),
      this.#transcript.log,
      this.#notice,
      this.#form(),
      this.#footer(),
    );
    this.#dialog.addEventListener("keydown", (event) => this.#key(event));
    this.#dialog.addEventListener("cancel", (event) => {
      event.preventDefault();
      this.close();
    });
    const sheet = new CSSStyleSheet();
    sheet.replaceSync(styles);
    (host.root.getRootNode() as ShadowRoot).adoptedStyleSheets.push(sheet);
    host.root.append(this.#dialog);
    this.#listen();
  }

  #listen(): void {
    const { memory, signal } = this.#host;
    const on = (target: EventTarget | null, name: string, act: () => void): void =>
      target?.addEventListener(name, act, { signal });
    on(window, "online", () => this.#conversation.hurry());
    on(document, "visibilitychange", () => {
      if (document.hidden) return;
      this.#conversation.hurry();
      void this.#conversation.catchUp();
    });
    on(matchMedia(PHONE), "change", () => {
      // The other kind of dialog, without losing the place or the words.
      if (!this.isOpen) return;
      const focused = this.#focused;
      this.#dialog.close();
      this.#showDialog(false);
      focused?.focus();
    });
    on(window.visualViewport, "resize", () => this.#fit());
    on(window.visualViewport, "scroll", () => this.#fit());
    memory.listen(
      () => void this.#conversation.catchUp(),
      () => this.#otherTab(),
    );
  }

  get isOpen(): boolean {
    return this.#dialog.open;
  }

  get #focused(): HTMLElement | null {
    return (this.#dialog.getRootNode() as ShadowRoot).activeElement as HTMLElement | null;
  }

  /** Open the panel. */
  open(withFocus = true): void {
    if (this.isOpen) return;
    const { launcher, unread, tell } = this.#host;
    launcher.hidden = true;
    this.#showDialog(withFocus);
    this.#unread = 0;
    unread(0);
    void this.#conversation.start().then(() => this.#conversation.remember(this.isOpen));
    this.#conversation.remember(true);
    tell("open");
  }

  /** Close the panel; the focus goes back to where it came from. */
  close(): void {
    if (!this.isOpen) return;
    const { launcher, root, status, tell } = this.#host;
    this.#dialog.close();
    launcher.hidden = false;
    root.append(status);
    launcher.focus();
    this.#conversation.remember(false);
    tell("close");
  }

  /** Send a text, or what a button stands for, as the visitor. */
  say(body: { text: string } | { postback: string }): void {
    if (!this.#conversation.isDecided) this.#decided(false);
    this.#conversation.say(body);
    this.#host.tell("message", { from: "visitor" });
    this.#focusWithin();
  }

  /** Delete the conversation here and on the server. */
  async erase(): Promise<void> {
    await this.#conversation.erase();
    this.#host.announce(this.#strings.erased);
  }

  #header(): HTMLElement {
    const strings = this.#strings;
    return make(
      "header",
      { part: "header" },
      make(
        "div",
        {},
        make("h2", { id: "heading" }, this.#host.element.getAttribute("heading") ?? strings.heading, this.#lock),
        make("p", {}, strings.subtitle),
      ),
      button({ class: "plain", "aria-label": strings.copy, title: strings.copy }, () => this.#copy(), icon("copy")),
      button({ class: "plain", "aria-label": strings.close, title: strings.close }, () => this.close(), icon("close")),
    );
  }

  #form(): HTMLElement {
    const strings = this.#strings;
    const form = make(
      "form",
      { part: "form" },
      make("label", { for: "input", class: "spoken" }, strings.input),
      this.#input,
      this.#send,
      this.#counter,
    );
    form.addEventListener("submit", (event) => {
      event.preventDefault();
      this.#submit();
    });
    this.#input.addEventListener("input", () => this.#measure());
    this.#input.addEventListener("keydown", (event) => {
      // Enter may also choose among the proposals of a Japanese or Chinese keyboard.
      if (event.key !== "Enter" || event.shiftKey || event.isComposing) return;
      event.preventDefault();
      this.#submit();
    });
    return form;
  }

  #footer(): HTMLElement {
    const strings = this.#strings;
    const call = (number: string): HTMLElement => make("a", { href: `tel:${number}` }, number);
    this.#showActions();
    return make(
      "footer",
      { part: "footer" },
      make(
        "p",
        {},
        make("span", { class: "general" }, `${strings.notice} `),
        make("span", {}, `${strings.emergencyLine} `, call("911"), ` ${strings.crisisLine} `, call("988")),
      ),
      this.#actions,
    );
  }

  #showActions(): HTMLElement {
    const strings = this.#strings;
    const privacy = safeAddress(this.#host.element.getAttribute("privacy-url") ?? "");
    const erase = button({ class: "plain" }, () => this.#askToErase(), strings.erase);
    this.#actions.replaceChildren(
      button({ class: "plain" }, () => this.say({ text: ASK_PERSON }), strings.person),
      privacy
        ? make(
            "a",
            { class: "plain", href: privacy.href, target: "_blank", rel: "noopener" },
            strings.privacy,
            spokenOnly(` (${strings.newTab})`),
          )
        : button({ class: "plain" }, () => this.say({ text: ASK_PRIVACY }), strings.privacy),
      erase,
    );
    return erase;
  }

  #askToErase(): void {
    const strings = this.#strings;
    const yes = button({ class: "plain" }, () => void this.#eraseNow(), strings.eraseYes);
    const no = button({ class: "plain" }, () => this.#showActions().focus(), strings.eraseNo);
    const question = make("div", { role: "group", "aria-label": strings.eraseAsk }, make("span", {}, strings.eraseAsk), yes, no);
    this.#actions.replaceChildren(question);
    yes.focus();
  }

  async #eraseNow(): Promise<void> {
    try {
      await this.erase();
    } catch (error) {
      this.#fail(error as Failure, this.#strings.eraseFailed);
    }
    this.#showActions();
    this.#focusWithin();
  }

  // Showing and hiding.

  #showDialog(withFocus: boolean): void {
    const before = document.activeElement as HTMLElement | null;
    // Only what is inside a modal dialog is read out.
    this.#dialog.append(this.#host.status);
    if (matchMedia(PHONE).matches) this.#dialog.showModal();
    else this.#dialog.show();
    this.#fit();
    this.#measure();
    if (withFocus) this.#focusWithin();
    else before?.focus();
  }

  /** A keyboard that covers half of a phone is not what somebody asked for who only reads. */
  #focusWithin(): void {
    (matchMedia("(pointer: coarse)").matches ? this.#transcript.log : this.#input).focus();
  }

  /** Fill what the on-screen keyboard leaves of a phone's screen. */
  #fit(): void {
    const view = window.visualViewport;
    const isFull = view && view.scale === 1 && matchMedia(PHONE).matches;
    this.#dialog.style.height = isFull ? `${view.height}px` : "";
    this.#dialog.style.top = isFull ? `${view.offsetTop}px` : "";
  }

  #key(event: KeyboardEvent): void {
    const focused = this.#focused;
    if (event.key === "Escape") {
      event.preventDefault();
      this.close();
    } else if (event.key === "F6") {
      event.preventDefault();
      (focused === this.#input ? this.#transcript.log : this.#input).focus();
    } else if (event.key === "Tab" && this.#dialog.matches(":modal")) {
      const stops = [
        ...this.#dialog.querySelectorAll<HTMLElement>("button, a[href], textarea, [tabindex='0']"),
      ].filter((stop) => stop.checkVisibility?.() ?? stop.offsetParent);
      const [first, last] = event.shiftKey ? [stops.at(-1), stops[0]] : [stops[0], stops.at(-1)];
      if (focused !== last) return;
      event.preventDefault();
      first?.focus();
    }
  }

  // The visitor's side.

  #submit(): void {
    const text = this.#input.value.trim();
    if (!text || [...text].length > LONGEST) return this.#input.focus();
    this.#input.value = "";
    this.#measure();
    this.say({ text });
  }

  /** Grow with the text, and say in time how much fits. */
  #measure(): void {
    const used = [...this.#input.value.trim()].length;
    const over = used - LONGEST;
    this.#input.style.height = "auto";
    this.#input.style.height = `${this.#input.scrollHeight + 2}px`;
    this.#counter.textContent =
      over > 0 ? this.#strings.tooLong(over) : used >= COUNT_FROM ? this.#strings.left(used, LONGEST) : "";
    this.#input.setAttribute("aria-invalid", String(over > 0));
    // Once at the edge, not at every letter.
    if (over > 0 && !this.#send.disabled) this.#host.announce(this.#strings.tooLong(over));
    this.#send.disabled = over > 0;
  }

  async #decide(save: boolean): Promise<void> {
    try {
      await this.#conversation.decide(save);
      this.#decided(save);
      this.#conversation.remember(true);
      this.#focusWithin();
    } catch (error) {
      this.#fail(error as Failure, this.#strings.failedAct);
    }
  }

  #decided(save: boolean): void {
    this.#consent?.replaceChildren(save ? this.#strings.savedNote : this.#strings.privateNote);
    this.#consent = undefined;
    this.#nameMode();
  }

  #nameMode(): void {
    this.#lock.toggleAttribute("hidden", !this.#conversation.isPrivate);
  }

  #copy(): void {
    const { assistant, you } = this.#strings;
    const lines = this.#conversation.messages.map(({ from, text }) => `${from ? you : assistant} ${text}`);
    const file = new Blob([lines.join("\n\n")], { type: "text/plain;charset=utf-8" });
    const address = URL.createObjectURL(file);
    make("a", { href: address, download: `chat-${new Date().toISOString().slice(0, 10)}.txt` }).click();
    setTimeout(() => URL.revokeObjectURL(address), 1000);
  }

  // The conversation's side.

  replaced(): void {
    const { messages, isDecided, isStarted } = this.#conversation;
    const strings = this.#strings;
    this.#transcript.quietly(() => {
      this.#transcript.clear();
      this.#consent = undefined;
      const greeting = this.#host.element.getAttribute("greeting");
      if (greeting) this.#transcript.add([{ text: greeting, metadata: { language: strings.code } }]);
      const asked = messages.findIndex(({ from }) => from);
      const opening = asked < 0 ? messages : messages.slice(0, asked);
      // The question stands before the suggestions, which end the turn.
      const buttons = opening.flatMap((message) => message.buttons ?? []);
      this.#transcript.add(opening.map((message) => ({ ...message, buttons: [] })));
      if (isStarted && strings.language) this.#transcript.note(strings.language);
      if (isStarted && !isDecided) this.#askConsent();
      if (asked < 0) this.#transcript.offer(buttons);
      else this.#turns(messages.slice(asked));
    });
    this.#nameMode();
  }

  #turns(messages: Message[]): void {
    let turn: Message[] = [];
    const show = (): void => {
      if (turn.length) this.#transcript.add(turn, this.#ratable(turn));
      turn = [];
    };
    for (const message of messages) {
      if (message.from) {
        show();
        this.#transcript.add([message]);
      } else turn.push(message);
    }
    show();
  }

  /** Return the id of the message that a turn answers, if the answer can be rated. */
  #ratable(turn: Message[]): string | undefined {
    if (this.#conversation.isPrivate) return undefined;
    const { messages } = this.#conversation;
    const before = messages.slice(0, messages.indexOf(turn[0]!));
    return before.reverse().find(({ from }) => from)?.id;
  }

  #askConsent(): void {
    const strings = this.#strings;
    this.#consent = this.#transcript.note(
      make("p", {}, strings.consent),
      make(
        "div",
        { class: "pair" },
        button({ class: "choice main" }, () => void this.#decide(true), strings.save),
        button({ class: "choice" }, () => void this.#decide(false), strings.noSave),
      ),
    );
  }

  added(messages: Message[]): void {
    this.#turns(messages);
    const answers = messages.filter(({ from }) => !from);
    for (const { metadata } of answers) {
      const { topic, urgency } = metadata ?? {};
      this.#host.tell("message", { from: "assistant", ...(topic && { topic }), ...(urgency && { urgency }) });
    }
    if (!this.isOpen && answers.length) {
      this.#unread += answers.length;
      this.#host.unread(this.#unread);
    }
  }

  /** Progress is shown only if there is something to wait for. */
  waiting(yes: boolean): void {
    clearTimeout(this.#waitTimer);
    this.#transcript.wait(false);
    if (yes) {
      this.#waitTimer = setTimeout(() => {
        this.#transcript.wait(true);
        this.#host.announce(this.#strings.answering);
      }, 600);
    }
  }

  trouble(trouble?: Trouble): void {
    const strings = this.#strings;
    if (!trouble) {
      if (this.#wasUnreachable) this.#host.announce(strings.mended);
      this.#wasUnreachable = false;
      this.#notice.hidden = true;
      return;
    }
    const { kind, message, wait } = trouble;
    this.#wasUnreachable = kind === "offline";
    const words =
      kind === "refused"
        ? `${strings.trouble.refused} ${message ?? ""}`
        : kind === "broken" && !wait
          ? strings.failed
          : strings.trouble[kind];
    this.#show(words, kind, wait > 0 && kind !== "busy", /^(offline|broken|starting)$/.test(kind));
  }

  #fail({ status, code }: Failure, words: string): void {
    this.#show(words, code, false, !status);
  }

  /** Show what is wrong, and say it once however often it is tried again. */
  #show(words: string, code: string, canHurry: boolean, withFallback: boolean): void {
    const isNew = this.#noticeWords.textContent !== words || this.#notice.hidden;
    this.#noticeWords.textContent = words;
    this.#notice.hidden = false;
    this.#notice.classList.toggle("waits", canHurry);
    if (withFallback) this.#notice.append(this.#host.fallback);
    this.#host.fallback.hidden = !withFallback;
    if (!isNew) return;
    this.#transcript.showEnd(); // the notice takes room from what it is about
    this.#host.announce(words);
    this.#host.tell("error", { code });
  }

  returned(text: string): void {
    if (!this.#input.value) this.#input.value = text;
    this.#measure();
  }

  /** Another tab has begun or deleted the saved chat. A private chat here is none of its business. */
  #otherTab(): void {
    const { isPrivate, isDecided, isStarted } = this.#conversation;
    if (isStarted && !(isPrivate && isDecided)) void this.#conversation.reset();
  }
}
