// Copyright 2026 the MedGRPO-on-verl authors
// Licensed under the Apache License, Version 2.0; see the LICENSE file.

// One row over the steps of a run: how its answers changed.
"use strict";

(() => {
  const { el, number } = medgrpo;
  const MOST = 24; // steps whose answers are read; the dots show all of them

  // Evenly chosen ones of a list, the first and the last among them.
  const thinned = (items) => (items.length <= MOST ? items : Array.from({ length: MOST }, (_, at) => items[Math.round((at * (items.length - 1)) / (MOST - 1))]));

  async function stepRow(answers, row, group, marked) {
    const best = group.members.reduce((one, other) => (answers.reward[other] > answers.reward[one] ? other : one));
    const said = await Promise.all(group.members.map((at) => answers.said(at)));
    const answer = said[group.members.indexOf(best)];
    const rewards = group.members.map((at) => answers.reward[at]);
    const lanes = row?.duration > 0 ? said.map((one) => medgrpo.lane(one?.said, row.duration, "answer")).filter(Boolean) : [];
    return el(
      "li",
      { class: marked ? "marked" : null },
      el("a", { href: medgrpo.link({ at: group.key, answer: null, view: null }) }, `step ${group.step}`),
      el("div.dots", {}, medgrpo.dotsFigure(rewards), el("span.quiet", {}, `mean ${number(rewards.reduce((sum, value) => sum + value, 0) / rewards.length, 2)}`)),
      lanes.length > 0 && el("div.lanes", { role: "img", "aria-label": "times that the answers gave, below the gold ones" }, medgrpo.lane(row.gold, row.duration, "gold"), lanes),
      el("div.best", {}, el("span.quiet", {}, `best, ${number(answers.reward[best], 2)}: `), answer ? medgrpo.longText(answer.text?.slice(0, 600) ?? null) : "not recorded"),
    );
  }

  medgrpo.rowHistory = async (answers, at, selected) => {
    const groups = answers.groups.filter((group) => group.row === at && at >= 0).sort((one, other) => one.step - other.step);
    const row = await medgrpo.row(medgrpo.run().id, at);
    const shown = thinned(groups);
    const items = await Promise.all(shown.map((group) => stepRow(answers, row, group, group === selected)));
    const open = (step) => medgrpo.go({ at: groups.find((group) => group.step === step).key, answer: null, view: null });
    return el(
      "section",
      {},
      el("h3", {}, `Row ${at} over the steps`),
      medgrpo.rowHead(row, at),
      row && medgrpo.clip({ row, layers: medgrpo.given(row) }).node,
      el("div.scroll", { tabindex: 0, role: "region", "aria-label": "rewards over the steps" }, medgrpo.stepsFigure({ steps: groups.map((group) => group.step), values: groups.map((group) => group.members.map((one) => answers.reward[one])), marked: selected?.step, label: `rewards of row ${at} at ${groups.length} steps`, act: open })),
      el("p.quiet", {}, `${groups.length} ${groups.length === 1 ? "step" : "steps"} asked this row${shown.length < groups.length ? `; ${shown.length} of them, evenly chosen, follow` : ""}.`),
      el("ol.history", {}, items),
    );
  };
})();
