// The custom element. This much is on every page: the launcher, and what is needed to open the panel.

import type { PracticeChatElement } from "../practice-chat";
import { parse, shades } from "./color";
import { button, icon, make, spokenOnly } from "./dom";
import { Memory } from "./memory";
import type * as panelModule from "./panel";
import type { Host, Panel } from "./panel";
import styles from "./widget.css";

declare const PANEL_FILE: string;

const STRINGS = {
  en: {
    label: "Ask a question",
    region: "Chat with the automated assistant",
    unread: (count: number) => (count === 1 ? "new message" : "new messages"),
    fallback: "You can reach the office without the chat:",
    noFallback: "Please use the contact details on this website.",
    unavailable: "The chat cannot be reached now.",
  },
  es: {
    label: "Haga una pregunta",
    region: "Chat con el asistente automático",
    unread: (count: number) => (count === 1 ? "mensaje nuevo" : "mensajes nuevos"),
    fallback: "Puede comunicarse con el consultorio sin el chat:",
    noFallback: "Use los datos de contacto de este sitio web.",
    unavailable: "El chat no está disponible ahora.",
  },
};

class PracticeChat extends HTMLElement implements PracticeChatElement, Host {
  static observedAttributes = ["accent", "theme"];

  readonly element = this;
  root!: HTMLElement;
  launcher!: HTMLButtonElement;
  status!: HTMLElement;
  fallback!: HTMLElement;
  memory!: Memory;
  server!: string;
  language!: string;
  signal!: AbortSignal;

  #leaving = new AbortController();
  #badge = make("span", { class: "badge", part: "badge", hidden: "" });
  #panel: Panel | undefined;
  #loading: Promise<Panel> | undefined;
  #sayTimer: ReturnType<typeof setTimeout> | undefined;

  connectedCallback(): void {
    if (!this.shadowRoot) this.#build();
    this.#paint();
    matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => this.#paint(), {
      signal: this.signal,
    });
    // A phone's screen belongs to the page that the visitor has just gone to.
    if (this.memory.read()?.open && innerWidth > 480) void this.#with((panel) => panel.open(false));
  }

  attributeChangedCallback(): void {
    if (this.shadowRoot) this.#paint();
  }

  // What the page can do.

  get isOpen(): boolean {
    return this.#panel?.isOpen ?? false;
  }

  open(): void {
    void this.#with((panel) => panel.open());
  }

  close(): void {
    this.#panel?.close();
  }

  ask(text: string): void {
    void this.#with((panel) => {
      panel.open();
      panel.say({ text });
    });
  }

  async erase(): Promise<void> {
    await (await this.#load()).erase();
  }

  // What the panel needs.

  /** Say something to those who listen; the same words again count as new. */
  announce = (words: string): void => {
    this.status.textContent = "";
    clearTimeout(this.#sayTimer);
    this.#sayTimer = setTimeout(() => (this.status.textContent = words), 50);
  };

  unread = (count: number): void => {
    const words = ` ${STRINGS[this.#code].unread(count)}`;
    this.#badge.hidden = !count;
    this.#badge.replaceChildren(String(count), spokenOnly(words));
    if (count) this.announce(count + words);
  };

  tell = (name: string, detail: object | null = null): void => {
    this.dispatchEvent(new CustomEvent(name, { detail }));
  };

  get #code(): "en" | "es" {
    return /^es\b/i.test(this.language) ? "es" : "en";
  }

  #build(): void {
    this.signal = this.#leaving.signal;
    this.language = this.closest("[lang]")?.getAttribute("lang") ?? navigator.language;
    this.server = (this.getAttribute("server") ?? new URL(".", import.meta.url).href).replace(/\/$/, "");
    this.memory = new Memory(this.server);
    const strings = STRINGS[this.#code];
    this.status = make("p", { class: "spoken", role: "status" });
    this.launcher = button(
      { class: "launcher", part: "launcher", "aria-haspopup": "dialog" },
      () => this.open(),
      icon("chat"),
      make("span", { class: "label" }, this.getAttribute("label") ?? strings.label),
      this.#badge,
    );
    // Whoever reaches for the launcher will want the panel in a moment.
    for (const name of ["pointerenter", "focus"]) {
      this.launcher.addEventListener(name, () => void this.#load().catch(() => {}), { once: true });
    }
    this.fallback = make(
      "div",
      { class: "fallback", part: "fallback" },
      make("p", {}, this.childElementCount ? strings.fallback : strings.noFallback),
      make("slot"),
    );
    this.root = make(
      "section",
      { class: "root", lang: this.#code, dir: getComputedStyle(this).direction, "aria-label": strings.region },
      this.launcher,
      this.status,
    );
    const shadow = this.attachShadow({ mode: "open" });
    const sheet = new CSSStyleSheet();
    sheet.replaceSync(styles);
    shadow.adoptedStyleSheets = [sheet];
    shadow.append(this.root);
  }

  #load(): Promise<Panel> {
    this.#loading ??= import(new URL(PANEL_FILE, import.meta.url).href).then(
      ({ createPanel }: typeof panelModule) => (this.#panel = createPanel(this)),
    );
    // The next click tries again. (A browser may remember a failed import; a new address is asked.)
    this.#loading.catch(() => (this.#loading = undefined));
    return this.#loading;
  }

  async #with(act: (panel: Panel) => void): Promise<void> {
    try {
      const panel = await this.#load();
      this.root.querySelector(".box")?.remove();
      act(panel);
    } catch {
      this.#unavailable();
    }
  }

  /** Without a server there is still an office. */
  #unavailable(): void {
    const { unavailable } = STRINGS[this.#code];
    this.root.querySelector(".box")?.remove();
    this.root.append(make("div", { class: "box", part: "fallback" }, make("p", {}, unavailable), this.fallback));
    this.announce(unavailable);
    this.tell("error", { code: "unreachable" });
  }

  /** Colors that stay readable, whatever the brand's. */
  #paint(): void {
    const { style } = this.root;
    const probe = make("i", { class: "probe" });
    this.root.append(probe);
    probe.style.color = this.getAttribute("accent") ?? "";
    const { color, backgroundColor } = getComputedStyle(probe);
    const brand = parse(color);
    const ground = parse(backgroundColor);
    probe.remove();
    if (!brand || !ground) return;
    const { fill, on, ink } = shades(brand, ground);
    style.setProperty("--fill", fill);
    style.setProperty("--on", on);
    style.setProperty("--ink", ink);
  }
}

if (!customElements.get("practice-chat")) customElements.define("practice-chat", PracticeChat);
