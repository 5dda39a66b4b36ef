// Copyright 2026 the MedGRPO-on-verl authors
// Licensed under the Apache License, Version 2.0; see the LICENSE file.

// A row's clip: frames with the boxes of their times, a time line, gold and answered spans as bars.
"use strict";

(() => {
  const { el, seconds } = medgrpo;
  const STRIP = 112; // pixels that a frame of the strip takes with the gap after it
  const images = new Map();

  // A thumbnail's image when it is there, null when it cannot be read.
  function image(thumb) {
    if (!images.has(thumb)) {
      const picture = new Image();
      images.set(
        thumb,
        new Promise((resolve) => {
          picture.onload = () => resolve(picture);
          picture.onerror = () => resolve(null);
          picture.src = thumb;
        }),
      );
    }
    return images.get(thumb);
  }

  // Frames of a row. Without stored frames: the times at which somebody drew a box, without pictures.
  medgrpo.framesOf = (row, layers) => {
    if (row?.frames?.length) return row.frames;
    const times = layers.flatMap(({ said }) => (said?.boxes ?? []).map((box) => box.time));
    return [...new Set(times)].sort((one, other) => one - other).map((time) => ({ time, thumb: null }));
  };

  // The place of the frame on which a box of this time is drawn.
  medgrpo.nearestFrame = (frames, time) => {
    let best = 0;
    frames.forEach((frame, at) => {
      if (Math.abs(frame.time - time) < Math.abs(frames[best].time - time)) best = at;
    });
    return best;
  };

  // Boxes whose time is nearer to this frame than to any other. A time outside of the clip belongs to no frame.
  function boxesAt(said, frames, at) {
    const gap = frames.length > 1 ? Math.max(...frames.slice(1).map((frame, index) => frame.time - frames[index].time)) : Infinity;
    return (said?.boxes ?? []).filter(({ time }) => medgrpo.nearestFrame(frames, time) === at && Math.abs(frames[at].time - time) <= gap);
  }

  // One frame with the boxes of some layers on a canvas, as wide as it is shown or else `usual` pixels. Boxes are in
  // pixels of the row's canvas.
  medgrpo.drawFrame = async (canvas, row, frames, at, layers, usual) => {
    const width = canvas.clientWidth || usual;
    const frame = frames[at];
    const [wide, high] = [row.width || frame.w || 16, row.height || frame.h || 9];
    const height = Math.round((width * high) / wide);
    const dense = window.devicePixelRatio || 1;
    canvas.width = Math.round(width * dense);
    canvas.height = Math.round(height * dense);
    canvas.style.setProperty("aspect-ratio", `${wide} / ${high}`);
    const turn = (canvas.turn = (canvas.turn ?? 0) + 1);
    const picture = frame.thumb ? await image(frame.thumb) : null;
    if (canvas.turn !== turn) return; // it shows another frame by now
    const ink = canvas.getContext("2d");
    ink.setTransform(dense, 0, 0, dense, 0, 0);
    ink.fillStyle = "#22262b";
    ink.fillRect(0, 0, width, height);
    if (picture) ink.drawImage(picture, 0, 0, width, height);
    for (const { said, kind } of layers) {
      const { colour, dash } = medgrpo.BOXES[kind];
      for (const { box } of boxesAt(said, frames, at)) {
        const [left, top, right, bottom] = box.map((value, side) => (value / (side % 2 ? high : wide)) * (side % 2 ? height : width));
        ink.setLineDash([]);
        ink.strokeStyle = "rgba(0, 0, 0, 0.75)";
        ink.lineWidth = 4;
        ink.strokeRect(left, top, right - left, bottom - top);
        ink.strokeStyle = colour;
        ink.lineWidth = 2;
        ink.setLineDash(dash);
        ink.strokeRect(left, top, right - left, bottom - top);
      }
    }
  };

  // --- bars on the time line ---------------------------------------------------------------------------------------

  const stretches = (said) => [...(said?.spans ?? []).map(([start, end]) => ({ start, end })), ...(said?.events ?? [])];
  const timed = (said) => stretches(said).length > 0 || (said?.boxes?.length ?? 0) > 0;

  function bars(said, duration, kind) {
    const place = (time) => `${Math.max(0, Math.min(100, (time / duration) * 100))}%`;
    const spans = stretches(said).map(({ start, end, caption }) => {
      const width = Math.max(0, Math.min(duration, end) - Math.max(0, start)) / duration;
      const title = `${seconds(start)} to ${seconds(end)}${caption ? `: ${caption.slice(0, 300)}` : ""}`;
      return el("span", { class: `bar ${kind}`, title, css: { left: place(start), width: `${width * 100}%` } });
    });
    const points = (said?.boxes ?? []).map(({ time }) => el("span", { class: `point ${kind}`, title: `box at ${seconds(time)}`, css: { left: place(time) } }));
    return [spans, points];
  }

  // A lane of one layer's spans, events and boxes; null for one that says nothing of times.
  medgrpo.lane = (said, duration, kind) => (timed(said) && duration > 0 ? el("div", { class: "lane" }, bars(said, duration, kind)) : null);

  function ticks(duration) {
    const steps = [0.5, 1, 2, 5, 10, 15, 30, 60, 120, 300, 600];
    const step = steps.find((one) => duration / one <= 8) ?? Math.ceil(duration / 8);
    const times = [];
    for (let time = 0; time <= duration + 1e-6; time += step) times.push(time);
    return times.map((time) => el("span", { class: time / duration > 0.95 ? "tick end" : "tick", css: { left: `${(time / duration) * 100}%` } }, seconds(time)));
  }

  // --- the clip with its controls ----------------------------------------------------------------------------------

  // options: row, layers [{name, said, kind (of medgrpo.BOXES), marked, href}], frame (which is shown first), onFrame(at)
  medgrpo.clip = ({ row, layers, frame, onFrame }) => {
    const frames = medgrpo.framesOf(row, layers);
    const duration = row.duration || Math.max(1, ...frames.map(({ time }) => time));
    const shown = layers.filter(({ kind, marked }) => kind !== "answer" || marked);
    const boxed = shown.filter(({ said }) => said?.boxes?.length).map(({ kind }) => medgrpo.BOXES[kind].text);
    const canvas = el("canvas", { role: "img", "aria-label": "frame" });
    const strip = el("div.strip");
    const readout = el("output.readout");
    const slider = el("input", { type: "range", min: 0, max: Math.max(0, frames.length - 1), value: 0, "aria-label": "frame of the clip" });
    let at = Math.max(0, Math.min(frames.length - 1, frame ?? 0));
    let timer = null;

    const node = el("section.clip", { "aria-label": "clip" });

    function set(next, told = true) {
      at = Math.max(0, Math.min(frames.length - 1, next));
      slider.value = at;
      const time = frames[at].time;
      readout.textContent = `${seconds(time)} · frame ${at + 1} of ${frames.length}`;
      slider.setAttribute("aria-valuetext", readout.textContent);
      canvas.setAttribute("aria-label", `frame at ${seconds(time)}${boxed.length ? ` with boxes: ${boxed.join(", ")}` : ""}`);
      node.style.setProperty("--now", `${(time / duration) * 100}%`);
      medgrpo.drawFrame(canvas, row, frames, at, shown, 360);
      for (const one of strip.children) one.setAttribute("aria-current", String(Number(one.dataset.at) === at));
      if (told) onFrame?.(at);
    }

    const play = el("button", { type: "button" }, "Play");
    play.addEventListener("click", () => {
      const stop = () => {
        clearInterval(timer);
        timer = null;
        play.textContent = "Play";
      };
      if (timer) return stop();
      play.textContent = "Pause";
      timer = setInterval(() => {
        if (!canvas.isConnected) return stop();
        set((at + 1) % frames.length);
        return undefined;
      }, 500);
      return undefined;
    });
    slider.addEventListener("input", () => set(Number(slider.value)));

    // As many frames as the strip has room for, evenly over the clip.
    function fill() {
      const room = Math.max(2, Math.floor(((strip.clientWidth || 900) + 8) / STRIP));
      const many = Math.min(room, frames.length);
      const chosen = [...new Set(Array.from({ length: many }, (_, place) => Math.round((place * (frames.length - 1)) / Math.max(1, many - 1))))];
      strip.replaceChildren(
        ...chosen.map((place) => {
          const small = el("canvas", { "aria-hidden": true });
          medgrpo.drawFrame(small, row, frames, place, shown, 96);
          return el("button.frame", { type: "button", "data-at": place, "aria-label": `frame at ${seconds(frames[place].time)}`, on: { click: () => set(place) } }, small, el("span", {}, seconds(frames[place].time)));
        }),
      );
      set(at, false);
    }

    const lanes = layers.filter(({ said }) => timed(said));
    const line = lanes.length > 0 && el(
      "div.timeline",
      {},
      lanes.map(({ name, said, kind, marked, href }) => el("div", { class: `track ${marked ? "marked" : ""}` }, href ? el("a.who", { href }, name) : el("span.who", {}, name), medgrpo.lane(said, duration, kind))),
      el("div.track.axis", {}, el("span.who", {}, ""), el("div.lane.ticks", {}, ticks(duration))),
    );
    if (!frames.length) {
      node.append(...[line, el("p.quiet", {}, "No frames of this row are in the report.")].filter(Boolean));
      return { node, frames, set: () => {}, move: () => {}, at: () => 0 };
    }
    const stage = el("div.stage", {}, canvas, el("div.buttons", {}, play, slider, readout));
    node.append(stage, el("div.lines", {}, strip, line));
    new ResizeObserver(() => node.isConnected && fill()).observe(strip);
    set(at, false);
    return { node, frames, set, move: (by) => set(at + by), at: () => at };
  };
})();
