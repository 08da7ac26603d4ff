// The gallery, one sample, and what the controls and keys do.

const $ = (id) => document.getElementById(id);
const state = { shown: rows.map((_, number) => number), current: null, map: 0 };
const has = {
  classes: index.classes !== null,
  truth: rows.some((row) => row.truth !== null),
  guess: rows.some((row) => row.guess !== null),
  sure: rows.some((row) => row.sure !== null),
  error: rows.some((row) => row.maps.some((map) => "error" in map)),
  change: rows.some((row) => row.maps.some((map) => "delta" in map)),
  several: rows[0].maps.length > 1,
  [index.kind]: true,
};
const sureName = has.classes ? "confidence" : "prediction";

const labelOf = (number) => rows[number].label || `Sample ${index.first + number}`;
const isWrong = (row) => has.classes && row.truth !== null && row.guess !== null && row.truth !== row.guess;
const outcome = (value) => (has.classes ? data(index.classes[value]) : plain(value));
const chosen = (row) => Math.max(0, row.maps.findIndex((map) => map.class !== null && map.class === row.guess));
const errorOf = (row) => Number(row.maps[chosen(row)].error ?? NaN);

// Gallery

const up = (value) => (a, b) => {
  const [x, y] = [value(rows[a]), value(rows[b])];
  return Number.isNaN(x) || Number.isNaN(y) ? Number.isNaN(x) - Number.isNaN(y) || a - b : x - y || a - b;
};
const asNumber = (value) => (value === null ? NaN : Number(value));
const ORDERS = [
  ["order given", [], (a, b) => a - b],
  [`least ${sureName} first`, ["sure"], up((row) => asNumber(row.sure))],
  [`most ${sureName} first`, ["sure"], up((row) => -asNumber(row.sure))],
  ["wrong first", ["truth", "guess", "classes"], up((row) => (isWrong(row) ? 0 : 1))],
  ["truth", ["truth"], up((row) => asNumber(row.truth))],
  ["prediction class", ["guess", "classes"], up((row) => asNumber(row.guess))],
  ["largest error first", ["error"], up((row) => -errorOf(row))],
].filter(([, needs]) => needs.every((need) => has[need]));

const seen = new IntersectionObserver((entries) => {
  for (const { isIntersecting, target } of entries) {
    if (!isIntersecting) continue;
    seen.unobserve(target);
    fill(target);
  }
}, { rootMargin: "200px" });

const cards = rows.map((row, number) => {
  const picture = make("span", { className: "look" });
  picture.dataset.number = number;
  picture.setAttribute("aria-hidden", "true"); // the words below say what it is
  const button = make("button", { className: "card" }, picture, caption(row, number));
  button.addEventListener("click", () => openSample(number));
  return make("li", {}, button);
});

function caption(row, number) {
  const lines = [make("strong", {}, data(labelOf(number)))];
  if (row.truth !== null) lines.push(make("small", {}, "truth ", outcome(row.truth)));
  if (row.guess !== null) lines.push(make("small", {}, ...prediction(row)));
  if (has.error) lines.push(make("small", { textContent: `error ${percent(errorOf(row))}` }));
  return make("span", {}, ...lines);
}

function prediction(row) {
  const parts = ["prediction ", outcome(row.guess)];
  if (has.classes && row.sure !== null) parts.push(` ${score(row.sure)}`);
  if (isWrong(row)) parts.push(" ", make("span", { className: "wrong", textContent: "wrong" }));
  return parts;
}

async function fill(picture) {
  const number = Number(picture.dataset.number);
  try {
    const sample = await load(number);
    picture.replaceChildren(VIEWS[index.kind](number, sample, chosen(rows[number]), true));
  } catch (error) {
    fail(number, error);
  }
}

function list() {
  const sures = rows.map((row) => asNumber(row.sure)).filter(Number.isFinite);
  const [low, high] = [Math.min(...sures), Math.max(...sures)];
  const [least, most] = ["least", "most"].map((id) => {
    const value = low + ((high - low) * $(id).value) / 100;
    $(id + "-value").textContent = plain(value, 3);
    return value;
  });
  const narrowed = has.sure && (Number($("least").value) > 0 || Number($("most").value) < 100);
  state.shown = rows.map((_, number) => number).filter((n) => {
    const row = rows[n];
    if ($("truth").value !== "" && row.truth !== Number($("truth").value)) return false;
    if ($("guess").value !== "" && row.guess !== Number($("guess").value)) return false;
    if ($("wrong").checked && !isWrong(row)) return false;
    return !narrowed || (asNumber(row.sure) >= least && asNumber(row.sure) <= most);
  });
  state.shown.sort(ORDERS[$("sort").value][2]);
  $("cards").replaceChildren(...state.shown.map((number) => cards[number]));
  const wrong = state.shown.filter((number) => isWrong(rows[number])).length;
  const ofThem = has.classes && has.truth && has.guess ? `, ${wrong} wrong` : "";
  $("count").textContent = `${state.shown.length} of ${rows.length} samples${ofThem}`;
  redraw();
}

