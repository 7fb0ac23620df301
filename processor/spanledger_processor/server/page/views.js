// Views over the API: each returns the elements of one, from the address (id, and parameters as the API takes them).

import { ask, inPath, json, rowsOf } from "./ask.js";
import { contextOf, dayBars, loopsCell, modelsCell, sessionLink, stateCell, timeLines, titleOf } from "./cells.js";
import { NONE, NO_MODEL, OTHERS, SPENT, WITHOUT_A_PRICE, address, byDay, compact, cost, costCell, counted, duration, everyDay, facts, link, make, money, named, quoted, save, shareCached, soft, table, tokens, unpricedCalls, unpricedOf, when, whole } from "./draw.js";
import { filtered, notFiltered, notToldApart, range, rangeText, sinceOf, whose } from "./filter.js";
import { timeline } from "./timeline.js";

// --- lists --------------------------------------------------------------------------------------------------------

export async function list(kind, given) {
  const isSessions = kind === "sessions";
  const { rows, cursor, comparedSince } = await rowsOf(kind, kind, given);
  const title = isSessions ? "Sessions" : "Runs";
  const columns = [
    [isSessions ? "session" : "run", (row) => (isSessions || !row.id ? sessionLink(row, given) : make("a", { href: address(`run/${encodeURIComponent(row.id)}`, { tenant: given.tenant }) }, named(row.name || row.id))), "id", (row) => row.id],
    ...(isSessions ? [["state", stateCell]] : []),
    ...SPENT.slice(0, 2),
    ["last activity, UTC", (row) => when(row.last), "time", (row) => row.last],
    ...SPENT.slice(2, 5),
    ...(isSessions ? [["context", contextOf, "number", (row) => row.context_peak || ""]] : []),
    ["tools", (row) => whole(row.tool_calls || 0), "number"],
    ...(isSessions ? [["loops", loopsCell, "number"]] : []),
    ...(rows.some((row) => row.project) ? [["project", (row) => (row.project ? named(row.project) : "-"), "short"]] : []),
    ["models", modelsCell, "models"],
    ...(rows.some(unpricedCalls) ? [WITHOUT_A_PRICE] : []),
  ];
  const isFiltered = Object.keys(given).some((name) => !["tenant", "sort", "cursor"].includes(name));
  const none = cursor ? "None so far: there is more to look through." : isFiltered ? "None that fit the filter." : isSessions ? "No session yet." : "No run yet: a run is listed when it is named, or has more than one session.";
  return [
    make("h2", {}, title, ...whose(given)),
    given.parent ? soft("Only those that session ", named(given.parent), " spawned.") : null,
    given.dimension ? soft(`${isSessions ? "Sessions in which something has" : "Runs of which a session has"} this value, with all that they spent. Where a session has more than three values of a dimension three are known, of agents, models and providers all.`) : null,
    given.sort === "cost" && (given.since || given.until) ? soft(`The dearest of those last active in this time: ${rangeText(given)}.`) : null,
    comparedSince ? soft(`So many runs are sorted in slices by last activity: this one goes back to ${when(comparedSince)} UTC, and dearer ones may stand on later pages.`) : null,
    rows.length ? table(title, columns, rows, { csv: false }) : soft(none),
    isSessions || given.all ? null : soft("Sessions that are runs of their own are not among them; ", link("all runs", kind, { ...given, all: "true", cursor: "" }), isFiltered ? "." : " add up to the whole."),
    make(
      "div",
      { class: "more" },
      given.cursor ? link("First page", kind, { ...given, cursor: "" }) : null,
      cursor ? link("Next page", kind, { ...given, cursor }) : null,
      rows.length ? make("button", { type: "button", onclick: (event) => saveAll(event.target, kind, given) }, "All of these as CSV") : null
    ),
  ];
}

async function saveAll(button, path, given) {
  const { cursor, ...filter } = given;
  button.disabled = true;
  try {
    save(path, await (await ask(path, { ...filter, format: "csv" })).blob());
  } catch (problem) {
    button.after(make("span", { class: "bad" }, problem.message));
  } finally {
    button.disabled = false;
  }
}

// --- one session, one run -----------------------------------------------------------------------------------------

