// Copyright 2026 the MedGRPO-on-verl authors
// Licensed under the Apache License, Version 2.0; see the LICENSE file.

// Curves of a training, by pair, task, source or for all together.
"use strict";

(() => {
  const { el, field, select } = medgrpo;
  // Title, explanation, and whether it is a share that reads better in percent.
  const MEASURES = {
    reward: ["Reward", "after normalisation"],
    reward_std: ["Spread of rewards", "standard deviation"],
    accuracy: ["Accuracy", "strict metric of the task"],
    format: ["Format", "how well answers parse", "%"],
    gradient_share: ["Gradient share", "of tokens × |advantage|", "%"],
    saturation: ["Saturation", "rewards at the ends of the logistic", "%"],
    dead_groups: ["Dead groups", "groups whose answers all earn the same"],
    dropped_groups: ["Dropped groups", "groups left with too few answers"],
    tokens: ["Tokens", "an answer's length"],
    cut_off: ["Cut off", "answers cut at their budget", "%"],
    attack: ["Attacks", "answers that talk to the judge", "%"],
    clip_share: ["Clip share", "probability ratios that were clipped", "%"],
    rollout_actor_corr: ["Rollout and actor", "correlation of their probabilities"],
    judge_cost: ["Judge's cost", "of a step"],
    judge_cost_total: ["Judge's cost so far", ""],
    judge_refused: ["Judge refused", ""],
    judge_failed: ["Judge failed", ""],
    failed_rollouts: ["Failed rollouts", ""],
    grad_norm: ["Gradient norm", ""],
    entropy: ["Entropy", ""],
    learning_rate: ["Learning rate", ""],
    seconds: ["Seconds", "of a step"],
  };
  const FIRST = ["reward", "accuracy", "format", "gradient_share", "saturation", "tokens", "cut_off", "clip_share", "rollout_actor_corr", "judge_cost"];
  const LEVELS = ["all", "task", "source", "pair"];

  // A long run's points stand for several steps each, and of its rollouts only some steps are in the report.
  medgrpo.averaged = (runs) => {
    const thinned = runs.filter((run) => run.every > 1);
    return thinned.length ? el("p.quiet.hint", {}, `Of ${thinned.map((run) => `${run.name} every ${run.every}. step`).join(", ")} is shown.`) : null;
  };

  const readable = (name) => name.replace(/^raw_/, "raw ").replaceAll("_", " ");

  // {measure: {level: [names]}} of some runs' series.
  function available(curves) {
    const found = new Map();
    for (const { series } of curves) {
      for (const key of Object.keys(series)) {
        const [measure, level, ...rest] = key.split("|");
        if (!found.has(measure)) found.set(measure, new Map());
        const levels = found.get(measure);
        if (!levels.has(level)) levels.set(level, new Set());
        levels.get(level).add(rest.join("|"));
      }
    }
    return found;
  }

  function ordered(measures) {
    const known = Object.keys(MEASURES);
    const rank = (name) => (known.includes(name) ? known.indexOf(name) : name.startsWith("raw_") ? 2.5 : known.length);
    return [...measures].sort((one, other) => rank(one) - rank(other) || one.localeCompare(other));
  }

  async function draw(panel) {
    const { params } = medgrpo.state;
    const runs = medgrpo.runsShown();
    const curves = await Promise.all(runs.map((run) => medgrpo.current(`curves_${run.id}`)));
    const found = available(curves);
    const present = LEVELS.filter((level) => [...found.values()].some((levels) => levels.has(level)));
    const level = present.includes(params.get("level")) ? params.get("level") : present.includes("task") ? "task" : present[0];
    const keep = Number(params.get("smooth") ?? 0.6);
    const split = params.get("split") === "1";
    const only = params.get("only") ?? "";
    // What is only known for all together is shown at every level.
    const levelOf = (measure) => (found.get(measure).has(level) ? level : found.get(measure).has("all") ? "all" : null);
    const measures = ordered([...found.keys()].filter((measure) => levelOf(measure)));
    const chosen = params.has("measure") ? measures.filter((measure) => params.get("measure").split(",").includes(measure)) : measures.filter((measure) => FIRST.includes(measure));
    const [low, high] = [params.get("from"), params.get("to")].map((text) => (text == null ? null : Number(text)));
    const common = {
      keep,
      marks: runs.flatMap((run) => run.resumes),
      range: low == null || !(high > low) ? null : [low, high],
      onRange: (from, to) => medgrpo.go({ from, to }),
      onStep: (step) => runs[0].has.rollouts && medgrpo.go({ from: step - (curves[0].steps_per_point ?? 1) + 1, to: step, run: runs[0].id }, { tab: "rollouts" }),
    };
    const wanted = (name) => !only || name.toLowerCase().includes(only.toLowerCase());
    const charts = [];
    for (const measure of chosen) {
      const at = levelOf(measure);
      const names = [...found.get(measure).get(at)].sort().filter((name) => at === "all" || wanted(name));
      const [title, about, unit] = MEASURES[measure] ?? [readable(measure), measure.startsWith("raw_") ? "before normalisation" : ""];
      const line = (name, run, style) => {
        const { step, series } = curves[run];
        const values = series[`${measure}|${at}|${name}`];
        if (!values) return null;
        const label = [at === "all" || split ? null : label_of(name), runs.length > 1 || split ? runs[run].name : null].filter(Boolean).join(" · ") || "all";
        return { name: label, step, values, ...style };
      };
      const groups = split && at !== "all" ? names.map((name) => [name]) : [names];
      for (const group of groups.filter((names) => names.length)) {
        const one = group.length === 1;
        const lines = group.flatMap((name, place) =>
          runs.map((_, run) => {
            const style = medgrpo.lineStyle(one ? run : place);
            return line(name, run, one || !run ? style : { ...style, dash: medgrpo.DASHES[run % medgrpo.DASHES.length] });
          }),
        );
        const shown = lines.filter(Boolean);
        const named = split && at !== "all" ? `${title}: ${label_of(group[0])}` : title;
        if (shown.length) charts.push(medgrpo.chart({ title: named, about, unit, curves: shown, ...common }));
      }
    }
    const grid = el("div.charts", {}, charts.length ? charts : el("p.quiet", {}, found.size ? "No curve of this run has such a name." : "This run has no curves yet."));
    panel.replaceChildren(el("h2", {}, "Training"), controls({ present, level, measures, chosen, keep, split, only, runs, zoomed: common.range }), grid, ...[shares(curves[0])].filter(Boolean));
    // A chart far down the page is drawn when it comes near: hundreds of them may be asked for.
    const seen = new IntersectionObserver(
      (entries) => {
        for (const { isIntersecting, target } of entries) {
          if (!isIntersecting) continue;
          seen.unobserve(target);
          target.draw();
        }
      },
      { rootMargin: "600px" },
    );
    charts.forEach((chart) => seen.observe(chart));
  }

  // Every pair's share of the gradient over the steps of the chosen run, as shades.
  function shares({ step, series }) {
    const start = "gradient_share|pair|";
    const rows = Object.keys(series).filter((key) => key.startsWith(start)).map((key) => [label_of(key.slice(start.length)), series[key]]);
    if (!rows.length) return null;
    rows.sort(([one], [other]) => medgrpo.taskOf(one).localeCompare(medgrpo.taskOf(other)) || one.localeCompare(other));
    return el("section.shares", {}, el("h3", {}, "Each pair’s share of the gradient"), el("p.quiet", {}, `Share of the sum of tokens × |advantage|. An equal share of each of these pairs would be ${(100 / rows.length).toFixed(1)} %.`), medgrpo.shadesFigure(step, rows));
  }

  const label_of = (name) => medgrpo.pairName(name);

  function controls({ present, level, measures, chosen, keep, split, only, runs, zoomed }) {
    const replace = { replace: true };
    const smooth = el("input", { type: "range", min: 0, max: 0.98, step: 0.02, value: keep, on: { change: (event) => medgrpo.go({ smooth: event.target.value }, replace) } });
    const name = el("input", { type: "search", value: only, placeholder: "tal, CoPESD …", on: { change: (event) => medgrpo.go({ only: event.target.value }, replace) } });
    const check = (label, checked, act) => el("label.check", {}, el("input", { type: "checkbox", checked, on: { change: act } }), label);
    const toggle = (measure) => {
      const next = chosen.includes(measure) ? chosen.filter((one) => one !== measure) : [...chosen, measure];
      medgrpo.go({ measure: next.join(",") || null }, replace);
    };
    const boxes = measures.map((measure) => check(MEASURES[measure]?.[0] ?? readable(measure), chosen.includes(measure), () => toggle(measure)));
    const others = medgrpo.state.index.runs.filter((run) => run !== medgrpo.run());
    const over = runs.map((run) => run.id);
    const lay = (run) => medgrpo.go({ over: (over.includes(run.id) ? over.filter((id) => id !== run.id) : [...over, run.id]).filter((id) => id !== medgrpo.run().id).join(",") }, replace);
    return el(
      "form.controls",
      { on: { submit: (event) => event.preventDefault() } },
      field("Lines for", select(level, present.map((one) => [one, one === "all" ? "all together" : `each ${one}`]), (value) => medgrpo.go({ level: value }, replace))),
      field("Names with", name),
      field("Smoothing", smooth),
      check("a chart for each name", split, (event) => medgrpo.go({ split: event.target.checked ? "1" : null }, replace)),
      zoomed && el("a.button", { href: medgrpo.link({ from: null, to: null }) }, `Steps ${zoomed.join("–")}: show all`),
      el("fieldset", {}, el("legend", {}, "Measures"), boxes),
      others.length > 0 && el("fieldset", {}, el("legend", {}, "Runs laid over"), others.map((run) => check(run.name, over.includes(run.id), () => lay(run)))),
      el("p.quiet.hint", {}, "Drag over a chart to enlarge some steps in all of them, double-click to see all. Click a step to see its rollouts. A dotted upright line is a resume."),
      medgrpo.averaged(runs),
    );
  }

  medgrpo.tabs.training = { title: "Training", open: () => {}, show: draw, news: () => draw(document.querySelector(".tab.training")) };
})();
