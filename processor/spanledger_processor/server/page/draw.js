// Elements, numbers, tables and charts. What comes from the ledger is put in as text, never as markup.

export function make(tag, attributes = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else if (value != null && value !== false) element.setAttribute(name, value === true ? "" : value);
  }
  element.append(...children.flat().filter((child) => child != null));
  return element;
}

export function address(view, parameters = {}) {
  const query = new URLSearchParams(Object.entries(parameters).filter(([, value]) => value)).toString();
  return `#/${view}${query ? `?${query}` : ""}`;
}

export const link = (text, view, parameters = {}) => make("a", { href: address(view, parameters) }, text);

// A name from elsewhere: its direction of writing stays its own, and where it is long the rest is in the title. What is
// not seen, or turns other text round, is written as an escape, and what reads like a word for no name, such as
// "(other)", in quotes, as the commands do.
// In a table the middle of a very long one is not seen (it is selected and saved with the rest): ids often begin alike.
export const named = (text) => make("bdi", { class: "name", title: text.length > 60 ? visible(quoted(text)) : null }, ...cut(visible(quoted(text))));
export const quoted = (text) => (/^[("]|^-$/.test(text) ? `"${text}"` : text);
export const OTHERS = "(other)";
export const NONE = "(unattributed)"; // the session, run or value of what has none
export const NO_MODEL = "(no model)";
const brief = (text) => (text.length > 32 ? `${visible(text).slice(0, 19)}…${visible(text).slice(-12)}` : visible(text)); // in a chart
const cut = (text) => (text.length > 96 ? [text.slice(0, 64), make("span", { class: "middle" }, text.slice(64, -12)), text.slice(-12)] : [text]);
const visible = (text) => text.replace(/[\p{Cc}\p{Cf}\p{Co}\p{Zl}\p{Zp}]/gu, (char) => `\\u${char.codePointAt(0).toString(16).padStart(4, "0")}`);
export const soft = (...text) => make("p", { class: "soft" }, ...text);

// --- numbers ------------------------------------------------------------------------------------------------------

const dollars = (places) => new Intl.NumberFormat("en-US", { style: "currency", currency: "USD", minimumFractionDigits: places, maximumFractionDigits: places });
const CENTS = dollars(2);
const FOUR = dollars(4);
const SIX = dollars(6);
const integers = new Intl.NumberFormat("en-US");
const short = new Intl.NumberFormat("en-US", { notation: "compact", maximumSignificantDigits: 3 });

// Cents from 1 USD on, below it as many places as tell a price from nothing.
export function money(usd) {
  const size = Math.abs(usd);
  if (size === 0 || size >= 1) return CENTS.format(usd);
  if (size >= 0.01) return FOUR.format(usd);
  return size >= 0.000001 ? SIX.format(usd) : "< $0.000001";
}

export const whole = (number) => integers.format(number);
export const compact = (number) => short.format(number);
export const counted = (number, word) => `${whole(number)} ${word}${number === 1 ? "" : "s"}`;

export const unpricedCalls = (row) => Object.values(row.unpriced || {}).reduce((sum, count) => sum + count, 0);

// What is unknown is never 0: where no call has a price there is no amount.
export function cost(row) {
  const unpriced = unpricedCalls(row);
  if (unpriced && unpriced >= row.calls) return "unknown";
  return unpriced ? `${money(row.cost_usd)} + unknown` : money(row.cost_usd);
}

export const costCell = (row) => make("span", { title: exactCost(row) ? `${exactCost(row)} USD` : null }, cost(row));
const exactCost = (row) => (cost(row) === "unknown" ? "" : row.cost_usd_exact);
export const unpricedOf = (row) => Object.entries(row.unpriced || {}).map(([reason, count]) => `${whole(count)} ${reason}`).join(", ");
export const tokens = (row, name) => (row.tokens || {})[name] || 0;
export function shareCached(row) {
  const input = tokens(row, "input");
  return input ? `${Math.round((100 * tokens(row, "cache_read")) / input)} %` : "-";
}

export const when = (text) => (text ? text.replace("T", " ").replace(/(\.\d+)?Z$/, "") : "-");

export function duration(seconds) {
  if (seconds == null) return "-";
  if (seconds < 10) return `${Number(seconds.toPrecision(2))} s`;
  if (seconds < 120) return `${Math.round(seconds)} s`;
  return seconds < 7200 ? `${Math.round(seconds / 60)} min` : `${(seconds / 3600).toFixed(1)} h`;
}

// --- tables -------------------------------------------------------------------------------------------------------

// Reasons stand there as words, between which a line may end.
export const WITHOUT_A_PRICE = ["without a price", (row) => unpricedOf(row).replaceAll("_", " "), "word", unpricedOf];

// A column is [title, content of a row, "number" or "id", value in CSV]; without the last it is the text of the cell.
export const SPENT = [
  ["cost, USD", costCell, "number", exactCost],
  ["calls", (row) => whole(row.calls), "number", (row) => row.calls],
  ["input", (row) => compactCell(tokens(row, "input")), "number", (row) => tokens(row, "input")],
  ["cached", shareCached, "number"],
  ["output", (row) => compactCell(tokens(row, "output")), "number", (row) => tokens(row, "output")],
  WITHOUT_A_PRICE,
];

function compactCell(number) {
  return number < 10000 ? whole(number) : make("span", { title: whole(number) }, compact(number));
}

export function table(caption, columns, rows, { csv = true } = {}) {
  // On a phone a row is a card (style.css), and no longer a row to a reader of the screen, unless it is said.
  const head = columns.map(([title, , kind]) => make("th", { scope: "col", role: "columnheader", class: kind === "number" ? "number" : null }, title));
  const body = rows.map((row) => make("tr", { role: "row" }, columns.map(([title, content, kind]) => tableCell(title, content(row), kind))));
  const inner = [make("caption", { class: "unseen" }, caption), make("thead", { role: "rowgroup" }, make("tr", { role: "row" }, head)), make("tbody", { role: "rowgroup" }, body)];
  return make(
    "div",
    { class: "table" },
    make("div", { class: "scroll", tabindex: 0, role: "region", "aria-label": caption }, make("table", { role: "table" }, ...inner)),
    csv && rows.length ? make("button", { type: "button", class: "small", "aria-label": `${caption} as CSV`, onclick: () => saveTable(caption, columns, rows) }, "CSV") : null
  );
}

function tableCell(title, content, kind) {
  const says = !["", "-"].includes(content instanceof Node ? content.textContent : String(content ?? ""));
  return make("td", { role: "cell", class: [kind, says ? null : "nothing"].filter(Boolean).join(" ") || null, "data-title": title || null }, content);
}

// A column without a title has links alone.
function saveTable(caption, shown, rows) {
  const columns = shown.filter(([title]) => title);
  const text = (content) => (content == null ? "" : content instanceof Node ? content.textContent : String(content));
  const lines = rows.map((row) => columns.map(([, content, , value]) => text((value || content)(row))));
  save(caption, [columns.map(([title]) => title), ...lines].map((line) => line.map(cell).join(",")).join("\r\n"));
}

// A text that a spreadsheet would take for a formula begins with an apostrophe.
function cell(text) {
  const safe = /^[=+\-@\t\r]/.test(text) && Number.isNaN(Number(text)) ? `'${text}` : text;
  return /[",\r\n]/.test(safe) ? `"${safe.replaceAll('"', '""')}"` : safe;
}

export function save(name, content) {
  const blob = content instanceof Blob ? content : new Blob([content], { type: "text/csv" });
  const anchor = make("a", { href: URL.createObjectURL(blob), download: `spanledger-${name.toLowerCase().replace(/[^a-z0-9]+/g, "-")}.csv` });
  anchor.click();
  URL.revokeObjectURL(anchor.href);
}

export const tile = (title, value, ...notes) => make("div", { class: "tile" }, make("span", {}, title), make("b", {}, value), ...notes.map((note) => (note instanceof Node ? note : make("span", {}, note))));

export function facts(pairs) {
  return make("dl", {}, pairs.filter(([, value]) => value != null && value !== "").flatMap(([name, value]) => [make("dt", {}, name), make("dd", {}, value)]));
}

// --- charts -------------------------------------------------------------------------------------------------------

const COLOURS = ["#3b7dd8", "#c8701a", "#3f9c54", "#b8477f", "#7a5bc7", "#7c8086", "#a5830f", "#1f8f8f"]; // 3 to 1 on either ground
const MOST_SERIES = COLOURS.length - 1;
export const MOST_DAYS = 400;
let charts = [];
let waiting = []; // to be drawn once their canvas is in the page: its size is not known before

export function drawCharts() {
  charts.forEach((made) => made.destroy());
  charts = waiting.filter(([element]) => element.isConnected).map(([, drawn]) => drawn());
  waiting = [];
}

function canvas(title, type, data, format, { stacked = false, x = {}, timeText } = {}) {
  const element = make("canvas", { role: "img", "aria-label": `${title}: the figures are in a table below` });
  const style = getComputedStyle(document.documentElement);
  const [ink, grid] = ["--soft", "--line"].map((name) => style.getPropertyValue(name).trim());
  const scales = {
    x: { stacked, grid: { display: false }, ...x, ticks: { color: ink, maxTicksLimit: 10, maxRotation: 0, ...x.ticks } },
    y: { stacked, beginAtZero: true, ticks: { color: ink, callback: format === money ? moneyOfAxis : format }, grid: { color: grid } },
  };
  const plugins = {
    legend: { display: type === "bar" || data.datasets.length > 1, labels: { color: ink, boxWidth: 12 } },
    tooltip: { callbacks: { label: (item) => `${item.dataset.label}: ${format(item.parsed.y)}`, ...(timeText ? { title: ([item]) => timeText(item.parsed.x) } : {}) } },
  };
  const options = { animation: false, maintainAspectRatio: false, scales, plugins };
  waiting.push([element, () => new window.Chart(element, { type, data, options })]);
  return make("div", { class: "chart" }, element);
}

// All marks of an axis have as many places as tell one from the next.
function moneyOfAxis(usd, _, marks) {
  const step = marks.length > 1 ? Math.abs(marks[1].value - marks[0].value) : 1;
  return dollars(Math.min(9, Math.max(2, Math.ceil(-Math.log10(step) - 1e-9)))).format(usd);
}

export function bars(title, labels, series) {
  const datasets = series.map(([label, data], index) => ({ label: brief(label), data, backgroundColor: COLOURS[index % COLOURS.length], maxBarThickness: 90 }));
  return canvas(title, "bar", { labels, datasets }, money, { stacked: true });
}

// Lines over time, to scale: of each series the values at `times`, in milliseconds. A line ends where a value is null.
export function lines(title, times, series, format = compact) {
  const datasets = series.map(([label, values], index) => ({ label, data: values.map((y, place) => ({ x: times[place], y })), borderColor: COLOURS[index], backgroundColor: COLOURS[index], pointRadius: 3, borderJoinStyle: "round" }));
  return canvas(title, "line", { datasets }, format, timeAxis(Math.min(...times), Math.max(...times)));
}

const MINUTE = 60_000;
export const DAY = 1440 * MINUTE;
const STEPS = [1 / 60, 1 / 12, 1 / 4, 1, 5, 15, 60, 180, 720].map((minutes) => minutes * MINUTE).concat([1, 2, 7, 14, 30, 91, 182].map((days) => days * DAY));
const MOST_STEPS = 8;

// The adapters of Chart.js for times are libraries of their own: a linear axis with marks at whole minutes, hours or days.
function timeAxis(first, last) {
  const step = STEPS.find((one) => (last - first) / one <= MOST_STEPS) || 365 * DAY;
  const [min, max] = [Math.floor(first / step) * step, Math.max(Math.ceil(last / step), Math.floor(first / step) + 1) * step];
  const text = (time, precise) => when(new Date(time).toISOString()).slice(...(step >= DAY ? [0, 10] : [5, precise || step < MINUTE ? 19 : 16]));
  const marks = Array.from({ length: Math.round((max - min) / step) + 1 }, (_, place) => ({ value: min + place * step }));
  return { x: { type: "linear", min, max, afterBuildTicks: (axis) => (axis.ticks = marks), ticks: { callback: (time) => text(time) } }, timeText: (time) => text(time, true) };
}

export const dayText = (time) => new Date(time).toISOString().slice(0, 10);

// Every day between the first and the last: one of which nothing is known is there all the same.
export function everyDay(known) {
  const times = known.map((day) => Date.parse(day));
  const [first, last] = [Math.min(...times), Math.max(...times)];
  return times.length ? Array.from({ length: (last - first) / DAY + 1 }, (_, place) => dayText(first + place * DAY)) : [];
}

// Amounts add up in 1e-12 USD, as they do in the ledger.
const PLACES = 12;
const picoOf = (exact) => BigInt(exact.replace(/(-?\d+)\.?(\d*)/, (_, usd, rest) => usd + rest.padEnd(PLACES, "0")));
export const exactUsd = (pico) => String(pico).replace("-", "").padStart(PLACES + 1, "0").replace(new RegExp(`(\\d{${PLACES}})$`), ".$1").replace(/\.?0+$/, "").replace(/^/, pico < 0n ? "-" : "");

// Every day from the first to the last, and the dearest names apart: what was not spent on a day is a gap to be seen.
// Of each name there are the amounts by day as numbers, and exactly. What `wholes`, sums of days, have beyond the rows is of the others.
export function byDay(rows, nameOf, wholes = []) {
  const days = everyDay([...rows, ...wholes].map((row) => row.day).filter(Boolean)).slice(-MOST_DAYS);
  if (!days.length) return [[], []];
  const places = new Map(days.map((day, place) => [day, place]));
  const totals = new Map();
  const drawn = rows.filter((row) => places.has(row.day));
  for (const row of drawn) totals.set(nameOf(row), (totals.get(nameOf(row)) || 0) + row.cost_usd);
  const kept = new Set([...totals].filter(([name]) => name !== OTHERS).sort((one, other) => other[1] - one[1]).slice(0, MOST_SERIES).map(([name]) => name));
  const data = new Map([...kept].map((name) => [name, days.map(() => 0n)]));
  const add = (name, place, pico) => {
    if (!data.has(name)) data.set(name, days.map(() => 0n));
    data.get(name)[place] += pico;
  };
  for (const row of drawn) add(kept.has(nameOf(row)) ? nameOf(row) : OTHERS, places.get(row.day), picoOf(row.cost_usd_exact));
  for (const whole of wholes) {
    const place = places.get(whole.day);
    const rest = place == null ? 0n : picoOf(whole.cost_usd_exact) - [...data.values()].reduce((sum, picos) => sum + picos[place], 0n);
    if (rest) add(OTHERS, place, rest);
  }
  return [days, [...data].map(([name, picos]) => [name, picos.map((pico) => Number(pico) / 10 ** PLACES), picos])];
}
