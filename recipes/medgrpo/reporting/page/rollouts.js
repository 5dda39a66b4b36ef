// Copyright 2026 the MedGRPO-on-verl authors
// Licensed under the Apache License, Version 2.0; see the LICENSE file.

// The rollouts of a run: a filter, a list of groups or answers, and one group with its clip.
"use strict";

(() => {
  const { el, field, select, number, signed, pairName } = medgrpo;
  const KEPT = new Map(); // Answers by run
  let view = null; // elements and state of the open tab

  async function answersOf(run) {
    if (!KEPT.has(run.id)) KEPT.set(run.id, new medgrpo.Answers(await medgrpo.get(`rollouts_${run.id}`)));
    return KEPT.get(run.id);
  }

  const numeric = (text) => (text == null || text === "" || Number.isNaN(Number(text)) ? null : Number(text));

  // The filter that the address says.
  function wanted(run, params) {
    const pair = params.get("pair") ?? "";
    const fits = pair.startsWith("task:") ? (name) => medgrpo.taskOf(name) === pair.slice(5) : (name) => name === pair;
    const pairs = pair ? new Set(run.pairs.map((name, at) => (fits(name) ? at : -1)).filter((at) => at >= 0)) : null;
    const [from, to, low, high, row] = ["from", "to", "low", "high", "row"].map((key) => numeric(params.get(key)));
    return { from, to, low, high, row, pairs, format: params.get("format"), flag: numeric(params.get("flag")) };
  }

  // --- filter -------------------------------------------------------------------------------------------------------

  const FILTER = ["pair", "from", "to", "low", "high", "format", "flag", "row", "sort", "unit"];
  const clear = () => el("a", { href: medgrpo.link(Object.fromEntries(FILTER.map((name) => [name, null]))) }, "Clear the filter");

  function filterForm(run, params) {
    const set = (changes) => medgrpo.go(changes, { replace: true });
    const input = (key, label, attributes) => field(label, el("input", { type: "number", value: params.get(key) ?? "", ...attributes, on: { change: (event) => set({ [key]: event.target.value }) } }), "narrow");
    const choice = (key, label, options, usual = "") => field(label, select(params.get(key) ?? usual, options, (value) => set({ [key]: value === usual ? null : value })));
    const tasks = [...new Set(run.pairs.map(medgrpo.taskOf))].sort();
    const form = el(
      "form.filter",
      { "aria-label": "filter", on: { submit: (event) => event.preventDefault() } },
      choice("pair", "Pair", [["", "all pairs"], ...tasks.map((task) => [`task:${task}`, `all of ${task}`]), ...run.pairs.map((pair) => [pair, pairName(pair)])]),
      el("div.two", {}, input("from", "Step from", { min: 0 }), input("to", "to", { min: 0 })),
      el("div.two", {}, input("low", "Reward from", { min: 0, max: 1, step: 0.05 }), input("high", "to", { min: 0, max: 1, step: 0.05 })),
      el("div.two", {}, choice("format", "Format", [["", "any"], ["full", "parses"], ["part", "in part"], ["none", "does not"]]), input("row", "Row", { min: 0 })),
      choice("flag", "What happened", [["", "anything"], ...Object.entries(medgrpo.FLAGS)]),
      choice("sort", "Order", Object.entries(medgrpo.SORTS).map(([key, [text]]) => [key, text]), "step"),
      choice("unit", "List", [["groups", "groups"], ["answers", "single answers"]], "groups"),
      medgrpo.averaged([run]),
      el("p", {}, clear()),
    );
    return el("details.filters", { open: matchMedia("(min-width: 800px)").matches }, el("summary", {}, "Filter and order"), form);
  }

  // --- list ---------------------------------------------------------------------------------------------------------

  function groupItem(number_) {
    const { answers, run } = view;
    const group = answers.groups[number_];
    const rewards = group.members.map((at) => answers.reward[at]);
    const mean = rewards.reduce((sum, value) => sum + value, 0) / rewards.length;
    return el(
      "a",
      { href: medgrpo.link({ at: group.key, answer: null, frame: null }) },
      el("span.where", {}, el("strong", {}, `step ${group.step}`), ` ${pairName(run.pairs[group.pair] ?? "?")}`),
      el("span.what", {}, medgrpo.dotsFigure(rewards), el("span", {}, `mean ${number(mean, 2)}`), group.row >= 0 && el("span.quiet", {}, `row ${group.row}`)),
    );
  }

  function answerItem(at) {
    const { answers, run } = view;
    const group = answers.groups[answers.groupOf[at]];
    const flags = answers.flagsOf(at);
    return el(
      "a",
      { href: medgrpo.link({ at: group.key, answer: group.members.indexOf(at), frame: null }) },
      el("span.where", {}, el("strong", {}, `step ${group.step}`), ` ${pairName(run.pairs[group.pair] ?? "?")}`),
      el("span.what", {}, el("span", {}, `reward ${number(answers.reward[at], 2)}`), el("span", {}, `adv. ${signed(answers.advantage[at], 2)}`), flags.length > 0 && el("span.flag", {}, flags[0])),
    );
  }

  function refilter() {
    const { params } = medgrpo.state;
    const { answers } = view;
    const began = performance.now();
    const filter = wanted(view.run, params);
    const indices = answers.sort(answers.filter(filter), params.get("sort") ?? "step");
    view.groups = answers.groupsOf(indices);
    view.items = single() ? indices : view.groups;
    view.took = performance.now() - began;
    view.count.textContent = `${medgrpo.count(indices.length)} of ${medgrpo.count(answers.size)} answers in ${medgrpo.count(view.groups.length)} groups`;
    view.count.dataset.ms = view.took.toFixed(1);
  }

  // --- one group ----------------------------------------------------------------------------------------------------

  const single = () => medgrpo.state.params.get("unit") === "answers";

  // The group that is shown and which of its answers is marked: what the address says, or else the list's first.
  function chosen() {
    const { params } = medgrpo.state;
    const { answers, items, groups } = view;
    const group = answers.find(params.get("at") ?? "") ?? (groups.length ? answers.groups[groups[0]] : null);
    if (!group) return { group: null, place: null, item: -1 };
    const said = numeric(params.get("answer"));
    if (!single()) return { group, place: said, item: groups.indexOf(group.number) };
    const item = said === null ? items.findIndex((at) => answers.groupOf[at] === group.number) : items.indexOf(group.members[said]);
    return { group, place: said ?? (item >= 0 ? group.members.indexOf(items[item]) : null), item };
  }
  const selected = () => chosen().group;

  async function groupView(group) {
    const { answers, run } = view;
    const { params } = medgrpo.state;
    const row = await medgrpo.row(run.id, group.row);
    const said = await Promise.all(group.members.map((at) => answers.said(at)));
    const limit = Math.max(...group.members.map((at) => Math.abs(answers.advantage[at]) || 0));
    const asMade = params.get("cards") === "made";
    const places = group.members.map((_, place) => place);
    if (!asMade) places.sort((one, other) => answers.advantage[group.members[other]] - answers.advantage[group.members[one]] || one - other);
    const mark = chosen().place ?? places[0];
    const cards = places.map((place) => {
      const at = group.members[place];
      return {
        id: `answer-${place}`,
        short: `answer ${place + 1}`,
        title: `Answer ${place + 1}`,
        href: medgrpo.link({ at: group.key, answer: place }),
        marked: place === mark,
        reward: answers.reward[at],
        advantage: answers.advantage[at],
        acc: answers.acc[at],
        format: answers.format[at],
        tokens: answers.tokens[at],
        flags: answers.flagsOf(at),
        limit,
        answer: said[place],
      };
    });
    const frame = numeric(params.get("frame"));
    const both = medgrpo.sideBySide({ row, cards, frame, onFrame: (at) => medgrpo.note({ frame: at }) });
    view.clip = both.clip;
    const order = select(asMade ? "made" : "advantage", [["advantage", "by advantage"], ["made", "as generated"]], (value) => medgrpo.go({ cards: value === "made" ? "made" : null }, { replace: true }));
    return [head(group), medgrpo.rowHead(row, group.row), el("div.above", {}, medgrpo.boxKey(row), field("Answers", order)), both.node];
  }

  // Why what is shown is not what the address or the filter says.
  function missing(group) {
    const asked = medgrpo.state.params.get("at");
    if (asked && asked !== group.key) return el("p.notice", { role: "status" }, `This report has no group ${asked.slice(0, 40)}. The first one of the list is shown.`);
    return view.groups.includes(group.number) ? null : el("p.notice", { role: "status" }, "This group does not fit the filter.");
  }

  function head(group) {
    const { run } = view;
    const at = view.groups.indexOf(group.number);
    const near = (by, text) => {
      const number_ = view.groups[at + by];
      return number_ === undefined || at < 0 ? null : el("a.button", { href: medgrpo.link({ at: view.answers.groups[number_].key, answer: null, frame: null }), title: `key ${by > 0 ? "n" : "p"}` }, text);
    };
    const over = medgrpo.state.params.get("view") === "row";
    return el(
      "div.grouphead",
      {},
      el("h2", {}, `Step ${group.step}, ${pairName(run.pairs[group.pair] ?? "?")}`),
      missing(group),
      el("p.buttons", {}, near(-1, "‹ previous group"), near(1, "next group ›"), group.row >= 0 && el("a.button", { href: medgrpo.link({ at: group.key, view: over ? null : "row" }), title: "key r" }, over ? "back to the group" : "this row over the steps")),
    );
  }

  async function detail() {
    const group = selected();
    const turn = (view.turn = (view.turn ?? 0) + 1);
    const mine = view;
    let content;
    if (!group) content = [el("h2", {}, "Rollouts"), el("p.quiet", {}, "No answer of this run fits the filter."), el("p", {}, clear())];
    else if (medgrpo.state.params.get("view") === "row") content = [head(group), await medgrpo.rowHistory(view.answers, group.row, group)];
    else content = await groupView(group);
    if (view !== mine || view.turn !== turn) return;
    view.shown = group?.key;
    view.detail.replaceChildren(...content);
  }

  // --- the tab ------------------------------------------------------------------------------------------------------

  async function open(panel, run) {
    view = null;
    if (!run.has.rollouts) {
      panel.append(el("h2", {}, "Rollouts"), el("p.quiet", {}, "This run has no recorded rollouts."));
      return;
    }
    const answers = await answersOf(run);
    const count = el("p.count", { role: "status" });
    const list = medgrpo.list({ label: "groups or answers that fit the filter", height: 52, item: (at) => (single() ? answerItem(view.items[at]) : groupItem(view.items[at])) });
    view = { run, answers, count, list, panel, form: el("div"), detail: el("section.detail", { "aria-label": "group" }) };
    panel.append(el("aside.side", { "aria-label": "filter and list" }, view.form, count, list.node), view.detail);
  }

  async function show() {
    if (!view) return;
    const { params } = medgrpo.state;
    const said = params.toString();
    const filter = FILTER.map((name) => params.get(name)).join("|");
    if (view.filter !== filter || view.stale) {
      view.filter = filter;
      view.form.replaceChildren(filterForm(view.run, params));
      refilter();
    }
    view.list.update(view.items.length, chosen().item);
    if (view.said !== said || view.stale) await detail();
    view.said = said;
    view.stale = false;
  }

  // A run at work: only the steps that are new, or that may have been written anew, are asked for.
  async function news(run, version) {
    if (!view) return;
    // After a resume steps that were there may be others now.
    const from = view.run.era === run.era ? view.answers.lastStep() : 0;
    const part = await medgrpo.get(`rollouts_${run.id}`, `?from=${from}&v=${version}`);
    for (const [step, name] of Object.entries(view.answers.texts)) if (Number(step) >= from) medgrpo.drop(name);
    view.answers.append({ from, ...part });
    view.run = run;
    refilter();
    view.list.update(view.items.length, chosen().item);
    // What somebody looks at stays as it is, unless it has become another.
    if (view.shown !== selected()?.key || from === 0) await detail();
  }

  // --- keys ---------------------------------------------------------------------------------------------------------

  function step(by) {
    if (!view?.items.length) return;
    const next = view.items[Math.max(0, Math.min(view.items.length - 1, chosen().item + by))];
    const there = view.answers.groups[single() ? view.answers.groupOf[next] : next];
    medgrpo.go({ at: there.key, answer: single() ? there.members.indexOf(next) : null, frame: null }, { replace: true });
  }

  // A group whose `name` (step or row) is the next larger or smaller one; of several the one like the present in `other`.
  function jump(name, other, by) {
    const here = selected();
    if (!here) return;
    const groups = view.groups.map((number_) => view.answers.groups[number_]).filter((group) => (group[name] - here[name]) * by > 0);
    if (!groups.length) return;
    const value = groups.reduce((best, group) => (Math.abs(group[name] - here[name]) < Math.abs(best - here[name]) ? group[name] : best), groups[0][name]);
    const near = groups.filter((group) => group[name] === value);
    const best = near.reduce((one, two) => (Math.abs(two[other] - here[other]) < Math.abs(one[other] - here[other]) ? two : one));
    medgrpo.go({ at: best.key, answer: null, frame: null }, { replace: true });
  }

  const nthAnswer = (by) => {
    const cards = [...document.querySelectorAll("article.answer")];
    const at = cards.findIndex((card) => card.classList.contains("marked"));
    const card = cards[Math.max(0, Math.min(cards.length - 1, at + by))];
    if (card) medgrpo.go({ answer: card.id.replace("answer-", ""), at: selected().key }, { replace: true });
  };

  medgrpo.tabs.rollouts = {
    title: "Rollouts",
    open,
    show,
    news,
    keys: {
      n: () => step(1),
      p: () => step(-1),
      j: () => nthAnswer(1),
      k: () => nthAnswer(-1),
      "]": () => jump("step", "row", 1),
      "[": () => jump("step", "row", -1),
      ".": () => jump("row", "step", 1),
      ",": () => jump("row", "step", -1),
      f: () => view?.clip?.move(1),
      b: () => view?.clip?.move(-1),
      r: () => selected() && medgrpo.go({ at: selected().key, view: medgrpo.state.params.get("view") === "row" ? null : "row" }),
      "/": () => {
        const filters = document.querySelector(".filters");
        if (filters) filters.open = true;
        filters?.querySelector("select")?.focus();
      },
    },
  };
})();
