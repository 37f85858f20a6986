// What the browser keeps of a saved chat: the session and what is not yet sent. Never the answers,
// which come from the server; nothing after a day; nothing at all of a private chat.

const LONGEST = 24 * 60 * 60 * 1000;

/** A message that the server has not confirmed. */
export interface Unsent {
  id: string;
  text?: string;
  postback?: string;
}

export interface Kept {
  token: string;
  /** Milliseconds since 1970. */
  until: number;
  open: boolean;
  unsent: Unsent[];
}

export class Memory {
  readonly #key: string;
  #tabs: BroadcastChannel | undefined;

  /**
   * @param server whose chats are kept.
   */
  constructor(server: string) {
    this.#key = `practice-chat:${server}`;
  }

  /**
   * Hear of the other tabs.
   * @param changed called when another tab has sent or received something.
   * @param replaced called when another tab has begun or deleted a chat.
   */
  listen(changed: () => void, replaced: () => void): void {
    this.#tabs = new BroadcastChannel(this.#key);
    this.#tabs.onmessage = ({ data }) => (data === "changed" ? changed() : replaced());
  }

  read(): Kept | undefined {
    try {
      const kept = JSON.parse(localStorage.getItem(this.#key) ?? "null") as Kept | null;
      if (!kept) return undefined;
      if (kept.until > Date.now() && kept.token && Array.isArray(kept.unsent)) return kept;
      this.clear();
    } catch {
      // Storage is shut or holds something else: there is no saved chat.
    }
    return undefined;
  }

  /** Keep a chat until its session ends, one day at most. */
  write(kept: Kept): void {
    const until = Math.min(kept.until, Date.now() + LONGEST);
    try {
      localStorage.setItem(this.#key, JSON.stringify({ ...kept, until }));
    } catch {
      // The chat then ends with the page.
    }
  }

  clear(): void {
    try {
      localStorage.removeItem(this.#key);
    } catch {
      // Nothing could be kept there either.
    }
  }

  /** Tell the other tabs. */
  tell(what: "changed" | "replaced"): void {
    this.#tabs?.postMessage(what);
  }
}
