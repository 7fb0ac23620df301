// A session in time: a lane for what no agent did, one for each agent below the one above it, one for each session that
// it spawned. A lane is folded; open, it lists its calls, each with a link to the arithmetic of its cost.

import { NONE, OTHERS, address, cost, costCell, counted, duration, link, make, money, named, soft, table, unpricedCalls, when, whole } from "./draw.js";

const MOST_SPAWNED = 50;
const NOTHING = { calls: 0, cost_usd: 0, cost_usd_exact: "0" };

const at = (text) => (text ? Date.parse(text) : NaN);

export function timeline(session, remembered, spawned, given) {
  const spans = remembered.spans;
  const agents = (session.agents || []).filter((agent) => agent.id);
  const edges = [session, ...agents, ...spawned].flatMap((row) => [at(row.first), at(row.last)]).concat(spans.flatMap((span) => [at(span.start), at(span.end)])).filter((time) => !Number.isNaN(time));
  if (!edges.length) return [soft("No time is known of it.")];
  const [from, to] = [Math.min(...edges), Math.max(...edges)];
  const scale = (time) => (to > from ? (100 * (time - from)) / (to - from) : 0);
  const bar = (start, end, kind, title) => {
    const element = make("i", { class: `bar ${kind}`, title });
    element.style.left = `min(${scale(start)}%, 100% - 3px)`;
    element.style.width = `${Math.max(scale(end) - scale(start), 0)}%`;
    return element;
  };
  const ofAgent = (id) => spans.filter((span) => (span.agent || "") === id);
  const barsOf = (mine, row) => (mine.length ? mine.filter((span) => span.kind !== "agent" && span.kind !== "workflow").map((span) => bar(at(span.start), at(span.end), span.failed ? "failed" : span.kind, titleOf(span))) : row.first ? [bar(at(row.first), at(row.last), "whole", `${when(row.first)} to ${when(row.last)}`)] : []);
  const lane = (key, name, row, bars, inside, below = together([])) => {
    const head = [make("span", { class: "who" }, name), make("span", { class: "track", "aria-hidden": "true" }, bars), make("span", { class: "number" }, costCell(row), below.calls ? make("span", { class: "soft" }, ` + ${cost(below)} below`) : null)];
    return inside.length ? make("details", { class: "lane", "data-key": key }, make("summary", {}, ...head), ...inside) : make("div", { class: "lane leaf" }, make("div", { class: "head" }, ...head));
  };
  const known = new Set(agents.map((agent) => agent.id));
  const drawn = new Set();
  const agentLane = (agent) => {
    drawn.add(agent.id);
    const mine = ofAgent(agent.id);
    const below = agents.filter((other) => other.parent_id === agent.id && !drawn.has(other.id)).map(agentLane);
    const spent = together(below.map((one) => one.spent));
    const drawnLane = lane(`agent ${agent.id}`, named(agent.id), agent, barsOf(mine, agent), [...below.map((one) => one.lane), ...calls(mine, given)], spent);
    return { lane: drawnLane, spent: together([agent, spent]) };
  };
  const rest = (which, otherwise) => (session.agents || []).find((agent) => !agent.id && Boolean(agent.other) === which) || otherwise;
  const own = spans.filter((span) => !span.agent || !agents.length);
  const ofOthers = spans.filter((span) => span.agent && agents.length && !known.has(span.agent)); // the dearest agents alone are told apart
  const lanes = [];
  if (own.length || !agents.length) lanes.push(lane("own", agents.length ? NONE : "this session", agents.length ? rest(false, NOTHING) : session, barsOf(own, agents.length ? {} : session), calls(own, given)));
  for (const agent of agents) if (!known.has(agent.parent_id) || agent.parent_id === agent.id) lanes.push(agentLane(agent).lane);
  for (const agent of agents) if (!drawn.has(agent.id)) lanes.push(agentLane(agent).lane); // agents above each other
  if (rest(true)) lanes.push(lane("others", OTHERS, rest(true), barsOf(ofOthers, rest(true)), calls(ofOthers, given)));
  for (const child of spawned.slice(0, MOST_SPAWNED)) {
    const name = make("span", {}, "session ", make("a", { href: address(`session/${encodeURIComponent(child.id)}`, { tenant: given.tenant }) }, named(child.name || child.id)));
    lanes.push(lane(`session ${child.id}`, name, child, child.first ? [bar(at(child.first), at(child.last), "spawned", `${when(child.first)} to ${when(child.last)}`)] : [], []));
  }
  return [
    make("div", { class: "timeline", role: "group", "aria-label": "Timeline" }, make("div", { class: "axis" }, make("span", {}, `${when(new Date(from).toISOString())} UTC`), make("span", {}, `${duration((to - from) / 1000)} until ${when(new Date(to).toISOString()).slice(11)}`)), lanes),
    make("p", { class: "soft legend" }, make("i", { class: "key llm" }), "model call ", make("i", { class: "key tool" }), "tool ", make("i", { class: "key failed" }), "failed ", make("i", { class: "key spawned" }), "spawned session"),
    spawned.length > MOST_SPAWNED ? soft(`${MOST_SPAWNED} of the sessions that it spawned are drawn; they are all in the table below.`) : null,
    spans.length < session.spans ? soft(`${counted(spans.length, "span")} of ${whole(session.spans)}: single calls are remembered for as long as state.retention.spans says (24 h by default).`) : null,
  ];
}

// What rows spent together; calls without a price stay apart, since unknown is never 0.
function together(rows) {
  const sum = (of) => rows.reduce((total, row) => total + (of(row) || 0), 0);
  return { calls: sum((row) => row.calls), cost_usd: sum((row) => row.cost_usd), unpriced: { any: sum(unpricedCalls) } };
}

function titleOf(span) {
  const what = span.kind === "tool" ? span.tool || "tool" : span.model || span.kind;
  return `${what}, ${when(span.start)}, ${duration(span.duration_s)}, ${amount(span)}`;
}

function amount(span) {
  if (span.unpriced) return "unknown";
  if (span.cost_usd == null) return "-";
  return `${span.estimate ? "about " : ""}${money(span.cost_usd)}`;
}

function calls(spans, given) {
  if (!spans.length) return [];
  const shown = spans.slice(-100);
  const columns = [
    ["start, UTC", (span) => when(span.start), "time", (span) => span.start],
    ["what", (span) => (span.kind === "tool" ? named(span.tool || "tool") : named(span.model || span.kind)), "id"],
    ["took", (span) => duration(span.duration_s), "number", (span) => span.duration_s],
    ["input", (span) => (span.input_tokens == null ? "-" : whole(span.input_tokens)), "number"],
    ["output", (span) => (span.output_tokens == null ? "-" : whole(span.output_tokens)), "number"],
    ["cost, USD", amount, "number", (span) => span.cost_usd_exact ?? ""],
    ["", (span) => link("explain", `span/${span.trace_id}/${span.span_id}`, { tenant: given.tenant })],
  ];
  return [spans.length > shown.length ? soft(`The last ${shown.length} of ${whole(spans.length)}.`) : null, table("Calls", columns, shown)].filter(Boolean);
}
