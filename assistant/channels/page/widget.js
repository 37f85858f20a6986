// The chat as a custom element, <practice-chat>. Messages become text nodes, never HTML.
const TOKEN = "practice-chat-token";
const LONGEST = 1000;

class PracticeChat extends HTMLElement {
  connectedCallback() {
    if (this.log) return;
    const here = this.getAttribute("server") ?? new URL(".", import.meta.url).href;
    this.server = here.replace(/\/$/, "");
    this.replaceChildren();
    this.log = this.add("div", "log", { role: "log", "aria-label": "Conversation", tabindex: "0" });
    this.status = this.add("p", "status", { role: "status" });
    this.addForm();
    this.begin();
  }

  add(tag, className, attributes = {}, parent = this) {
    const element = document.createElement(tag);
    element.className = className;
    for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
    parent.append(element);
    return element;
  }

  addForm() {
    const form = this.add("form", "");
    const label = this.add("label", "hidden-label", { for: "practice-chat-text" }, form);
    label.textContent = "Your question";
    this.input = this.add("input", "", {
      id: "practice-chat-text", autocomplete: "off", enterkeyhint: "send",
      maxlength: String(LONGEST), placeholder: "Type your question",
    }, form);
    this.sendButton = this.add("button", "send", { type: "submit" }, form);
    this.sendButton.textContent = "Send";
    const erase = this.add("button", "erase", { type: "button" }, form);
    erase.textContent = "Delete this chat";
    form.addEventListener("submit", (event) => {
      event.preventDefault();
      const text = this.input.value.trim();
      if (text) this.say(text, { text });
    });
    erase.addEventListener("click", () => this.erase());
  }

  async begin() {
    try {
      this.token = sessionStorage.getItem(TOKEN);
      const known = this.token && await this.call("GET", "/messages").catch(() => null);
      // What is restored was read before; only what comes from now on is announced.
      this.log.setAttribute("aria-live", "off");
      this.show(known ? known.messages : await this.open());
      setTimeout(() => this.log.setAttribute("aria-live", "polite"), 500);
    } catch (error) {
      this.status.textContent = error.message;
    }
  }

  async open() {
    this.token = null;
    const session = await this.call("POST", "/session");
    this.token = session.token;
    sessionStorage.setItem(TOKEN, session.token);
    return session.messages;
  }

  async say(shown, body) {
    if (this.busy) return;
    this.busy = true;
    this.sendButton.disabled = true;
    this.removeChoices();
    const bubble = this.bubble("visitor", shown);
    this.status.textContent = "The assistant is answering.";
    try {
      const reply = await this.call("POST", "/messages", body).catch(async (error) => {
        if (error.code !== "invalid_session") throw error;
        await this.open();
        return this.call("POST", "/messages", { text: shown });
      });
      this.input.value = "";
      this.status.textContent = "";
      this.show(reply.messages);
    } catch (error) {
      bubble.remove();
      this.status.textContent = error.message;
    } finally {
      this.busy = false;
      this.sendButton.disabled = false;
      this.input.focus();
    }
  }

  async erase() {
    try {
      await this.call("DELETE", "/session");
      sessionStorage.removeItem(TOKEN);
      this.log.replaceChildren();
      this.show(await this.open());
      this.status.textContent = "The chat was deleted.";
    } catch (error) {
      this.status.textContent = error.message;
    }
    this.input.focus();
  }

  async call(method, path, body) {
    let response;
    try {
      response = await fetch(this.server + path, {
        method,
        headers: {
          ...(this.token && { Authorization: `Bearer ${this.token}` }),
          ...(body && { "Content-Type": "application/json" }),
        },
        body: body && JSON.stringify(body),
      });
    } catch {
      throw new Error("The assistant cannot be reached. Please try again, or contact the office.");
    }
    const answer = response.status === 204 ? {} : await response.json().catch(() => ({}));
    if (response.ok) return answer;
    const failure = new Error(answer.error?.message ?? "Something went wrong. Please try again.");
    failure.code = answer.error?.code;
    throw failure;
  }

  show(messages) {
    for (const message of messages) {
      const bubble = this.bubble(message.from === "visitor" ? "visitor" : "bot", message.text);
      if (message.metadata?.urgency) bubble.classList.add("urgent");
      if (message.image) this.picture(message.image);
      if (message.metadata?.sources?.length) this.sources(message.metadata.sources);
    }
    this.removeChoices();
    const last = messages.map((message) => message.from).lastIndexOf("visitor");
    this.offer(messages.slice(last + 1).flatMap((message) => message.buttons ?? []));
    this.log.scrollTop = this.log.scrollHeight;
  }

  bubble(kind, text) {
    const bubble = this.add("div", kind, {}, this.log);
    const speaker = this.add("span", "hidden-label", {}, bubble);
    speaker.textContent = kind === "bot" ? "Assistant: " : "You: ";
    linked(bubble, text);
    this.log.scrollTop = this.log.scrollHeight;
    return bubble;
  }

  picture(address) {
    const url = safeAddress(address);
    if (url) this.add("img", "", { src: url, alt: "", referrerpolicy: "no-referrer" }, this.log);
  }

  sources(sources) {
    const line = this.add("p", "sources", {}, this.log);
    line.append("From: ");
    sources.forEach((source, index) => {
      if (index) line.append(" · ");
      const url = safeAddress(source.url);
      if (url) link(line, url, source.label);
      else line.append(source.label);
    });
  }

  offer(buttons) {
    if (!buttons.length) return;
    const choices = this.add("div", "choices", { role: "group", "aria-label": "Suggestions" }, this.log);
    const seen = new Set();
    for (const { title, payload } of buttons) {
      if (seen.has(payload)) continue;
      seen.add(payload);
      if (payload.startsWith("tel:")) {
        link(choices, payload, title).className = "call";
        continue;
      }
      const button = this.add("button", "", { type: "button" }, choices);
      button.textContent = title;
      button.addEventListener("click", () => this.say(payload, { postback: payload }));
    }
  }

  removeChoices() {
    this.log.querySelectorAll(".choices").forEach((choices) => choices.remove());
  }
}

function safeAddress(address) {
  try {
    const url = new URL(address);
    return ["https:", "http:", "tel:", "mailto:"].includes(url.protocol) ? url.href : null;
  } catch {
    return null;
  }
}

function link(parent, url, text) {
  const anchor = document.createElement("a");
  anchor.href = url;
  anchor.textContent = text;
  if (url.startsWith("http")) {
    anchor.target = "_blank";
    anchor.rel = "noopener noreferrer";
  }
  parent.append(anchor);
  return anchor;
}

// Web addresses in a text become links; all else stays text.
function linked(parent, text) {
  for (const part of text.split(/(https?:\/\/[^\s]+[^\s.,;)])/)) {
    const url = part.startsWith("http") ? safeAddress(part) : null;
    if (url) link(parent, url, part);
    else parent.append(part);
  }
}

customElements.define("practice-chat", PracticeChat);
