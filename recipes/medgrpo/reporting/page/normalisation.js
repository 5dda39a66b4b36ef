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
    const said = p50 == null ? ["no statistics"] : [`median ${number(p50, 2)}`, `IQR ${number(iqr, 2)}`];
    if (k != null && k !== 3) said.push(`k ${number(k, 1)}`);
    if (signal.normalizer && signal.normalizer !== "logistic") said.unshift(signal.normalizer);
    if (signal.linear_share) said.push(`linear share ${number(signal.linear_share, 2)}`);
    return el("figure.small", {}, el("figcaption", {}, el("strong", {}, name), el("span.quiet", {}, said.join(", ")), signal.why?.length > 0 && el("span.why", {}, signal.why.join(", "))), medgrpo.histogramFigure({ bins: signal.bins, recent: signal.recent, curve: signal.curve, p50, iqr, label, ...size }));
  }

  function rewardFigure(pair, name, bins, big, recent) {
    const size = big ? { width: 420, height: 210 } : {};
    return el("figure.small.rewards", {}, el("figcaption", {}, el("strong", {}, name)), medgrpo.histogramFigure({ bins, recent, label: `${pairName(pair)}, ${name}`, ...size }));
  }

  // Mean and spread of every pair's reward before and after normalisation: are the pairs brought together?
  function spreads(all, pairs) {
    const [before, after] = pairs.some((pair) => all[pair].rewards_before_figures) ? ["rewards_before", "rewards_after"] : ["recent_before", "recent_after"];
    const of = (pair, name) => all[pair][`${name}_figures`];
    const rows = pairs
      .filter((pair) => of(pair, before) || of(pair, after))
      .sort((one, other) => (of(one, before)?.mean ?? 0) - (of(other, before)?.mean ?? 0))
      .map((pair) => [el("a", { href: medgrpo.link({ pair }) }, pairName(pair)), medgrpo.spreadFigure(of(pair, before)), number(of(pair, before)?.mean, 2), medgrpo.spreadFigure(of(pair, after)), number(of(pair, after)?.mean, 2), number(of(pair, "recent_after")?.mean, 2)]);
    const caption = `Mean and standard deviation of rewards from 0 to 1, ${before === "rewards_before" ? "of the SFT model’s answers" : "of the last steps’ answers"}`;
    return rows.length > 1 && el("details", { open: true }, el("summary", {}, "All pairs before and after"), medgrpo.table(caption, ["pair", "before normalisation", "mean", "after", "mean", "mean of the last steps"], rows, "figures"));
  }

  function pairCard(pair, { signals, rewards_before: before, rewards_after: after, recent_before: lately, recent_after: now }, big) {
    const link = big ? pairName(pair) : el("a", { href: medgrpo.link({ pair }) }, pairName(pair));
    return el(
      "article.pair",
      {},
      el("h3", {}, link),
      el(
        "div.row",
        {},
        Object.entries(signals).map(([name, signal]) => signalFigure(pair, name, signal, big)),
        (before || lately) && rewardFigure(pair, "reward before", before, big, lately),
        (after || now) && rewardFigure(pair, "reward after", after, big, now),
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
    const parts = [
      el("h2", {}, "Normalisation"),
      el(
        "form.controls",
        { on: { submit: (event) => event.preventDefault() } },
        field("Task", select(one ? "" : task, [["", "all tasks"], ...tasks.map((name) => [name, `${name}: ${medgrpo.TASKS[name] ?? ""}`])], (value) => medgrpo.go({ task: value, pair: null }, replace))),
        field("Pair", select(one ?? "", [["", "all pairs"], ...pairs.map((pair) => [pair, pairName(pair)])], (value) => medgrpo.go({ pair: value }, replace))),
      ),
      !one && spreads(all, shown),
      key(),
      shown.length ? el("div", { class: one ? "pairs one" : "pairs" }, shown.map((pair) => pairCard(pair, all[pair], Boolean(one)))) : el("p.quiet", {}, pairs.length ? "No pair of this run fits." : "This run has no statistics."),
    ];
    panel.replaceChildren(...parts.filter(Boolean));
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
