// Copyright 2026 the MedGRPO-on-verl authors
// Licensed under the Apache License, Version 2.0; see the LICENSE file.

// What was run, what came of it, and what to look at first.
"use strict";

(() => {
  const { el, number, signed, table } = medgrpo;

  const isOverall = (figure) => figure.task == null && figure.source == null;
  const isPair = (figure) => figure.task != null && figure.source != null;

  function card(label, value, note, className = "") {
    return el("div", { class: `card ${className}` }, el("div.label", {}, label), el("div.value", {}, value), note && el("div.note", {}, note));
  }

  function interval(figure) {
    return figure.low == null ? "" : `${signed(figure.low)} to ${signed(figure.high)}`;
  }

  function cards(run) {
    const overall = run.figures.find(isOverall);
    const found = [card("status", run.status, `${medgrpo.count(run.steps)} steps${run.resumes.length ? `, resumed at ${run.resumes.join(", ")}` : ""}`)];
    if (run.judge) found.push(card("judge", run.judge.split(" (")[0], run.judge.includes(" (") ? run.judge.slice(run.judge.indexOf(" (") + 2, -1) : null, "wordy"));
    if (run.started) found.push(card("started", run.started.replace("T", " ").slice(0, 16)));
    if (overall) {
      const sure = overall.low != null && (overall.low > 0 || overall.high < 0);
      const way = !sure ? "" : overall.change > 0 ? "good" : "bad";
      found.push(card(`accuracy, ${medgrpo.figureName(overall)}`, `${number(overall.before)} → ${number(overall.after)}`, overall.blind == null ? null : `blind answer ${number(overall.blind)}`));
      found.push(card("change", signed(overall.change), overall.low == null ? null : `95 %: ${interval(overall)}`, way));
    }
    return el("div.cards", {}, found);
  }

  function warnings(run) {
    if (!run.warnings.length) return el("p.quiet", {}, "Nothing was found that needs a look.");
    const items = run.warnings.map(({ kind, text, link }) => {
      // Only a place of this page may be linked to.
      const safe = typeof link === "string" && link.startsWith("#") ? link : null;
      return el("li", {}, el("span.kind", {}, kind), " ", safe ? el("a", { href: safe, dir: "auto" }, text) : el("span", { dir: "auto" }, text));
    });
    return el("ul.warnings", {}, items);
  }

  // A table without the columns in which nothing is known.
  function known(caption, heads, rows) {
    const kept = heads.map((_, at) => at === 0 || rows.some((cells) => cells[at] !== "–"));
    return table(caption, heads.filter((_, at) => kept[at]), rows.map((cells) => cells.filter((_, at) => kept[at])), "figures");
  }

  function figureTable(caption, figures) {
    const limit = Math.max(0.02, ...figures.flatMap(({ change, low, high }) => [change, low, high].filter((value) => value != null).map(Math.abs)));
    const rows = figures.map((figure) => [
      medgrpo.figureName(figure),
      number(figure.blind),
      number(figure.before),
      number(figure.after),
      signed(figure.change),
      figure.change == null ? "–" : medgrpo.intervalFigure(figure.change, figure.low, figure.high, limit),
      interval(figure) || "–",
      figure.n == null ? "–" : medgrpo.count(figure.n),
    ]);
    return known(caption, ["", "blind", "before", "after", "change", `±${number(limit, 2)}`, "95 % interval", "rows"], rows);
  }

  function figures({ figures: all }) {
    const groups = [
      ["All, and by task or source", all.filter((figure) => !isPair(figure))],
      ["By pair of dataset and task", all.filter(isPair)],
    ];
    return el("div.beside", {}, groups.filter(([, rows]) => rows.length).map(([caption, rows]) => figureTable(caption, rows)));
  }

  function leaderboard(run) {
    if (!run.leaderboard.length) return null;
    const range = ({ low, high }) => (low == null ? "–" : `${number(low)} to ${number(high)}`);
    const rows = run.leaderboard.map((one) => [one.column, number(one.blind), number(one.before), number(one.after), range(one), one.rows == null ? "–" : medgrpo.count(one.rows)]);
    return section("The leaderboard's columns", known("As the leaderboard counts them", ["column", "blind", "before", "after", "95 % interval of after", "rows"], rows));
  }

  const section = (title, ...content) => el("section", {}, el("h2", {}, title), ...content);

  function settings(run) {
    const all = medgrpo.state.params.get("settings") === "all";
    const shown = all ? run.settings : run.settings.filter(([, , , changed]) => changed);
    const text = (value) => (value == null ? "–" : typeof value === "string" ? value : JSON.stringify(value));
    const rows = shown.map(([key, value, usual, changed]) => [changed ? el("strong", {}, key) : key, text(value), text(usual)]);
    const other = all ? "Only those that differ from the defaults" : `All ${run.settings.length} settings`;
    return section(
      "Settings",
      rows.length ? table(all ? "All settings" : "Settings that differ from the defaults", ["setting", "value", "default"], rows, "settings") : el("p.quiet", {}, "No setting differs from the defaults."),
      el("p", {}, el("a", { href: medgrpo.link({ settings: all ? null : "all" }) }, other)),
    );
  }

  function versions(run) {
    const rows = Object.entries(run.versions ?? {}).map(([name, version]) => [name, String(version)]);
    return rows.length ? section("Versions", table("Software and inputs of the run", ["what", "version"], rows, "settings")) : null;
  }

  function runs(index) {
    if (index.runs.length < 2) return null;
    const rows = index.runs.map((run) => {
      const overall = run.figures.find(isOverall);
      return [el("a", { href: medgrpo.link({ run: run.id }) }, run.name), run.status, medgrpo.count(run.steps), number(overall?.before), number(overall?.after), signed(overall?.change), overall ? interval(overall) : ""];
    });
    return section("Runs", table("The runs of this report", ["run", "status", "steps", "before", "after", "change", "95 % interval"], rows, "figures"));
  }

  function draw(panel, run) {
    const { index } = medgrpo.state;
    panel.replaceChildren(
      el("h2", {}, run.name),
      el("p.quiet", {}, `${run.folder_name} · report made ${index.made.replace("T", " ").slice(0, 16)}`),
      cards(run),
      ...[
        runs(index),
        section("What to look at", warnings(run)),
        run.figures.length ? section("Held-out accuracy", el("p.quiet", {}, "“blind” is the best constant answer, which sees no frame. The interval is over videos."), figures(run)) : null,
        leaderboard(run),
        settings(run),
        versions(run),
      ].filter(Boolean),
    );
  }

  medgrpo.tabs.overview = {
    title: "Overview",
    open: () => {},
    show: draw,
    news: async () => draw(document.querySelector(".tab.overview"), medgrpo.run()),
  };
})();
