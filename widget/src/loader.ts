// What a site embeds: waits until the page is idle, then loads the widget of this very release.
declare const WIDGET_FILE: string;

const script = document.currentScript as HTMLScriptElement;

function load(): void {
  if (!document.querySelector("practice-chat")) {
    const chat = document.createElement("practice-chat");
    for (const { name, value } of script.attributes) {
      if (name.startsWith("data-")) chat.setAttribute(name.slice(5), value);
    }
    document.body.append(chat);
  }
  // Not a script element: its address would need a Trusted Types policy.
  import(new URL(WIDGET_FILE, script.src).href);
}

const wait = (): unknown => (self.requestIdleCallback ?? setTimeout)(load);
if (document.readyState === "complete") wait();
else addEventListener("load", wait);
