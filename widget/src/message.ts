// What the server sends; see the web chat contract in docs/architecture.md.

export interface Button {
  title: string;
  payload: string;
}

export interface Source {
  label: string;
  url?: string;
}

export type Urgency = "emergency" | "crisis" | "urgent" | "soon";

export interface Message {
  text: string;
  buttons?: Button[];
  image?: string;
  metadata?: {
    topic?: string;
    urgency?: Urgency;
    sources?: Source[];
    image_alt?: string;
    language?: string;
  };
  from?: "visitor";
  /** Names a message of the visitor's. */
  id?: string;
}
