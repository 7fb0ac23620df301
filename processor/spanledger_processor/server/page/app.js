// The page over the HTTP API: which view the address asks for, its filter, and drawing it again when the ledger changes.
// A view is a function of the address behind "#": #/VIEW/ID?parameter=value. Parameters are the API's, so a link keeps its filter.

import { Refused, events, hasToken, json, keepToken } from "./ask.js";
import { address, drawCharts, make, money } from "./draw.js";
import { USUAL, filtered, notFiltered } from "./filter.js";
import { overview } from "./spent.js";
import { candidates, dimension, list, run, session, span, speed, tools, unpriced } from "./views.js";

const RANGES = { today: "today", yesterday: "since yesterday", "7d": "7 days", "30d": "30 days", "90d": "90 days", "36500d": "all days" };
const USUAL_RANGES = { "": USUAL, speed: USUAL, by: USUAL, tools: USUAL }; // elsewhere, and with a last day, any time
const FIRST_DAY = "2000-01-01"; // who types a year begins with 0002
const CHOICES = {
  sort: ["order", { last: "latest first", cost: "dearest first" }],
  state: ["state", { "": "any", active: "active", idle: "idle", stale: "stale", closed: "closed" }],
  unpriced: ["price", { "": "any", any: "some calls unpriced" }],
  all: ["which", { "": "named or of several sessions", true: "all" }],
};
const LABELS = { from: "from, UTC day", until: "to, UTC day", contains: "id or name has", dimension: "only" };
const DAYS = ["since", "until", "tenant"];
const OF_VALUE = ["since", "until", "dimension", "tenant"];
const SUGGESTED = 50;
const REDRAW_MS = 3000;
const AGAIN_MS = 3000;
const main = document.getElementById("main");
const live = document.getElementById("live");
const filters = document.getElementById("filters");
let shown = 0;
let failed = null; // where the last draw failed: { again }, as `draw` was asked
let drawnAt = 0;
let tenants = [];
let dimensions = ["user", "project", "agent", "service", "model", "provider"];

const VIEWS = {
  "": ["Spent", overview, OF_VALUE],
  sessions: ["Sessions", (_, given) => list("sessions", given), ["since", "until", "state", "dimension", "model", "contains", "unpriced", "sort", "tenant"]],
  runs: ["Runs", (_, given) => list("runs", given), ["since", "until", "all", "dimension", "model", "contains", "unpriced", "sort", "tenant"]],
  "by/user": ["By user, project…", (_, given) => dimension("user", given), ["by", ...DAYS]],
  speed: ["Speed", speed, OF_VALUE],
  tools: ["Tools", tools, DAYS],
  candidates: ["Candidates", candidates, OF_VALUE],
  unpriced: ["Unpriced", unpriced, OF_VALUE],
  span: ["Explain", span, ["tenant"]],
};
const DETAILS = { session: [session, ["tenant"], "sessions"], run: [run, ["tenant"], "runs"], span: [span, ["tenant"], "span"], by: [dimension, ["by", ...DAYS], "by/user"] };

