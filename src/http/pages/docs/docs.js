"use strict";

// Longer answers are cut: a page of megabytes is of no use, and slow.
const SHOWN_MAX = 200_000;
const HEADERS = ["Content-Type", "Age", "Cache-Control", "Cache-Status", "ETag", "Last-Modified", "Retry-After"];

// The key or token that was entered. It is kept in this variable and in the field, and nowhere else.
let credential = "";

/** The fields that present it. */
function authorization() {
  return credential ? { Authorization: `Bearer ${credential}` } : {};
}

/** An element with attributes and children; texts never become markup. */
function make(tag, attributes = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (value !== undefined) element.setAttribute(name, value);
  }
  element.append(...children.filter((child) => child !== undefined));
  return element;
}

/** Text in which `backticks` are code, and lines after "- " a list. */
function prose(text) {
  const inline = (line) => line.split("`").map((part, at) => (at % 2 ? make("code", {}, part) : part));
  const lines = text.split("\n").filter((line) => line !== "");
  const items = lines.filter((line) => line.startsWith("- ")).map((line) => make("li", {}, ...inline(line.slice(2))));
  const rest = lines.filter((line) => !line.startsWith("- ")).map((line) => make("p", {}, ...inline(line)));
  return [...rest, ...(items.length ? [make("ul", {}, ...items)] : [])];
}

function resolve(contract, node) {
  if (!node?.$ref) return node;
  const found = node.$ref.slice(2).split("/").reduce((at, key) => at?.[key], contract);
  return { ...found, ...node };
}

/** A schema's type in a word or two: Postgres's own if it is known. */
function typeOf(schema) {
  if (schema["x-postgres-type"]) return schema["x-postgres-type"];
  const types = [schema.type ?? "any"].flat();
  return types.filter((type) => type !== "null").join(" or ");
}

function table(head, rows) {
  const row = (tag, cells) => make("tr", {}, ...cells.map((cell) => make(tag, {}, ...[cell].flat())));
  const body = rows.map((cells) => row("td", cells));
  return make("div", { class: "scroll" }, make("table", {}, make("thead", {}, row("th", head)), make("tbody", {}, ...body)));
}

const SHAPES = {
  rows: "An array of objects, one for each row.",
  columns: "An object of arrays, one for each column.",
  row: "One object.",
  tuple: "One array of values, in this order.",
  value: "A bare value.",
};

function columns(operation, schema) {
  if (operation["x-shape"] === "tuple") return schema.prefixItems.map((column) => [column.title, column]);
  if (operation["x-shape"] === "value") return [["", schema]];
  const object = schema.items ?? schema;
  const columns = Object.entries(object.properties ?? {});
  return operation["x-shape"] === "columns" ? columns.map(([name, array]) => [name, array.items]) : columns;
}

function answers(contract, operation) {
  const json = operation.responses["200"].content["application/json"];
  const listed = columns(operation, json.schema).map(([name, schema]) => [make("code", {}, name), typeOf(schema)]);
  const shown = operation["x-shape"] === "value" ? [make("p", {}, "Its type is ", make("code", {}, listed[0][1]), ".")]
    : [table(["Column", "Type"], listed)];
  const example = json.example === undefined ? []
    : [make("p", { class: "quiet" }, "For example"), make("pre", {}, JSON.stringify(json.example, null, 2))];
  return [make("h2", {}, "Answer"), make("p", {}, SHAPES[operation["x-shape"]] ?? ""), ...shown, ...example];
}

function problems(contract, operation) {
  const refusals = Object.entries(operation.responses).filter(([status]) => status >= "400");
  const rows = refusals.map(([status, response]) => [status, prose(resolve(contract, response).description)]);
  const more = make("details", {}, make("summary", {}, "When there is no answer"), table(["Status", "Why"], rows));
  return [make("h2", {}, "Problems"), more];
}

function notes(parameter, schema) {
  const facts = [typeOf(schema)];
  if (schema.minimum !== undefined || schema.maximum !== undefined) {
    const limit = (value) => (value === undefined ? "…" : JSON.stringify(value));
    facts.push(`from ${limit(schema.minimum)} to ${limit(schema.maximum)}`);
  }
  if (schema.maxLength !== undefined) facts.push(`at most ${schema.maxLength} characters`);
  // What every text is held to says nothing of this one.
  if (schema.pattern?.startsWith("^(?:")) facts.push(`matches ${schema.pattern.slice(4, -2)}`);
  if (schema.default !== undefined) facts.push(`${JSON.stringify(schema.default)} if left out`);
  return [parameter.description, facts.join(", ")].filter(Boolean).join(" · ");
}

