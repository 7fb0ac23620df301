// The page over the HTTP API. What comes from the ledger is put in as text, never as markup.
// A view is a function of the address behind "#": #/VIEW/ID?parameter=value. Parameters are those of the API, so a link keeps its filter.

const TOKEN = "spanledger.token";
const RANGES = { "": "all", today: "today", "7d": "7 days", "30d": "30 days", "90d": "90 days" };
const SORTS = { last: "latest", cost: "dearest" };
const STATES = { "": "any", active: "active", idle: "idle", stale: "stale", closed: "closed" };
const CHOICES = { since: ["time", RANGES], sort: ["order", SORTS], state: ["state", STATES] };
const LIVE_MS = 5000;
const main = document.getElementById("main");
const money = new Intl.NumberFormat("en-US", { style: "currency", currency: "USD", minimumFractionDigits: 2, maximumFractionDigits: 6 });
const whole = new Intl.NumberFormat("en-US");
let charts = [];
let waiting = []; // charts to draw once their canvas is in the page: its size is not known before
let shown = 0;

// --- asking -------------------------------------------------------------------------------------------------------

class Refused extends Error {
  constructor(status, message) {
    super(message);
    this.status = status;
  }
}

async function ask(path, parameters = {}) {
  const query = new URLSearchParams(Object.entries(parameters).filter(([, value]) => value !== "" && value != null));
  const answer = await fetch(`api/v1/${path}?${query}`, { headers: headers() });
  if (answer.ok) return answer;
  const body = await answer.json().catch(() => ({}));
  throw new Refused(answer.status, body.error || `HTTP ${answer.status}`);
}

const json = async (path, parameters) => (await ask(path, parameters)).json();

function headers() {
  const token = sessionStorage.getItem(TOKEN);
  return token ? { authorization: `Bearer ${token}` } : {};
}

// --- building -----------------------------------------------------------------------------------------------------

function make(tag, attributes = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else if (value != null && value !== false) element.setAttribute(name, value === true ? "" : value);
  }
  element.append(...children.flat().filter((child) => child != null));
  return element;
}

const link = (text, view, parameters = {}) => make("a", { href: address(view, parameters) }, text);

function address(view, parameters = {}) {
  const query = new URLSearchParams(Object.entries(parameters).filter(([, value]) => value)).toString();
  return `#/${view}${query ? `?${query}` : ""}`;
}

function cost(row) {
  const unpriced = Object.values(row.unpriced || {}).reduce((sum, count) => sum + count, 0);
  return unpriced ? `${money.format(row.cost_usd)} + ?` : money.format(row.cost_usd);
}

const unpricedOf = (row) => Object.entries(row.unpriced || {}).map(([reason, count]) => `${whole.format(count)} ${reason}`).join(", ");
const counted = (number, word) => `${whole.format(number)} ${word}${number === 1 ? "" : "s"}`;
const tokensOf = (row, name) => whole.format((row.tokens || {})[name] || 0);
const shareCached = (row) => {
  const { input = 0, cache_read = 0 } = row.tokens || {};
  return input ? `${Math.round((100 * cache_read) / input)} %` : "-";
};
const when = (text) => (text ? text.replace("T", " ").replace(/(\.\d+)?Z$/, "") : "-");

function table(caption, columns, rows) {
  const head = columns.map(([title, , kind]) => make("th", { scope: "col", class: kind === "number" ? "number" : null }, title));
  const body = rows.map((row) =>
    make("tr", {}, columns.map(([, content, kind]) => make("td", { class: kind || null }, content(row))))
  );
  return make(
    "div",
    { class: "scroll", tabindex: 0, role: "region", "aria-label": caption },
    make("table", {}, make("caption", { class: "unseen" }, caption), make("thead", {}, make("tr", {}, head)), make("tbody", {}, body))
  );
}

const tile = (title, value, note = "") => make("div", { class: "tile" }, make("span", {}, title), make("b", {}, value), make("span", {}, note));

