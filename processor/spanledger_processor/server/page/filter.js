// What an address asks for, beside its view: days, tenant, and one value of a dimension. As parameters of the API, and in words.

import { DAY, dayText, make, money, named, soft, whole } from "./draw.js";

export const USUAL = "30d"; // days of a view of sums, unless others are asked for
// Since when such a view is, with a last day alone since ever.
export const sinceOf = (given) => given.since || (given.until ? "" : USUAL);
export const range = (given) => ({ since: given.since, until: given.until, tenant: given.tenant });
export const filtered = (given) => ({ ...range(given), dimension: given.dimension });

// The dimension and the value that are asked for; none where they are not.
export function valueOf(given) {
  const [name, ...value] = (given.dimension || "").split(":");
  return value.length ? { name, value: value.join(":") } : null;
}

// Behind a heading: of which value it is.
export function whose(given) {
  const of = valueOf(given);
  return of ? [`, ${of.name} `, make("span", { class: "of" }, named(of.value))] : [];
}

const INSTEAD = {
  speed: "how fast calls were is kept by model and provider alone",
  tools: "what tools did is kept by day and by session alone",
  by: "sums of two dimensions together are not kept",
};

// Why a view shows more than the value that is asked for; empty where it does not.
export function notFiltered(view, given, shownBy = "") {
  const of = valueOf(given);
  if (of && view === "by" && of.name === shownBy) return `Not filtered: all values of ${of.name} are shown.`;
  if (!of || !(view in INSTEAD) || (view === "speed" && of.name in { model: 1, provider: 1 })) return "";
  return `Not filtered by ${of.name}: ${INSTEAD[view]}. All is shown.`;
}

// Of values that are not told apart any more a part may be of the one that is asked for: that is said beside its figures.
export function notToldApart({ not_distinguished: others, dimension }) {
  if (!others?.calls) return null;
  return soft(`${money(others.cost_usd)} of ${whole(others.calls)} calls are of values of ${dimension} that are not told apart any more; a part of that may be this one's.`);
}

export function rangeText({ since, until }) {
  if (!since && !until) return "all days";
  const days = since?.match(/^(\d+)d$/)?.[1];
  if (days > 3650) return until ? `until ${until}` : "all days";
  const from = since === "today" ? "today" : days && !until ? `the last ${days} days` : since ? `from ${days ? dayText(Date.now() - (days - 1) * DAY) : since}` : "";
  return `${from}${until ? ` until ${until}` : ""}`.trim();
}
