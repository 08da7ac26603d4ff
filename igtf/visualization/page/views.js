// How a map of a sample is drawn, kind by kind: VIEWS[kind](number, sample, k, small) returns an element.

const look = {
  strength: 1, threshold: 0, sign: "both", scale: "sample", together: false, grey: true, sorted: true,
};
const VIEWS = { image: imageView, text: textView, table: tableView, series: seriesView };
const ARROWS = { ArrowLeft: [0, -1], ArrowRight: [0, 1], ArrowUp: [-1, 0], ArrowDown: [1, 0] };
const [FOR, AGAINST, MISSING] = ["for", "against", "missing"].map((name) =>
  getComputedStyle(document.documentElement).getPropertyValue("--" + name).split(",").map(Number)
);
const largestOf = (maps) => maps.reduce((most, map) => Math.max(most, Number(map.limit)), 0);
const largest = rows.reduce((most, row) => Math.max(most, largestOf(row.maps)), 0);

// The value at which colours are full when strength is 1.
function limitOf(row, map) {
  return { page: largest, sample: largestOf(row.maps), map: Number(map.limit) }[look.scale];
}

// How much of the colour a value gets, 0 to 1.
function opacity(value, limit) {
  if (!Number.isFinite(value)) return 1;
  const size = Math.abs(value) / limit;
  const hidden = { both: false, plus: value < 0, minus: value > 0 }[look.sign] || 100 * size < look.threshold;
  return hidden ? 0 : Math.min(1, size * look.strength);
}

function colour(value) {
  return Number.isFinite(value) ? (value > 0 ? FOR : AGAINST) : MISSING;
}

// Images

function imageView(number, sample, k, small) {
  const row = rows[number];
  const [height, width] = row.shape;
  const canvas = make("canvas", { width, height, className: width < (small ? 100 : 400) ? "large" : "" });
  const context = canvas.getContext("2d");
  context.drawImage(sample.picture, 0, 0, width, height);
  if (look.grey) {
    context.globalCompositeOperation = "saturation";
    context.fillStyle = "#000";
    context.fillRect(0, 0, width, height);
    context.globalCompositeOperation = "source-over";
    context.fillStyle = "rgba(255, 255, 255, 0.4)";
    context.fillRect(0, 0, width, height);
  }
  context.drawImage(overlay(sample.maps[k], limitOf(row, row.maps[k]), width, height), 0, 0);
  if (small) return canvas;
  return probed(described(canvas, number, sample, k), [height, width], (place) =>
    tell(number, sample, k, `row ${place[0]}, column ${place[1]}`, place[0] * width + place[1])
  );
}

function overlay(values, limit, width, height) {
  const canvas = make("canvas", { width, height });
  const context = canvas.getContext("2d");
  const pixels = context.createImageData(width, height);
  values.forEach((value, i) => {
    pixels.data.set([...colour(value), 255 * opacity(value, limit)], 4 * i);
  });
  context.putImageData(pixels, 0, 0);
  return canvas;
}

// Words, each with its value below it

function textView(number, sample, k, small) {
  const row = rows[number];
  const limit = limitOf(row, row.maps[k]);
  const tokens = small ? sample.tokens.slice(0, 16) : sample.tokens;
  const words = tokens.map((token, i) => {
    const value = sample.maps[k][i];
    const word = make("span", { className: "word" }, data(token.replace(/\n/g, "\u21b5").replace(/\t/g, "\u2192")));
    if (!small) word.append(make("small", { textContent: shown(value, row.maps[k]), dir: "ltr" }));
    const share = opacity(value, limit);
    word.style.background = `rgba(${colour(value)}, ${share})`;
    word.classList.toggle("missing", !Number.isFinite(value));
    word.classList.toggle("strong", share > 0.7 || !matchMedia("(prefers-color-scheme: dark)").matches);
    return word;
  });
  if (tokens.length < sample.tokens.length) words.push("\u2026");
  return make("div", { className: "words", dir: direction(sample.tokens) }, ...words);
}

