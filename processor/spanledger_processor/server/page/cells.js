// Cells of tables that several views have, and charts with their figures as a table.

import { MOST_DAYS, NONE, address, bars, compact, exactUsd, lines, make, money, named, soft, table, when, whole } from "./draw.js";

// Its name, else its id, which here has room, behind the process that it has in common with others.
// A name or label of several sessions tells them apart no more, so the id stands behind it.
export const titleOf = (row) => {
  const title = row.name || row.label;
  return title && !row.id.startsWith(title) ? `${title} · ${row.id}` : row.id;
};
export const sessionLink = (row, given) => (row.id ? make("a", { href: address(`session/${encodeURIComponent(row.id)}`, { tenant: given.tenant }) }, named(titleOf(row))) : NONE);

export function modelsCell(row) {
  const models = (row.models || []).map((model) => model.model.split("/").at(-1)).join(", ");
  return models ? make("span", { title: models }, models) : "-";
}

export const loopsCell = (row) => (row.loops ? make("span", { class: "bad" }, whole(row.loops)) : "0");

export const contextOf = (row) => (row.context_peak ? (row.context_first && row.context_first < row.context_peak ? `${compact(row.context_first)} → ${compact(row.context_peak)}` : compact(row.context_peak)) : "-");

export const stateCell = (row) => make("span", { class: `state ${row.state || ""}` }, row.state || (row.closed ? "closed" : "-"));

// Bars of `byDay`. All figures are below: those of a day are seen nowhere else.
export function dayBars(title, days, series) {
  const figures = series.map(([name, costs, picos]) => [name, (place) => money(costs[place]), (place) => exactUsd(picos[place])]);
  return [bars(title, days, series), figuresOf(title, "day, UTC", days, figures), days.length < MOST_DAYS ? null : soft(`Only the last ${MOST_DAYS} days are drawn; the table of values has all.`)];
}

// Lines over time, with their figures.
export function timeLines(title, times, series, format = compact) {
  const figures = series.map(([name, values]) => [name, (place) => (values[place] == null ? "-" : format(values[place])), (place) => values[place] ?? ""]);
  return [lines(title, times, series, format), figuresOf(title, "time, UTC", times.map((time) => when(new Date(time).toISOString()).replace(" 00:00:00", "")), figures)];
}

// What a chart shows as a table, for who does not see it, and as a file: made when it is opened.
function figuresOf(title, first, places, series) {
  const columns = [[first, (place) => places[place], "time"], ...series.map(([name, content, exact]) => [name, content, "number", exact])];
  const folded = make("details", { class: "figures", "data-key": `figures ${title}` }, make("summary", {}, "These figures as a table"));
  folded.addEventListener("toggle", () => {
    if (folded.open && folded.childElementCount === 1) folded.append(table(title, columns, [...places.keys()]));
  });
  return folded;
}
