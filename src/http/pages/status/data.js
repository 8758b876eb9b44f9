// The current state and the history, as the server reports them, and the verdict on them.

const TIMEOUT = 5_000; // milliseconds

let now; // the last /status.json
const recent = { samples: undefined, times: [], total: {}, endpoints: new Map() };

const SERIES = ["requests_per_second", "request_duration_seconds", "age_seconds"];

// The key or token that was entered. It is kept in this variable and in the field, and nowhere else.
let credential = "";

/** The server wants another credential, or one at all. */
class Refusal extends Error {}

async function getJson(path) {
  const headers = credential ? { Authorization: `Bearer ${credential}` } : {};
  const answer = await fetch(path, { headers, signal: AbortSignal.timeout(TIMEOUT) });
  if (answer.status === 401 || answer.status === 403) {
    const why = (await answer.json().catch(() => undefined))?.detail;
    throw new Refusal(credential ? why ?? answer.statusText : "");
  }
  if (!answer.ok) throw new Error(`it responds with ${answer.status} ${answer.statusText}`);
  return answer.json();
}

async function load() {
  const received = await getJson("status.json");
  const isSame = now?.uptime_seconds <= received.uptime_seconds; // the server has not been restarted
  if (isSame && received.samples === recent.samples + 1) appendSample(received);
  else if (!isSame || received.samples !== recent.samples) replaceHistory(await getJson("status/history.json"));
  now = received;
}

/** Replaces the history with the server's. */
function replaceHistory(received) {
  recent.samples = received.samples;
  recent.times = received.timestamp_seconds;
  recent.total = received.total;
  recent.endpoints = new Map(received.endpoints.map((one) => [one.endpoint, SERIES.map((name) => one[name])]));
}

/** Adds the current state as the latest sample. */
function appendSample(received) {
  const tooMany = Math.max(0, recent.times.length + 1 - SPAN / received.sample_step_seconds);
  const add = (values, value) => [...values.slice(tooMany), value];
  recent.samples = received.samples;
  recent.times = add(recent.times, received.timestamp_seconds);
  for (const name of Object.keys(recent.total)) recent.total[name] = add(recent.total[name], received.total[name]);
  for (const one of received.endpoints) {
    const known = recent.endpoints.get(one.endpoint) ?? SERIES.map(() => recent.times.slice(1).map(() => null));
    const values = [one.requests_per_second, one.request_duration_seconds, one.entry?.age_seconds ?? null];
    recent.endpoints.set(one.endpoint, known.map((series, index) => add(series, values[index])));
  }
}

function verdict() {
  const { repository, states, readiness, total } = now;
  const all = now.endpoints.length;
  const failing = now.endpoints.filter((one) => one.state === "failing").map((one) => one.endpoint);
  const named = failing.slice(0, 3).join(", ") + (failing.length > 3 ? ` and ${failing.length - 3} more` : "");
  const errors = total.errors_per_second > 0 ? `Clients get ${count(total.errors_per_second)} errors per second. ` : "";
  if (readiness === "draining") return ["warn", "Larder is shutting down", "It completes running requests and accepts no new ones."];
  if (repository.up === false) {
    const since = `Since ${clock(repository.since_timestamp_seconds)}, ${ago(repository.since_timestamp_seconds)}. `;
    const served = failing.length < all ? "Answers in memory are served, up to their limits. " : "";
    const fail = failing.length ? `${failing.length} of ${endpoints(all)} cannot be loaded. ` : "";
    return ["bad", "Postgres is unreachable", since + fail + served + errors];
  }
  if (failing.length) return ["bad", `${endpoints(failing.length)} cannot be loaded`, `${named}. ${errors}`];
  if (errors) return ["bad", "Clients get errors", errors];
  if (readiness === "warming") return ["warn", "Larder is warming up", `${states.warming} of ${endpoints(all)} cannot answer yet.`];
  if (troubles().length) return ["warn", "Something needs attention", ""];
  if (states.stale) return ["warn", `${endpoints(states.stale)} ${states.stale === 1 ? "is" : "are"} stale`, "Their answers are older than intended, and are still served."];
  return ["good", states.idle ? "Everything in use is fresh" : "Everything is fresh", ""];
}

function showVerdict([tone, title, detail]) {
  at("verdict").className = tone;
  setText(at("title"), title);
  setText(at("detail"), detail.trim());
  document.title = tone === "good" ? "Larder status" : `${title} · Larder status`;
}

/** During an outage of Postgres, failing probes and notifications are omitted: they follow from it. */
function troubles() {
  return now.troubles.filter(({ kind }) => !away() || !["probe", "notify"].includes(kind));
}

function showTroubles() {
  const list = at("troubles");
  const texts = troubles().map((trouble) => `${trouble.detail} Since ${clock(trouble.timestamp_seconds)}, ${ago(trouble.timestamp_seconds)}.`);
  list.hidden = texts.length === 0;
  if (list.dataset.texts === texts.join()) return;
  list.dataset.texts = texts.join();
  list.replaceChildren(...texts.map((text) => make("li", {}, text)));
}