const SPENT = [
  ["cost, USD", cost, "number"],
  ["calls", (row) => whole.format(row.calls), "number"],
  ["input", (row) => tokensOf(row, "input"), "number"],
  ["cached", shareCached, "number"],
  ["output", (row) => tokensOf(row, "output"), "number"],
  ["without a price", unpricedOf],
];

function facts(pairs) {
  return make("dl", {}, pairs.filter(([, value]) => value != null && value !== "").flatMap(([name, value]) => [make("dt", {}, name), make("dd", {}, value)]));
}

// --- charts -------------------------------------------------------------------------------------------------------

const COLOURS = ["#3b7dd8", "#d9822b", "#3f9c54", "#b8477f", "#7a5bc7", "#8c8f94", "#c7a31c", "#2aa3a3"];

function chart(title, days, series) {
  const canvas = make("canvas", { role: "img", "aria-label": `${title}: the table below has the same figures` });
  const style = getComputedStyle(document.documentElement);
  const ink = style.getPropertyValue("--soft").trim();
  const line = style.getPropertyValue("--line").trim();
  waiting.push(() => {
    const made = new window.Chart(canvas, {
      type: "bar",
      data: {
        labels: days,
        datasets: series.map(([label, data], index) => ({ label, data, backgroundColor: COLOURS[index % COLOURS.length] })),
      },
      options: {
        animation: false,
        maintainAspectRatio: false,
        scales: {
          x: { stacked: true, ticks: { color: ink }, grid: { display: false } },
          y: { stacked: true, ticks: { color: ink, callback: (value) => money.format(value) }, grid: { color: line } },
        },
        plugins: {
          legend: { labels: { color: ink } },
          tooltip: { callbacks: { label: (item) => `${item.dataset.label}: ${money.format(item.raw)}` } },
        },
      },
    });
    charts.push(made);
  });
  return make("div", { class: "chart" }, canvas);
}

function line(title, labels, data) {
  const canvas = make("canvas", { role: "img", "aria-label": title });
  const ink = getComputedStyle(document.documentElement).getPropertyValue("--soft").trim();
  waiting.push(() => {
    const content = { labels, datasets: [{ label: "input tokens", data, borderColor: COLOURS[0], backgroundColor: COLOURS[0] }] };
    const scales = { x: { ticks: { color: ink } }, y: { beginAtZero: true, ticks: { color: ink } } };
    charts.push(new window.Chart(canvas, { type: "line", data: content, options: { animation: false, maintainAspectRatio: false, scales, plugins: { legend: { display: false } } } }));
  });
  return make("div", { class: "chart" }, canvas);
}

const MOST_SERIES = COLOURS.length - 1;

function byDay(rows, nameOf) {
  const days = [...new Set(rows.map((row) => row.day).filter(Boolean))].sort();
  const totals = new Map();
  for (const row of rows) totals.set(nameOf(row), (totals.get(nameOf(row)) || 0) + row.cost_usd);
  const names = [...totals].sort((one, other) => other[1] - one[1]).map(([name]) => name);
  const kept = new Set(names.slice(0, MOST_SERIES));
  const data = new Map();
  for (const row of rows) {
    const name = kept.has(nameOf(row)) ? nameOf(row) : "others";
    if (!data.has(name)) data.set(name, days.map(() => 0));
    const place = days.indexOf(row.day);
    if (place >= 0) data.get(name)[place] += row.cost_usd;
  }
  return [days, [...data]];
}

// --- views --------------------------------------------------------------------------------------------------------

const range = (given) => ({ since: given.since, until: given.until, tenant: given.tenant });