function field(operation, parameter) {
  const schema = parameter.schema ?? parameter.content["application/json"].schema;
  const text = (value) => (typeof value === "string" && !parameter.content ? value : JSON.stringify(value));
  const id = `${operation.operationId}-${parameter.in}-${parameter.name}`;
  const choices = schema.enum ?? (schema.type === "boolean" ? [true, false] : undefined);
  const attributes = { id, name: parameter.name, "data-in": parameter.in, autocomplete: "off", spellcheck: "false" };
  if (parameter.required) attributes.required = "";
  let input;
  if (choices) {
    const options = choices.map((choice) => make("option", { value: text(choice) }, text(choice)));
    if (!parameter.required) options.unshift(make("option", { value: "" }, ""));
    input = make("select", attributes, ...options);
  } else {
    // Whatever is wrong with a value, the server says it better than a browser.
    const example = parameter.required && parameter.example !== undefined ? text(parameter.example) : undefined;
    input = make("input", { ...attributes, value: example });
  }
  const label = make("label", { for: id }, make("code", {}, parameter.name));
  if (parameter.required) label.append(make("span", { class: "needed" }, " required"));
  return make("div", { class: "parameter" }, label, input, make("p", { class: "notes" }, notes(parameter, schema)));
}

function target(path, form) {
  const query = new URLSearchParams();
  let filled = path;
  for (const input of form.querySelectorAll("[data-in]")) {
    if (input.dataset.in === "path") {
      filled = filled.replace(`{${input.name}}`, encodeURIComponent(input.value));
    } else if (input.value !== "") {
      query.append(input.name, input.value);
    }
  }
  const text = query.toString();
  // Relative, so that it works wherever a proxy has put Larder.
  return new URL(filled.slice(1) + (text && `?${text}`), document.baseURI);
}

const quoted = (text) => `'${text.replaceAll("'", `'\\''`)}'`;

/** JSON with line breaks; numbers keep their digits, for they are not read. */
function pretty(json) {
  let depth = 0;
  const line = () => `\n${"  ".repeat(depth)}`;
  return json.replace(/"(?:[^"\\]|\\.)*"|[[\]{},:]|\s+|[^\s"[\]{},:]+/g, (token, at) => {
    const next = json[at + 1];
    switch (token) {
      case "[": case "{":
        if (next === "]" || next === "}") return token;
        depth += 1;
        return token + line();
      case "]": case "}":
        if (json[at - 1] === "[" || json[at - 1] === "{") return token;
        depth -= 1;
        return line() + token;
      case ",": return token + line();
      case ":": return ": ";
      default: return token.trim() === "" ? "" : token;
    }
  });
}

/** JSON whose numbers keep their digits, where the browser can tell how they were written. */
function read(text) {
  const exact = (_, value, context) =>
    typeof value === "number" && context && String(value) !== context.source ? JSON.rawJSON(context.source) : value;
  return JSON.parse(text, JSON.rawJSON && exact);
}

/** How fresh an answer is, from `Cache-Status` (RFC 9211) and `Age`. */
function freshness(headers) {
  const status = headers.get("Cache-Status");
  if (!status) return undefined;
  const ttl = /ttl=(-?\d+)/.exec(status)?.[1];
  const age = `${headers.get("Age") ?? "?"} s old`;
  if (!status.includes("hit")) return `Loaded for this request; ${age}.`;
  if (status.includes("stale")) return `From memory; ${age}, stale, a newer one is on its way.`;
  return `From memory; ${age}, fresh for ${ttl} s more.`;
}

async function show(result, url, fields) {
  result.replaceChildren(make("p", { class: "quiet" }, "Waiting…"));
  const began = performance.now();
  let answer, text;
  try {
    answer = await fetch(url, { headers: fields });
    text = await answer.text();
  } catch (error) {
    result.replaceChildren(make("p", { class: "status bad" }, `No answer: ${error.message}. Is the server running?`));
    return;
  }
  const took = Math.round(performance.now() - began);
  const type = answer.headers.get("Content-Type") ?? "";
  const isJson = /^application\/(problem\+)?json/.test(type);
  const body = isJson ? pretty(text.slice(0, SHOWN_MAX)) : text.slice(0, SHOWN_MAX);
  const listed = HEADERS.filter((name) => answer.headers.has(name));
  const headers = listed.flatMap((name) => [make("dt", {}, name), make("dd", {}, answer.headers.get(name))]);
  const fresh = freshness(answer.headers);
  result.replaceChildren(
    make("p", {}, make("span", { class: answer.ok ? "status" : "status bad" }, `${answer.status} ${answer.statusText}`),
      ` in ${took} ms, ${text.length.toLocaleString("en")} characters. ${fresh ?? ""}`),
    make("dl", {}, ...headers),
    make("pre", { tabindex: "0" }, body),
  );
  if (text.length > SHOWN_MAX) result.append(make("p", { class: "quiet" }, `Only the first ${SHOWN_MAX.toLocaleString("en")} characters are shown.`));
  result.dataset.status = answer.status;
}

function tryIt(path, operation) {
  const parameters = operation.parameters ?? [];
  const formats = Object.keys(operation.responses["200"].content);
  const format = make("select", { "aria-label": "Format" }, ...formats.map((type) => make("option", {}, type)));
  const command = make("pre", {});
  const result = make("div", { "data-result": "", "aria-live": "polite" });
  const actions = make("div", { class: "actions" }, make("button", { type: "submit" }, "Send"), format);
  const form = make("form", {}, ...parameters.map((parameter) => field(operation, parameter)), actions);
  const update = () => {
    const accept = format.value === formats[0] ? "" : ` -H ${quoted(`Accept: ${format.value}`)}`;
    const key = operation.security ? ' -H "Authorization: Bearer $KEY"' : "";
    command.textContent = `curl -i${key}${accept} ${quoted(target(path, form).href)}`;
  };
  form.addEventListener("input", update);
  form.addEventListener("submit", (event) => {
    event.preventDefault();
    delete result.dataset.status;
    show(result, target(path, form), { Accept: format.value, ...(operation.security && authorization()) });
  });
  update();
  return [make("h2", {}, parameters.length ? "Parameters" : "Try it"), form, command, result];
}

function endpoint(contract, path, operation) {
  const details = make("details", { class: "endpoint", id: operation.operationId },
    make("summary", {}, make("span", { class: "path" }, path), make("span", { class: "summary" }, operation.summary ?? "")));
  // Thousands of endpoints are listed at once; few are read.
  details.addEventListener("toggle", () => {
    if (!details.open) return;
    history.replaceState(null, "", `#${operation.operationId}`);
    if (details.children.length > 1) return;
    details.append(make("section", { "data-operation": operation.operationId },
      ...prose(operation.description ?? ""), ...tryIt(path, operation), ...answers(contract, operation), ...problems(contract, operation)));
  });
  return details;
}

