// Charts, drawn by uPlot.

const SPAN = 300; // seconds shown

const colours = new Map();

/** A colour of the style sheet, in a form that a canvas accepts. */
function colour(name) {
  if (!colours.has(name)) {
    const probe = make("span");
    probe.style.color = `var(${name})`;
    document.body.append(probe);
    colours.set(name, getComputedStyle(probe).color);
    probe.remove();
  }
  return colours.get(name);
}

const plots = new Set();

matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => {
  colours.clear();
  for (const plot of plots) plot.redraw();
});

const line = (stroke, fill) => ({
  stroke: () => colour(stroke), fill: fill && (() => colour(fill)), width: 1.25, points: { show: false }, spanGaps: false,
});

/** The range from zero to the maximum, or to `top`. */
const upTo = (top) => (_, __, most) => [0, ((top ?? most) || 1) * 1.05];

function plot(place, options, data) {
  const { clientWidth: width, clientHeight: height } = place;
  const common = { width: Math.max(width, 10), height: Math.max(height, 10), legend: { show: false } };
  const made = new uPlot({ ...common, ...options }, data, place);
  const resized = new ResizeObserver(() => {
    const { clientWidth: width, clientHeight: height } = place;
    if (width && height && (width !== made.width || height !== made.height)) made.setSize({ width, height });
  });
  resized.observe(place);
  plots.add(made);
  return { made, drop: () => { resized.disconnect(); plots.delete(made); made.destroy(); } };
}

/** The time range. That of a young server begins at its start, so that its curves fill the chart. */
function lastMinutes() {
  const last = recent.times.at(-1);
  return [Math.max(last - SPAN, Math.min(recent.times[0], last - 60)), last];
}

/** A curve without axes. */
class Spark {
  constructor(place, { top, fill } = {}) {
    this.place = place;
    this.top = top;
    this.fill = fill;
  }

  show(values) {
    if (recent.times.length < 2 || !this.place.clientWidth) return;
    const data = [recent.times, values];
    if (this.plot) return this.plot.made.setData(data);
    this.plot = plot(this.place, {
      cursor: { show: false }, axes: [{ show: false }, { show: false }], padding: [2, 1, 1, 1],
      scales: { x: { range: lastMinutes }, y: { range: upTo(this.top) } },
      series: [{}, line("--accent", this.fill)],
    }, data);
  }

  drop() {
    this.plot?.drop();
    this.plot = undefined;
  }
}

/** A curve with axes, which shows the value under the pointer. */
class Chart {
  constructor(title, format, limit) {
    this.format = format;
    this.value = make("span");
    this.place = make("div", { class: "plot", role: "img" });
    this.title = title;
    this.limit = limit;
    this.element = make("div", { class: "chart" }, make("h3", {}, title, this.value), this.place);
  }

  show(values) {
    if (recent.times.length < 2 || !this.place.clientWidth) return setText(this.value, "the chart starts in a moment");
    const limit = this.limit?.() ?? null;
    const data = [recent.times, values, ...(this.limit ? [recent.times.map(() => limit)] : [])];
    if (this.plot) this.plot.made.setData(data);
    else this.draw(data);
    this.read();
    const there = values.filter((value) => value !== null);
    const range = there.length ? `from ${this.format(Math.min(...there))} to ${this.format(Math.max(...there))}` : "no values";
    this.place.setAttribute("aria-label", `${this.title} in the last five minutes: ${range}`);
  }

  draw(data) {
    const axis = {
      stroke: () => colour("--quiet"), grid: { stroke: () => colour("--line"), width: 1 }, ticks: { show: false }, font: "11px system-ui",
    };
    this.plot = plot(this.place, {
      cursor: { sync: { key: "endpoint" }, y: false, points: { size: 6 }, drag: { x: false } }, padding: [8, 4, 0, 0],
      scales: { x: { range: lastMinutes }, y: { range: upTo() } },
      axes: [
        { ...axis, size: 20, gap: 2, space: 70, values: (_, times) => times.map((time) => clock(time).slice(0, 5)), grid: { show: false }, incrs: [60] },
        { ...axis, size: 56, gap: 4, space: 28, values: (_, values) => values.map(this.format) },
      ],
      series: [{}, line("--accent", "--wash"), ...(this.limit ? [{ ...line("--warn"), dash: [4, 3] }] : [])],
      hooks: { setCursor: [() => this.read()] },
    }, data);
  }

  /** Shows the value under the pointer, or else the last one. */
  read() {
    if (!this.plot) return;
    const { cursor, data } = this.plot.made;
    const index = cursor.idx ?? data[0].length - 1;
    const value = data[1][index] ?? null;
    const when = cursor.idx === null || cursor.idx === undefined ? "" : `${clock(data[0][index])}: `;
    setText(this.value, when + (value === null ? NOTHING : this.format(value)));
  }

  drop() {
    this.plot?.drop();
    this.plot = undefined;
  }
}
