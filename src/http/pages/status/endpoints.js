// The table of endpoints.

const STATES = ["failing", "stale", "warming", "fresh", "idle"]; // most urgent first
const ROWS = 200; // endpoints shown at first; more on demand
const IDLE_AFTER = 5_000; // milliseconds without interaction after which rows may move again

/** The age of the only entry, or of the youngest and the oldest of many, relative to the limit. */
function ages(one) {
  const limit = one.limits?.fresh_seconds ?? null;
  const from = one.entry ? 0 : one.keys?.youngest_age_seconds ?? null;
  const to = one.entry ? one.entry.age_seconds : one.keys?.oldest_age_seconds ?? null;
  return { limit, from, to, share: limit && to !== null ? to / limit : null };
}

function ageText(one) {
  const { limit, to } = ages(one);
  if (to === null) return one.keys ? "nothing in memory" : "not loaded";
  return limit === null ? age(to) : `${unbroken(age(to))} of ${unbroken(duration(limit))}`;
}

function nextText(one) {
  const next = one.next_refresh_seconds;
  if (next !== null && one.state === "failing") return next < 1 ? "retries now" : `retry in ${span(next)}`;
  if (next !== null) return next < 1 ? "now" : `in ${span(next)}`;
  if (one.refresh.includes("probe") || one.refresh.includes("notify")) return "on change";
  return one.refresh.includes("ahead") ? "while in use" : "on request";
}

function sizeOf(one) {
  return one.entry?.bytes ?? one.keys?.bytes ?? 0;
}

function keysText({ keys }) {
  if (!keys?.entries) return "";
  return `${keys.entries.toLocaleString("en")} key${keys.entries === 1 ? "" : "s"}`;
}

/** What a code means to operators; clients get less detail. */
const FAULTS = {
  "LRD-301": "Postgres is unreachable", "LRD-302": "Took too long", "LRD-303": "Postgres refuses the query",
  "LRD-304": "Answer too large", "LRD-305": "More than one row", "LRD-501": "A bug in Larder",
};

/** The last error, and when it occurred. */
function lastError(one) {
  const { code, detail, timestamp_seconds: when } = one.last_error ?? {};
  if (code) return [FAULTS[code] ?? detail, ago(when)];
  return one.state === "failing" && away() ? [FAULTS["LRD-301"], ""] : ["", ""];
}

// `by` is what a column is sorted by; missing values come last.
const COLUMNS = [
  { name: "State", class: "state", by: (one) => STATES.indexOf(one.state) },
  { name: "Endpoint", class: "path", by: (one) => one.endpoint },
  { name: "Age", class: "age", falls: true, by: (one) => ages(one).share },
  { name: "Next refresh", class: "next", by: (one) => one.next_refresh_seconds },
  { name: "Requests/s", class: "rate number", falls: true, by: (one) => one.requests_per_second },
  { name: "From memory", class: "ratio number", by: (one) => one.hit_ratio },
  { name: "Latency", class: "latency number", falls: true, by: (one) => one.request_duration_seconds },
  { name: "Size", class: "size number", falls: true, by: sizeOf },
  { name: "Last error", class: "error", falls: true, by: (one) => one.last_error?.timestamp_seconds ?? null },
];

class Row {
  constructor(one) {
    this.isVisible = false;
    const column = (name) => COLUMNS.find((column) => column.name === name);
    const cell = (name, ...children) => make("td", { role: "cell", class: column(name).class, "data-label": name }, ...children);
    this.sign = make("span", { class: "sign", "aria-hidden": "true" });
    this.word = make("span");
    this.button = make("button", { type: "button", "aria-expanded": "false" }, one.endpoint);
    this.button.addEventListener("click", () => this.toggle());
    [this.age, this.next, this.rate, this.size, this.error] = Array.from({ length: 5 }, () => make("span"));
    [this.keys, this.when] = [make("small"), make("small")];
    [this.ratio, this.latency] = [cell("From memory"), cell("Latency")];
    this.bar = gauge();
    const place = make("span", { class: "spark", "aria-hidden": "true" });
    this.spark = new Spark(place);
    this.element = make("tr", { role: "row", class: "row" },
      make("td", { role: "cell", class: "state" }, make("span", {}, this.sign, this.word)),
      make("th", { role: "rowheader", scope: "row", class: "path" }, this.button),
      cell("Age", make("span", {}, this.bar.element, this.age)), cell("Next refresh", this.next),
      cell("Requests/s", make("span", {}, place, this.rate)), this.ratio, this.latency,
      cell("Size", this.size, this.keys), cell("Last error", this.error, this.when));
    this.element.row = this;
  }