async function overview(_, given) {
  const spans = [["today", "today"], ["last 7 days", "7d"], ["last 30 days", "30d"]];
  const [periods, everything, summary] = await Promise.all([
    Promise.all(spans.map(([, since]) => json("summary", { since, by: "day", tenant: given.tenant }))),
    json("summary", { by: "model", limit: 1, tenant: given.tenant }),
    json("summary", { ...range(given), since: given.since || "30d", by: "model,day_model" }),
  ]);
  const total = everything.total;
  const [days, series] = byDay(summary.days_by_model || [], (row) => row.model || "others");
  return [
    make("h2", {}, "Spent"),
    make(
      "div",
      { class: "tiles" },
      periods.map((answer, index) => tile(spans[index][0], cost(answer.total), counted(answer.total.calls, "call"))),
      tile("everything", cost(total), `${counted(total.calls, "call")}, ${counted(total.tool_calls || 0, "tool call")}`),
      total.late_correction_usd
        ? tile("sent on spans beyond the ledger", money.format(total.late_correction_usd), "later spans proved them repeats; the ledger is right")
        : null
    ),
    make("h2", {}, `By day and model, ${RANGES[given.since || "30d"] || given.since}`),
    days.length ? chart("Cost by day and model", days, series) : make("p", { class: "soft" }, "Nothing was spent in this time."),
    table("By model", [["model", (row) => (row.other ? "others" : link(row.model || "(none)", "sessions", { ...range(given), model: row.provider ? `${row.provider}/${row.model}` : row.model })), "id"], ["sold by", (row) => row.provider || "-"], ...SPENT], summary.models || []),
    ...(await budgets(given)),
  ];
}

async function budgets(given) {
  const { budgets: rows } = await json("budgets", { tenant: given.tenant });
  if (!rows.length) return [];
  const state = (row) => (row.over ? make("span", { class: "bad" }, "used up") : row.forecast ? "will not last" : "within");
  return [
    make("h2", {}, "Budgets"),
    table("Budgets", [
      ["budget", (row) => row.budget, "id"],
      ["of", (row) => [row.dimension, row.value].filter(Boolean).join(" ") || "everything", "id"],
      ["period", (row) => (row.since ? `${row.period} from ${row.since}` : row.period)],
      ["may be spent", (row) => money.format(row.amount_usd), "number"],
      ["spent", (row) => money.format(row.used_usd), "number"],
      ["share", (row) => `${Math.round(100 * row.used)} %`, "number"],
      ["", state],
    ], rows),
  ];
}

async function list(kind, given) {
  const answer = await json(kind, given);
  const one = kind === "sessions" ? "session" : "run";
  const rows = answer[kind];
  const more = answer.next_cursor ? link("Next page", kind, { ...given, cursor: answer.next_cursor }) : null;
  return [
    make("h2", {}, kind === "sessions" ? "Sessions" : "Runs"),
    rows.length || answer.next_cursor
      ? table(kind === "sessions" ? "Sessions" : "Runs", [
          [one, (row) => (row.id ? link(row.name || row.id, `${one}/${encodeURIComponent(row.id)}`, { tenant: given.tenant }) : "(unattributed)"), "id"],
          ["project", (row) => row.project || "-", "id"],
          ["last activity", (row) => when(row.last)],
          ["state", (row) => row.state || (row.closed ? "closed" : "-")],
          ...SPENT,
          ["tools", (row) => whole.format(row.tool_calls || 0), "number"],
          ["models", (row) => (row.models || []).map((model) => model.model).join(", "), "id"],
        ], rows)
      : make("p", { class: "soft" }, "None."),
    make("div", { class: "more" }, more, given.cursor ? link("First page", kind, { ...given, cursor: "" }) : null, csv(kind, given)),
  ];
}

function csv(path, given) {
  const save = async () => {
    const { cursor, ...filter } = given;
    const blob = await (await ask(path, { ...filter, format: "csv" })).blob();
    const anchor = make("a", { href: URL.createObjectURL(blob), download: `spanledger-${path}.csv` });
    anchor.click();
    URL.revokeObjectURL(anchor.href);
  };
  return make("button", { type: "button", onclick: () => save().catch(show_problem) }, "All of these as CSV");
}

