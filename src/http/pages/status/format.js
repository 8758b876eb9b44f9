"use strict";

// Elements, texts and numbers. The scripts in this folder are served as one, starting with this one.

const NOTHING = "–";

const at = (id) => document.getElementById(id);

/** Creates an element with attributes and children. Texts never become markup. */
function make(tag, attributes = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (value !== undefined) element.setAttribute(name, value);
  }
  element.append(...children.filter((child) => child !== undefined));
  return element;
}

/** Sets a text if it differs: most texts stay the same from one second to the next. */
function setText(element, text) {
  if (element.textContent !== text) element.textContent = text;
}

function digits(value, most) {
  return value.toLocaleString("en", { maximumSignificantDigits: most });
}

function count(value) {
  if (value >= 1e6) return `${digits(value / 1e6, 3)} M`;
  if (value >= 1e4) return `${digits(value / 1e3, 3)} k`;
  return value < 1e3 ? digits(value, value < 10 ? 2 : 3) : Math.round(value).toLocaleString("en");
}

function duration(seconds) {
  if (seconds === null || seconds === undefined) return NOTHING;
  if (seconds === 0) return "0";
  if (seconds < 0.001) return `${digits(seconds * 1e6, 2)} µs`;
  if (seconds < 1) return `${digits(seconds * 1e3, 2)} ms`;
  if (seconds < 60) return `${digits(Math.floor(seconds * 10) / 10, seconds < 10 ? 2 : 3)} s`;
  return span(seconds);
}

/** Formats an age, without milliseconds. */
function age(seconds) {
  if (seconds >= 60) return span(seconds);
  return `${seconds < 10 ? (Math.floor(seconds * 10) / 10).toFixed(1) : Math.floor(seconds)} s`;
}

/** Formats whole seconds in their two largest units. */
function span(seconds) {
  const parts = [["d", 86_400], ["h", 3_600], ["min", 60], ["s", 1]];
  const first = parts.findIndex(([, size]) => seconds >= size);
  if (first < 0) return "0 s";
  const [[name, size], [then, smaller] = []] = parts.slice(first);
  const rest = smaller ? Math.floor((seconds % size) / smaller) : 0;
  return `${Math.floor(seconds / size)} ${name}${rest ? ` ${rest} ${then}` : ""}`;
}

/** The same text, without line breaks. */
const unbroken = (text) => text.replaceAll(" ", "\u00a0");

function bytes(value) {
  const units = ["B", "KiB", "MiB", "GiB", "TiB"];
  const power = value < 1 ? 0 : Math.min(Math.floor(Math.log2(value) / 10), units.length - 1);
  return `${digits(value / 1024 ** power, 3)} ${units[power]}`;
}

/** Rounds down: 100 % means all. */
function percent(ratio) {
  if (ratio === null) return NOTHING;
  const scale = ratio > 0.99 && ratio < 1 ? 100 : 10;
  return `${Math.floor(ratio * 100 * scale + 1e-9) / scale} %`;
}

function clock(timestamp) {
  return new Date(timestamp * 1000).toLocaleTimeString("en-GB");
}

/** How long ago something happened, by the server's clock. */
function ago(timestamp) {
  const seconds = now.timestamp_seconds - timestamp;
  return seconds < 1 ? "just now" : `${span(seconds)} ago`;
}

const endpoints = (number) => `${number.toLocaleString("en")} endpoint${number === 1 ? "" : "s"}`;

const capital = (word) => word[0].toUpperCase() + word.slice(1);
