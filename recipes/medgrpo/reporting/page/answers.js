// Copyright 2026 the MedGRPO-on-verl authors
// Licensed under the Apache License, Version 2.0; see the LICENSE file.

// All rollouts of a run as columns of numbers: filtering and sorting tens of thousands takes milliseconds.
"use strict";

(() => {
  medgrpo.FLAGS = { 1: "cut at its budget", 2: "attack found", 4: "parse error", 8: "judge refused" };
  const INTEGERS = ["step", "group", "pair", "row", "tokens", "flags"];
  const REALS = ["reward", "format", "acc", "advantage"];

  // Column name, direction (+1: small values first).
  medgrpo.SORTS = {
    step: ["in order of training", null, 0],
    newest: ["newest step first", "step", -1],
    "advantage-high": ["highest advantage first", "advantage", -1],
    "advantage-low": ["lowest advantage first", "advantage", 1],
    "reward-high": ["highest reward first", "reward", -1],
    "reward-low": ["lowest reward first", "reward", 1],
    long: ["longest first", "tokens", -1],
  };

  class Answers {
    constructor({ columns, texts }) {
      this.texts = { ...texts };
      this.take(columns);
    }

    take(columns) {
      this.size = columns.step.length;
      for (const name of INTEGERS) this[name] = Int32Array.from(columns[name] ?? new Array(this.size).fill(0), (value) => value ?? -1);
      for (const name of REALS) this[name] = Float64Array.from(columns[name] ?? new Array(this.size).fill(NaN), (value) => value ?? NaN);
      // Which of its step an answer is: that is its place in the file of the step's texts.
      this.place = new Int32Array(this.size);
      this.groupOf = new Int32Array(this.size);
      this.groups = [];
      const counts = new Map();
      const numbers = new Map();
      for (let at = 0; at < this.size; at++) {
        const step = this.step[at];
        this.place[at] = counts.get(step) ?? 0;
        counts.set(step, this.place[at] + 1);
        const key = `${step}.${this.group[at]}`;
        let number = numbers.get(key);
        if (number === undefined) {
          number = this.groups.length;
          numbers.set(key, number);
          this.groups.push({ key, number, step, pair: this.pair[at], row: this.row[at], members: [] });
        }
        this.groupOf[at] = number;
        this.groups[number].members.push(at);
      }
      this.byKey = numbers;
    }

    // Steps of a run at work: everything from a step on is replaced by what came.
    append({ from, columns, texts }) {
      Object.assign(this.texts, texts);
      const kept = [];
      for (let at = 0; at < this.size; at++) if (this.step[at] < from) kept.push(at);
      const joined = {};
      for (const name of [...INTEGERS, ...REALS]) joined[name] = [...kept.map((at) => this[name][at]), ...(columns[name] ?? [])];
      this.take(joined);
    }

    lastStep() {
      return this.size ? this.step.reduce((most, step) => Math.max(most, step), 0) : 0;
    }

    find(key) {
      const number = this.byKey.get(key);
      return number === undefined ? null : this.groups[number];
    }

    // Indices of the answers that a filter lets through. Every part of the filter may be absent.
    filter({ from, to, pairs, low, high, format, flag, row }) {
      const found = new Int32Array(this.size);
      let size = 0;
      for (let at = 0; at < this.size; at++) {
        if (from != null && this.step[at] < from) continue;
        if (to != null && this.step[at] > to) continue;
        if (pairs && !pairs.has(this.pair[at])) continue;
        if (row != null && this.row[at] !== row) continue;
        if (low != null && !(this.reward[at] >= low)) continue;
        if (high != null && !(this.reward[at] <= high)) continue;
        if (format === "none" ? this.format[at] !== 0 : format === "part" ? !(this.format[at] > 0 && this.format[at] < 1) : format === "full" && this.format[at] !== 1) continue;
        if (flag && !(this.flags[at] & flag)) continue;
        found[size++] = at;
      }
      return found.subarray(0, size);
    }

    // The same indices in another order; equal values keep theirs. Unknown values come last.
    sort(indices, order) {
      const [, name, way] = medgrpo.SORTS[order] ?? medgrpo.SORTS.step;
      if (!name) return indices;
      const column = this[name];
      const rank = (at) => (Number.isNaN(column[at]) ? Infinity : column[at] * way);
      return Int32Array.from(indices).sort((one, other) => {
        const [here, there] = [rank(one), rank(other)];
        return here === there ? one - other : here - there;
      });
    }

    // Groups of some answers, each once, in the order in which its first answer comes.
    groupsOf(indices) {
      const seen = new Uint8Array(this.groups.length);
      const found = [];
      for (const at of indices) {
        const number = this.groupOf[at];
        if (seen[number]) continue;
        seen[number] = 1;
        found.push(number);
      }
      return found;
    }

    flagsOf(at) {
      return Object.entries(medgrpo.FLAGS).filter(([bit]) => this.flags[at] & bit).map(([, text]) => text);
    }

    // What an answer said, by its index; null where the run has no texts of that step.
    async said(at) {
      const name = this.texts[this.step[at]];
      if (!name) return null;
      return (await medgrpo.get(name)).answers[this.place[at]] ?? null;
    }
  }
  medgrpo.Answers = Answers;
})();