// Draws the cards anew, those that come into view.
function redraw() {
  for (const number of state.shown) {
    const picture = cards[number].querySelector(".look");
    seen.unobserve(picture);
    seen.observe(picture);
  }
}

// One sample

function openSample(number) {
  state.current = number;
  state.map = chosen(rows[number]);
  $("gallery").hidden = true;
  $("detail").hidden = false;
  $("readout").textContent = "";
  show().then(() => $("name").focus({ preventScroll: true }));
  scrollTo(0, 0);
}

function closeSample() {
  const button = cards[state.current].querySelector("button");
  state.current = null;
  $("gallery").hidden = false;
  $("detail").hidden = true;
  redraw();
  button.focus();
}

function step(by) {
  const place = state.shown.indexOf(state.current) + by;
  if (place >= 0 && place < state.shown.length) openSample(state.shown[place]);
}

function choose(k) {
  state.map = k;
  show();
}

async function show() {
  const number = state.current;
  const row = rows[number];
  const place = state.shown.indexOf(number);
  $("place").textContent = `${place + 1} of ${state.shown.length}`;
  $("previous").disabled = place <= 0;
  $("next").disabled = place + 1 >= state.shown.length;
  $("name").replaceChildren(data(labelOf(number)));
  $("facts").replaceChildren(...(row.truth === null ? [] : ["truth ", outcome(row.truth), "; "]),
    ...(row.guess === null ? [] : prediction(row)));
  $("classes").replaceChildren(...(has.several ? row.maps.map((map, k) => mapButton(row, map, k)) : []));
  $("strength-value").textContent = `\u00d7 ${look.strength}`;
  $("threshold-value").textContent = `${look.threshold}\u202f%`;
  const shown = look.together ? [...row.maps.keys()] : [state.map];
  $("message").textContent = "";
  sums(row, shown);
  try {
    const sample = await load(number);
    if (number !== state.current) return; // another one was opened in the meantime
    $("views").className = look.together ? "together" : "";
    $("views").replaceChildren(...original(number, sample), ...shown.map((k) => figure(number, sample, k)));
    legend(row, shown, sample);
  } catch (error) {
    fail(number, error);
  }
}

function fail(number, error) {
  $("message").textContent = `This browser cannot show ${labelOf(number)}: ${error.message}`;
}

function mapButton(row, map, k) {
  const value = map.class === null ? undefined : row.scores[map.class];
  const button = make("button", {}, data(nameOf(map)));
  if (value !== undefined) button.append(make("small", { textContent: ` ${score(value)}` }));
  button.setAttribute("aria-pressed", String(k === state.map));
  button.addEventListener("click", () => choose(k));
  return button;
}

function original(number, sample) {
  if (!sample.picture) return [];
  const image = sample.picture.cloneNode();
  image.className = rows[number].shape[1] < 400 ? "plain large" : "plain";
  image.alt = `The image of ${labelOf(number)}`;
  const caption = make("figcaption", { textContent: "the image" });
  return [sized(make("figure", { className: "plain-figure" }, image, caption), rows[number])];
}

function figure(number, sample, k) {
  const map = rows[number].maps[k];
  const caption = make("figcaption", {}, "map of ", data(nameOf(map)), `, sum ${signed(map.sum)}`);
  return sized(make("figure", {}, VIEWS[index.kind](number, sample, k, false), caption), rows[number]);
}

// Images are so high at most that what belongs to them has room below.
function sized(figure, { shape: [height, width] }) {
  if (index.kind === "image") figure.style.maxWidth = `${(44 * width) / height}vh`;
  return figure;
}

function legend(row, shown, sample) {
  const own = look.scale === "map" && shown.length > 1;
  const end = own ? 1 / look.strength : limitOf(row, row.maps[shown[0]]) / look.strength;
  const scale = make("i", {});
  scale.style.background = `linear-gradient(to right, rgb(${AGAINST}), rgba(${AGAINST}, 0) 50%, rgba(${FOR}, 0) 50%, rgb(${FOR}))`;
  const parts = [`against ${signed(-end)} `, scale, ` ${signed(end)} for`, own ? ", as shares of each map's scale" : ""];
  const missing = shown.reduce((count, k) => count + row.maps[k].missing, 0);
  if (missing) parts.push("; ", make("i", { className: "missing" }), ` NaN or infinite: ${missing}`);
  if (sample.missing) parts.push("; ", make("i", { className: "missing" }), ` NaN in the image: ${sample.missing}`);
  if (shown.every((k) => !Number(row.maps[k].plus) && !Number(row.maps[k].minus))) parts.push("; all attributions are 0");
  $("legend").replaceChildren(...parts);
}

