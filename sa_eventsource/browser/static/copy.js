// A text that somebody would paste elsewhere gets a button that copies it. Browsers let pages do that over HTTPS and on this machine.
document.addEventListener("htmx:load", (event) => {
  if (!navigator.clipboard) return;
  for (const text of event.target.querySelectorAll("pre[data-copy]")) {
    const button = document.createElement("button");
    button.textContent = "Copy";
    button.addEventListener("click", async () => {
      await navigator.clipboard.writeText(text.textContent);
      button.textContent = "Copied";
    });
    text.after(button);
  }
});
