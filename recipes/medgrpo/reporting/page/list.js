// Copyright 2026 the MedGRPO-on-verl authors
// Licensed under the Apache License, Version 2.0; see the LICENSE file.

// A list of any length of which only the part in sight has elements.
"use strict";

// options: label, height (of an item, in pixels), item(at) -> an element for the n-th item
medgrpo.list = ({ label, height, item }) => {
  const { el } = medgrpo;
  // A browser's elements end at some millions of pixels.
  const MOST = 8_000_000;
  const items = el("ol");
  const node = el("div.list", { tabindex: 0, role: "region", "aria-label": label }, items);
  let size = 0;
  let marked = -1;
  let first = -1;
  let last = -1;

  function draw(force = false) {
    const from = Math.max(0, Math.floor(node.scrollTop / height) - 5);
    const to = Math.min(size, Math.ceil((node.scrollTop + (node.clientHeight || 600)) / height) + 5);
    if (!force && from === first && to === last) return;
    [first, last] = [from, to];
    const shown = [];
    for (let at = from; at < to; at++) {
      shown.push(el("li", { "aria-setsize": size, "aria-posinset": at + 1, class: at === marked ? "marked" : null, css: { top: `${at * height}px`, height: `${height}px` } }, item(at)));
    }
    items.replaceChildren(...shown);
    medgrpo.refocus();
  }
  node.addEventListener("scroll", () => draw(), { passive: true });
  new ResizeObserver(() => draw()).observe(node);

  return {
    node,
    // A new length and a new marked item, -1 for none; the marked one is brought into sight when it is another.
    update(length, mark) {
      const moved = mark !== marked || length !== size;
      size = Math.min(length, Math.floor(MOST / height));
      marked = mark;
      items.style.setProperty("height", `${size * height}px`);
      if (moved && mark >= 0) {
        const top = mark * height;
        const view = node.clientHeight || 600;
        if (top < node.scrollTop || top + height > node.scrollTop + view) node.scrollTop = Math.max(0, top - view / 3);
      }
      draw(true);
    },
  };
};
