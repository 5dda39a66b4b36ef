// Copyright 2026 the MedGRPO-on-verl authors
// Licensed under the Apache License, Version 2.0; see the LICENSE file.

// Elements are drawn anew all the time; whoever works with the keyboard keeps the place among them.
"use strict";

(() => {
  const MAY = "a[href], button, input, select, summary, [tabindex]";
  let last = null; // what had the focus: the element, its name, and which of those with this name it is

  const nameOf = (node) => `${node.tagName} ${node.getAttribute("aria-label") || node.title || node.labels?.[0]?.textContent || node.textContent.slice(0, 200)}`;
  const alike = (name) => [...document.querySelectorAll(MAY)].filter((node) => nameOf(node) === name);

  document.addEventListener("focusin", ({ target }) => {
    const name = nameOf(target);
    last = { node: target, name, at: alike(name).indexOf(target) };
  });
  // Who points somewhere else has left the place.
  document.addEventListener("pointerdown", () => {
    last = null;
  });

  // After something was drawn: the focus goes to what stands where the element was that had it.
  medgrpo.refocus = () => {
    if (last && !last.node.isConnected && document.activeElement === document.body) alike(last.name)[last.at]?.focus({ preventScroll: true });
  };
})();
