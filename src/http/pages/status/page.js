// The controls above the table, and the loop that updates the page. Runs last.

// Milliseconds between requests: while the page is visible, while it is hidden, and at most while requests fail.
const POLL = 1_000, POLL_HIDDEN = 30_000, POLL_LOST_MAX = 5_000;

function sortBy(column) {
  view.falls = view.column === column ? !view.falls : Boolean(column.falls);
  view.column = column;
  showOrder();
  if (now) showEndpoints(true);
}

function showOrder() {
  COLUMNS.forEach((column, index) => {
    const head = at("columns").children[index];
    if (column === view.column) head.setAttribute("aria-sort", view.falls ? "descending" : "ascending");
    else head.removeAttribute("aria-sort");
  });
  at("sort").value = view.column.name;
}

function tools() {
  for (const column of COLUMNS) {
    const button = make("button", { type: "button" }, column.name);
    button.addEventListener("click", () => sortBy(column));
    at("columns").append(make("th", { role: "columnheader", scope: "col", class: column.class }, button));
    at("sort").append(make("option", {}, column.name));
  }
  at("sort").addEventListener("change", () => sortBy(COLUMNS.find((column) => column.name === at("sort").value)));
  for (const state of ["all", ...STATES]) {
    const input = make("input", { type: "radio", name: "state", value: state });
    input.checked = state === "all";
    const sign = state === "all" ? undefined : make("span", { class: `sign ${state}`, "aria-hidden": "true" });
    at("states").append(make("label", {}, input, sign, make("span", {}, capital(state))));
  }
  const change = (how) => {
    how();
    view.most = ROWS;
    if (now) showEndpoints(true);
  };
  at("states").addEventListener("change", (event) => change(() => { view.state = event.target.value; }));
  at("filter").addEventListener("input", (event) => change(() => {
    view.words = event.target.value.toLowerCase().split(/\s+/).filter(Boolean);
  }));
  at("tools").addEventListener("submit", (event) => event.preventDefault());
  at("more").addEventListener("click", () => {
    view.most += ROWS;
    showEndpoints(true);
  });
  for (const kind of ["pointermove", "keydown", "focusin"]) {
    at("rows").addEventListener(kind, () => { lastInteraction = performance.now(); }, { passive: true });
  }
  addEventListener("keydown", (event) => {
    if (event.key !== "/" || event.ctrlKey || event.metaKey || event.altKey || event.target.matches("input, select")) return;
    event.preventDefault();
    at("filter").focus();
  });
  showOrder();
}

/** Asks for a credential, and waits until it is entered. Values that were shown with the last one are hidden. */
function askForCredential(refusal) {
  document.body.classList.remove("lost");
  showVerdict(["warn", credential ? "The credential is not accepted" : "This page needs a credential", refusal.message]);
  at("data").hidden = true;
  at("credential").hidden = false;
  setText(at("about"), "");
  setText(at("as-of"), "");
  const key = at("key");
  key.value = "";
  key.focus();
  return new Promise((done) => {
    at("credential").addEventListener("submit", (event) => {
      event.preventDefault();
      credential = key.value;
      at("credential").hidden = true;
      setText(at("title"), "Loading…");
      setText(at("detail"), "");
      done();
    }, { once: true });
  });
}

function show(showTotals) {
  at("data").hidden = false;
  document.body.classList.remove("lost");
  showVerdict(verdict());
  showTroubles();
  setText(at("about"), `${now.version}, ${now.readiness}, up for ${span(now.uptime_seconds)}`);
  setText(at("as-of"), `As of ${clock(now.timestamp_seconds)}`);
  showTotals();
  showEndpoints(false);
}

function showLost(since, error) {
  document.body.classList.add("lost");
  const why = error instanceof TypeError ? "" : error.name === "TimeoutError" ? "It does not respond. " : `${capital(error.message)}. `;
  const old = now ? `The values are from ${clock(now.timestamp_seconds)}. ` : "";
  showVerdict(["bad", "Larder is unreachable", `${why}Since ${clock(since / 1000)}. ${old}Retrying.`]);
}

/** Waits, but no longer once the page becomes visible. */
function pause(milliseconds) {
  return new Promise((done) => {
    const end = () => {
      clearTimeout(timer);
      document.removeEventListener("visibilitychange", look);
      done();
    };
    const look = () => { if (!document.hidden) end(); };
    const timer = setTimeout(end, milliseconds);
    document.addEventListener("visibilitychange", look);
  });
}

async function main() {
  tools();
  const showTotals = totals();
  let lost; // since when, in milliseconds, and after how many attempts
  for (;;) {
    const failure = await load().then(() => undefined, (error) => error);
    if (failure instanceof Refusal) {
      lost = undefined;
      await askForCredential(failure);
      continue;
    }
    if (failure) {
      lost = { since: lost?.since ?? Date.now(), times: (lost?.times ?? 0) + 1 };
      showLost(lost.since, failure);
    } else {
      lost = undefined;
      show(showTotals);
    }
    const wait = lost ? Math.min(POLL * lost.times, POLL_LOST_MAX) : POLL;
    await pause(document.hidden ? POLL_HIDDEN : wait);
  }
}

main();
