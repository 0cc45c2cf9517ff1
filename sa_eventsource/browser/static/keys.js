// A key that a link names in aria-keyshortcuts follows the link, unless somebody is writing.
document.addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey || event.defaultPrevented) return;
  if (event.target.closest("input, select, textarea, [contenteditable], pre, [role=slider]")) return;
  const key = CSS.escape(event.key);
  const link = document.querySelector(`a[aria-keyshortcuts~="${key}"]`);
  if (link) {
    event.preventDefault();
    link.click();
  }
});