  show(one) {
    this.one = one;
    this.element.className = `row ${one.state}`;
    this.element.dataset.endpoint = one.endpoint;
    this.sign.className = `sign ${one.state}`;
    setText(this.word, capital(one.state));
    const { limit, from, to, share } = ages(one);
    setText(this.age, ageText(one));
    this.bar.element.hidden = share === null;
    this.bar.element.classList.toggle("over", share > 1);
    this.bar.set(from && limit ? Math.min(from / limit, 1) : 0, share ?? 0);
    setText(this.next, nextText(one));
    const errors = one.errors_per_second > 0;
    setText(this.rate, count(one.requests_per_second) + (errors ? `, ${count(one.errors_per_second)} errors` : ""));
    this.rate.className = errors ? "bad" : "";
    setText(this.ratio, percent(one.hit_ratio));
    setText(this.latency, duration(one.request_duration_seconds));
    setText(this.size, sizeOf(one) ? bytes(sizeOf(one)) : NOTHING);
    setText(this.keys, keysText(one));
    const [error, when] = lastError(one);
    setText(this.error, error);
    setText(this.when, when);
    this.error.className = one.state === "failing" ? "bad" : "quiet";
    const [requests] = recent.endpoints.get(one.endpoint) ?? [[]];
    if (requests.some((rate) => rate > 0)) this.spark.show(requests);
    else this.spark.drop();
    this.facts?.show(one);
  }

  toggle() {
    const isOpen = !this.facts;
    this.button.setAttribute("aria-expanded", isOpen);
    if (isOpen) {
      this.facts = new Facts(this);
      this.element.after(this.facts.element);
      this.facts.show(this.one);
    } else {
      this.close();
    }
  }

  close() {
    this.button.setAttribute("aria-expanded", "false");
    this.facts?.drop();
    this.facts = undefined;
  }

  setVisible(isVisible) {
    this.isVisible = isVisible;
    if (isVisible) this.show(this.one);
    else this.spark.drop();
  }
}

/** The details of an endpoint, below its row. */
class Facts {
  constructor(row) {
    const limit = () => ages(row.one).limit;
    this.charts = [
      new Chart("Requests per second", count),
      new Chart("Latency", duration),
      ...(row.one.keys ? [] : [new Chart("Age, and the age up to which it is fresh", age, limit)]),
    ];
    this.list = make("dl");
    this.element = make("tr", { role: "row", class: "facts" }, make("td", { role: "cell", colspan: COLUMNS.length },
      make("div", { class: "charts" }, ...this.charts.map((chart) => chart.element)), this.list));
  }

  show(one) {
    const series = recent.endpoints.get(one.endpoint) ?? SERIES.map(() => []);
    this.charts.forEach((chart, index) => chart.show(series[index]));
    const facts = Facts.of(one);
    if (this.list.children.length !== facts.length) {
      this.list.replaceChildren(...facts.map(([name]) => make("div", {}, make("dt", {}, name), make("dd"))));
    }
    facts.forEach(([name, value], index) => {
      setText(this.list.children[index].firstChild, name);
      setText(this.list.children[index].lastChild, value);
    });
  }