function summaryOf(row, given) {
  return facts([
    ["id", row.id ? named(row.id) : null],
    ["project", row.project && !row.dimensions?.project ? named(row.project) : null],
    ["state", row.state ? stateCell(row) : row.closed ? "closed" : null],
    ["cost", costCell(row)],
    ["calls", whole(row.calls)],
    ["without a price", unpricedOf(row)],
    ["tool calls", row.denied ? `${whole(row.tool_calls || 0)}, ${whole(row.denied)} denied` : whole(row.tool_calls || 0)],
    ["tokens", `${whole(tokens(row, "input"))} in (${shareCached(row)} cached), ${whole(tokens(row, "output"))} out`],
    ["turns", row.turns == null ? null : whole(row.turns)],
    ["failures", row.failures ? whole(row.failures) : null],
    ["active", row.active_seconds == null ? null : duration(row.active_seconds)],
    ["processes", row.instances?.length ? named(row.instances.join(", ")) : null],
    ...Object.entries(row.dimensions || {}).map(([name, values]) => [name, make("span", {}, ...values.flatMap((value, index) => [index ? ", " : "", make("a", { href: address("sessions", { dimension: `${name}:${value}`, tenant: given.tenant }) }, named(value))]))]),
    ["first activity", `${when(row.first)} UTC`],
    ["last activity", `${when(row.last)} UTC`],
    ["run", row.run_id && row.run_id !== row.id ? make("a", { href: address(`run/${encodeURIComponent(row.run_id)}`, { tenant: given.tenant }) }, named(row.run_id)) : null],
    ["parent session", row.parent_id ? make("a", { href: address(`session/${encodeURIComponent(row.parent_id)}`, { tenant: given.tenant }) }, named(row.parent_id)) : null],
    ["note", row.note],
  ]);
}

const byModel = (rows) => [make("h2", {}, "By model"), table("Cost by model", [["model", (row) => (row.model ? named(row.model) : NO_MODEL), "id"], ["cost, USD", (row) => make("span", { title: `${row.cost_usd_exact} USD` }, money(row.cost_usd)), "number", (row) => row.cost_usd_exact]], rows)];

// The cost of a model is not there where none of its calls has a price.
const USE_BY_MODEL = [
  ["model", (row) => (row.model ? named(row.model) : NO_MODEL), "id"],
  ["cost, USD", (row) => (row.cost_usd === undefined ? "unknown" : make("span", { title: `${row.cost_usd_exact} USD` }, money(row.cost_usd))), "number", (row) => row.cost_usd_exact ?? "unknown"],
  ...SPENT.slice(1, 5),
];

export async function session(id, given) {
  const row = await json(`sessions/${inPath(id)}`, { tenant: given.tenant });
  const [remembered, { sessions: children, next_cursor: moreSpawned }, { tools: repeats, next_cursor: moreRepeats }, toLookAt] = await Promise.all([
    json(`timeline/${inPath(id)}`, { tenant: given.tenant, limit: 500 }),
    id ? json("sessions", { parent: id, tenant: given.tenant, limit: 200 }) : { sessions: [] }, // asked of no id they are all
    id ? json("tools", { session: id, tenant: given.tenant, limit: 50 }) : { tools: [] },
    candidatesOf(id, given),
  ]);
  const spawned = children.filter((child) => child.id);
  const parts = [make("h2", {}, titleOf(row) ? named(titleOf(row)) : NONE), summaryOf(row, given)];
  parts.push(make("h2", {}, "Timeline"), ...timeline(row, remembered, spawned, given));
  if ((row.context || []).length > 1) {
    const points = row.context.filter((point) => point.at);
    parts.push(make("h2", {}, "Context: input tokens of a call, over time"), ...timeLines("Context over time", points.map((point) => Date.parse(point.at)), [["input tokens", points.map((point) => point.input_tokens)]]));
  }
  const used = row.usage_by_model || [];
  parts.push(...(used.some((model) => model.calls) ? [make("h2", {}, "By model"), table("By model", USE_BY_MODEL, used)] : byModel(row.models || [])));
  if (row.agents?.length) parts.push(make("h2", {}, "By agent"), table("By agent", [["agent", (agent) => (agent.other ? OTHERS : agent.id ? named(agent.id) : NONE), "id"], ["below", (agent) => (agent.parent_id ? named(agent.parent_id) : "-"), "id"], ...SPENT], row.agents));
  if (spawned.length) parts.push(make("h2", {}, "Sessions that it spawned"), table("Sub-agents", [["session", (child) => sessionLink(child, given), "id", (child) => child.id], ["state", stateCell], ...SPENT], spawned));
  if (moreSpawned) parts.push(soft(`The first ${spawned.length}; `, link("all that it spawned", "sessions", { parent: id, tenant: given.tenant }), "."));
  parts.push(...toLookAt);
  if (row.tools?.length) parts.push(make("h2", {}, "Tools"), ...toolTable(row.tools));
  const again = repeats.filter((call) => call.times > 1);
  if (again.length) {
    parts.push(make("h2", {}, "Tool calls made again with the same arguments"), table("Repeated tool calls", [
      ["tool", (call) => named(call.tool), "id"],
      ["times", (call) => whole(call.times), "number"],
      ["in a row", (call) => whole(call.in_a_row), "number"],
      ["loop", (call) => (call.loop ? make("span", { class: "bad" }, "loop") : "")],
      ["last, UTC", (call) => when(call.last), "time"],
    ], again));
    if (moreRepeats) parts.push(soft("There are more: ", make("code", {}, `spanledger tools --session ${id}`), "."));
  }
  if (row.by_task?.length) parts.push(make("h2", {}, "By task"), table("By task", [["task", (task) => task.id ? named(task.id) : NONE, "id"], ["kinds of work", (task) => Object.keys(task.kinds || {}).filter(Boolean).join(", ")], ...SPENT], row.by_task));
  return parts;
}

