// What the server says, now and of the last minutes, and what is to be made of it.

const PATIENCE = 5_000; // milliseconds, for an answer

let now; // the last /status.json
const past = { samples: undefined, times: [], total: {}, endpoints: new Map() };

const SERIES = ["requests_per_second", "request_duration_seconds", "age_seconds"];

async function ask(path) {
  const answer = await fetch(path, { signal: AbortSignal.timeout(PATIENCE) });
  if (!answer.ok) throw new Error(`it answers ${answer.status} ${answer.statusText}`);
  return answer.json();
}

async function load() {
  const received = await ask("status.json");
  const isSame = now?.uptime_seconds <= received.uptime_seconds; // not restarted meanwhile
  if (isSame && received.samples === past.samples + 1) remember(received);
  else if (!isSame || received.samples !== past.samples) recall(await ask("status/history.json"));
  now = received;
}

/** Takes the server's history. */
function recall(received) {
  past.samples = received.samples;
  past.times = received.timestamp_seconds;
  past.total = received.total;
  past.endpoints = new Map(received.endpoints.map((one) => [one.endpoint, SERIES.map((name) => one[name])]));
}

/** Appends the current figures to the history. */
function remember(received) {
  const tooMany = Math.max(0, past.times.length + 1 - SPAN / received.sample_step_seconds);
  const add = (values, value) => [...values.slice(tooMany), value];
  past.samples = received.samples;
  past.times = add(past.times, received.timestamp_seconds);
  for (const name of Object.keys(past.total)) past.total[name] = add(past.total[name], received.total[name]);
  for (const one of received.endpoints) {
    const known = past.endpoints.get(one.endpoint) ?? SERIES.map(() => past.times.slice(1).map(() => null));
    const values = [one.requests_per_second, one.request_duration_seconds, one.entry?.age_seconds ?? null];
    past.endpoints.set(one.endpoint, known.map((series, index) => add(series, values[index])));
  }
}

function verdict() {
  const { repository, states, readiness, total } = now;
  const all = now.endpoints.length;
  const failing = now.endpoints.filter((one) => one.state === "failing").map((one) => one.endpoint);
  const named = failing.slice(0, 3).join(", ") + (failing.length > 3 ? ` and ${failing.length - 3} more` : "");
  const errors = total.errors_per_second > 0 ? `Clients get ${count(total.errors_per_second)} errors a second. ` : "";
  if (readiness === "draining") return ["warn", "Larder is shutting down", "It finishes what runs, and takes no more."];
  if (repository.up === false) {
    const since = `Since ${clock(repository.since_timestamp_seconds)}, ${ago(repository.since_timestamp_seconds)}. `;
    const served = failing.length < all ? "What is in memory is served, up to its limits. " : "";
    const fail = failing.length ? `${failing.length} of ${endpoints(all)} cannot be loaded. ` : "";
    return ["bad", "Postgres cannot be reached", since + fail + served + errors];
  }
  if (failing.length) return ["bad", `${endpoints(failing.length)} cannot be loaded`, `${named}. ${errors}`];
  if (errors) return ["bad", "Clients get errors", errors];
  if (readiness === "warming") return ["warn", "Larder is warming up", `${states.warming} of ${endpoints(all)} cannot answer yet.`];
  if (troubles().length) return ["warn", "Something needs attention", ""];
  if (states.stale) return ["warn", `${endpoints(states.stale)} ${states.stale === 1 ? "is" : "are"} stale`, "Older than they should be, and still served."];
  return ["good", states.idle ? "Everything in use is fresh" : "Everything is fresh", ""];
}

function showVerdict([tone, title, detail]) {
  at("verdict").className = tone;
  say(at("title"), title);
  say(at("detail"), detail.trim());
  document.title = tone === "good" ? "Larder status" : `${title} · Larder status`;
}

/** While Postgres is away, missing notifications are not listed separately. */
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