function sums(row, shown) {
  const columns = [
    ["map", (map) => data(nameOf(map)), true],
    ["sum of the map", (map) => signed(map.sum), true],
    ["change of the output", (map) => signed(map.sum - map.delta), has.change],
    ["difference", (map) => signed(map.delta), has.change],
    ["estimated error", (map) => percent(map.error), has.error],
    ["for", (map) => signed(map.plus), true],
    ["against", (map) => signed(map.minus), true],
  ].filter(([, , there]) => there);
  const cells = (tag, content) => columns.map(([name, value]) => make(tag, {}, content(name, value)));
  $("sums").tHead.rows[0].replaceChildren(...cells("th", (name) => name));
  const lines = shown.map((k) => make("tr", {}, ...cells("td", (_, value) => value(row.maps[k]))));
  $("sums").tBodies[0].replaceChildren(...lines);
}

// Controls

function start() {
  document.title = $("title").textContent = index.title;
  document.body.classList.add(index.kind);
  for (const element of document.querySelectorAll("[data-needs]")) {
    element.hidden = !element.dataset.needs.split(" ").every((need) => has[need]);
  }
  for (const element of document.querySelectorAll(".sure")) element.textContent = sureName;
  $("sort").append(...ORDERS.map(([textContent], value) => make("option", { textContent, value })));
  for (const id of ["truth", "guess"]) {
    $(id).append(make("option", { textContent: "all", value: "" }));
    $(id).append(...(index.classes ?? []).map((textContent, value) => make("option", { textContent, value })));
  }
  const pages = [["previous", "Previous page"], ["next", "Next page"]].filter(([key]) => index[key]);
  $("pages").append(...pages.map(([key, textContent]) => make("a", { href: index[key], textContent })));
  if (index.first || index.next) {
    $("pages").append(` samples ${index.first} to ${index.first + rows.length - 1} of ${index.count}`);
  }
  $("filters").addEventListener("input", list);
  $("look").addEventListener("input", ({ target }) => {
    look[target.id] = { range: Number(target.value), checkbox: target.checked }[target.type] ?? target.value;
    show();
  });
  for (const form of document.forms) form.addEventListener("submit", (event) => event.preventDefault());
  $("back").addEventListener("click", closeSample);
  $("previous").addEventListener("click", () => step(-1));
  $("next").addEventListener("click", () => step(1));
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => (state.current === null ? redraw() : show()));
  list();
}

document.addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey) return;
  const typing = event.target.matches("input, select");
  if (state.current === null) {
    if (!typing && ARROWS[event.key]) move(event);
  } else if (event.key === "Escape") {
    closeSample();
  } else if (typing) {
    return; // arrows move a slider
  } else if (event.key === "ArrowLeft" || event.key === "ArrowRight") {
    step(ARROWS[event.key][1]);
  } else if (/^[0-9]$/.test(event.key) && Number(event.key) < rows[state.current].maps.length) {
    choose(Number(event.key));
  } else if (event.key.toLowerCase() === "s" && has.several) {
    $("together").click();
  }
});

// From card to card, up and down by a line of them.
function move(event) {
  const buttons = [...$("cards").querySelectorAll("button")];
  const place = buttons.indexOf(document.activeElement);
  if (place < 0) return;
  const across = buttons.filter((button) => button.parentElement.offsetTop === buttons[0].parentElement.offsetTop).length;
  const [down, right] = ARROWS[event.key];
  const next = buttons[place + down * across + right];
  if (!next) return;
  event.preventDefault();
  next.focus();
}

// A finger that moves across, not on a map or a control, goes to the next sample.
let touched = null;
$("detail").addEventListener("touchstart", ({ target, touches }) => {
  touched = touches.length === 1 && !target.closest("canvas, input, select, #classes, #sums") ? touches[0] : null;
}, { passive: true });
$("detail").addEventListener("touchend", ({ changedTouches: [end] }) => {
  const [across, down] = touched ? [end.clientX - touched.clientX, end.clientY - touched.clientY] : [0, 0];
  if (Math.abs(across) > 60 && Math.abs(across) > 2 * Math.abs(down)) step(across < 0 ? 1 : -1);
});

start();
