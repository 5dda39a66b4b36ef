// Copyright 2026 the MedGRPO-on-verl authors
// Licensed under the Apache License, Version 2.0; see the LICENSE file.

// What every part of the page uses: data on demand, elements, numbers as text, colours of the theme.
"use strict";

const medgrpo = { tabs: {} };

// --- data ---------------------------------------------------------------------------------------------------------

(() => {
  const kept = new Map(); // promises by name
  const arriving = new Map(); // what to do with a piece of data when its script calls put()
  const last = new Map(); // the latest request of a name: one at a time, as answers are known by their name alone

  medgrpo.put = (name, value) => arriving.get(name)?.(value);

  function load(name, query) {
    const next = () => request(name, query);
    const turn = (last.get(name) ?? Promise.resolve()).then(next, next);
    last.set(name, turn);
    return turn;
  }

  function request(name, query) {
    if (!/^[\w-]+$/.test(name)) return Promise.reject(new Error(`${name} is no name of data`));
    const inside = document.getElementById(`data-${name}`);
    if (inside) return Promise.resolve(JSON.parse(inside.textContent));
    return new Promise((resolve, reject) => {
      const script = document.createElement("script");
      const failed = () => reject(new Error(`data/${name}.js could not be read`));
      let came = false;
      arriving.set(name, (value) => {
        came = true;
        arriving.delete(name);
        resolve(value);
      });
      script.onload = () => {
        script.remove();
        if (!came) failed();
      };
      script.onerror = () => {
        script.remove();
        failed();
      };
      script.src = `data/${name}.js${query}`;
      document.head.append(script);
    });
  }

  // One piece of data. It is loaded once; `query` asks the server of a run at work anew and is not kept.
  medgrpo.get = (name, query = "") => {
    if (query) return load(name, query);
    if (!kept.has(name)) {
      const promise = load(name, "");
      kept.set(name, promise);
      promise.catch(() => kept.delete(name));
    }
    return kept.get(name);
  };
  medgrpo.keep = (name, value) => kept.set(name, Promise.resolve(value));
  medgrpo.drop = (name) => kept.delete(name);
})();

// A row of the data: its chunk is loaded when one of its rows is first shown, and again where a run at work has added
// rows since. Resolves to null for an unknown row.
medgrpo.row = async (run, at) => {
  if (at == null || at < 0) return null;
  const name = `rows_${run}_${Math.floor(at / 200)}`;
  const found = (chunk) => chunk.rows[at - chunk.first] ?? null;
  return found(await medgrpo.get(name)) ?? found(await medgrpo.current(name));
};

// --- elements -----------------------------------------------------------------------------------------------------

// el("div.card", {attributes}, children...): strings become text, never markup. `on` holds listeners, `css` sets
// properties of the style one by one, which the page's policy allows.
medgrpo.el = (name, attributes = {}, ...children) => {
  const [tag, ...classes] = name.split(".");
  const svg = ["svg", "g", "rect", "line", "path", "circle", "polyline", "title", "text"].includes(tag);
  const node = svg ? document.createElementNS("http://www.w3.org/2000/svg", tag) : document.createElement(tag);
  if (classes.length) node.setAttribute("class", classes.join(" "));
  for (const [key, value] of Object.entries(attributes)) {
    if (value == null || value === false) continue;
    if (key === "on") for (const [event, act] of Object.entries(value)) node.addEventListener(event, act);
    else if (key === "css") for (const [property, text] of Object.entries(value)) node.style.setProperty(property, text);
    else if (key === "value") node.value = value;
    else node.setAttribute(key, value === true ? "" : value);
  }
  node.append(...children.flat(3).filter((child) => child != null && child !== false));
  return node;
};

