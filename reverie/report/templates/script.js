"use strict";
for (const player of document.querySelectorAll(".player")) {
  const labels = JSON.parse(player.querySelector("script").textContent);
  const groups = [...player.querySelectorAll(".frames")].map((group) => [...group.children]);
  const controls = player.querySelector(".controls");
  const range = controls.querySelector("input");
  const button = controls.querySelector("button");
  const output = player.querySelector("output");
  const last = labels.length - 1;
  let timer = 0;

  const show = (wanted) => {
    const at = Math.min(Math.max(wanted, 0), last);
    for (const frames of groups) frames.forEach((frame, i) => { frame.hidden = i !== at; });
    range.value = String(at);
    range.setAttribute("aria-valuetext", labels[at]);
    output.textContent = labels[at];
  };
  const now = () => Number(range.value);
  const stop = () => {
    clearInterval(timer);
    timer = 0;
    button.textContent = "▶";
    button.setAttribute("aria-label", "Play");
  };
  const play = () => {
    if (now() === last) show(0);
    button.textContent = "❚❚";
    button.setAttribute("aria-label", "Pause");
    timer = setInterval(() => {
      if (now() >= last) stop();
      else show(now() + 1);
    }, Math.max(120, 4000 / labels.length));
  };
  const toggle = () => { if (timer) stop(); else play(); };

  range.addEventListener("input", () => { stop(); show(now()); });
  button.addEventListener("click", toggle);
  player.querySelector(".groups").addEventListener("click", () => range.focus());
  player.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.altKey || event.metaKey) return;
    const keys = { ArrowLeft: now() - 1, ArrowDown: now() - 1, ArrowRight: now() + 1, ArrowUp: now() + 1, Home: 0, End: last };
    if (event.key in keys) {
      event.preventDefault();
      stop();
      show(keys[event.key]);
    } else if (event.key === " " && event.target === range) {
      event.preventDefault();
      toggle();
    }
  });
  if (last > 0) controls.hidden = false;
  show(last);
}
