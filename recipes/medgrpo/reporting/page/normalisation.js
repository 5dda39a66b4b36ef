// Copyright 2026 the MedGRPO-on-verl authors
// Licensed under the Apache License, Version 2.0; see the LICENSE file.

// Raw signals of every pair, the logistic that was fitted to them, and the rewards before and after it.
"use strict";

(() => {
  const { el, field, select, number, pairName } = medgrpo;

  function signalFigure(pair, name, signal, big) {
    const size = big ? { width: 420, height: 210 } : {};
    const { p50, iqr, k } = signal;
    const label = `${pairName(pair)}, signal ${name}: median ${number(p50)}, IQR ${number(iqr)}`;
    const said = [`median ${number(p50, 2)}`, `IQR ${number(iqr, 2)}`];
    if (k != null && k !== 3) said.push(`k ${number(k, 1)}`);
    if (signal.linear_share) said.push(`linear share ${number(signal.linear_share, 2)}`);
    return el("figure.small", {}, el("figcaption", {}, el("strong", {}, name), el("span.quiet", {}, said.join(", "))), medgrpo.histogramFigure({ bins: signal.bins, recent: signal.recent, curve: signal.curve, p50, iqr, label, ...size }));
  }

  function rewardFigure(pair, name, bins, big, recent) {
    const size = big ? { width: 420, height: 210 } : {};
    return el("figure.small.rewards", {}, el("figcaption", {}, el("strong", {}, name)), medgrpo.histogramFigure({ bins, recent, label: `${pairName(pair)}, ${name}`, ...size }));
  }

  // The rewards before and after normalisation belong to a pair; each of its signals may carry them.
  function rewards(signals) {
    const found = Object.values(signals).find((signal) => signal.rewards_before || signal.rewards_after) ?? {};
    return [found.rewards_before, found.rewards_after];
  }

  function pairCard(pair, { signals, ...own }, big) {
    const [before, after] = own.rewards_before || own.rewards_after ? [own.rewards_before, own.rewards_after] : rewards(signals);
    const link = big ? pairName(pair) : el("a", { href: medgrpo.link({ pair }) }, pairName(pair));
    return el(
      "article.pair",
      {},
      el("h3", {}, link),
      el(
        "div.row",
        {},
        Object.entries(signals).map(([name, signal]) => signalFigure(pair, name, signal, big)),
        before && rewardFigure(pair, "reward before", before, big),
        after && rewardFigure(pair, "reward after", after, big),
      ),
    );
  }

  const key = () =>
    el(
      "ul.key",
      {},
      [
        ["bin", "SFT model's answers"],
        ["recent", "answers of the last steps"],
        ["curve", "logistic, from 0 to 1"],
        ["median", "median of the SFT model"],
        ["spread", "its interquartile range"],
      ].map(([name, text]) => el("li", {}, el("span", { class: `swatch ${name}` }), text)),
    );

  async function draw(panel, run) {
    const all = await medgrpo.current(`distributions_${run.id}`);
    const { params } = medgrpo.state;
    const pairs = Object.keys(all);
    const tasks = [...new Set(pairs.map(medgrpo.taskOf))].sort();
    const task = params.get("task") ?? "";
    const one = pairs.includes(params.get("pair")) ? params.get("pair") : null;
    const shown = one ? [one] : pairs.filter((pair) => !task || medgrpo.taskOf(pair) === task);
    const replace = { replace: true };
    panel.replaceChildren(
      el("h2", {}, "Normalisation"),
      el(
        "form.controls",
        { on: { submit: (event) => event.preventDefault() } },
        field("Task", select(one ? "" : task, [["", "all tasks"], ...tasks.map((name) => [name, `${name}: ${medgrpo.TASKS[name] ?? ""}`])], (value) => medgrpo.go({ task: value, pair: null }, replace))),
        field("Pair", select(one ?? "", [["", "all pairs"], ...pairs.map((pair) => [pair, pairName(pair)])], (value) => medgrpo.go({ pair: value }, replace))),
      ),
      key(),
      shown.length ? el("div", { class: one ? "pairs one" : "pairs" }, shown.map((pair) => pairCard(pair, all[pair], Boolean(one)))) : el("p.quiet", {}, "This run has no statistics."),
    );
  }

  // The neighbour of the pair that is shown large.
  function next(by) {
    const pairs = medgrpo.run().pairs;
    const at = pairs.indexOf(medgrpo.state.params.get("pair"));
    if (at >= 0) medgrpo.go({ pair: pairs[(at + by + pairs.length) % pairs.length] });
  }

  medgrpo.tabs.normalisation = {
    title: "Normalisation",
    open: () => {},
    show: draw,
    news: () => draw(document.querySelector(".tab.normalisation"), medgrpo.run()),
    keys: { n: () => next(1), p: () => next(-1) },
  };
})();
