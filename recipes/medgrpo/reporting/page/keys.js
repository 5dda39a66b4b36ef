// Copyright 2026 the MedGRPO-on-verl authors
// Licensed under the Apache License, Version 2.0; see the LICENSE file.

// Keys, and the overlay that lists them. Last of the scripts: it starts the page.
"use strict";

(() => {
  const { el } = medgrpo;
  const KEYS = [
    ["1 … 5", "Overview, Training, Normalisation, Rollouts, Evaluation"],
    ["n, p", "next and previous group; in Evaluation row, in Normalisation pair"],
    ["j, k", "next and previous answer of the group"],
    ["], [", "next and previous step, with the same row where it was asked"],
    [". ,", "next and previous row"],
    ["f, b", "one frame forth and back"],
    ["r", "the same row over the steps, and back"],
    ["/", "to the filter"],
    ["t", "colours: system, light, dark"],
    ["?", "this list"],
  ];
  let on = true;

  function overlay() {
    const dialog = el(
      "dialog",
      { id: "help", "aria-labelledby": "help-title" },
      el("h2", { id: "help-title" }, "Keys"),
      el("dl.keys", {}, KEYS.map(([key, text]) => el("div", {}, el("dt", {}, el("kbd", {}, key)), el("dd", {}, text)))),
      el("p", {}, "Every view has its own address: copy it from the address bar to show somebody the same."),
      el("label.check", {}, el("input", { type: "checkbox", checked: on, on: { change: (event) => (on = event.target.checked) } }), "single keys are on"),
      el("form", { method: "dialog" }, el("button", {}, "Close")),
    );
    dialog.addEventListener("close", () => dialog.remove());
    document.body.append(dialog);
    return dialog;
  }

  medgrpo.help = () => {
    if (!document.getElementById("help")) overlay().showModal();
  };

  document.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    if (event.target.closest("input, select, textarea, dialog") || !medgrpo.state.index) return;
    const own = medgrpo.tabs[medgrpo.state.tab].keys ?? {};
    const common = { "?": medgrpo.help, t: medgrpo.nextTheme };
    for (let at = 0; at < 5; at++) common[String(at + 1)] = () => medgrpo.tabAt(at);
    const act = event.key === "?" ? common["?"] : on ? (own[event.key] ?? common[event.key]) : null;
    if (!act) return;
    event.preventDefault();
    act();
  });

  document.querySelector(".skip").addEventListener("click", (event) => {
    event.preventDefault();
    document.getElementById("main").focus();
  });

  medgrpo.start();
})();
