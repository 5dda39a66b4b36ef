// Copyright 2026 the MedGRPO-on-verl authors
// Licensed under the Apache License, Version 2.0; see the LICENSE file.

// Curves over steps, drawn by uPlot: smoothing, several runs over each other, resumes, one range for all charts.
"use strict";

(() => {
  const { el } = medgrpo;
  const HEIGHT = 210;

  // The mean of what came before, older values counting less by `keep` a step. Without bias at the start; a step
  // without a value has none afterwards either.
  medgrpo.smooth = (values, keep) => {
    if (!keep) return values;
    let sum = 0;
    let weight = 0;
    return values.map((value) => {
      if (value == null) return null;
      sum = sum * keep + value * (1 - keep);
      weight = weight * keep + (1 - keep);
      return sum / weight;
    });
  };

  // Every curve on the steps of all of them. curves: [{step, values}]
  medgrpo.aligned = (curves) => {
    const steps = [...new Set(curves.flatMap((curve) => curve.step))].sort((one, other) => one - other);
    const place = new Map(steps.map((step, at) => [step, at]));
    const columns = curves.map(({ step, values }) => {
      const column = new Array(steps.length).fill(null);
      step.forEach((at, index) => (column[place.get(at)] = values[index] ?? null));
      return column;
    });
    return [steps, ...columns];
  };

  // The range of an axis: a little more than the values; around a value that never changes a little to both sides.
  function around(low, high) {
    if (low == null) return [0, 1];
    const room = high > low ? (high - low) * 0.06 : Math.abs(low) * 0.05 || 0.05;
    return [low - room, high + room];
  }

  const resumes = (marks) => ({
    hooks: {
      draw: (plot) => {
        const { ctx, bbox } = plot;
        ctx.save();
        ctx.strokeStyle = medgrpo.colour("quiet");
        ctx.setLineDash([3, 4]);
        for (const step of marks) {
          const x = Math.round(plot.valToPos(step, "x", true));
          if (x < bbox.left || x > bbox.left + bbox.width) continue;
          ctx.beginPath();
          ctx.moveTo(x, bbox.top);
          ctx.lineTo(x, bbox.top + bbox.height);
          ctx.stroke();
        }
        ctx.restore();
      },
    },
  });

  // A chart with its legend, which is also the table of its figures.
  // options: title, unit, curves [{name, step, values, variable, dash}], keep, marks, range, onRange, onStep
  medgrpo.chart = ({ title, about, curves, keep = 0, marks = [], range, onRange, onStep, unit }) => {
    const box = el("div.plot", { role: "img", "aria-label": `${title} over training steps; the table below has its figures` });
    const figure = el("figure.chart", {}, el("figcaption", {}, el("h3", {}, title), about && el("p.quiet", {}, about)), box);
    const data = medgrpo.aligned(curves);
    const raw = curves.length === 1 && keep > 0;
    const lines = curves.map((curve, at) => medgrpo.smooth(data[at + 1], keep));
    const axis = { stroke: () => medgrpo.colour("quiet"), grid: { stroke: () => medgrpo.colour("grid"), width: 1 }, ticks: { show: false }, font: "12px system-ui, sans-serif" };
    const series = curves.map(({ variable, dash, name }) => ({ label: name, stroke: () => medgrpo.colour(variable), width: 2, dash, points: { show: data[0].length < 2, size: 6 }, spanGaps: true }));
    if (raw) series.push({ label: "as recorded", stroke: () => medgrpo.colour(curves[0].variable), alpha: 0.35, width: 1, points: { show: false }, spanGaps: true });
    let plot = null;
    const rows = curves.map((curve, at) => legendRow(curve, lines[at], () => plot, at + 1, unit));
    const values = rows.map((row) => row.cells[3]);
    const options = {
      width: 400,
      height: HEIGHT,
      legend: { show: false },
      cursor: { sync: { key: "steps" }, drag: { x: true, y: false, setScale: false }, focus: { prox: 24 } },
      focus: { alpha: 0.25 },
      scales: { x: { time: false, ...(range ? { range: () => range } : {}) }, y: { range: (_, low, high) => around(low, high) } },
      axes: [{ ...axis, size: 30 }, { ...axis, size: 52, values: (_, ticks) => ticks.map((tick) => (unit === "%" ? `${medgrpo.short(Number((tick * 100).toFixed(6)))} %` : medgrpo.short(tick))) }],
      series: [{}, ...series],
      plugins: [resumes(marks)],
      hooks: {
        setSelect: [
          ({ select, posToVal }) => {
            if (select.width < 8) return;
            onRange?.(Math.round(posToVal(select.left, "x")), Math.round(posToVal(select.left + select.width, "x")));
          },
        ],
        setCursor: [({ cursor }) => values.forEach((cell, at) => (cell.textContent = shown(lines[at], cursor.idx, unit)))],
      },
    };
    figure.append(el("div.legend", { tabindex: 0, role: "region", "aria-label": `figures of ${title}` }, legendTable(title, rows)));
    // In the colours of now, where it is drawn already.
    figure.recolour = () => plot?.redraw(false);
    figure.draw = () => {
      if (plot) return;
      plot = new uPlot({ ...options, width: Math.max(200, box.clientWidth) }, [data[0], ...lines, ...(raw ? [data[1]] : [])], box);
      plot.over.addEventListener("dblclick", () => onRange?.(null, null));
      plot.over.addEventListener("click", () => {
        if (plot.select.width < 8 && plot.cursor.idx != null) onStep?.(data[0][plot.cursor.idx]);
      });
      const observer = new ResizeObserver(() => {
        if (!box.isConnected) observer.disconnect();
        else if (box.clientWidth !== plot.width) plot.setSize({ width: Math.max(200, box.clientWidth), height: HEIGHT });
      });
      observer.observe(box);
    };
    return figure;
  };

  const scale = (value, unit) => (unit === "%" && value != null ? `${(value * 100).toFixed(1)} %` : (value != null && Math.abs(value) >= 0.0005 && Math.abs(value) < 0.99 ? value.toFixed(3) : medgrpo.short(value)));
  const shown = (values, at, unit) => scale(at == null ? values.findLast((value) => value != null) : values[at], unit);
  const mean = (values) => (values.length ? values.reduce((sum, value) => sum + value, 0) / values.length : null);

  // Name, mean of the first and of the last five values, the value under the cursor or the last one.
  function legendRow({ name, values, variable, dash }, line, plot, at, unit) {
    const present = values.filter((value) => value != null);
    const sample = el("svg", { viewBox: "0 0 24 8", width: 24, height: 8, "aria-hidden": true }, el("line", { x1: 0, x2: 24, y1: 4, y2: 4, class: "sample", "stroke-dasharray": dash.join(" ") || null, css: { stroke: `var(--${variable})` } }));
    const hide = (event) => {
      const hidden = event.currentTarget.getAttribute("aria-pressed") === "true";
      event.currentTarget.setAttribute("aria-pressed", String(!hidden));
      plot()?.setSeries(at, { show: !hidden });
    };
    const button = el("button.name", { type: "button", "aria-pressed": "false", title: "hide or show", on: { click: hide, mouseenter: () => plot()?.setSeries(at, { focus: true }), mouseleave: () => plot()?.setSeries(null, { focus: true }) } }, sample, name);
    const cells = [button, scale(mean(present.slice(0, 5)), unit), scale(mean(present.slice(-5)), unit), shown(line, null, unit)];
    const row = el("tr", {}, cells.map((cell, index) => (index ? el("td", {}, cell) : el("th", { scope: "row" }, cell))));
    return row;
  }

  function legendTable(title, rows) {
    const heads = ["", "first 5", "last 5", "here"].map((text) => el(text ? "th" : "td", text ? { scope: "col" } : {}, text));
    return el("table", {}, el("caption.hidden", {}, title), el("thead", {}, el("tr", {}, heads)), el("tbody", {}, rows));
  }
})();