// That of the first letter, as in a paragraph of text.
function direction(tokens) {
  const [letter] = tokens.join(" ").match(/\p{L}/u) ?? [""];
  return /[\p{Script=Hebrew}\p{Script=Arabic}\p{Script=Syriac}\p{Script=Thaana}\p{Script=Nko}]/u.test(letter) ? "rtl" : "ltr";
}

// Bars of a table's columns

function tableView(number, sample, k, small) {
  const row = rows[number];
  const limit = limitOf(row, row.maps[k]);
  const values = sample.maps[k];
  let order = [...values.keys()];
  const size = (i) => (Number.isNaN(values[i]) ? Infinity : Math.abs(values[i]));
  if (look.sorted || small) order.sort((a, b) => (size(a) === size(b) ? a - b : size(b) - size(a)));
  if (small) order = order.slice(0, 4);
  const lines = order.map((i) => {
    const share = opacity(values[i], limit);
    const line = make("tr", { className: share || !values[i] ? "" : "faint" });
    line.append(make("th", { scope: "row" }, data(featureName(i, "column"))));
    if (!small) {
      const cell = sample.values[i];
      line.append(make("td", {}, data(typeof cell === "number" ? plain(cell, 6) : cell)));
    }
    line.append(make("td", { className: "bar" }, bar(values[i], share)));
    const missing = Number.isFinite(values[i]) ? "" : "missing";
    line.append(make("td", { className: missing, textContent: shown(values[i], row.maps[k]) }));
    return line;
  });
  const body = make("tbody", {}, ...lines);
  if (small) return make("table", { className: "bars" }, body);
  const heads = ["column", "value", "against | for", "attribution"].map((textContent) => make("th", { textContent }));
  return make("table", { className: "bars" }, make("thead", {}, make("tr", {}, ...heads)), body);
}

function bar(value, share) {
  const line = make("i", {});
  line.style.background = `rgb(${colour(value)})`;
  line.style.width = `${Number.isFinite(value) ? 50 * share : 0}%`;
  line.style.left = `${value < 0 ? 50 - 50 * share : 50}%`;
  return make("div", {}, line);
}

function featureName(i, what) {
  return index.features?.[i] ?? `${what} ${i}`;
}

// Lines of a series on the colours of its map, a picture for each channel

function seriesView(number, sample, k, small) {
  const lines = small ? sample.lines.slice(0, 2) : sample.lines;
  const channels = sample.lines.length;
  return make("div", {}, ...lines.map((line, channel) => {
    const values = sample.maps[k].filter((_, i) => i % channels === channel);
    const canvas = seriesCanvas(number, line, values, k, small);
    if (small) return canvas;
    const named = channels > 1 || index.features ? featureName(channel, "channel") : "";
    const frame = probed(described(canvas, number, sample, k, named), [1, line.length], ([, step]) =>
      [`value ${plain(line[step])}, `, ...tell(number, sample, k, `step ${step} ${named}`, step * channels + channel)]
    );
    return make("div", {}, make("div", {}, data(named)), frame);
  }));
}

function seriesCanvas(number, line, values, k, small) {
  const [width, height] = small ? [300, 60] : [1200, 220];
  const canvas = make("canvas", { width, height });
  const context = canvas.getContext("2d");
  const limit = limitOf(rows[number], rows[number].maps[k]);
  const step = width / line.length;
  values.forEach((value, i) => {
    context.fillStyle = `rgba(${colour(value)}, ${opacity(value, limit)})`;
    context.fillRect(i * step, 0, Math.max(step, 1), height);
  });
  const finite = line.filter(Number.isFinite);
  const low = finite.reduce((a, b) => Math.min(a, b), Infinity);
  const high = finite.reduce((a, b) => Math.max(a, b), -Infinity);
  const level = (value) => height * (0.92 - (high > low ? (0.84 * (value - low)) / (high - low) : 0.42));
  context.strokeStyle = getComputedStyle(document.body).color;
  context.lineWidth = small ? 1.5 : 3;
  context.beginPath();
  line.forEach((value, i) => {
    const follows = i && Number.isFinite(line[i - 1]); // a line breaks where a value is missing
    if (!Number.isFinite(value)) return;
    if (!follows) context.moveTo(i * step, level(value));
    context.lineTo((i + 0.5) * step, level(value));
    if (i === line.length - 1) context.lineTo(width, level(value));
  });
  context.stroke();
  return canvas;
}