  static of(one) {
    const { limits, entry, keys, last_error: error } = one;
    const facts = [["Refresh", one.refresh.length ? one.refresh.join(", ") : "on request, when stale"]];
    if (limits) {
      facts.push(["Fresh up to", duration(limits.fresh_seconds)],
        ["Stale up to", duration(limits.stale_while_revalidate_seconds)],
        ["While loading fails, up to", duration(limits.stale_if_error_seconds)]);
    }
    if (entry) {
      facts.push(["Last query took", duration(entry.query_duration_seconds)], ["Content changed", clock(entry.last_modified_timestamp_seconds)]);
    }
    if (keys?.entries) facts.push(["Ages", `${age(keys.youngest_age_seconds)} to ${age(keys.oldest_age_seconds)}`]);
    if (keys) facts.push(["Keys in memory", `${keys.entries.toLocaleString("en")} of ${keys.max_entries.toLocaleString("en")}, ${keys.fresh.toLocaleString("en")} fresh`]);
    facts.push(["Stale answers", percent(one.stale_ratio)], ["Queries", `${count(one.queries_per_second)} /s`],
      ["Query time saved", `${duration(one.repository_seconds_saved_per_second)} per second`]);
    if (error) facts.push(["Last error", `${clock(error.timestamp_seconds)}, ${error.code}: ${error.detail} (fault: ${error.fault})`]);
    return facts;
  }

  drop() {
    this.charts.forEach((chart) => chart.drop());
    this.element.remove();
  }
}

const view = { column: COLUMNS[0], falls: false, words: [], state: "all", most: ROWS };
const rows = new Map();
let lastInteraction = -IDLE_AFTER;

const visibility = new IntersectionObserver((entries) => {
  for (const entry of entries) entry.target.row.setVisible(entry.isIntersecting);
}, { rootMargin: "200px" });

/** The selected endpoints, in the selected order. */
function selected() {
  const { column, falls, words, state } = view;
  const found = now.endpoints.filter((one) => (state === "all" || one.state === state)
    && words.every((word) => one.endpoint.toLowerCase().includes(word)));
  const keyed = found.map((one) => [column.by(one), one]);
  const sign = falls ? -1 : 1;
  keyed.sort(([a, one], [b, other]) => {
    if (a !== b && (a === null || b === null)) return a === null ? 1 : -1;
    if (a !== b) return (a < b ? -1 : 1) * sign;
    return one.endpoint < other.endpoint ? -1 : 1;
  });
  return keyed.map(([, one]) => one);
}

/** `isByHand` if the user changed the view: then rows may move at any time. */
function showEndpoints(isByHand) {
  let found = selected();
  at("none").hidden = found.length > 0;
  const rest = found.length - view.most;
  at("more").hidden = rest <= 0;
  if (rest > 0) setText(at("more"), `Show ${Math.min(rest, ROWS)} more of ${endpoints(found.length)}`);
  found = found.slice(0, view.most);
  for (const one of found) {
    const row = rows.get(one.endpoint) ?? new Row(one);
    const isNew = !rows.has(one.endpoint);
    rows.set(one.endpoint, row);
    if (isNew || row.isVisible) row.show(one);
    else row.one = one;
    if (isNew) visibility.observe(row.element);
  }
  arrange(found, isByHand);
  showStates();
}

function arrange(found, isByHand) {
  const body = at("rows");
  const there = [...body.querySelectorAll(":scope > .row")].map((element) => element.dataset.endpoint);
  const wanted = found.map((one) => one.endpoint);
  if (there.length === wanted.length && wanted.every((name, index) => name === there[index])) return;
  const isSameSet = there.length === wanted.length && new Set([...there, ...wanted]).size === there.length;
  if (!isByHand && isSameSet && performance.now() - lastInteraction < IDLE_AFTER) return;
  const kept = new Set(wanted);
  for (const name of there) {
    if (kept.has(name)) continue;
    const row = rows.get(name);
    row.close();
    row.setVisible(false);
    visibility.unobserve(row.element);
    rows.delete(name);
  }
  const focused = document.activeElement;
  const wasIn = body.contains(focused);
  body.replaceChildren(...wanted.flatMap((name) => {
    const { element, facts } = rows.get(name);
    return facts ? [element, facts.element] : [element];
  }));
  // An element that is moved loses the focus.
  if (wasIn && body.contains(focused)) focused.focus({ preventScroll: true });
}

function showStates() {
  for (const label of at("states").querySelectorAll("label")) {
    const { value } = label.querySelector("input");
    const number = value === "all" ? now.endpoints.length : now.states[value];
    setText(label.lastChild, `${capital(value)} ${number.toLocaleString("en")}`);
  }
}