export async function run(id, given) {
  const row = await json(`runs/${inPath(id)}`, { tenant: given.tenant });
  const parts = [make("h2", {}, row.id ? named(row.id) : NONE), soft("A run"), summaryOf(row, given)];
  if (row.sessions?.length) {
    parts.push(make("h2", {}, "Sessions of this run"), tree(row.sessions, given));
    if (row.sessions_left_out) parts.push(soft(`${counted(row.sessions_left_out, "further session")} of this run: spanledger sessions.`));
    parts.push(soft("Amounts are those of the whole sessions: one that works for several runs has a part in each."));
  }
  return [...parts, ...byModel(row.models || [])];
}

function tree(rows, given) {
  const ids = new Set(rows.map((row) => row.id));
  const below = Map.groupBy ? Map.groupBy(rows, (row) => (ids.has(row.parent_id) ? row.parent_id : "")) : grouped(rows, (row) => (ids.has(row.parent_id) ? row.parent_id : ""));
  const seen = new Set();
  const branch = (row) => {
    seen.add(row.id);
    const children = (below.get(row.id) || []).filter((child) => !seen.has(child.id));
    const line = [sessionLink(row, given), " ", make("b", {}, cost(row)), make("span", { class: "soft" }, ` ${counted(row.calls, "call")}, ${when(row.last)}`)];
    return make("li", {}, children.length ? make("details", { open: true, "data-key": row.id }, make("summary", {}, ...line), make("ul", { class: "tree" }, children.map(branch))) : make("span", {}, ...line));
  };
  const list = make("ul", { class: "tree" }, (below.get("") || []).map(branch));
  for (const row of rows) if (!seen.has(row.id)) list.append(branch(row)); // sessions that spawned each other
  return list;
}

function grouped(rows, keyOf) {
  const groups = new Map();
  for (const row of rows) groups.set(keyOf(row), [...(groups.get(keyOf(row)) || []), row]);
  return groups;
}

// --- candidates ---------------------------------------------------------------------------------------------------

const cheaper = (row) => row.same_tokens_on.slice(0, 3).map((other) => `${other.model}: ${money(other.cost_usd)}`).join(", ") || "none of those compared";

const CANDIDATE = [
  ["agent", (row) => named(row.agent), "id"],
  ["why", (row) => row.kinds.join(", ").replaceAll("_", "-")],
  ["model", (row) => named(row.models.join(", ")), "id"],
  ["cost, USD", (row) => make("span", { title: `${row.cost_usd_exact} USD` }, money(row.cost_usd)), "number", (row) => row.cost_usd_exact],
  ["calls", (row) => whole(row.calls), "number"],
  ["input a call", (row) => whole(row.input_tokens_a_call), "number"],
  ["output", (row) => whole(row.output_tokens), "number"],
  ["tools", (row) => whole(row.tool_calls), "number"],
  ["the same tokens at list price", cheaper, "id"],
];

async function candidatesOf(id, given) {
  const { candidates: rows } = await json(`candidates/${inPath(id)}`, { tenant: given.tenant });
  return rows.length ? [make("h2", {}, "To look at: agents that may have had more than they needed"), table("Candidates", CANDIDATE, rows)] : [];
}

