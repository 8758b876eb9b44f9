// The totals.

/** A bar, and a function to set it. */
function gauge() {
  const filled = make("span");
  const element = make("span", { class: "gauge", "aria-hidden": "true" }, filled);
  const set = (from, to) => {
    filled.style.left = `${Math.min(from, 0.99) * 100}%`;
    filled.style.width = `${Math.min(to - from, 1 - Math.min(from, 0.99)) * 100}%`;
  };
  return { element, set };
}

const away = () => now.repository.up === false;

const TOTALS = [
  { name: "Requests", curve: "requests_per_second",
    value: ({ total }) => `${count(total.requests_per_second)} /s`,
    more: ({ total }) => (total.errors_per_second > 0 ? `${count(total.errors_per_second)} errors /s` : "no errors"),
    isBad: ({ total }) => total.errors_per_second > 0 },
  { name: "From memory", curve: "hit_ratio", top: 1,
    value: ({ total }) => percent(total.hit_ratio),
    more: ({ total }) => (total.hit_ratio === null ? "no requests" : `${percent(total.stale_ratio)} stale`) },
  { name: "Latency", curve: "request_duration_seconds",
    value: ({ total }) => duration(total.request_duration_seconds), more: () => "on average" },
  { name: "Queries", curve: "queries_per_second",
    value: ({ total }) => `${count(total.queries_per_second)} /s`, more: () => "to Postgres" },
  { name: "Query time saved", curve: "repository_seconds_saved_per_second",
    value: ({ total }) => duration(total.repository_seconds_saved_per_second), more: () => "per second" },
  { name: "Postgres", part: ({ repository: { connections } }) => connections.active / connections.max,
    value: ({ repository }) => (repository.up === null ? "Not tried" : repository.up ? "Up" : "Unreachable"),
    more: ({ repository: { connections } }) => (away() ? "no connection" : `${connections.active} of ${connections.max} busy`),
    isBad: away },
  { name: "Memory", part: ({ cache }) => cache.bytes / cache.max_bytes,
    value: ({ cache }) => bytes(cache.bytes),
    more: ({ cache }) => `of ${bytes(cache.max_bytes)}`
      + (cache.evictions_per_second > 0 ? `, ${count(cache.evictions_per_second)} evicted /s` : "") },
  { name: "Clients", part: ({ http }) => http.connections / http.max_connections,
    value: ({ http }) => http.connections.toLocaleString("en"), more: ({ http }) => `of ${http.max_connections.toLocaleString("en")}` },
];

function totals() {
  const tiles = TOTALS.map((total) => {
    const [value, more] = [make("dd", { class: "value" }), make("dd", { class: "more" })];
    const place = make("dd", { class: "spark", "aria-hidden": "true" });
    const [bar, spark] = [total.part && gauge(), total.curve && new Spark(place, { top: total.top, fill: "--wash" })];
    at("totals").append(make("div", { class: "tile" }, make("dt", {}, total.name), value, more, bar ? bar.element : place));
    return () => {
      setText(value, total.value(now));
      setText(more, total.more(now));
      const isBad = total.isBad?.(now) ?? false;
      more.classList.toggle("bad", isBad);
      bar?.set(0, total.part(now));
      spark?.show(recent.total[total.curve] ?? []);
    };
  });
  return () => tiles.forEach((show) => show());
}