async function one(kind, id, given) {
  const row = await json(`${kind}s/${encodeURIComponent(id)}`, { tenant: given.tenant });
  const parts = [
    make("h2", {}, row.name || row.id || "(unattributed)"),
    facts([
      ["id", row.id],
      ["project", row.project],
      ["state", row.state || (row.closed ? "closed" : null)],
      ["cost", cost(row)],
      ["calls", whole.format(row.calls)],
      ["without a price", unpricedOf(row)],
      ["tool calls", whole.format(row.tool_calls || 0)],
      ["tokens", `${tokensOf(row, "input")} in (${shareCached(row)} cached), ${tokensOf(row, "output")} out`],
      ["turns", row.turns == null ? null : whole.format(row.turns)],
      ["failures", row.failures ? whole.format(row.failures) : null],
      ["active", row.active_seconds == null ? null : `${whole.format(Math.round(row.active_seconds / 60))} min`],
      ["processes", (row.instances || []).join(", ")],
      ...Object.entries(row.dimensions || {}).map(([name, values]) => [name, [].concat(values).join(", ")]),
      ["first activity", when(row.first)],
      ["last activity", when(row.last)],
      ["parent session", row.parent_id ? link(row.parent_id, `session/${encodeURIComponent(row.parent_id)}`, { tenant: given.tenant }) : null],
      ["note", row.note],
    ]),
    make("h2", {}, "By model"),
    table("Cost by model", [["model", (model) => model.model, "id"], ["cost, USD", (model) => money.format(model.cost_usd), "number"]], row.models || []),
  ];
  if (row.context?.length) {
    const points = row.context.filter((point) => point.at);
    parts.push(make("h2", {}, "Context: input tokens of a call, over time"), line("Context over time", points.map((point) => when(point.at)), points.map((point) => point.input_tokens)));
  }
  if (row.agents?.length) parts.push(make("h2", {}, "By agent"), table("By agent", [["agent", (agent) => (agent.other ? "(others)" : agent.id || "(none named)"), "id"], ...SPENT], row.agents));
  if (row.tools?.length) {
    parts.push(make("h2", {}, "Tools"), table("Tools", [
      ["tool", (tool) => (tool.other ? "(others)" : tool.id), "id"],
      ["calls", (tool) => whole.format(tool.calls), "number"],
      ["failed", (tool) => whole.format(tool.failures), "number"],
      ["denied", (tool) => whole.format(tool.denied), "number"],
    ], row.tools));
  }
  if (row.by_task?.length) parts.push(make("h2", {}, "By task"), table("By task", [["task", (task) => task.id, "id"], ...SPENT], row.by_task));
  if (kind === "session" && row.id) {
    parts.push(...(await candidates(id, given)));
    const children = await json("sessions", { parent: id, tenant: given.tenant });
    if (children.sessions.some((child) => child.id)) {
      const rows = children.sessions.filter((child) => child.id);
      parts.push(make("details", { open: rows.length <= 20 }, make("summary", {}, `${rows.length} sub-agents' sessions`), table("Sub-agents", [["session", (child) => link(child.name || child.id, `session/${encodeURIComponent(child.id)}`, { tenant: given.tenant }), "id"], ...SPENT], rows)));
    }
  }
  return parts;
}

async function candidates(id, given) {
  const { candidates: rows } = await json(`candidates/${encodeURIComponent(id)}`, { tenant: given.tenant });
  if (!rows.length) return [];
  const cheaper = (row) => row.same_tokens_on.slice(0, 3).map((other) => `${other.model}: ${money.format(other.cost_usd)}`).join(", ");
  return [
    make("h2", {}, "To look at: agents that may have had more than they needed"),
    table("Candidates", [
      ["agent", (row) => row.agent, "id"],
      ["why", (row) => row.kinds.join(", ").replaceAll("_", " ")],
      ["cost, USD", (row) => money.format(row.cost_usd), "number"],
      ["output", (row) => whole.format(row.output_tokens), "number"],
      ["tools", (row) => whole.format(row.tool_calls), "number"],
      ["the same tokens at list price", cheaper, "id"],
    ], rows),
  ];
}

async function dimension(name, given) {
  const answer = await json(`dimensions/${encodeURIComponent(name)}`, { ...range(given), limit: 200 });
  const title = (row) => (row.other ? "(others)" : row.unattributed ? "(none named)" : row.value);
  const days = answer.values.flatMap((row) => (row.days || []).map((day) => ({ ...day, name: title(row) })));
  const [labels, series] = byDay(days, (row) => row.name);
  return [
    make("h2", {}, `By ${name}`),
    labels.length ? chart(`Cost by day and ${name}`, labels, series) : null,
    table(`By ${name}`, [[name, title, "id"], ...SPENT], answer.values),
    answer.left_out ? make("p", { class: "soft" }, `${counted(answer.left_out, "further value")}.`) : null,
  ];
}