/** The document, and why the server rejects the credential, if it does: then it is what needs none. */
async function load(headers, rejected = "") {
  for (;;) {
    const answer = await fetch("openapi.json", { headers });
    if (answer.ok) return [read(await answer.text()), rejected];
    if (answer.status === 401 && !rejected) return load({}, (await answer.json()).detail);
    if (answer.status !== 503) throw new Error(`openapi.json answers ${answer.status} ${answer.statusText}`);
    state.textContent = (await answer.json()).detail;
    const seconds = Number(answer.headers.get("Retry-After")) || 1;
    await new Promise((done) => setTimeout(done, seconds * 1000));
  }
}

function open() {
  const named = document.getElementById(decodeURIComponent(location.hash.slice(1)));
  if (named instanceof HTMLDetailsElement) {
    named.open = true;
    named.scrollIntoView();
  }
}

const state = document.getElementById("state"), filter = document.getElementById("filter");
let all = []; // the endpoints, each as its text and its element
let hasCredentials = false; // whether the server has any

function select() {
  const words = filter.value.toLowerCase().split(/\s+/);
  let found = 0;
  for (const { text, element } of all) {
    element.hidden = !words.every((word) => text.includes(word));
    found += !element.hidden;
  }
  const whose = !hasCredentials ? "" : credential ? " that this credential may use" : " that need no credential";
  state.textContent = `${found} of ${all.length} endpoints${whose}`;
}

/** Shows what the caller may use. */
async function update() {
  const used = credential;
  let contract, rejected;
  try {
    [contract, rejected] = await load(authorization());
  } catch (error) {
    state.textContent = `The endpoints cannot be shown: ${error.message}. Reload the page, or ask the operator of this server.`;
    return;
  }
  if (used !== credential) return; // another one was entered meanwhile
  if (rejected) credential = "";
  document.getElementById("key-state").textContent = rejected;
  document.title = contract.info.title;
  document.getElementById("title").textContent = contract.info.title;
  document.getElementById("about").replaceChildren(...prose(contract.info.description).flatMap((p) => [...p.childNodes]));
  hasCredentials = contract.components.securitySchemes !== undefined;
  document.getElementById("credential").hidden = !hasCredentials;
  all = Object.entries(contract.paths).map(([path, item]) => {
    const text = `${path} ${item.get.summary ?? ""}`.toLowerCase();
    return { text, element: endpoint(contract, path, item.get) };
  });
  document.getElementById("endpoints").replaceChildren(...all.map((one) => one.element));
  select();
  open();
}

document.getElementById("credential").addEventListener("submit", (event) => {
  event.preventDefault();
  credential = document.getElementById("key").value;
  update();
});
filter.addEventListener("input", select);
addEventListener("hashchange", open);
update();
