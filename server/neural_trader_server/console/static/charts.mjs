/**
 * Lines, candles and the marks of trades on them, drawn by TradingView's Lightweight Charts (vendor/).
 *
 *   const drawn = chart("Equity", [{ name: "equity", kind: "area", times, values }], { unit: "USD" });
 *   root.append(drawn.element);            // drawn.show(series) draws anew; drawn.leave() when the page is left
 *
 * Times are seconds since 1970, ascending; values are decimal strings or numbers, null where there is none.
 * A chart can be read without eyes: its caption says where each line begins, ends, and how far it went.
 */

import { decimal, fill, h, visible } from "./dom.mjs";
import { AreaSeries, CandlestickSeries, LineSeries, createChart, createSeriesMarkers } from "./vendor/lightweight-charts.mjs";

const KINDS = { area: AreaSeries, line: LineSeries, candles: CandlestickSeries };
/** What the library's license asks for. */
const credit = () => h("a", {
  class: "credit", href: "https://www.tradingview.com/", target: "_blank", rel: "noopener noreferrer",
  title: "TradingView Lightweight Charts™, copyright (c) 2026 TradingView, Inc.",
}, "TradingView");
const STEPS = { ArrowLeft: -1, ArrowRight: 1 };
const dark = window.matchMedia("(prefers-color-scheme: dark)");
const colour = (name) => getComputedStyle(document.documentElement).getPropertyValue(`--${name}`).trim();

/** A number to draw by; what is said in words keeps its digits. */
const number = (value) => (value === null || value === undefined ? null : Number(value));

const format = (unit) => (value) => {
  if (unit === "%") return `${(100 * value).toFixed(2)} %`;
  return decimal(value.toFixed(Math.abs(value) < 10 ? 4 : 2)) + (unit ? ` ${unit}` : "");
};

/**
 * @param title What it shows.
 * @param series Of {name, kind: "area" | "line" | "candles", tone, times, values | bars, marks}. `bars` are [open, high,
 *   low, close]; `marks` are {time, kind: "entry" | "exit", side, text}; `tone` is a colour of console.css, "accent" if none.
 * @param options {unit, height}: `unit` is shown after numbers; "%" takes fractions.
 */
export function chart(title, series, { unit = "", height = 300 } = {}) {
  const canvas = h("div", { class: "canvas", tabindex: "0", role: "img", "aria-label": title });
  const words = h("span", { class: "note" });
  const element = h("figure", { class: "chart" }, h("figcaption", {}, h("strong", {}, title), " ", words, credit()), canvas);
  canvas.style.height = `${height}px`;
  let shown = series;
  let made = null;
  let moved = false;  // by its reader; else all of it is shown, however wide it is

  function draw() {
    const range = moved ? made?.timeScale().getVisibleLogicalRange() : null;
    made?.remove();
    made = createChart(canvas, {
      autoSize: true,
      layout: { attributionLogo: false, background: { color: "transparent" }, textColor: colour("soft"), fontFamily: "system-ui, sans-serif" },
      grid: { vertLines: { color: colour("raised") }, horzLines: { color: colour("raised") } },
      rightPriceScale: { borderColor: colour("line") },
      timeScale: { borderColor: colour("line"), minBarSpacing: 0.01, timeVisible: shown.some((each) => within(each.times)), secondsVisible: false },
      localization: { priceFormatter: format(unit) },
    });
    for (const each of shown) add(made, each);
    if (range) made.timeScale().setVisibleLogicalRange(range);
    else made.timeScale().fitContent();
    const told = shown.map((each) => saidOf(each, unit)).filter(Boolean).join("; ");
    fill(words, told || "nothing to draw yet");
    canvas.setAttribute("aria-label", `${title}: ${told}`);
    canvas.dataset.points = String(shown.reduce((sum, each) => sum + each.times.length, 0));
    canvas.dataset.marks = String(shown.reduce((sum, each) => sum + (each.marks?.length ?? 0), 0));
  }

  canvas.addEventListener("keydown", (event) => {
    const scale = made?.timeScale();
    const range = scale?.getVisibleLogicalRange();
    if (!range) return;
    const width = range.to - range.from;
    if (event.key in STEPS) scale.setVisibleLogicalRange({ from: range.from + STEPS[event.key] * width * 0.1, to: range.to + STEPS[event.key] * width * 0.1 });
    else if (event.key === "+") scale.setVisibleLogicalRange({ from: range.from + width * 0.1, to: range.to - width * 0.1 });
    else if (event.key === "-") scale.setVisibleLogicalRange({ from: range.from - width * 0.1, to: range.to + width * 0.1 });
    else if (event.key === "0") scale.fitContent();
    else return;
    moved = event.key !== "0";
    event.preventDefault();
  });
  for (const kind of ["wheel", "pointerdown"]) canvas.addEventListener(kind, () => { moved = true; }, { passive: true });
  const sized = new ResizeObserver(() => moved || requestAnimationFrame(() => made?.timeScale().fitContent()));
  sized.observe(canvas);
  dark.addEventListener("change", draw);
  draw();
  return {
    element,
    show(next) {
      shown = next;
      draw();
    },
    leave() {
      dark.removeEventListener("change", draw);
      sized.disconnect();
      made?.remove();
      made = null;
    },
  };
}