const LOOKED_AT = 25;

export async function candidates(_, given) {
  const { rows: dearest } = await rowsOf("sessions", "sessions", { ...filtered(given), sort: "cost" }, { most: LOOKED_AT });
  const found = [];
  for (const row of dearest.filter((one) => one.id)) {
    const answer = await json(`candidates/${inPath(row.id)}`, { tenant: given.tenant });
    found.push(...answer.candidates.map((one) => ({ ...one, session: row })));
  }
  found.sort((one, other) => other.cost_usd - one.cost_usd);
  return [
    make("h2", {}, "Agents that may have had more than they needed", ...whose(given)),
    soft(`Of the ${counted(dearest.length, "dearest session")}: a premium model for little output and few tools (over-powered), or much context for little output (over-provisioned). To look at, not a promised saving: whether another model would have done as well, nobody knows here.`),
    found.length ? table("Candidates", [["session", (row) => sessionLink(row.session, given), "id", (row) => row.session.id], ...CANDIDATE], found) : soft("None."),
  ];
}

// --- tools --------------------------------------------------------------------------------------------------------

const fedCost = ({ fed }) => (fed == null ? "-" : fed.cost_usd == null ? make("span", { class: "bad" }, "unknown") : make("span", { title: `${fed.cost_usd_exact} USD, an estimate${fed.unpriced ? `; of ${counted(fed.unpriced, "result")} unknown` : ""}` }, `~${money(fed.cost_usd)}`));

const TOOL = [
  ["tool", (tool) => (tool.other ? OTHERS : named(tool.id)), "id"],
  ["calls", (tool) => whole(tool.calls), "number"],
  ["failed", (tool) => whole(tool.failures), "number"],
  ["denied", (tool) => whole(tool.denied), "number"],
  ["loops", (tool) => (tool.loops ? make("span", { class: "bad" }, whole(tool.loops)) : "0"), "number", (tool) => tool.loops],
  ["own cost, USD", (tool) => (tool.cost_usd ? make("span", { title: `${tool.cost_usd_exact} USD` }, money(tool.cost_usd)) : "-"), "number", (tool) => tool.cost_usd_exact],
  ["tokens brought", (tool) => (tool.fed == null ? "-" : whole(tool.fed.input_tokens)), "number", (tool) => tool.fed?.input_tokens],
  ["for about, USD", fedCost, "number", (tool) => tool.fed?.cost_usd_exact],
];

const toolTable = (rows) => [
  table("Tools", TOOL, rows),
  rows.some((row) => row.fed) ? soft("Tokens brought: by how much results of the tool let the input of the next model call grow, and what that cost there: an estimate, within the cost of those calls.") : null,
];

export async function tools(_, given) {
  const since = sinceOf(given);
  const answer = await json("summary", { ...range(given), since, by: "tool", limit: 200 });
  return [
    make("h2", {}, `Tools, ${rangeText({ ...given, since })}`),
    ...(answer.tools.length ? toolTable(answer.tools) : [soft("No tool was called in this time, as far as spans tell.")]),
    answer.tools_left_out ? soft(`${counted(answer.tools_left_out, "further tool")}: /api/v1/summary?by=tool.`) : null,
  ];
}

// --- dimensions, speed, unpriced ----------------------------------------------------------------------------------

export async function dimension(name, given) {
  const since = sinceOf(given);
  const answer = await json(`dimensions/${inPath(name)}`, { ...range(given), since, limit: 100 });
  const title = (row) => (row.other ? OTHERS : row.unattributed ? (name === "model" ? NO_MODEL : NONE) : quoted(row.value));
  const cellOf = (row) => (row.other || row.unattributed ? title(row) : make("a", { href: address("", { ...range(given), since, dimension: `${name}:${row.value}` }) }, named(row.value)));
  const sessionsOf = (row) => (row.other || row.unattributed ? "" : link("sessions", "sessions", { ...range(given), since, dimension: `${name}:${row.value}` }));
  const days = answer.values.flatMap((row) => (row.days || []).map((day) => ({ ...day, name: title(row) })));
  const [labels, series] = byDay(days, (row) => row.name);
  return [
    make("h2", {}, `By ${name}, ${rangeText({ ...given, since })}`),
    soft("A value leads to what was spent by it alone."),
    ...(labels.length ? dayBars(`Cost by day and ${name}`, labels, series) : []),
    answer.values.length ? table(`By ${name}`, [[name, cellOf, "id"], ...SPENT, ["", sessionsOf, "time"]], answer.values) : soft("Nothing was spent in this time."),
    answer.left_out ? soft(`Among the others are ${counted(answer.left_out, "further value")}: /api/v1/dimensions/${name}?limit=1000.`) : null,
  ];
}

