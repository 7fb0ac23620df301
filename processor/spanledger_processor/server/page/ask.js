// Questions to the HTTP API. What is wrong with one is an error that says what to do about it.

const TOKEN = "spanledger.token";

export class Refused extends Error {
  constructor(status, message) {
    super(message);
    this.status = status;
  }
}

export async function ask(path, parameters = {}) {
  const query = new URLSearchParams(Object.entries(parameters).filter(([, value]) => value !== "" && value != null));
  let answer;
  try {
    answer = await fetch(`api/v1/${path}?${query}`, { headers: headers() });
  } catch {
    throw new Refused(0, "Spanledger cannot be reached. It may be starting again: this page tries on by itself.");
  }
  if (answer.ok) return answer;
  const body = await answer.json().catch(() => ({}));
  const said = body.error || `HTTP ${answer.status}`;
  throw new Refused(answer.status, answer.status === 503 ? `${said}. This page tries again by itself.` : said);
}

// An id as it stands in a path: browsers take one of dots alone for a folder, and leave it out.
export const inPath = (id) => encodeURIComponent(/^\.{1,2}$/.test(id) ? id.replaceAll(".", "%2E") : id);

export const json = async (path, parameters) => (await ask(path, parameters)).json();

export const hasToken = () => Boolean(sessionStorage.getItem(TOKEN));
export const keepToken = (token) => (token ? sessionStorage.setItem(TOKEN, token) : sessionStorage.removeItem(TOKEN));

function headers() {
  const token = sessionStorage.getItem(TOKEN);
  return token ? { authorization: `Bearer ${token}` } : {};
}

// Ask for pages until so many rows are there: behind a filter a page may hold few rows, or none, and not be the last.
export async function rowsOf(path, name, parameters, { most = 50, patienceMs = 2500 } = {}) {
  const began = performance.now();
  let rows = [];
  let cursor = parameters.cursor;
  let comparedSince = null;
  do {
    const answer = await json(path, { ...parameters, limit: most - rows.length, cursor });
    rows = rows.concat(answer[name]);
    cursor = answer.next_cursor;
    comparedSince = answer.compared_since || null;
  } while (cursor && rows.length < most && performance.now() - began < patienceMs);
  return { rows, cursor, comparedSince };
}

// Server-sent events by fetch: an EventSource cannot show a token.
export async function* events(parameters) {
  const answer = await ask("events", parameters);
  const reader = answer.body.pipeThrough(new TextDecoderStream()).getReader();
  let text = "";
  try {
    for (;;) {
      const { done, value } = await reader.read();
      if (done) return;
      const messages = (text + value).split("\n\n");
      text = messages.pop();
      for (const message of messages) {
        const data = message.match(/^data: (.*)$/m)?.[1];
        if (data) yield data;
      }
    }
  } finally {
    reader.cancel().catch(() => {});
  }
}
