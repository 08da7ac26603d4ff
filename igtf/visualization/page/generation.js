"use strict";
const given = JSON.parse(document.getElementById("index").textContent);
const { prompt, continuation, scores, outputs, rivals, label } = given;
const at = (id) => document.getElementById(id);
const size = (values) => Math.max(0, ...values.filter((v) => Number.isFinite(v)).map(Math.abs));
const signed = (v) => (Number.isFinite(v) ? (v > 0 ? "+" : "") + Number(v.toPrecision(3)) : String(v)).replace("-", "\u2212");
const rows = scores.map((row) => row.map(Number));
const largest = size(rows.flat());
let chosen = { kind: "whole", place: 0 };

function button(text, kind, place) {
  const made = document.createElement("button");
  made.type = "button";
  made.textContent = text.replaceAll("\n", "\u21b5").replaceAll("\t", "\u2192");
  made.dir = "auto"; // each by itself: bytes among words from right to left
  made.setAttribute("aria-pressed", "false");
  made.addEventListener("click", () => choose(kind, place));
  return made;
}

const tokens = {
  prompt: prompt.map((text, place) => button(text, "prompt", place)),
  answer: continuation.map((text, place) => button(text, "answer", place)),
};
for (const [id, buttons] of Object.entries(tokens)) {
  for (const one of buttons) at(id).append(one, " ");
}
at("title").textContent = given.title;

// Values for all words, those of the prompt first: null where there is none.
function valuesOf({ kind, place }) {
  const width = prompt.length + continuation.length;
  const full = (row) => Array.from({ length: width }, (_, i) => (i < row.length ? row[i] : null));
  if (kind === "answer") {
    return full(rows[place]).map((v, i) => (i - prompt.length >= place ? null : v));
  }
  if (kind === "prompt") {
    return Array.from({ length: width }, (_, i) => (i < prompt.length ? null : rows[i - prompt.length][place]));
  }
  const sums = rows[0].map((_, i) => rows.reduce((sum, row) => sum + row[i], 0));
  return full(sums).map((v, i) => (i < prompt.length ? v : null));
}

function choose(kind, place) {
  chosen = { kind, place };
  const values = valuesOf(chosen);
  const limit = (at("alike").checked && kind !== "whole" ? largest : size(values.filter((v) => v !== null))) || 1;
  [...tokens.prompt, ...tokens.answer].forEach((one, i) => {
    const value = values[i];
    const part = Number.isFinite(value) ? Math.min(1, Math.abs(value) / limit) : 1;
    const colour = Number.isFinite(value) ? (value > 0 ? "--for" : "--against") : "--missing";
    one.style.background = value === null ? "" : `rgba(var(${colour}), ${(0.85 * part).toFixed(3)})`;
    one.title = value === null ? "" : signed(value);
    one.setAttribute("aria-pressed", String(kind === (i < prompt.length ? "prompt" : "answer")
      && place === (i < prompt.length ? i : i - prompt.length)));
  });
  at("whole").setAttribute("aria-pressed", String(kind === "whole"));
  read(values);
  at("legend").replaceChildren(signed(-limit), scale(), signed(limit), ` ${label}`);
}

function scale() {
  const bar = document.createElement("span");
  bar.style.background = "linear-gradient(to right, rgba(var(--against), 0.85), transparent, rgba(var(--for), 0.85))";
  return bar;
}

// What is chosen in words: how large, and due to what above all.
function read(values) {
  const { kind, place } = chosen;
  const names = [...prompt, ...continuation];
  const order = values.map((v, i) => [v, i]).filter(([v]) => v !== null && Number.isFinite(v) && v !== 0);
  order.sort(([a], [b]) => Math.abs(b) - Math.abs(a));
  const first = order.slice(0, 4).map(([v, i]) => `\u2068${names[i]}\u2069 ${signed(v)}`).join(", ");
  const name = document.createElement("b");
  name.textContent = kind === "whole" ? "Whole continuation" : (kind === "prompt" ? prompt : continuation)[place];
  const facts = [];
  if (kind === "answer") {
    if (rivals) facts.push(`and not ${rivals[place]}`);
    if (outputs) facts.push(`${label} ${signed(Number(outputs[place]))}`);
    const part = (from, to) => values.slice(from, to).reduce((sum, v) => sum + (v || 0), 0);
    facts.push(`due to the prompt ${signed(part(0, prompt.length))}`);
    if (place && rows[place].length > prompt.length) {
      facts.push(`to what was said before ${signed(part(prompt.length))}`);
    }
  }
  const most = first ? `${kind === "prompt" ? "Speaks most for or against" : "Most of it"}: ${first}.` : "";
  at("readout").replaceChildren(name, `${facts.length ? ": " + facts.join(", ") : ""}. ${most}`);
}

at("whole").addEventListener("click", () => choose("whole", 0));
at("alike").addEventListener("change", () => choose(chosen.kind, chosen.place));
document.addEventListener("keydown", (event) => {
  const step = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
  if (!step || event.altKey || event.ctrlKey || event.metaKey) return;
  const kind = chosen.kind === "prompt" ? "prompt" : "answer";
  const count = tokens[kind].length;
  const next = chosen.kind === "whole" ? (step > 0 ? 0 : count - 1) : (chosen.place + step + count) % count;
  choose(kind, next);
  tokens[kind][next].focus();
  event.preventDefault();
});
choose("whole", 0);
