// Copyright 2026 the MedGRPO-on-verl authors
// Licensed under the Apache License, Version 2.0; see the LICENSE file.

// What is shown stands in the address behind #, so that every view is a link: #rollouts?run=r0&at=12.3.
"use strict";

(() => {
  const { el } = medgrpo;
  const ORDER = ["overview", "training", "normalisation", "rollouts", "evaluation"];
  const main = () => document.getElementById("main");
  let opened = null; // [tab, run] whose elements stand in the page

  const state = { index: null, tab: "overview", params: new URLSearchParams() };
  medgrpo.state = state;

  function read() {
    const [, tab, query] = /^#?([^?]*)(.*)$/s.exec(location.hash);
    state.tab = ORDER.includes(tab) ? tab : "overview";
    state.params = new URLSearchParams(query);
  }

  // The address of the present view with some parameters changed; null takes one away.
  medgrpo.link = (changes, tab = state.tab) => {
    const kept = tab === state.tab ? state.params : new URLSearchParams(state.params.has("run") ? { run: state.params.get("run") } : {});
    const params = new URLSearchParams(kept);
    for (const [key, value] of Object.entries(changes)) {
      if (value == null || value === "") params.delete(key);
      else params.set(key, value);
    }
    const query = params.toString();
    return `#${tab}${query ? `?${query}` : ""}`;
  };

  // Show another view. `replace` leaves no entry in the browser's history: for filters and sliders.
  medgrpo.go = (changes, { tab, replace = false } = {}) => {
    const hash = medgrpo.link(changes, tab);
    if (hash === location.hash) return;
    if (replace) {
      history.replaceState(null, "", hash);
      read();
      // The focus first moves on from the field that was changed: what is drawn anew would hold it back.
      setTimeout(show);
    } else location.hash = hash;
  };

  // The address follows something that the page shows already, such as the frame of a clip.
  medgrpo.note = (changes) => {
    history.replaceState(null, "", medgrpo.link(changes));
    read();
  };

  medgrpo.run = () => state.index.runs.find((run) => run.id === state.params.get("run")) ?? state.index.runs[0];
  // The runs whose curves are drawn: the chosen one, and those laid over it.
  medgrpo.runsShown = () => {
    const over = (state.params.get("over") ?? "").split(",");
    return state.index.runs.filter((run) => run === medgrpo.run() || over.includes(run.id));
  };

  medgrpo.say = (text) => {
    document.getElementById("said").textContent = text;
  };

  medgrpo.failed = (error) => {
    return el("p.notice", { role: "alert" }, `This part could not be shown: ${error.message}.`);
  };

  let drawing = Promise.resolve();
  // When what was last asked for is drawn.
  medgrpo.drawn = () => drawing;

  function show() {
    drawing = draw();
    return drawing;
  }

  async function draw() {
    drawTabs();
    const tab = medgrpo.tabs[state.tab];
    const run = medgrpo.run();
    const key = `${state.tab} ${run.id}`;
    if (opened?.key !== key) {
      const panel = el("div", { class: `tab ${state.tab}` });
      opened = { key, panel, ready: null };
      main().replaceChildren(panel);
      window.scrollTo(0, 0);
      opened.ready = Promise.resolve(tab.open(panel, run));
    }
    const mine = opened;
    try {
      await mine.ready;
      // Another view may have been asked for meanwhile.
      if (opened === mine) await tab.show(mine.panel, run);
      medgrpo.refocus();
    } catch (error) {
      mine.panel.replaceChildren(el("h2", {}, tab.title), medgrpo.failed(error));
      if (opened === mine) opened = null;
    }
  }

  function drawTabs() {
    const links = ORDER.map((tab, at) =>
      el("a", { href: medgrpo.link({}, tab), "aria-current": tab === state.tab ? "page" : null, title: `key ${at + 1}` }, medgrpo.tabs[tab].title),
    );
    document.getElementById("tabs").replaceChildren(...links);
    document.title = `${medgrpo.tabs[state.tab].title} – ${state.index.title}`;
  }
  medgrpo.tabAt = (at) => {
    if (ORDER[at]) location.hash = medgrpo.link({}, ORDER[at]);
  };

  // --- head of the page ---------------------------------------------------------------------------------------------

  const THEMES = { system: "light dark", light: "light", dark: "dark" };
  const stored = () => {
    try {
      return localStorage.getItem("medgrpo-theme");
    } catch {
      return null; // a browser may refuse storage to a page from the file system
    }
  };

  medgrpo.setTheme = (name) => {
    document.documentElement.style.colorScheme = THEMES[name] ?? THEMES.system;
    document.documentElement.dataset.theme = name;
  };
  // All else has its colours from the style sheet.
  const recolour = () => {
    for (const chart of document.querySelectorAll(".chart")) chart.recolour();
  };
  medgrpo.nextTheme = () => {
    const names = Object.keys(THEMES);
    const name = names[(names.indexOf(document.documentElement.dataset.theme) + 1) % names.length];
    medgrpo.setTheme(name);
    try {
      localStorage.setItem("medgrpo-theme", name);
    } catch {
      // then it lasts as long as the page
    }
    drawTools();
    medgrpo.say(`colours: ${name}`);
    recolour();
  };

  function drawTools() {
    const { runs, live } = state.index;
    const tools = [];
    if (runs.length > 1) {
      const names = runs.map((run) => [run.id, run.name]);
      tools.push(medgrpo.field("Run", medgrpo.select(medgrpo.run().id, names, (run) => medgrpo.go({ run, at: null, answer: null, row: null }))));
    }
    const asked = state.params.get("run");
    if (asked && !runs.some((run) => run.id === asked)) tools.push(el("span.bad", {}, `There is no run ${asked.slice(0, 20)} here.`));
    if (live) tools.push(el("span.live", { id: "live" }, `live · step ${medgrpo.run().steps}`));
    const theme = document.documentElement.dataset.theme;
    tools.push(el("button", { type: "button", on: { click: medgrpo.nextTheme }, title: "key t" }, `Colours: ${theme}`));
    tools.push(el("button", { type: "button", "aria-label": "Keys and help", title: "key ?", on: { click: () => medgrpo.help() } }, "?"));
    document.getElementById("tools").replaceChildren(...tools);
    medgrpo.refocus();
  }

  // --- a run at work ------------------------------------------------------------------------------------------------

  // The server says that something is new; the index comes first, then what is open is drawn again.
  function watch() {
    const events = new EventSource("events");
    let busy = false;
    let latest = null;
    async function refresh(version) {
      latest = version;
      if (busy) return;
      busy = true;
      try {
        while (latest !== null) {
          const now = latest;
          latest = null;
          state.index = await medgrpo.get("index", `?v=${now}`);
          await medgrpo.tabs[state.tab].news?.(medgrpo.run(), now);
          state.version = now;
          drawTools();
        }
      } catch (error) {
        console.warn(error.message);
      } finally {
        busy = false;
      }
    }
    events.onmessage = (event) => refresh(JSON.parse(event.data).version);
  }

  // What a run at work adds to: asked for anew when the page's version has moved on since.
  const versions = new Map();
  medgrpo.current = async (name) => {
    const version = state.version ?? 0;
    if (version && versions.get(name) !== version) {
      medgrpo.keep(name, await medgrpo.get(name, `?v=${version}`));
      versions.set(name, version);
    }
    return medgrpo.get(name);
  };

  medgrpo.start = async () => {
    medgrpo.setTheme(stored() ?? "system");
    try {
      state.index = await medgrpo.get("index");
    } catch (error) {
      main().replaceChildren(medgrpo.failed(error));
      return;
    }
    document.getElementById("title").textContent = state.index.title;
    read();
    drawTools();
    window.addEventListener("hashchange", () => {
      if (location.hash === "#main") return;
      read();
      drawTools();
      show();
    });
    matchMedia("(prefers-color-scheme: dark)").addEventListener("change", recolour);
    // Paper is white, and nobody scrolls on it. A browser prints at once: only what is drawn here and now is on paper.
    window.addEventListener("beforeprint", () => {
      medgrpo.setTheme("light");
      for (const chart of document.querySelectorAll(".chart")) chart.draw();
      recolour();
    });
    window.addEventListener("afterprint", () => {
      medgrpo.setTheme(stored() ?? "system");
      recolour();
    });
    await show();
    if (state.index.live) watch();
  };
})();