async function unpriced(_, given) {
  const answer = await json("unpriced", range(given));
  return [
    make("h2", {}, `${counted(answer.calls, "call")} without a price`),
    make("p", { class: "soft" }, "Their cost is unknown, not zero; no total contains it."),
    table("Calls without a price", [["model", (row) => row.model || "(none named)", "id"], ["sold by", (row) => row.provider || "-"], ["reason", (row) => row.reason], ["calls", (row) => whole.format(row.calls), "number"], ["what to do", (row) => row.meaning]], answer.unpriced),
  ];
}

async function span(path, given) {
  if (!path) {
    const trace = make("input", { name: "trace", required: true, size: 34, pattern: "[0-9a-fA-F]{32}", placeholder: "trace id, 32 hex digits" });
    const id = make("input", { name: "span", required: true, size: 18, pattern: "[0-9a-fA-F]{16}", placeholder: "span id, 16 hex digits" });
    const go = (event) => {
      event.preventDefault();
      location.hash = address(`span/${trace.value}/${id.value}`, { tenant: given.tenant });
    };
    return [make("h2", {}, "Why a span costs what it costs"), make("form", { onsubmit: go, class: "more" }, make("label", {}, "Trace", trace), make("label", {}, "Span", id), make("button", {}, "Explain"))];
  }
  const found = await json(`spans/${path}`, { tenant: given.tenant });
  const flat = (value, prefix = "") =>
    value && typeof value === "object" ? Object.entries(value).flatMap(([name, inner]) => flat(inner, prefix ? `${prefix} ${name}` : name)) : [[prefix.replaceAll("_", " "), value == null ? null : String(value)]];
  return [make("h2", {}, `Span ${found.span_id}`), make("p", {}, found.why), facts(flat(found))];
}

// --- the whole ----------------------------------------------------------------------------------------------------

const VIEWS = {
  "": ["Spent", (id, given) => overview(id, given), ["since", "until", "tenant"]],
  sessions: ["Sessions", (_, given) => list("sessions", given), ["since", "until", "state", "model", "contains", "sort", "tenant"]],
  runs: ["Runs", (_, given) => list("runs", given), ["since", "until", "model", "contains", "sort", "tenant"]],
  "by/user": ["Users", (_, given) => dimension("user", given), ["since", "until", "tenant"]],
  "by/project": ["Projects", (_, given) => dimension("project", given), ["since", "until", "tenant"]],
  "by/agent": ["Agents", (_, given) => dimension("agent", given), ["since", "until", "tenant"]],
  "by/service": ["Services", (_, given) => dimension("service", given), ["since", "until", "tenant"]],
  unpriced: ["Unpriced", unpriced, ["since", "until", "tenant"]],
  span: ["Explain", span, ["tenant"]],
};
const DETAILS = { session: (id, given) => one("session", id, given), run: (id, given) => one("run", id, given), span, by: dimension };