function where() {
  const [path, query] = location.hash.replace(/^#\/?/, "").split("?");
  const given = Object.fromEntries(new URLSearchParams(query || ""));
  if (path in VIEWS && !path.startsWith("by/")) return { view: path, path, id: "", given, draw: VIEWS[path][1], filters: VIEWS[path][2], current: path };
  const [view, ...rest] = path.split("/");
  const [content, names, current] = DETAILS[view] || [];
  let id = rest.join("/");
  try {
    id = view === "span" ? id : decodeURIComponent(id);
  } catch {
    // a link that somebody cut: the id as it stands
  }
  return { view, path, id, given, draw: content, filters: names || ["tenant"], current };
}

// Draw what the address asks for. `again`: the same view, of which what is open, focused and scrolled to stays; so it
// does of one that was left before, by what was remembered of it.
async function draw(again = false, remembered = null) {
  const turn = ++shown;
  const { view, id, path, given, draw: content, filters: names, current } = where();
  if (!again) {
    menu(current, given);
    filterForm(view, id, path, given, names);
  }
  main.setAttribute("aria-busy", "true");
  try {
    const parts = content ? await content(id, given) : [make("h2", {}, "There is no such view"), make("p", {}, make("a", { href: "#/" }, "What was spent"))];
    if (turn !== shown) return;
    replace(parts.filter((part) => part != null), again ? remember() : remembered);
    failed = null;
    document.title = `${main.querySelector("h2")?.textContent || "Spanledger"} · Spanledger`;
  } catch (problem) {
    if (turn === shown) showProblem(problem, again);
  }
  drawnAt = performance.now();
  if (turn !== shown) return;
  main.removeAttribute("aria-busy");
  if (stale) drawSoon();
}

function replace(parts, kept) {
  main.replaceChildren(...parts);
  drawCharts();
  if (kept) restore(kept);
  else window.scrollTo(0, 0);
}

const keyed = () => [...main.querySelectorAll("details[data-key]")];
const focusable = () => [...main.querySelectorAll("a[href], button, input, select, summary, [tabindex]")];

function remember() {
  const open = new Map(keyed().map((element) => [element.dataset.key, element.open]));
  const scrolled = [...main.querySelectorAll(".scroll")].map((element) => element.scrollLeft);
  return { open, scrolled, focused: focusable().indexOf(document.activeElement), top: window.scrollY };
}

function restore({ open, scrolled, focused, top }) {
  for (const element of keyed()) if (open.has(element.dataset.key)) element.open = open.get(element.dataset.key);
  main.querySelectorAll(".scroll").forEach((element, place) => (element.scrollLeft = scrolled[place] || 0));
  if (focused >= 0) focusable()[focused]?.focus({ preventScroll: true });
  window.scrollTo(0, top);
}

function menu(current, given) {
  const kept = filtered(given);
  document.getElementById("views").replaceChildren(...Object.entries(VIEWS).map(([name, [title]]) => make("a", { href: address(name, kept), "aria-current": name === current ? "page" : null }, title)));
}

// --- the filter ---------------------------------------------------------------------------------------------------

function filterForm(view, id, path, given, names) {
  const apply = (event) => {
    event.preventDefault();
    if (event.target.validity?.valid === false) return; // half a day
    if (event.target.name === "of") {
      filters.elements.value.value = ""; // of another dimension
      return filters.elements.value.focus();
    }
    const filter = Object.fromEntries(new FormData(filters));
    if (event.target.name === "from") filter.since = filter.from;
    if (event.target.name === "since") delete filter.until; // the last so many days may all be later
    delete filter.from;
    if ("of" in filter) {
      filter.dimension = filter.value ? `${filter.of}:${filter.value}` : "";
      delete filter.of;
      delete filter.value;
    }
    const by = filter.by;
    delete filter.by;
    const target = by ? `by/${encodeURIComponent(by)}` : view === "" || view in VIEWS ? view : path;
    const next = address(target, filter);
    if (next !== location.hash) location.hash = next;
  };
  const choice = (name, value, options, title) => make("label", {}, title, make("select", { name, onchange: apply }, Object.entries(options).map(([one, text]) => make("option", { value: one, selected: value === one }, text))));
  const text = (name, value, title, more = {}) => make("label", {}, title, make("input", { name, value, size: 14, onchange: apply, ...more }));
  const day = (name, value) => text(name, value, LABELS[name], { type: "date", min: FIRST_DAY });
  const field = (name) => {
    const value = given[name] || "";
    if (name === "by") return choice("by", id || "user", Object.fromEntries([...new Set([...dimensions, id || "user"])].map((one) => [one, one])), "by");
    if (name === "tenant") return choice("tenant", value, Object.fromEntries([...new Set([value, ...tenants])].map((one) => [one, one || "(default)"])), "tenant");
    if (name === "since") return [choice("since", ...rangeChoice(value, given.until ? "" : USUAL_RANGES[view]), "range"), day("from", isDay(value) ? value : "")];
    if (name === "until") return day("until", value);
    if (name === "dimension") {
      const [of, ...rest] = value.split(":");
      const options = Object.fromEntries(dimensions.map((one) => [one, one]));
      const known = make("datalist", { id: "values" });
      const suggest = () => suggestValues(known, filters.elements.of.value, given);
      return [choice("of", of || "user", of && !(of in options) ? { ...options, [of]: of } : options, LABELS.dimension), text("value", rest.join(":"), "is", { placeholder: "any", list: "values", onfocus: suggest, oninput: (event) => event.inputType === "insertReplacementText" && apply(event) }), known];
    }
    if (name in CHOICES) {
      const [title, options] = CHOICES[name];
      return choice(name, value, value && !(value in options) ? { ...options, [value]: value } : options, title);
    }
    return text(name, value, LABELS[name] || name);
  };
  const wanted = names.filter((name) => name !== "tenant" || given.tenant || tenants.length > 1);
  const unseen = ["dimension", "parent"].filter((name) => given[name] && !names.includes(name)); // kept, though not to be changed here
  const kept = unseen.map((name) => make("input", { type: "hidden", name, value: given[name] }));
  const note = notFiltered(path.startsWith("by/") ? "by" : view, given, id || "user");
  const clear = Object.entries(given).some(([name, value]) => value && name !== "tenant") ? make("a", { href: address(path, { tenant: given.tenant }), class: "clear" }, "Clear") : null;
  const focused = isFiltering() && document.activeElement.name;
  filters.replaceChildren(...wanted.flatMap(field), ...kept, ...(clear && wanted.length ? [clear] : []), ...(note ? [make("p", { class: "warn", role: "note" }, note)] : []));
  if (focused) filters.elements[focused]?.focus();
  filters.onsubmit = apply;
  const folded = document.getElementById("folded");
  folded.hidden = !filters.childElementCount;
  folded.firstElementChild.textContent = clear ? "Filter: set" : "Filter"; // on a phone it is folded
}

// Offer the dearest values of a dimension, and those of no other.
async function suggestValues(known, of, given) {
  if (known.dataset.of === of) return;
  known.dataset.of = of;
  known.replaceChildren();
  const { values } = await json(`dimensions/${encodeURIComponent(of)}`, { since: USUAL, limit: SUGGESTED, tenant: given.tenant }).catch(() => ({ values: [] }));
  if (known.dataset.of === of) known.replaceChildren(...values.filter((row) => row.value).map((row) => make("option", { value: row.value })));
}

const isDay = (text) => /^\d{4}-\d\d-\d\d$/.test(text);

// The choice that a range is, and those there are. The one that a view has without any stands under the empty name.
function rangeChoice(value, usual) {
  const { [usual]: usually = "any time", ...others } = RANGES;
  const options = { "": usually, ...others };
  if (!usual) delete options["36500d"]; // is any time
  const days = value.match(/^(\d+)d$/)?.[1];
  const chosen = value === usual || (!usual && days > 3650) ? "" : value;
  return [chosen, chosen in options ? options : { ...options, [chosen]: isDay(chosen) ? "from a day" : days ? `${days} days` : chosen }];
}

// Its fields have names such as "contains", which hide what a form has of these names.
const isFiltering = () => filters.matches(":focus-within");

// --- what went wrong ----------------------------------------------------------------------------------------------

function showProblem(problem, again) {
  const isUnknown = problem instanceof Refused && problem.status === 401;
  failed = isUnknown ? null : { again };
  if (isUnknown) return askToken();
  if (again) {
    live.textContent = problem.status ? `as it was before: ${problem.message}` : "not connected"; // what was shown stays: it is older, and still true of its time
    return;
  }
  const gone = problem instanceof Refused && problem.status === 404 && problem.message === "not in the ledger"; // no tenant or dimension says so itself
  const hint = gone ? "Its id may be cut or of another tenant, or it was taken by retention (state.retention) or state.max_size_mib." : null;
  main.replaceChildren(make("h2", {}, gone ? "Not in the ledger" : "This cannot be shown"), make("p", { class: gone ? null : "bad" }, gone ? hint : String(problem.message || problem)), make("button", { type: "button", onclick: () => draw() }, "Try again"));
}

function askToken() {
  const token = make("input", { type: "password", autocomplete: "off", "aria-label": "API token" });
  const refused = hasToken();
  keepToken("");
  const keep = (event) => {
    event.preventDefault();
    keepToken(token.value);
    start();
  };
  live.textContent = "";
  main.replaceChildren(
    make("h2", {}, "This ledger asks for a token"),
    refused ? make("p", { class: "bad", role: "alert" }, "That token was not accepted.") : "",
    make("p", {}, "It is api.auth.bearer_token of the configuration. It is kept until this tab is closed."),
    make("form", { onsubmit: keep, class: "more" }, token, make("button", {}, "Show"))
  );
  token.focus();
}

// --- live ---------------------------------------------------------------------------------------------------------

let following = 0;
let due = 0;
let stale = false;

// Draw again after a change: not more often than every few seconds, not while nobody looks, and not while a view is
// being drawn: that may be another than the one that is shown, of which nothing would be kept then.
function drawSoon() {
  due ||= setTimeout(() => {
    due = 0;
    stale = document.hidden || main.hasAttribute("aria-busy");
    if (!stale) draw(failed ? failed.again : true);
  }, Math.max(0, REDRAW_MS - (performance.now() - drawnAt)));
}

document.addEventListener("visibilitychange", () => {
  if (stale && !document.hidden) drawSoon();
});

async function follow() {
  const turn = ++following;
  let last = "";
  while (turn === following) {
    try {
      for await (const data of events({ tenant: where().given.tenant })) {
        if (turn !== following) return;
        live.textContent = `${money(JSON.parse(data).cost_usd)} in all · live`;
        if (failed || (last && last !== data)) drawSoon();
        last = data;
      }
    } catch (problem) {
      if (problem instanceof Refused && (problem.status === 401 || problem.status === 404)) return;
    }
    if (turn !== following) return;
    live.textContent = "not connected, trying again";
    await new Promise((done) => setTimeout(done, AGAIN_MS));
  }
}

document.getElementById("folded").open = !matchMedia("(max-width: 560px)").matches;

async function start() {
  filters.setAttribute("aria-busy", "true"); // its choices are not all known
  draw();
  follow();
  await Promise.all([
    json("tenants").then((answer) => (tenants = answer.tenants.map((row) => row.tenant).filter((name) => name != null)), () => {}),
    json("dimensions").then((answer) => (dimensions = answer.dimensions), () => {}),
  ]);
  const { view, id, path, given, filters: names } = where();
  if (!isFiltering()) filterForm(view, id, path, given, names);
  filters.removeAttribute("aria-busy");
}

// Entries of the browser's history, and what was open in each when it was left: going back finds it so.
const left = new Map();
let entries = 0;
let entry = "";

function enter() {
  entry = history.state?.entry || `${performance.timeOrigin} ${++entries}`;
  history.replaceState({ entry }, "");
  return left.get(entry);
}

let tenantShown = where().given.tenant;
window.addEventListener("hashchange", () => {
  left.set(entry, remember());
  draw(false, enter());
  if (!isFiltering()) main.focus({ preventScroll: true });
  if (where().given.tenant !== tenantShown) {
    tenantShown = where().given.tenant;
    follow();
  }
});
enter();
start();
