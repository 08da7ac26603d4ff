"use strict";
// What is in the page: an index of all samples, and each sample, decoded when it is looked at.

const index = JSON.parse(document.getElementById("index").textContent);
const rows = index.rows;
for (const row of rows) {
  row.maps.forEach((map, k) => (row.maps[k] = { name: index.maps[k], limit: map.scale, missing: 0, ...map }));
}
const KEPT = 24; // decoded samples
const decoded = new Map();

// A promise of sample `number`: {maps: [Float64Array], picture, tokens, values or lines, as the kind has it}.
function load(number) {
  const found = decoded.get(number) ?? decode(number);
  decoded.delete(number);
  decoded.set(number, found); // now the one that was used last
  if (decoded.size > KEPT) decoded.delete(decoded.keys().next().value);
  return found;
}

async function decode(number) {
  const sample = JSON.parse(document.getElementById("sample-" + number).textContent);
  const bytes = await inflate(sample.packed);
  const { shape, maps } = rows[number];
  const size = shape.reduce((product, length) => product * length, 1);
  const read = index.kind === "image" ? fromBytes : fromHalves;
  let start = 0;
  const take = (length, scale) => {
    const part = bytes.subarray(start, (start += length * read.width));
    return read(part, Number(scale));
  };
  sample.maps = maps.map((map) => take(size, map.scale));
  sample.lines = sample.lines?.map(([middle, scale]) => take(shape[0], scale).map((value) => middle + value));
  if (sample.image) {
    sample.picture = new Image();
    sample.picture.src = sample.image;
    await sample.picture.decode();
  }
  return sample;
}

async function inflate(text) {
  const bytes = Uint8Array.from(atob(text), (letter) => letter.charCodeAt(0));
  const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("deflate"));
  return new Uint8Array(await new Response(stream).arrayBuffer());
}

// A byte is a signed multiple of scale / levels; -128 is NaN, 127 and -127 are the infinities.
function fromBytes(bytes, scale) {
  return Float64Array.from(new Int8Array(bytes), (code) => {
    if (code === -128) return NaN;
    return Math.abs(code) === 127 ? Math.sign(code) * Infinity : (code / index.levels) * scale;
  });
}
fromBytes.width = 1;

// Halves of scale: all low bytes, then all high ones.
function fromHalves(bytes, scale) {
  const count = bytes.length / 2;
  return Float64Array.from({ length: count }, (_, i) => half(bytes[i] | (bytes[count + i] << 8)) * scale);
}
fromHalves.width = 2;

function half(bits) {
  const sign = bits >> 15 ? -1 : 1;
  const exponent = (bits >> 10) & 31;
  const fraction = bits & 1023;
  if (exponent === 31) return fraction ? NaN : sign * Infinity;
  return sign * (exponent ? 2 ** (exponent - 25) * (1024 + fraction) : 2 ** -24 * fraction);
}

// Numbers as text

function plain(value, digits = 4) {
  value = Number(value);
  if (!Number.isFinite(value)) return String(value).replace("Infinity", "\u221e").replace("-", "\u2212");
  return String(Number(value.toPrecision(digits))).replaceAll("-", "\u2212");
}

function signed(value) {
  return (Number(value) > 0 ? "+" : "") + plain(value);
}

function percent(value) {
  const tiny = value > 0 && value < 1e-4;
  return (tiny ? "< 0.01" : plain(100 * Number(value), 2)) + "\u202f%";
}

// Scores of classes are compared with one another: as many decimals for each, unless they are large.
function score(value) {
  return Math.abs(value) <= 1 ? Number(value).toFixed(3).replace("-", "\u2212") : plain(value);
}

// Elements; strings among the children become text, never markup.
function make(tag, properties, ...children) {
  const element = Object.assign(document.createElement(tag), properties);
  element.append(...children);
  return element;
}

// Text of the data: its direction is its own and leaves what stands beside it alone.
function data(text) {
  return make("bdi", { textContent: text });
}

function nameOf(map) {
  return map.class === null ? map.name : index.classes[map.class];
}
