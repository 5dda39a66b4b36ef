// Copyright 2026 the MedGRPO-on-verl authors
// Licensed under the Apache License, Version 2.0; see the LICENSE file.

// Small drawings that need no axes of a library: intervals, histograms, values as dots and bars.
"use strict";

(() => {
  const { el, number, signed } = medgrpo;
  const total = (values) => values.reduce((sum, value) => sum + value, 0);

  const svg = (width, height, label, ...children) =>
    el("svg", { viewBox: `0 0 ${width} ${height}`, width, height, role: "img", "aria-label": label }, ...children);

  // A change with its interval on an axis from -limit to +limit.
  medgrpo.intervalFigure = (change, low, high, limit) => {
    const width = 96;
    const x = (value) => ((Math.max(-limit, Math.min(limit, value)) + limit) / (2 * limit)) * (width - 12) + 6;
    const sure = low != null && (low > 0 || high < 0);
    return svg(
      width,
      18,
      `${signed(change)}${low == null ? "" : `, between ${signed(low)} and ${signed(high)}`}`,
      el("line", { x1: x(0), x2: x(0), y1: 1, y2: 17, class: "axis" }),
      low != null && el("line", { x1: x(low), x2: x(high), y1: 9, y2: 9, class: sure ? "interval sure" : "interval" }),
      el("circle", { cx: x(change), cy: 9, r: 4.5, class: sure ? "dot sure" : "dot" }),
    );
  };

  // Values from 0 to 1 as dots on a line, one of them marked.
  medgrpo.dotsFigure = (values, marked = -1, width = 96) => {
    const x = (value) => 4 + Math.max(0, Math.min(1, value)) * (width - 8);
    const dots = values.map((value, at) =>
      value == null ? null : el("circle", { cx: x(value), cy: 8, r: at === marked ? 4 : 3, class: at === marked ? "dot marked" : "dot" }),
    );
    return svg(width, 16, `rewards ${values.map((value) => number(value, 2)).join(", ")}`, el("line", { x1: 4, x2: width - 4, y1: 8, y2: 8, class: "axis" }), ...dots);
  };

  // A bar from the middle: right of it for what is good, left for what is bad.
  medgrpo.divergingBar = (value, limit) => {
    const share = (Math.min(1, Math.abs(value) / (limit || 1)) * 50).toFixed(1);
    const css = value < 0 ? { right: "50%", width: `${share}%` } : { left: "50%", width: `${share}%` };
    return el("span.diverging", { "aria-hidden": true }, el("span", { class: value < 0 ? "minus" : "plus", css }));
  };
  medgrpo.shareBar = (value, className = "") =>
    el("span", { class: `share ${className}`, "aria-hidden": true }, el("span", { css: { width: `${Math.max(0, Math.min(1, value ?? 0)) * 100}%` } }));

  function outline(bins, x, y) {
    const peak = total(bins);
    const steps = bins.map((count, at) => `${x(at / bins.length)},${y(count / peak)} ${x((at + 1) / bins.length)},${y(count / peak)}`);
    return `${x(0)},${y(0)} ${steps.join(" ")} ${x(1)},${y(0)}`;
  }

  // Histograms over 0..1, filled and as an outline (each a share of its own answers), with a curve of 0..1 over them.
  // options: bins, recent (counts), curve ([[x, y]...]), p50, iqr, label, size
  medgrpo.histogramFigure = ({ bins, recent, curve, p50, iqr, label, width = 180, height = 100 }) => {
    const [left, right, top, bottom] = [26, 6, 6, 18];
    const x = (value) => left + value * (width - left - right);
    const shares = [bins, recent].filter((counts) => counts && total(counts)).map((counts) => Math.max(...counts) / total(counts));
    const most = Math.max(0.05, ...shares);
    const y = (share) => height - bottom - (share / most) * (height - top - bottom);
    const unit = (value) => height - bottom - value * (height - top - bottom);
    const parts = [];
    if (p50 != null && iqr) {
      const [low, high] = [Math.max(0, p50 - iqr / 2), Math.min(1, p50 + iqr / 2)];
      parts.push(el("rect", { x: x(low), y: top, width: Math.max(1, x(high) - x(low)), height: height - top - bottom, class: "spread" }));
    }
    if (bins && total(bins)) {
      const all = total(bins);
      parts.push(bins.map((count, at) => count > 0 && el("rect", { x: x(at / bins.length) + 0.5, y: y(count / all), width: Math.max(1, x(1 / bins.length) - x(0) - 1), height: height - bottom - y(count / all), class: "bin" })));
    }
    if (recent && total(recent)) parts.push(el("polyline", { points: outline(recent, x, y), class: "recent" }));
    if (curve?.length) parts.push(el("polyline", { points: curve.map(([at, value]) => `${x(at)},${unit(value)}`).join(" "), class: "curve" }));
    if (p50 != null) parts.push(el("line", { x1: x(p50), x2: x(p50), y1: top, y2: height - bottom, class: "median" }));
    const tick = (value) => el("text", { x: x(value), y: height - 5, "text-anchor": "middle" }, String(value));
    parts.push(el("line", { x1: left, x2: width - right, y1: height - bottom, y2: height - bottom, class: "axis" }));
    parts.push(tick(0), tick(0.5), tick(1), el("text", { x: left - 4, y: top + 8, "text-anchor": "end" }, `${Math.round(most * 100)}%`));
    return svg(width, height, label, ...parts.flat());
  };

  // Mean and standard deviation of values in 0..1: a dot with a bar.
  medgrpo.spreadFigure = (figures) => {
    if (figures?.mean == null) return "–";
    const [width, deviation] = [150, Math.sqrt(figures.variance)];
    const x = (value) => 5 + Math.max(0, Math.min(1, value)) * (width - 10);
    const label = `mean ${number(figures.mean)}, standard deviation ${number(deviation)}`;
    const parts = [el("line", { x1: 5, x2: width - 5, y1: 8, y2: 8, class: "grid" }), el("line", { x1: x(figures.mean - deviation), x2: x(figures.mean + deviation), y1: 8, y2: 8, class: "interval sure" }), el("circle", { cx: x(figures.mean), cy: 8, r: 4.5, class: "dot sure" })];
    return svg(width, 16, label, ...parts, el("title", {}, label));
  };

  // A row of shades for each name: how large its values are over the steps, in at most 60 columns.
  medgrpo.shadesFigure = (steps, rows) => {
    const many = Math.min(60, steps.length);
    const edges = Array.from({ length: many + 1 }, (_, at) => Math.round((at * steps.length) / many));
    const mean = (values) => (values.length ? total(values) / values.length : null);
    const table = rows.map(([name, values]) => [name, edges.slice(1).map((end, at) => mean(values.slice(edges[at], end).filter((value) => value != null)))]);
    const most = Math.max(1e-9, ...table.flatMap(([, cells]) => cells.filter((value) => value != null)));
    const percent = (value) => (value == null ? "–" : `${(value * 100).toFixed(1)} %`);
    const wide = 600 / many;
    const strip = (name, cells) => svg(600, 16, `${name}: from ${percent(cells.find((value) => value != null))} to ${percent(cells.findLast((value) => value != null))}`, ...cells.map((value, at) => value != null && el("rect", { x: at * wide, y: 0, width: wide + 0.2, height: 16, class: "shade", "fill-opacity": (value / most).toFixed(3) }, el("title", {}, `${name}, step ${steps[edges[at]]}: ${percent(value)}`))));
    const lines = table.map(([name, cells]) => [name, percent(mean(cells.slice(0, 5).filter((value) => value != null))), strip(name, cells), percent(mean(cells.slice(-5).filter((value) => value != null)))]);
    return medgrpo.table(`steps ${steps[0]} to ${steps.at(-1)}, darkest: ${percent(most)}`, ["", "first", "over the steps", "last"], lines, "shadetable");
  };

  // Values over steps: dots with a line through each step's mean. Clicking a dot's column calls act(step).
  medgrpo.stepsFigure = ({ steps, values, marked, label, act, width = 900, height = 150 }) => {
    const [left, right, top, bottom] = [34, 8, 8, 22];
    const last = Math.max(...steps);
    const first = Math.min(...steps);
    const x = (step) => left + (last === first ? 0.5 : (step - first) / (last - first)) * (width - left - right);
    const y = (value) => height - bottom - value * (height - top - bottom);
    const means = steps.map((step, at) => `${x(step)},${y(total(values[at]) / values[at].length)}`);
    const parts = [0, 0.5, 1].map((value) => [
      el("line", { x1: left, x2: width - right, y1: y(value), y2: y(value), class: "grid" }),
      el("text", { x: left - 6, y: y(value) + 4, "text-anchor": "end" }, String(value)),
    ]);
    steps.forEach((step, at) => {
      const dots = values[at].map((value) => el("circle", { cx: x(step), cy: y(value), r: 3.5, class: step === marked ? "dot marked" : "dot" }));
      parts.push(el("g", { class: "column", on: { click: () => act(step) } }, el("title", {}, `step ${step}`), el("rect", { x: x(step) - 6, y: 0, width: 12, height, class: "hit" }), ...dots));
    });
    const every = Math.ceil(steps.length / Math.max(2, Math.floor(width / 60)));
    parts.push(el("polyline", { points: means.join(" "), class: "mean" }));
    parts.push(steps.filter((_, at) => at % every === 0).map((step) => el("text", { x: x(step), y: height - 6, "text-anchor": "middle" }, String(step))));
    return svg(width, height, label, ...parts.flat());
  };
})();