// What pictures say: a text in their place, and values under the pointer

function described(canvas, number, sample, k, channel = "") {
  const { shape, maps } = rows[number];
  const map = maps[k];
  const finite = Array.from(sample.maps[k], (value) => (Number.isFinite(value) ? Math.abs(value) : -1));
  const strongest = finite.reduce((best, size, i) => (size > finite[best] ? i : best), 0);
  const width = shape[1] ?? 1;
  const where = index.kind === "image" ? `row ${Math.floor(strongest / width)}, column ${strongest % width}`
    : `step ${Math.floor(strongest / width)}`;
  canvas.setAttribute("role", "img");
  canvas.setAttribute("aria-label", `Map of ${nameOf(map)} ${channel}: sum ${signed(map.sum)}, for ` +
    `${signed(map.plus)}, against ${signed(map.minus)}, strongest at ${where}: ${signed(sample.maps[k][strongest])}`);
  return canvas;
}

// The canvas in a frame, with a mark at the place that the pointer or the arrows chose.
function probed(canvas, [height, width], say) {
  const mark = make("i", { className: "mark", hidden: true });
  const frame = make("div", { className: "frame" }, canvas, mark);
  let place = [Math.floor(height / 2), Math.floor(width / 2)];
  const inside = (value, length) => Math.max(0, Math.min(length - 1, value));
  const show = (row, column) => {
    place = [inside(row, height), inside(column, width)];
    mark.hidden = false;
    mark.style.left = `${(100 * (place[1] + 0.5)) / width}%`;
    mark.style.top = `${(100 * (place[0] + 0.5)) / height}%`;
    document.getElementById("readout").replaceChildren(...say(place));
  };
  const point = (event) => {
    const box = canvas.getBoundingClientRect();
    show(Math.floor(((event.clientY - box.top) / box.height) * height),
      Math.floor(((event.clientX - box.left) / box.width) * width));
  };
  canvas.tabIndex = 0;
  canvas.addEventListener("pointermove", point);
  canvas.addEventListener("pointerdown", point);
  canvas.addEventListener("keydown", (event) => {
    const step = ARROWS[event.key];
    if (!step || event.ctrlKey || event.metaKey || event.altKey) return;
    event.preventDefault();
    event.stopPropagation(); // or the next sample would come
    show(place[0] + step[0], place[1] + step[1]);
  });
  return frame;
}

// The value of the map at a place, of all maps when they are side by side.
function tell(number, sample, k, where, place) {
  const { maps } = rows[number];
  const among = look.together ? [...maps.keys()] : [k];
  const values = among.flatMap((i) => {
    const name = look.together ? [", ", data(nameOf(maps[i]))] : [];
    return [...name, ` ${shown(sample.maps[i][place], maps[i])}`];
  });
  return [`${where}:`, ...values];
}

// A value as it is known: of bytes with what it may be off by, of halves in the fewest digits that tell it from others.
function shown(value, map) {
  if (!value || !Number.isFinite(value)) return signed(value);
  if (index.kind === "image") {
    const off = Number(map.scale) / index.levels / 2 + Math.abs(value) / 2000; // in 8 bits, and in four digits
    return `${signed(value)} \u00b1 ${plain(1.05 * off, 2)}`;
  }
  const half = 2 ** (Math.floor(Math.log2(Math.abs(value / map.scale))) - 11) * map.scale;
  const digits = [1, 2, 3, 4, 5, 6].find((count) => Math.abs(Number(value.toPrecision(count)) - value) <= half) ?? 6;
  return (value > 0 ? "+" : "") + plain(value, digits);
}
