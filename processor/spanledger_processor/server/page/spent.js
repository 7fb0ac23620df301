// What was spent: by period against budgets, by day and model, the dearest sessions; of everything or of one value of a dimension.

import { json, rowsOf } from "./ask.js";
import { contextOf, dayBars, loopsCell, modelsCell, sessionLink } from "./cells.js";
import { DAY, NO_MODEL, OTHERS, SPENT, address, byDay, cost, counted, dayText, link, make, money, named, quoted, soft, table, tile, unpricedCalls, when, whole } from "./draw.js";
import { filtered, notToldApart, range, rangeText, sinceOf, valueOf, whose } from "./filter.js";

function periods(now = new Date()) {
  const monday = new Date(now.getTime() - ((now.getUTCDay() + 6) % 7) * DAY);
  return [["today", "today", "day"], ["this week, from Monday", dayText(monday), "week"], ["this month", `${dayText(now).slice(0, 8)}01`, "month"]];
}

export async function overview(_, given) {
  const asked = periods();
  const of = valueOf(given);
  const one = { dimension: given.dimension, tenant: given.tenant };
  const shown = { ...filtered(given), since: sinceOf(given) };
  const [sums, everything, summary, daily, { budgets }, { rows: dearest }, told] = await Promise.all([
    Promise.all(asked.map(([, since]) => json("summary", { ...one, since, until: since === "today" ? since : "", by: "day", limit: 1 }))),
    json("summary", { ...one, by: "model", limit: 1 }),
    json("summary", { ...shown, by: "model", limit: MOST_MODELS }),
    json("summary", { ...shown, by: "day,day_model" }),
    json("budgets", { tenant: given.tenant, value: of?.value, limit: 200, period: "day,week,month,rolling" }),
    rowsOf("sessions", "sessions", { ...shown, sort: "cost" }, { most: 5, patienceMs: 300 }),
    of ? [] : ofEverything(given),
  ]);
  const total = everything.total;
  if (!of && !total.spans) return empty(given);
  const rows = of ? budgets.filter((row) => row.dimension === of.name) : budgets;
  const [days, series] = byDay(daily.days_by_model || [], (row) => (row.other ? OTHERS : quoted(row.model) || NO_MODEL), daily.days);
  const span = rangeText({ ...given, since: sinceOf(given) });
  return [
    make("h2", {}, "Spent", ...whose(given)),
    make(
      "div",
      { class: "tiles" },
      sums.map((answer, index) => spentTile(asked[index], answer.total, of ? rows : rows.filter((row) => !row.dimension))),
      tile("everything", cost(total), counted(total.calls, "call") + (of ? "" : `, ${counted(total.tool_calls || 0, "tool call")}`), ...withoutPrice(total)),
      total.late_correction_usd ? tile("sent on spans beyond the ledger", money(total.late_correction_usd), "later spans proved them repeats; the ledger is right") : null
    ),
    notToldApart(everything),
    ...budgetTable("Budgets", rows, given),
    ...told,
    of ? soft("Warnings, and budgets of other values, of sessions and of runs, are not shown here.") : null,
    make("h2", {}, "By day and model", ...whose(given), `, ${span}`),
    ...(days.length ? dayBars("Cost by day and model", days, series) : [soft("Nothing with a price was spent in this time.")]),
    ...modelTable(summary.models || [], given),
    ...dearestTable(dearest.filter((row) => row.id), given, span, shown),
  ];
}

const MOST_MODELS = 20;

// What is not of one value alone: budgets of sessions and runs, and warnings.
async function ofEverything(given) {
  const [{ budgets }, { warnings }] = await Promise.all([json("budgets", { tenant: given.tenant, limit: 11, period: "session,run" }), json("warnings", { tenant: given.tenant, limit: 10 })]);
  return [...budgetTable("Budgets of sessions and runs", budgets, given), ...warningTable(warnings, given)];
}

// By model a value of a dimension has a cost alone, unless it is a model or a provider itself.
function modelTable(rows, given) {
  if (!rows.length) return [];
  const ofModel = (row) => (row.other ? OTHERS : link(row.model ? named(row.model) : NO_MODEL, "sessions", { ...filtered(given), model: row.provider ? `${row.provider}/${row.model}` : row.model }));
  const all = rows.every((row) => row.calls != null);
  const more = rows.some((row) => row.other) && !valueOf(given);
  return [
    table("By model", all ? [["model", ofModel, "id"], ["sold by", (row) => (row.provider ? named(row.provider) : "-"), "word"], ...SPENT] : [["model", ofModel, "id"], SPENT[0]], rows),
    all ? null : soft("Of one value of this dimension the cost alone is kept by model: what has no price is in the sums above, and not here."),
    more ? make("p", {}, link("All models", "by/model", range(given))) : null,
  ];
}

