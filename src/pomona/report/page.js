/* Comforts only: the page says everything without this. Tooltips that also open by touch, and a button that copies the command. */
(() => {
  const tip = document.body.appendChild(Object.assign(document.createElement("div"), { className: "tip", hidden: true }));
  for (const title of document.querySelectorAll("main svg title")) {
    title.parentNode.dataset.tip = title.textContent;
    title.parentNode.setAttribute("aria-label", title.textContent);
    title.remove();
  }
  const show = event => {
    const owner = event.target.closest?.("[data-tip]");
    tip.hidden = !owner;
    if (!owner) return;
    tip.textContent = owner.dataset.tip;
    const { width, height } = tip.getBoundingClientRect();
    tip.style.left = `${Math.max(8, Math.min(innerWidth - width - 8, event.clientX - width / 2))}px`;
    tip.style.top = `${event.clientY - height - 14 < 8 ? event.clientY + 18 : event.clientY - height - 14}px`;
  };
  document.addEventListener("pointermove", show);
  document.addEventListener("pointerdown", show);
  for (const command of document.querySelectorAll("pre.command")) {
    if (!navigator.clipboard) break;
    const button = Object.assign(document.createElement("button"), { textContent: "Copy", type: "button" });
    button.onclick = () => navigator.clipboard.writeText(command.querySelector("code").textContent).then(() => (button.textContent = "Copied"));
    command.append(button);
  }
})();
