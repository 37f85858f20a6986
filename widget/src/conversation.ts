// The conversation without its looks: the session, what was said, and what has yet to be sent.

import { type Client, Failure } from "./client";
import type { Memory, Unsent } from "./memory";
import type { Message } from "./message";

/** What keeps a message from being answered. */
export interface Trouble {
  kind: "offline" | "busy" | "starting" | "broken" | "refused" | "ended";
  /** Seconds until the next try. */
  wait: number;
  /** The server's own words, if the visitor must change something. */
  message?: string;
}

/** Who shows the conversation. */
export interface Listener {
  /** All is to be shown anew. */
  replaced(): void;
  /** Messages were added at the end. */
  added(messages: Message[]): void;
  /** An answer is awaited, or no longer. */
  waiting(yes: boolean): void;
  /** Something is wrong, or well again. */
  trouble(trouble?: Trouble): void;
  /** A message was refused: the visitor gets the text back. */
  returned(text: string): void;
}

interface Session {
  token: string;
  expires_at: string;
  messages: Message[];
}

const MOST_TRIES = 3; // of a message that the server fails on; a lost connection is tried for ever
const LONGEST_WAIT = 30; // seconds

export class Conversation {
  messages: Message[] = [];
  isPrivate = true;
  /** Whether the visitor has said what may be stored, or has just begun to write. */
  isDecided = false;
  isStarted = false;

  #unsent: Unsent[] = [];
  #until = 0;
  #isOpen = false;
  #isSending = false;
  #isBehind = false;
  #tries = 0;
  #pauses = 0;
  #wake: (() => void) | undefined;
  #era = 0; // grows when the conversation is replaced, so that late answers are dropped
  #starting: Promise<void> | undefined;

  constructor(
    readonly client: Client,
    readonly memory: Memory,
    readonly listener: Listener,
  ) {}

