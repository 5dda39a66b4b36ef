// Copyright 2026 the MedGRPO-on-verl authors
// Licensed under the Apache License, Version 2.0; see the LICENSE file.

// Two checkpoints on the same held-out rows, those first on which they differ most.
"use strict";

(() => {
  const { el, field, select, number, signed, pairName } = medgrpo;
  let view = null;

  function summary(data, rows) {
    const pairs = new Map();
    for (const row of rows) {
      const entry = pairs.get(row.pair) ?? { n: 0, a: 0, b: 0, better: 0, worse: 0 };
      entry.n++;
      entry.a += row.a.acc ?? 0;
      entry.b += row.b.acc ?? 0;
      if (row.difference > 0) entry.better++;
      if (row.difference < 0) entry.worse++;
      pairs.set(row.pair, entry);
    }
    const lines = [...pairs].sort(([one], [other]) => one.localeCompare(other)).map(([pair, { n, a, b, better, worse }]) => [el("a", { href: medgrpo.link({ pair, at: null }) }, pairName(pair)), String(n), number(a / n), number(b / n), signed((b - a) / n), String(better), String(worse), medgrpo.divergingBar((b - a) / n, 0.5)]);
    return el("details", {}, el("summary", {}, "Means by pair of these rows"), medgrpo.table("Means by pair", ["pair", "rows", data.a.name, data.b.name, "difference", "better", "worse", ""], lines, "figures"));
  }

  function item(at) {
    const row = view.rows[at];
    return el(
      "a",
      { href: medgrpo.link({ at: keyOf(row) }) },
      el("span.where", {}, el("strong", {}, signed(row.difference, 2)), ` ${pairName(row.pair)}`),
      el("span.what", {}, medgrpo.divergingBar(row.difference, 1), el("span", {}, `${number(row.a.acc, 2)} → ${number(row.b.acc, 2)}`), el("span.quiet", {}, `row ${row.row}${row.sample ? `, ${row.sample + 1}.` : ""}`)),
    );
  }

  // A row, and which of several answers to it.
  const keyOf = (row) => (row.sample ? `${row.row}.${row.sample}` : String(row.row));

  const chosen = () => {
    const at = medgrpo.state.params.get("at");
    const found = at == null ? 0 : view.rows.findIndex((row) => keyOf(row) === at);
    return found < 0 ? 0 : found;
  };

  function missing(entry) {
    const at = medgrpo.state.params.get("at");
    return at != null && at !== keyOf(entry) && el("p.notice", { role: "status" }, `Row ${at.slice(0, 40)} is not among these. The first one of the list is shown.`);
  }

  async function detail(data, run) {
    const entry = view.rows[chosen()];
    const turn = (view.turn = (view.turn ?? 0) + 1);
    const mine = view;
    if (!entry) {
      view.detail.replaceChildren(el("p.quiet", {}, "No row fits the filter."));
      return;
    }
    const row = await medgrpo.row(run.id, entry.row);
    const last = medgrpo.state.params.get("shown") === "a" ? "a" : "b";
    const cards = ["a", "b"].map((side) => ({ id: `side-${side}`, short: data[side].name, title: data[side].name, href: medgrpo.link({ at: keyOf(entry), shown: side === "b" ? null : "a" }), marked: side === last, acc: entry[side].acc, answer: entry[side] }));
    const both = medgrpo.sideBySide({ row, cards });
    if (view !== mine || view.turn !== turn) return;
    view.clip = both.clip;
    view.detail.replaceChildren(el("h3", {}, `${pairName(entry.pair)}: ${number(entry.a.acc)} → ${number(entry.b.acc)} (${signed(entry.difference)})`), ...[missing(entry)].filter(Boolean), medgrpo.rowHead(row, entry.row), medgrpo.boxKey(row), both.node);
  }

  async function open(panel, run) {
    view = null;
    if (!run.has.evaluation) {
      panel.append(el("h2", {}, "Evaluation"), el("p.quiet", {}, "This run has no two evaluated checkpoints yet."));
      return;
    }
    const data = await medgrpo.current(`evaluation_${run.id}`);
    const list = medgrpo.list({ label: "rows, largest difference first", height: 52, item });
    const count = el("p.count", { role: "status" });
    view = { data, run, list, count, rows: [], form: el("div"), above: el("div"), detail: el("section.detail", { "aria-label": "row" }) };
    panel.append(el("div.wide", {}, el("h2", {}, `${data.a.name} and ${data.b.name}`), view.above), el("aside.side", { "aria-label": "filter and list" }, view.form, count, list.node), view.detail);
  }

  async function show(_, run) {
    if (!view) return;
    const { params } = medgrpo.state;
    const { data } = view;
    const [pair, way] = [params.get("pair") ?? "", params.get("way") ?? ""];
    const filter = `${pair}|${way}`;
    if (view.filter !== filter) {
      view.filter = filter;
      const pairs = [...new Set(data.rows.map((row) => row.pair))].sort();
      view.rows = data.rows.filter((row) => (!pair || row.pair === pair) && (!way || (way === "better" ? row.difference > 0 : way === "worse" ? row.difference < 0 : row.difference === 0)));
      const set = (changes) => medgrpo.go({ ...changes, at: null }, { replace: true });
      view.form.replaceChildren(
        el(
          "form.filter",
          { "aria-label": "filter", on: { submit: (event) => event.preventDefault() } },
          field("Pair", select(pair, [["", "all pairs"], ...pairs.map((name) => [name, pairName(name)])], (value) => set({ pair: value }))),
          field("Rows", select(way, [["", "all"], ["better", `${data.b.name} is better`], ["worse", `${data.b.name} is worse`], ["same", "both alike"]], (value) => set({ way: value }))),
        ),
      );
      view.count.textContent = `${medgrpo.count(view.rows.length)} of ${medgrpo.count(data.rows.length)} rows`;
      view.above.replaceChildren(summary(data, view.rows));
    }
    view.list.update(view.rows.length, chosen());
    await detail(data, run);
  }

  const move = (by) => {
    const row = view?.rows[Math.max(0, Math.min(view.rows.length - 1, chosen() + by))];
    if (row) medgrpo.go({ at: keyOf(row) }, { replace: true });
  };

  medgrpo.tabs.evaluation = {
    title: "Evaluation",
    open,
    show,
    keys: { n: () => move(1), p: () => move(-1), ".": () => move(1), ",": () => move(-1), f: () => view?.clip?.move(1), b: () => view?.clip?.move(-1) },
  };
})();