// A table that scrolls by itself where it is too wide; a compact one is small and stands beside others of its name.
medgrpo.table = (caption, heads, rows, className = "") => {
  const { el } = medgrpo;
  const head = el("tr", {}, heads.map((text) => (text ? el("th", { scope: "col" }, text) : el("td"))));
  const body = rows.map((cells) =>
    el("tr", {}, cells.map((cell, at) => (at ? el("td", {}, cell) : el("th", { scope: "row" }, cell)))),
  );
  const table = el("table", { class: className }, el("caption", {}, caption), el("thead", {}, head), el("tbody", {}, body));
  if (className.startsWith("compact")) return table;
  return el("div.scroll", { tabindex: 0, role: "region", "aria-label": caption }, table);
};

// A labelled control. `control` is an input or a select without an id.
let fields = 0;
medgrpo.field = (label, control, className = "") => {
  control.id = `field-${++fields}`;
  return medgrpo.el("div.field", className ? { class: `field ${className}` } : {}, medgrpo.el("label", { for: control.id }, label), control);
};

medgrpo.select = (value, options, act) => {
  const items = options.map(([key, text]) => medgrpo.el("option", { value: key, selected: key === value }, text));
  return medgrpo.el("select", { on: { change: (event) => act(event.target.value) } }, items);
};

// --- numbers and names --------------------------------------------------------------------------------------------

medgrpo.number = (value, digits = 3) => (value == null || Number.isNaN(value) ? "–" : value.toFixed(digits));
medgrpo.signed = (value, digits = 3) =>
  value == null || Number.isNaN(value) ? "–" : `${value < 0 ? "−" : "+"}${Math.abs(value).toFixed(digits)}`;
medgrpo.count = (value) => value.toLocaleString("en");
// A number with as many digits as it needs.
medgrpo.short = (value) => {
  if (value == null || Number.isNaN(value)) return "–";
  const size = Math.abs(value);
  if (Number.isInteger(value)) return medgrpo.count(value);
  if (size < 1 && size > 0.99) return value.toFixed(5);
  return size >= 1000 ? medgrpo.count(Math.round(value)) : size >= 10 ? value.toFixed(1) : Number(value.toPrecision(3)).toString();
};
medgrpo.seconds = (value) => `${Number(value.toFixed(1))} s`;
medgrpo.pairName = (pair) => pair.replace(/^medvidbench\//, "");
// What a line of figures is about: all pairs, a task, a source or a pair.
medgrpo.figureName = ({ name, task, source }) => {
  const about = [source, task].filter(Boolean).join("/");
  return about ? (source == null && medgrpo.TASKS[task] ? `${task}, ${medgrpo.TASKS[task]}` : about) : name === "acc" ? "all pairs" : name;
};
medgrpo.taskOf = (pair) => pair.slice(pair.lastIndexOf("/") + 1);
medgrpo.TASKS = {
  tal: "temporal localisation",
  stg: "spatial grounding",
  dvc: "dense captioning",
  nap: "next action",
  vs: "video summary",
  rc: "region caption",
  sa: "skill assessment",
  cvs: "critical view of safety",
  qa: "question answering",
};

// --- colours ------------------------------------------------------------------------------------------------------

// On a frame, whatever the theme. The dash tells them apart for those who tell no colours apart.
medgrpo.BOXES = {
  gold: { colour: "#ffb000", dash: [], text: "gold answer, drawn whole" },
  answer: { colour: "#4aa3ff", dash: [6, 3], text: "the model’s answer, drawn dashed" },
  asked: { colour: "#f58fd0", dash: [2, 4], text: "the region that is asked about, drawn dotted" },
};
medgrpo.colour = (name) => {
  const probe = medgrpo.el("span", { css: { color: `var(--${name})` } });
  document.body.append(probe);
  const found = getComputedStyle(probe).color;
  probe.remove();
  return found;
};
medgrpo.LINES = 8; // --c0 … --c7
medgrpo.DASHES = [[], [6, 3], [2, 3], [9, 3, 2, 3]];
// Colour and dash of the n-th of several lines: the dash tells apart those that share a colour.
medgrpo.lineStyle = (at) => ({
  variable: `c${at % medgrpo.LINES}`,
  dash: medgrpo.DASHES[Math.floor(at / medgrpo.LINES) % medgrpo.DASHES.length],
});
