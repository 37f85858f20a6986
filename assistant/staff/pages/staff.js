// The pages work without this. It brings what is new while a page is open, and keeps a form from
// being sent twice.
"use strict";

// <div data-live="/staff/..." data-tag="..."> is asked for again every some seconds. The server says
// 304 while nothing has changed. A part that holds the focus waits. What is new is said once, in the
// words of the part's own data-words.
const status = document.querySelector("[data-status]");
for (const part of document.querySelectorAll("[data-live]")) {
  const seconds = Number(part.dataset.every || 20);
  let tag = part.dataset.tag;
  let timer = 0;

  const look = async () => {
    try {
      const answer = await fetch(part.dataset.live, {
        headers: { "If-None-Match": tag },
        credentials: "same-origin",
        cache: "no-store",
      });
      if (answer.status === 401) {
        part.insertAdjacentHTML(
          "afterbegin",
          '<p class="notice bad">You are signed out. <a href="/staff/sign-in">Sign in</a> to see what is new.</p>'
        );
        return;
      }
      if (answer.ok && !part.contains(document.activeElement)) {
        part.innerHTML = await answer.text();
        tag = answer.headers.get("ETag") || "";
        const words = part.querySelector("[data-words]")?.dataset.words;
        if (status && words) status.textContent = words;
      }
    } catch {
      // The network is away; the next look may find it.
    }
    timer = setTimeout(look, seconds * 1000);
  };

  document.addEventListener("visibilitychange", () => {
    clearTimeout(timer);
    if (!document.hidden) look();
  });
  look();
}

document.addEventListener("submit", (event) => {
  const form = event.target;
  if (form.method !== "post" || event.defaultPrevented) return;
  if (form.dataset.sent) {
    event.preventDefault();
    return;
  }
  form.dataset.sent = "yes";
  setTimeout(() => delete form.dataset.sent, 5000);
});
