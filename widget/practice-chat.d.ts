// The embed contract of <practice-chat>, version 1. See docs/embedding.md.

/** What the element tells the page. No event holds a word of the conversation. */
export interface PracticeChatEvents {
  /** The panel was opened. */
  open: CustomEvent<null>;
  /** The panel was closed. */
  close: CustomEvent<null>;
  /** A message came or went. */
  message: CustomEvent<{
    from: "visitor" | "assistant";
    /** What an answer is about, such as `office/hours`. */
    topic?: string;
    /** Set if the answer tells the visitor to get help. */
    urgency?: "emergency" | "crisis" | "urgent" | "soon";
  }>;
  /** Something went wrong; the visitor was told. */
  error: CustomEvent<{ code: string }>;
}

/** The element `<practice-chat>`. */
export interface PracticeChatElement extends HTMLElement {
  /** Whether the panel is open. */
  readonly isOpen: boolean;
  /** Open the panel and move the focus into it. */
  open(): void;
  /** Close the panel and give the focus back. */
  close(): void;
  /** Open the panel and ask a question as the visitor. */
  ask(text: string): void;
  /** Delete the conversation here and on the server. Rejects if the server cannot be reached. */
  erase(): Promise<void>;
}

declare global {
  interface HTMLElementTagNameMap {
    "practice-chat": PracticeChatElement;
  }
}