function where() {
  const [path, query] = location.hash.replace(/^#\/?/, "").split("?");
  const given = Object.fromEntries(new URLSearchParams(query || ""));
  if (path in VIEWS) return { view: path, id: "", given, draw: VIEWS[path][1], filters: VIEWS[path][2] };
  const [view, ...rest] = path.split("/");
  const id = view === "span" ? rest.join("/") : decodeURIComponent(rest.join("/"));
  return { view, id, given, draw: DETAILS[view], filters: ["tenant"] };
}

async function draw(keepFocus = false) {
  const turn = ++shown;
  waiting = [];
  const { view, id, given, draw: content, filters } = where();
  menu(view, id, given);
  if (!keepFocus) filterForm(view, id, given, filters);
  try {
    const parts = content ? await content(id, given) : [make("p", {}, "There is no such view.")];
    if (turn !== shown) return;
    charts.forEach((made) => made.destroy());
    charts = [];
    const scrolled = window.scrollY;
    main.replaceChildren(...parts.filter((part) => part != null));
    waiting.forEach((drawn) => drawn());
    if (!keepFocus) window.scrollTo(0, 0);
    document.title = `${main.querySelector("h2")?.textContent || "Spanledger"} · Spanledger`;
    if (keepFocus) window.scrollTo(0, scrolled);
  } catch (problem) {
    if (turn === shown) show_problem(problem);
  }
}

function menu(view, id, given) {
  const current = view === "by" ? `by/${id}` : view === "session" ? "sessions" : view === "run" ? "runs" : view;
  const kept = range(given);
  document.getElementById("views").replaceChildren(
    ...Object.entries(VIEWS).map(([name, [title]]) => make("a", { href: address(name, kept), "aria-current": name === current ? "page" : null }, title))
  );
}

function filterForm(view, id, given, names) {
  const form = document.getElementById("filters");
  const field = (name) => {
    if (name in CHOICES) {
      const [title, options] = CHOICES[name];
      const known = given[name] && !(given[name] in options) ? { ...options, [given[name]]: given[name] } : options;
      return make("label", {}, title, make("select", { name, onchange: apply }, Object.entries(known).map(([value, text]) => make("option", { value, selected: (given[name] || "") === value }, text))));
    }
    return make("label", {}, name === "contains" ? "id or name" : name, make("input", { name, value: given[name] || "", size: 14, onchange: apply }));
  };
  const apply = (event) => {
    event.preventDefault();
    const filter = Object.fromEntries(new FormData(form));
    const path = view === "" || view in VIEWS ? view : `${view}/${encodeURIComponent(id)}`;
    location.hash = address(path, filter);
  };
  form.replaceChildren(...names.filter((name) => name !== "tenant" || given.tenant || tenants > 1).map(field));
  form.onsubmit = apply;
}

function show_problem(problem) {
  if (problem instanceof Refused && problem.status === 401) {
    const token = make("input", { type: "password", autocomplete: "off", "aria-label": "API token" });
    const keep = (event) => {
      event.preventDefault();
      sessionStorage.setItem(TOKEN, token.value);
      draw();
      follow();
    };
    main.replaceChildren(make("h2", {}, "This ledger asks for a token"), make("p", {}, "It is api.auth.bearer_token of the configuration. It is kept until this tab is closed."), make("form", { onsubmit: keep, class: "more" }, token, make("button", {}, "Show")));
    token.focus();
    return;
  }
  main.replaceChildren(make("h2", {}, "This cannot be shown"), make("p", { class: "bad" }, String(problem.message || problem)), make("button", { type: "button", onclick: () => draw() }, "Try again"));
}

let tenants = 1;
const live = document.getElementById("live");
let following = 0;

// Server-sent events by fetch: an EventSource cannot show a token.
async function follow() {
  const turn = ++following;
  let last = "";
  while (turn === following) {
    try {
      const answer = await ask("events", { tenant: where().given.tenant });
      let text = "";
      for await (const piece of pieces(answer.body)) {
        if (turn !== following) return;
        text += piece;
        const messages = text.split("\n\n");
        text = messages.pop();
        for (const message of messages) {
          const data = message.match(/^data: (.*)$/m)?.[1];
          if (!data) continue;
          const total = JSON.parse(data);
          live.textContent = `${money.format(total.cost_usd)} · live`;
          if (last && last !== data && !document.hidden) draw(true);
          last = data;
        }
      }
    } catch (problem) {
      if (problem instanceof Refused && problem.status === 401) return;
      live.textContent = "not connected";
    }
    await new Promise((done) => setTimeout(done, LIVE_MS));
  }
}

async function* pieces(body) {
  const reader = body.pipeThrough(new TextDecoderStream()).getReader();
  try {
    for (;;) {
      const { done, value } = await reader.read();
      if (done) return;
      yield value;
    }
  } finally {
    reader.cancel().catch(() => {});
  }
}

window.addEventListener("hashchange", () => {
  draw();
  main.focus({ preventScroll: true });
});
json("tenants").then((answer) => { tenants = answer.tenants.length; }, () => {}).then(() => { draw(); follow(); });
