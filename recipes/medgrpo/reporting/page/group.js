// Copyright 2026 the MedGRPO-on-verl authors
// Licensed under the Apache License, Version 2.0; see the LICENSE file.

// Answers to one row side by side: what each said, what it earned and for what, what the judge thought of it.
"use strict";

(() => {
  const { el, number, signed, seconds } = medgrpo;
  const SHORT = 1200;
  const SMALL = 200; // pixels that a card's frame is drawn with

  // Text of any length: its beginning, and the rest when somebody asks for it.
  medgrpo.longText = (text, className = "text") => {
    if (text == null) return el("p.quiet", {}, "The text was not recorded.");
    const box = el("div", { class: className, dir: "auto" }, text.slice(0, SHORT));
    if (text.length <= SHORT) return text ? box : el("p.quiet", {}, "(nothing)");
    const all = () => {
      box.textContent = text;
      box.classList.add("long");
      box.tabIndex = 0;
      more.remove();
    };
    const more = el("button", { type: "button", on: { click: all } }, `Show all ${medgrpo.count(text.length)} characters`);
    return el("div", {}, box, more);
  };

  const same = (one, other) => String(one).trim().toLowerCase() === String(other).trim().toLowerCase();

  function scores(said, gold) {
    const names = [...new Set([...Object.keys(gold?.scores ?? {}), ...Object.keys(said?.scores ?? {})])];
    const mine = (name) => said?.scores?.[name];
    const goldOf = (name) => gold?.scores?.[name];
    const rows = names.map((name) => [name.replaceAll("_", " "), String(mine(name) ?? "–"), String(goldOf(name) ?? "–"), mine(name) === goldOf(name) ? "=" : mine(name) == null || goldOf(name) == null ? "" : signed(mine(name) - goldOf(name), 0)]);
    return medgrpo.table("Scores, answered and gold", ["", "said", "gold", ""], rows, "compact");
  }

  // What was read from an answer, in words.
  medgrpo.saidText = (said, gold) => {
    const parts = [];
    if (said?.label != null) parts.push(el("p", {}, el("strong", { dir: "auto" }, said.label), gold?.label != null && el("span.quiet", {}, same(said.label, gold.label) ? " = gold" : ` ≠ gold: ${gold.label}`)));
    if (said?.spans) parts.push(el("p", {}, said.spans.length ? said.spans.map(([start, end]) => `${seconds(start)} – ${seconds(end)}`).join(", ") : "no span"));
    if (said?.boxes) parts.push(el("p", {}, said.boxes.length ? `${said.boxes.length} ${said.boxes.length === 1 ? "box" : "boxes"}, ${seconds(said.boxes[0].time)} to ${seconds(said.boxes.at(-1).time)}` : "no box"));
    if (said?.scores) parts.push(scores(said, gold));
    if (said?.events) parts.push(el("ol.events", {}, said.events.slice(0, 50).map(({ start, end, caption }) => el("li", {}, el("span.when", {}, `${seconds(start)} – ${seconds(end)}`), " ", el("span", { dir: "auto" }, (caption ?? "").slice(0, SHORT))))));
    return parts;
  };

  const markText = (mark) => (Number.isInteger(mark) ? String(mark) : number(mark, 1));
  const pips = (mark) => el("span.pips", { role: "img", "aria-label": `${markText(mark)} of 5` }, [1, 2, 3, 4, 5].map((one) => el("span", { class: one <= Math.round(mark) ? "on" : "off" })));

  function judged(judge, title) {
    if (!judge) return null;
    const marks = Object.entries(judge.marks ?? {}).map(([name, mark]) => el("li", {}, el("span", {}, name.replaceAll("_", " ")), pips(mark), el("span.mark", {}, markText(mark))));
    return el("section.judge", { "aria-label": `judge of ${title}` }, el("h4", {}, "Judge"), el("ul", {}, marks), judge.reason && medgrpo.longText(judge.reason, "reason"));
  }

  function signals(raw, normalised) {
    const names = Object.keys(raw ?? {});
    if (!names.length) return null;
    const bar = (value, kind) => (value == null ? "–" : [medgrpo.shareBar(value, kind), number(value)]);
    const columns = Object.keys(normalised ?? {}).length ? ["raw", "normalised"] : ["raw"];
    const rows = names.map((name) => [name.replaceAll("_", " "), ...[raw, normalised].slice(0, columns.length).map((values, at) => bar(values[name], columns[at]))]);
    return medgrpo.table("Signals", ["signal", ...columns], rows, "compact signals");
  }

  // options: id, title, href, marked, reward, advantage, limit (of the advantages' bars), acc, format, tokens, flags,
  //          answer (as recorded, or null), row, frames
  medgrpo.answerCard = (options) => {
    const { title, href, marked, answer, row, frames, limit } = options;
    const gold = row?.gold;
    const layers = [{ said: gold, kind: "gold" }, { said: answer?.said, kind: "answer" }];
    const boxed = frames?.length > 0 && (gold?.boxes?.length || answer?.said?.boxes?.length);
    const canvas = boxed ? el("canvas.boxes", { role: "img", "aria-label": `${title}: boxes on the frame, gold whole, the answer dashed` }) : null;
    const figures = [];
    if (options.reward != null) figures.push(["reward", [medgrpo.shareBar(options.reward, "reward"), el("strong", {}, number(options.reward))]]);
    if (options.advantage != null && !Number.isNaN(options.advantage)) figures.push(["advantage", [medgrpo.divergingBar(options.advantage, limit), el("strong", {}, signed(options.advantage, 2))]]);
    if (options.acc != null) figures.push(["accuracy", number(options.acc)]);
    if (options.format != null) figures.push(["format", number(options.format, 1)]);
    if (options.tokens != null && options.tokens >= 0) figures.push(["tokens", medgrpo.count(options.tokens)]);
    const node = el(
      "article",
      { class: `answer ${marked ? "marked" : ""}`, id: options.id },
      el("h3", {}, href ? el("a", { href, "aria-current": marked ? "true" : null }, title) : title),
      el("dl.earned", {}, figures.map(([name, value]) => el("div", {}, el("dt", {}, name), el("dd", {}, value)))),
      options.flags?.length > 0 && el("ul.flags", {}, options.flags.map((flag) => el("li", {}, flag))),
      answer?.error && el("p.error", { dir: "auto" }, answer.error.slice(0, SHORT)),
      canvas,
      row?.duration > 0 && (medgrpo.lane(gold, row.duration, "gold") || medgrpo.lane(answer?.said, row.duration, "answer")) && el("div.lanes", { "aria-hidden": true }, medgrpo.lane(gold, row.duration, "gold"), medgrpo.lane(answer?.said, row.duration, "answer") ?? el("div.lane")),
      answer ? [medgrpo.saidText(answer.said, gold), el("h4", {}, "As written"), medgrpo.longText(answer.text), signals(answer.raw, answer.normalised), judged(answer.judge, title)] : el("p.quiet", {}, "What was answered was not recorded."),
    );
    // The frame that the clip shows, with this answer's own boxes.
    node.frame = (at) => canvas && medgrpo.drawFrame(canvas, row, frames, at, layers, SMALL);
    return node;
  };

  // Question and gold answer of a row.
  medgrpo.rowHead = (row, at) => {
    if (!row) return el("p.quiet", {}, "This row is not in the report: only a set number of rows a pair is kept.");
    const facts = [`${medgrpo.seconds(row.duration ?? 0)}`, row.frames?.length ? `${row.frames.length} frames` : null, row.fps ? `${medgrpo.short(row.fps)} a second` : null, row.width ? `${row.width} × ${row.height}` : null];
    return el(
      "section.question",
      { "aria-label": "question and gold answer" },
      el("p.quiet", {}, `row ${at} · ${row.file} ${row.index} · ${facts.filter(Boolean).join(", ")}`),
      el("dl", {}, el("div", {}, el("dt", {}, "Question"), el("dd", {}, medgrpo.longText(row.question, "text"))), el("div.gold", {}, el("dt", {}, "Gold answer"), el("dd", {}, medgrpo.longText(row.gold_text)))),
    );
  };

  medgrpo.boxKey = (row) => el("ul.key", {}, Object.entries(medgrpo.BOXES).map(([kind, { text }]) => (kind !== "asked" || row?.asked?.boxes) && el("li", {}, el("span", { class: `swatch ${kind}` }), text)));

  // What belongs to a row's clip whatever was answered: the region that is asked about, and the gold answer.
  medgrpo.given = (row) => [{ name: "asked", said: row?.asked, kind: "asked" }, { name: "gold", said: row?.gold, kind: "gold" }];

  // A clip with cards that follow it. options: row, cards [as answerCard's], layers, frame, onFrame
  medgrpo.sideBySide = ({ row, cards, frame, onFrame }) => {
    const layers = [...medgrpo.given(row), ...cards.map(({ short, answer, marked, href }) => ({ name: short, said: answer?.said, kind: "answer", marked, href }))];
    const frames = row ? medgrpo.framesOf(row, layers) : [];
    const nodes = cards.map((card) => medgrpo.answerCard({ ...card, row, frames }));
    const follow = (at) => {
      nodes.forEach((one) => one.frame(at));
      node.style.setProperty("--now", `${(frames[at].time / (row.duration || 1)) * 100}%`);
    };
    const node = el("div.sidebyside");
    const clip = row && medgrpo.clip({ row, layers, frame: frame ?? firstBox(row, frames), onFrame: (at) => (follow(at), onFrame?.(at)) });
    // Drawn again as wide as it is shown, as soon as that is known.
    if (frames.length) new ResizeObserver(() => follow(clip.at())).observe(node);
    if (clip) node.append(clip.node);
    node.append(el("div.answers", {}, nodes));
    return { clip, node };
  };

  // The frame on which the region that is asked about or the gold answer has its first box, or the gold answer begins.
  function firstBox(row, frames) {
    const box = row.asked?.boxes?.[0] ?? row.gold?.boxes?.[0];
    if (box) return medgrpo.nearestFrame(frames, box.time);
    const time = row.gold?.spans?.[0]?.[0] ?? 0;
    const at = frames.findIndex((frame) => frame.time >= time - 1e-6);
    return at < 0 ? 0 : at;
  }
})();