function dearestTable(rows, given, span, shown) {
  const all = make("p", {}, link("All sessions by cost", "sessions", { ...shown, sort: "cost" }));
  if (!rows.length) return valueOf(given) ? [all] : [];
  const columns = [
    ["session", (row) => sessionLink(row, given), "id", (row) => row.id],
    ...SPENT.slice(0, 2),
    ["context", contextOf, "number", (row) => row.context_peak || ""],
    ["tools", (row) => whole(row.tool_calls || 0), "number"],
    ["loops", loopsCell, "number"],
    ["models", modelsCell, "models"],
  ];
  return [
    make("h2", {}, "The dearest sessions", ...whose(given), `${span === "all days" ? "" : `, active ${span.startsWith("the last") ? "in " : ""}${span}`}`),
    table("The dearest sessions", columns, rows),
    given.dimension ? soft("With all that each session spent in which something has this value.") : null,
    all,
  ];
}

function spentTile([title, , period], total, budgets) {
  const budget = budgets.find((row) => row.period === period);
  return tile(title, cost(total), counted(total.calls, "call"), ...(budget ? [meter(budget), `${share(budget)} of ${money(budget.amount_usd)}`] : []), ...withoutPrice(total));
}

const withoutPrice = (total) => (unpricedCalls(total) ? [`${whole(unpricedCalls(total))} without a price`] : []);

const share = (row) => (row.used > 0 && row.used < 0.01 ? "< 1 %" : row.used > 0.99 && !row.over ? "> 99 %" : `${Math.round(100 * row.used)} %`);

function meter(row) {
  const bar = make("span", { class: `meter ${row.over ? "over" : row.forecast ? "soon" : ""}`, role: "img", "aria-label": `${share(row)} used` }, make("i"));
  bar.firstChild.style.width = `${Math.min(100, 100 * row.used)}%`;
  return bar;
}

function budgetTable(title, rows, given) {
  if (!rows.length) return [];
  const state = (row) => (row.over ? make("span", { class: "bad" }, "used up") : row.forecast ? make("span", { class: "warn" }, "will not last") : "within");
  const whose = (row) => {
    if (row.period === "session") return make("a", { href: address(`session/${encodeURIComponent(row.value)}`, { tenant: given.tenant }) }, named(row.value));
    if (row.period === "run") return make("a", { href: address(`run/${encodeURIComponent(row.value)}`, { tenant: given.tenant }) }, named(row.value));
    return row.value ? make("span", {}, `${row.dimension} `, named(row.value)) : row.dimension ? `each ${row.dimension}` : "everything";
  };
  const shown = rows.slice(0, 10);
  return [
    make("h2", {}, title),
    table(title, [
      ["budget", (row) => named(row.budget), "id"],
      ["of", whose, "id"],
      ["share", (row) => make("span", { class: "share" }, meter(row), make("span", {}, share(row))), "number"],
      ["state", state, "time"],
      ["spent", (row) => money(row.used_usd), "number", (row) => row.used_usd_exact],
      ["may be spent", (row) => money(row.amount_usd), "number", (row) => row.amount_usd_exact],
      ...(shown.some((row) => row.unpriced_calls) ? [["without a price", (row) => (row.unpriced_calls ? counted(row.unpriced_calls, "call") : ""), "number", (row) => row.unpriced_calls]] : []),
      ["period", (row) => (row.since ? `${row.period} from ${row.since}` : row.period), "time"],
    ], shown), // a phone shows the first ones
    shown.some((row) => row.unpriced_calls) ? soft("What calls without a price cost is not known, and not in what is spent: more may be used than is shown.") : null,
    rows.length > shown.length ? soft(`The ${shown.length} most used; all of them: /api/v1/budgets.`) : null,
  ];
}

const WARNED = {
  failure_rate: (row) => `${whole(row.failed)} of ${whole(row.spans)} spans failed`,
  unpriced_share: (row) => `${whole(row.unpriced)} of ${whole(row.calls)} calls of the day have no price`,
  cost_rise: (row) => `${money(Number(row.cost_usd_exact))} in a stretch that usually costs ${money(Number(row.usual_usd_exact))}`,
};

function warningTable(rows, given) {
  if (!rows.length) return [];
  return [
    make("h2", {}, "Warnings"),
    table("Warnings", [
      ["when, UTC", (row) => when(row.at), "time"],
      ["of", (row) => (row.session ? sessionLink({ id: row.session }, given) : row.day || "-"), "id"],
      ["what", (row) => (WARNED[row.warning] ? WARNED[row.warning](row) : row.warning), "text"],
    ], rows),
  ];
}

function empty(given) {
  const own = location.origin;
  return [
    make("h2", {}, "Nothing was counted yet"),
    make("p", {}, given.tenant ? make("span", {}, "Of tenant ", named(given.tenant), " no GenAI span has come.") : "No GenAI span has come. Send OTLP to Spanledger (by default gRPC on port 4317, HTTP on 4318) and this page shows it by itself."),
    make("ul", {}, make("li", {}, "Try it with recorded calls: ", make("code", {}, "spanledger demo"), "."), make("li", {}, "What came, and what was made of it: ", make("a", { href: `${own}/metrics` }, "metrics"), ".")),
  ];
}