const SPEEDS = [["first_token_s", "first token", duration], ["output_tokens_per_s", "tokens/s", (value) => (value == null ? "-" : compact(value))], ["duration_s", "took", duration]];

export async function speed(_, given) {
  const asked = notFiltered("speed", given) ? range(given) : filtered(given);
  const answer = await json("summary", { ...asked, since: sinceOf(given), by: "model,day" });
  const models = (answer.models || []).filter((row) => row.speed);
  const known = new Map((answer.days || []).filter((row) => row.speed && row.day).map((row) => [row.day, row.speed]));
  const days = everyDay([...known.keys()]);
  const percentile = (what, share, format) => (row) => format(row.speed[what]?.[share]);
  const columns = [["model", (row) => (row.other ? OTHERS : row.model ? named(row.model) : NO_MODEL), "id"], ["sold by", (row) => (row.provider ? named(row.provider) : "-"), "word"]];
  for (const [what, title, format] of SPEEDS) for (const share of ["p50", "p90", "p99"]) columns.push([`${title} ${share}`, percentile(what, share, format), "number", (row) => row.speed[what]?.[share]]);
  columns.push(["calls", (row) => whole(row.speed.duration_s?.calls || 0), "number"], ["first token known", (row) => whole(row.speed.first_token_s?.calls || 0), "number"]);
  const overDays = (what, title, format) => [make("h2", {}, title), ...timeLines(title, days.map((day) => Date.parse(day)), ["p50", "p90", "p99"].map((share) => [share, days.map((day) => known.get(day)?.[what]?.[share] ?? null)]), format)];
  if (!models.length) return [make("h2", {}, "Speed"), soft("No call in this time of which it is known how long it took.")];
  return [
    make("h2", {}, "Speed by model", ...(asked.dimension ? whose(given) : []), `, ${rangeText({ ...given, since: sinceOf(given) })}`),
    table("Speed by model", columns, models),
    soft("Percentiles of calls that did not fail, each within 9 %. The first token is known where spans tell it; tokens a second are those of the whole call."),
    ...(days.length > 1 && [...known.values()].some((one) => one.first_token_s) ? overDays("first_token_s", "Time to the first token, by day", duration) : []),
    ...(days.length > 1 ? overDays("output_tokens_per_s", "Output tokens a second, by day", compact) : []),
  ];
}

// What stands between backticks is code.
const withCode = (text) => make("span", {}, ...text.split("`").map((part, place) => (place % 2 ? make("code", {}, part) : part)));

export async function unpriced(_, given) {
  const answer = await json("unpriced", filtered(given));
  if (!answer.calls) return [make("h2", {}, "Every call has a price", ...whose(given)), soft(`Looked at: ${rangeText(given)}.`), notToldApart(answer)];
  const byModel = answer.unpriced.some((row) => row.model != null); // of one value of a dimension they are kept by reason alone
  const columns = [
    ...(byModel ? [["model", (row) => (row.model ? named(row.model) : NO_MODEL), "id"], ["sold by", (row) => (row.provider ? named(row.provider) : "-"), "word"]] : []),
    ["reason", (row) => row.reason],
    ["calls", (row) => whole(row.calls), "number"],
    ["what to do", (row) => withCode(row.meaning), "text"],
    ["", (row) => link("sessions", "sessions", { ...filtered(given), unpriced: row.reason })],
  ];
  const shown = answer.unpriced.reduce((sum, row) => sum + row.calls, 0);
  return [
    make("h2", {}, `${counted(answer.calls, "call")} without a price`, ...whose(given)),
    soft("Their cost is unknown, not zero; no total contains it."),
    notToldApart(answer),
    table("Calls without a price", columns, answer.unpriced),
    answer.left_out ? soft(`${counted(answer.left_out, "further row")}, of ${counted(answer.calls - shown, "call")}: /api/v1/unpriced?limit=1000.`) : null,
  ];
}

// --- the arithmetic of one call -----------------------------------------------------------------------------------

