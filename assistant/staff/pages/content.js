// A form with data-preview shows, while one types, how its answer looks and what is wrong with it.
"use strict";

for (const form of document.querySelectorAll("form[data-preview]")) {
  const shown = document.getElementById(form.dataset.shows);
  let timer = 0;
  let latest = 0;

  const look = async () => {
    const number = ++latest;
    try {
      const answer = await fetch(form.dataset.preview, {
        method: "POST",
        body: new URLSearchParams(new FormData(form)),
        credentials: "same-origin",
      });
      if (!answer.ok) return;
      const html = await answer.text();
      if (number === latest) shown.innerHTML = html; // an older answer may come later
    } catch {
      // The network is away; the next change asks again.
    }
  };

  form.addEventListener("input", () => {
    clearTimeout(timer);
    timer = setTimeout(look, 600);
  });
}