/** Whether bars lie closer than a day, so that the axis has to tell the hour. */
const within = (times) => times.length > 2 && times.at(-1) - times[0] < 86_400 * 0.9 * (times.length - 1);

function add(made, each) {
  const tone = colour(each.tone ?? "accent");
  const looks = {
    area: { lineColor: tone, topColor: `${tone}55`, bottomColor: `${tone}08`, lineWidth: 2 },
    line: { color: tone, lineWidth: 1 },
    candles: { upColor: colour("good"), downColor: colour("bad"), borderVisible: false, wickUpColor: colour("good"), wickDownColor: colour("bad") },
  }[each.kind];
  const line = made.addSeries(KINDS[each.kind], { ...looks, title: label(each.name), priceLineVisible: false, lastValueVisible: each.kind !== "line" });
  line.setData(points(each));
  if (each.marks?.length) {
    createSeriesMarkers(line, each.marks.map((mark) => {
      const buys = (mark.side === "long") === (mark.kind === "entry");
      return {
        time: mark.time, position: buys ? "belowBar" : "aboveBar", shape: buys ? "arrowUp" : "arrowDown",
        color: colour(mark.kind === "entry" ? "accent" : "warn"), text: mark.text ?? "",
      };
    }));
  }
}

const label = (name) => visible(name ?? "");

/** What the library takes: strictly ascending seconds; of several values of one second the last counts. */
function points(each) {
  const found = new Map();
  each.times.forEach((time, row) => {
    if (each.bars) {
      const [open, high, low, close] = each.bars[row].map(Number);
      found.set(time, { time, open, high, low, close });
    } else {
      const value = number(each.values[row]);
      found.set(time, value === null || Number.isNaN(value) ? { time } : { time, value });
    }
  });
  return [...found.values()];
}

function saidOf(each, unit) {
  const values = (each.bars ? each.bars.map((bar) => Number(bar[3])) : each.values.map(number)).filter((value) => value !== null && !Number.isNaN(value));
  if (!values.length) return "";
  const say = format(unit);
  let [low, high] = [values[0], values[0]];
  for (const value of values) [low, high] = [Math.min(low, value), Math.max(high, value)];
  const days = [each.times[0], each.times.at(-1)].map((time) => new Date(time * 1000).toISOString().slice(0, 10));
  return `${each.name ? `${label(each.name)} ` : ""}from ${say(values[0])} (${days[0]}) to ${say(values.at(-1))} (${days[1]}), between ${say(low)} and ${say(high)}`;
}
