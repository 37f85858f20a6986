// The demonstration page opens the chat by its public methods, as any site may.
for (const button of document.querySelectorAll("[data-ask]")) {
  button.addEventListener("click", async () => {
    await customElements.whenDefined("practice-chat");
    const chat = document.querySelector("practice-chat");
    if (button.dataset.ask) chat.ask(button.dataset.ask);
    else chat.open();
  });
}