export async function span(path, given) {
  if (!path) {
    const trace = make("input", { name: "trace", required: true, size: 34, pattern: "\\s*[0-9a-fA-F]{32}\\s*", placeholder: "32 hex digits" });
    const id = make("input", { name: "span", required: true, size: 18, pattern: "\\s*[0-9a-fA-F]{16}\\s*", placeholder: "16 hex digits" });
    const go = (event) => {
      event.preventDefault();
      location.hash = address(`span/${trace.value.trim()}/${id.value.trim()}`, { tenant: given.tenant });
    };
    return [make("h2", {}, "Why a span costs what it costs"), soft("By the ids that your traces show, or from the timeline of a session."), make("form", { onsubmit: go, class: "more" }, make("label", {}, "trace id", trace), make("label", {}, "span id", id), make("button", {}, "Explain"))];
  }
  const found = await json(`spans/${path}`, { tenant: given.tenant });
  return [make("h2", {}, `Span ${found.span_id}`), make("p", {}, `${found.role.replaceAll("_", " ")}: ${found.why}.`), ...arithmetic(found), ...origin(found, given)];
}

function arithmetic({ cost: paid, usage, model, provider, counts_now: counts }) {
  if (!paid && !usage) return [];
  const amount = paid?.cost_usd_exact == null ? make("span", { class: "bad" }, `unknown: ${paid?.unpriced || "no usage"}`) : `${paid.cost_usd_exact} USD${paid.estimate ? " (an estimate)" : ""}`;
  const told = Object.entries(usage || {}).filter(([, count]) => count != null);
  const parts = Object.entries(paid?.parts_usd_exact || {}).filter(([name, part]) => part !== "0" || priced(name, usage || {}) > 0);
  return [
    make("h3", {}, "Cost"),
    facts([["model", model ? `${model}${provider ? `, sold by ${provider}` : ""}` : null], ["amount", amount], ["from", paid?.source], ["price", paid?.price], ["reported", paid?.reported_usd_exact && `${paid.reported_usd_exact} USD`], ["counts now", counts ? "yes" : "no: later spans proved it a repeat, or it adds nothing"], ["note", paid?.note]]),
    told.length && !parts.length ? table("Usage", [["usage", ([name]) => name.replaceAll("_", " ")], ["count", ([, count]) => whole(count), "number", ([, count]) => count]], told) : null,
    parts.length
      ? table("Parts of the cost", [
          ["part", ([name]) => (name === "input" && priced("input", usage || {}) !== usage?.input ? "input, less both caches" : name.replaceAll("_", " "))],
          ["tokens", ([name]) => (priced(name, usage || {}) == null ? "" : whole(priced(name, usage || {}))), "number"],
          ["USD a million", ([name, part]) => rate(part, priced(name, usage || {})), "number"],
          ["USD", ([, part]) => part, "number"],
        ], [...parts, ["together", paid.computed_usd_exact]])
      : null,
  ];
}

// The tokens that a part of the cost is for; of "other" it is no tokens.
function priced(name, usage) {
  if (name === "input") return usage.input == null ? null : usage.input - (usage.cache_read || 0) - (usage.cache_write || 0);
  return ["cache_read", "cache_write", "output"].includes(name) ? (usage[name] ?? null) : null;
}

// Where a part has tokens of several rates (images, caches of an hour), it is their average.
const rate = (part, count) => (count > 0 ? String(Number(((Number(part) * 1e6) / count).toPrecision(6))) : "");

function origin(found, given) {
  const source = (what) => (what ? ` (by ${what})` : "");
  const id = (view, one) => (one ? make("span", {}, make("a", { href: address(`${view}/${encodeURIComponent(one.id)}`, { tenant: given.tenant }) }, named(one.id)), source(one.source)) : null);
  const other = found.duplicate_of && link(found.duplicate_of, `span/${found.trace_id}/${found.duplicate_of}`, { tenant: given.tenant });
  return [
    make("h3", {}, "Read as"),
    facts([
      ["trace", found.trace_id], ["kind", found.kind], ["vocabulary", found.dialect], ["granularity", found.granularity],
      ["counted instead", other], ["session", id("session", found.session)], ["run", id("run", found.run)], ["agent", found.agent_id],
      ["task", found.task && [found.task.id, found.task.kind].filter(Boolean).join(", ")],
      ["tool call", found.tool && `made ${counted(found.tool.repeats || 1, "time")}${found.tool.loop ? ", a loop" : ""}`], ["note", found.note],
    ]),
  ];
}