  /** Go on with the saved chat, or begin a private one. Settles when the server has answered. */
  start(): Promise<void> {
    return (this.#starting ??= this.#start());
  }

  async #start(): Promise<void> {
    const era = this.#era;
    for (;;) {
      try {
        await this.#restoreOrBegin();
        if (era !== this.#era) return;
        this.#well();
        break;
      } catch (error) {
        if (era !== this.#era) return;
        if ((error as Failure).status === 401) this.memory.clear();
        else await this.#pause(error as Failure);
        if (era !== this.#era) return;
      }
    }
    this.isStarted = true;
    this.listener.replaced();
    void this.#send();
  }

  async #restoreOrBegin(): Promise<void> {
    const kept = this.memory.read();
    if (!kept) return this.#begin(true);
    this.client.token = kept.token;
    const { messages } = await this.client.call<Session>("GET", "/messages");
    this.isPrivate = false;
    this.isDecided = true;
    this.#until = kept.until;
    this.#isOpen = kept.open;
    const known = new Set(messages.map(({ id }) => id));
    this.#unsent = [...kept.unsent, ...this.#unsent].filter(
      ({ id }, place, all) => !known.has(id) && all.findIndex((other) => other.id === id) === place,
    );
    this.messages = [...messages, ...this.#unsent.map(spoken)];
  }

  async #begin(isPrivate: boolean): Promise<void> {
    this.client.token = "";
    const session = await this.client.call<Session>("POST", "/session", { private: isPrivate });
    this.client.token = session.token;
    this.isPrivate = isPrivate;
    this.#until = Date.parse(session.expires_at);
    if (!this.messages.some(({ from }) => !from)) {
      this.messages = [...session.messages, ...this.messages];
    }
    this.#keep();
  }

  /** Save the chat from now on, or keep it private. Throws Failure if the server is not reached. */
  async decide(save: boolean): Promise<void> {
    if (save) {
      await this.#begin(false);
      this.memory.tell("replaced");
    }
    this.isDecided = true;
  }

  /** Send a text, or what a button stands for; it is kept until the server has it. */
  say(body: { text: string } | { postback: string }): void {
    this.isDecided = true;
    const unsent = { id: newId(), ...body };
    this.#unsent.push(unsent);
    this.#keep();
    const message = spoken(unsent);
    this.messages.push(message);
    this.listener.added([message]);
    this.#wake?.();
    if (this.isStarted) void this.#send();
  }

  async #send(): Promise<void> {
    if (this.#isSending) return;
    this.#isSending = true;
    const era = this.#era;
    while (this.#unsent[0] && era === this.#era) {
      const next = this.#unsent[0];
      this.listener.waiting(true);
      try {
        const { messages } = await this.client.call<Session>("POST", "/messages", next);
        if (era !== this.#era) return;
        this.#unsent.shift();
        this.#keep();
        this.#well();
        this.listener.waiting(false);
        this.#place(next, messages);
        if (!this.isPrivate) this.memory.tell("changed");
      } catch (error) {
        if (era !== this.#era) return;
        this.listener.waiting(false);
        await this.#recover(error as Failure, next);
      }
    }
    if (era !== this.#era) return;
    this.#isSending = false;
    this.listener.waiting(false);
    if (this.#isBehind) void this.catchUp();
  }

  /** Put an answer behind its question, also if more was asked meanwhile. */
  #place({ id }: Unsent, answer: Message[]): void {
    const later = this.messages.findIndex(
      (message, place) => place > this.messages.findIndex((one) => one.id === id) && message.from,
    );
    if (later < 0) {
      this.messages.push(...answer);
      this.listener.added(answer);
    } else {
      this.messages.splice(later, 0, ...answer);
      this.listener.replaced();
    }
  }

  async #recover(failure: Failure, unsent: Unsent): Promise<void> {
    const { status, code, message } = failure;
    if (status === 401) {
      // The session is over (a day has passed, another tab deleted it): the question still stands.
      try {
        await this.#begin(this.isPrivate);
        unsent.text ??= unsent.postback ?? "";
        delete unsent.postback;
        this.listener.trouble({ kind: "ended", wait: 0 });
      } catch (error) {
        await this.#pause(error as Failure);
      }
    } else if (code === "postback_not_offered") {
      unsent.text = unsent.postback ?? "";
      delete unsent.postback;
    } else if ((status >= 400 && status < 500 && status !== 429) || this.#tries > MOST_TRIES) {
      this.#unsent.shift();
      this.#keep();
      this.#tries = 0;
      this.messages = this.messages.filter(({ id }) => id !== unsent.id);
      this.listener.replaced();
      this.listener.trouble({ kind: status < 500 ? "refused" : "broken", wait: 0, message });
      this.listener.returned(unsent.text ?? unsent.postback ?? "");
    } else {
      if (status >= 500 && status !== 503) this.#tries += 1;
      await this.#pause(failure);
    }
  }

  /** Wait as long as is right for a failure, or until somebody wakes us. */
  async #pause({ status, code, wait }: Failure): Promise<void> {
    const seconds = wait || Math.min(2 ** this.#pauses, LONGEST_WAIT);
    this.#pauses += 1;
    const kinds: Record<number, Trouble["kind"]> = { 0: "offline", 429: "busy", 503: "starting" };
    this.listener.trouble({ kind: kinds[status] ?? "broken", wait: seconds, message: code });
    await new Promise<void>((resolve) => {
      setTimeout(resolve, seconds * 1000);
      // Whom the server told to wait stays away that long, whatever is clicked.
      this.#wake = wait ? undefined : resolve;
    });
  }

  #well(): void {
    this.#pauses = this.#tries = 0;
    this.listener.trouble();
  }

  /** Try again at once: the connection is back, or the visitor asks for it. */
  hurry(): void {
    this.#wake?.();
  }

  /** Show what was said in other tabs. */
  async catchUp(): Promise<void> {
    if (this.isPrivate || !this.isStarted) return;
    this.#isBehind = this.#isSending;
    if (this.#isBehind) return;
    const era = this.#era;
    const { messages } = await this.client
      .call<Session>("GET", "/messages")
      .catch(() => ({ messages: undefined }));
    // A failure is met again by the next message, which then also tells of it.
    if (!messages || era !== this.#era || this.#isSending) return;
    const known = this.messages.length;
    const isLonger = this.messages.every((message, place) => isSame(message, messages[place]));
    this.messages = messages;
    if (!isLonger) this.listener.replaced();
    else if (messages.length > known) this.listener.added(messages.slice(known));
  }

  /** Say whether an answer helped. Throws Failure. */
  async rate(id: string, helpful: boolean, reason?: string): Promise<void> {
    await this.client.call("POST", "/feedback", { id, helpful, ...(reason && { reason }) });
  }

  /** Delete the conversation everywhere and begin anew. Throws Failure, and then it still exists. */
  async erase(): Promise<void> {
    if (this.client.token) {
      await this.client.call("DELETE", "/session").catch((error: Failure) => {
        if (error.status !== 401) throw error;
      });
    }
    this.memory.clear();
    this.memory.tell("replaced");
    await this.reset();
  }

  /** Begin anew with whatever chat is saved now. */
  reset(): Promise<void> {
    this.#era += 1;
    this.#wake?.();
    this.#unsent = [];
    this.#isSending = this.#isBehind = false;
    this.#pauses = this.#tries = 0;
    this.messages = [];
    this.isStarted = this.isDecided = false;
    this.isPrivate = true;
    this.client.token = "";
    this.listener.waiting(false);
    this.listener.trouble();
    this.listener.replaced();
    this.#starting = undefined;
    return this.start();
  }

  /** Remember whether the panel is open, for the next page. */
  remember(open: boolean): void {
    this.#isOpen = open;
    this.#keep();
  }

  #keep(): void {
    if (this.isPrivate || !this.client.token) return;
    this.memory.write({
      token: this.client.token,
      until: this.#until,
      open: this.#isOpen,
      unsent: this.#unsent,
    });
  }
}

/** `crypto.randomUUID` is missing on pages without TLS. */
function newId(): string {
  const bytes = crypto.getRandomValues(new Uint8Array(16));
  return Array.from(bytes, (byte) => byte.toString(16).padStart(2, "0")).join("");
}

function spoken({ id, text, postback }: Unsent): Message {
  return { id, text: text ?? postback ?? "", from: "visitor" };
}

function isSame(one: Message, other: Message | undefined): boolean {
  return other !== undefined && (one.id ? one.id === other.id : one.text === other.text);
}
