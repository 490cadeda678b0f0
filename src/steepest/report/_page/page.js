"use strict";
// Draws the figures of a page, in light and dark, on a screen and on paper. Scripts of a page find them in `page`.
const page = (() => {
  const root = document.documentElement;
  const figures = [];

  /** Return the text that packed.py has compressed. */
  const unpack = async (text) => {
    const digits = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz!#$%&()*+-;.=>?@^_`{|}~";
    const value = new Map([...digits].map((digit, i) => [digit.charCodeAt(0), i]));
    const given = text.trim();
    const missing = (5 - (given.length % 5)) % 5;
    const whole = given + "~".repeat(missing);
    const view = new DataView(new ArrayBuffer((whole.length / 5) * 4));
    for (let i = 0, at = 0; i < whole.length; at += 4) {
      let number = 0;
      for (let k = 0; k < 5; k += 1, i += 1) number = number * 85 + value.get(whole.charCodeAt(i));
      view.setUint32(at, number);
    }
    const bytes = new Blob([view.buffer.slice(0, view.byteLength - missing)]);
    return new Response(bytes.stream().pipeThrough(new DecompressionStream("deflate"))).text();
  };

  const css = (name) => getComputedStyle(root).getPropertyValue(name).trim();
  const parts = (hex) => [1, 3, 5].map((i) => parseInt(hex.slice(i, i + 2), 16)).join(", ");
  // Figures come in the light palette, with the colours written as in _figure.py.
  const names = new Map();
  root.dataset.palette.split(" ").forEach((hex, i) => {
    names.set(hex.toUpperCase(), `--series-${i}`);
    names.set(parts(hex), `--series-${i}`);
  });
  const recoloured = (value) => {
    if (typeof value === "string") {
      if (value[0] === "#") return names.has(value.toUpperCase()) ? css(names.get(value.toUpperCase())) : value;
      const found = /^rgba\((\d+, \d+, \d+), ([\d.]+)\)$/.exec(value);
      return found && names.has(found[1]) ? `rgba(${parts(css(names.get(found[1])))}, ${found[2]})` : value;
    }
    if (Array.isArray(value)) return typeof value[0] === "number" ? value : value.map(recoloured);
    if (value === null || typeof value !== "object" || ArrayBuffer.isView(value)) return value;
    return Object.fromEntries(Object.entries(value).map(([key, each]) => [key, recoloured(each)]));
  };
  /** Return a layout in the colours of the page. */
  const dress = (layout) => {
    const ink = css("--ink");
    const dressed = recoloured({
      ...layout,
      font: { ...layout.font, color: ink },
      hoverlabel: { ...layout.hoverlabel, bgcolor: css("--panel"), font: { color: ink } },
    });
    for (const key of Object.keys(layout)) {
      if (/^[xy]axis\d*$/.test(key)) {
        dressed[key] = { ...dressed[key], gridcolor: css("--line"), linecolor: css("--quiet") };
      }
    }
    return dressed;
  };
  /** Return a trace with its curves, which moving.py writes as rounded second differences, as numbers. */
  const unrolled = (trace) => Object.fromEntries(
    Object.entries(trace).map(([key, value]) => {
      if (!value?.differences) return [key, value];
      let slope = 0;
      let at = 0;
      return [key, value.differences.map((difference) => {
        if (difference === null) return null;
        slope += difference;
        at += slope;
        const number = value.low + value.step * at;
        return value.log ? 10 ** number : number;
      })];
    }),
  );
  /** Show a figure's data in the colours of the page; without data, what it shows already. */
  const show = (each, data, layout) => {
    if (data) each.shown = { data, layout };
    Plotly.react(each.element, recoloured(each.shown.data), dress({ ...each.shown.layout, ...each.size }));
  };
  const repaint = () => figures.forEach((each) => show(each));

  const draw = async () => {
    const sources = [...document.querySelectorAll("script[data-figure]")];
    const [plotly, ...texts] = await Promise.all(
      [document.getElementById("plotly"), ...sources].map((source) => unpack(source.textContent)),
    );
    const script = document.createElement("script");
    script.textContent = plotly;
    document.head.append(script);
    sources.forEach((source, i) => {
      const element = document.getElementById(source.dataset.figure);
      const figure = JSON.parse(texts[i]);
      figure.data = figure.data.map(unrolled);
      // The page's own buttons or keys are the legend: they work with a keyboard and for all charts at once.
      const layout = { ...figure.layout, showlegend: false, autosize: true };
      const height = layout.height ?? Math.max(300, Math.min(420, 0.6 * element.clientWidth));
      const each = { element, figure, size: { height }, shown: { data: figure.data, layout } };
      each.heights = { screen: height, print: figure.layout.height ?? 260 };
      Plotly.newPlot(element, recoloured(figure.data), dress({ ...layout, height }), {
        responsive: true,
        displayModeBar: false,
        scrollZoom: false,
      });
      figures.push(each);
    });
  };
  const drawn = draw().catch((error) => {
    for (const element of document.querySelectorAll(".figure")) {
      element.textContent = "The figures need a browser of 2023 or later; the tables hold the numbers.";
    }
    throw error;
  });

  const dark = matchMedia("(prefers-color-scheme: dark)");
  dark.addEventListener("change", repaint);
  document.getElementById("theme").addEventListener("click", () => {
    const now = root.dataset.theme ?? (dark.matches ? "dark" : "light");
    root.dataset.theme = now === "dark" ? "light" : "dark";
    repaint();
  });

  // On paper: what is folded is open, and figures are light and as wide as a sheet.
  const folded = [...document.querySelectorAll("details:not([open])")];
  let before = null;
  const toPaper = () => {
    if (before) return;
    before = { theme: root.dataset.theme };
    root.dataset.theme = "light";
    folded.forEach((element) => { element.open = true; });
    for (const each of figures) {
      each.size = { width: each.element.closest(".panels") ? 325 : 680, height: each.heights.print };
    }
    repaint();
  };
  const fromPaper = () => {
    if (!before) return;
    if (before.theme) root.dataset.theme = before.theme;
    else delete root.dataset.theme;
    before = null;
    folded.forEach((element) => { element.open = false; });
    for (const each of figures) each.size = { height: each.heights.screen };
    repaint();
  };
  addEventListener("beforeprint", toPaper);
  addEventListener("afterprint", fromPaper);
  matchMedia("print").addEventListener("change", ({ matches }) => (matches ? toPaper() : fromPaper()));

  // On a narrow screen each row of a table stands by itself, and every number needs the name of its column.
  for (const table of document.querySelectorAll("table")) {
    const heads = [...table.querySelectorAll("thead th")].map((head) => head.textContent);
    table.setAttribute("role", "table");
    for (const row of table.rows) {
      row.setAttribute("role", "row");
      [...row.cells].forEach((cell, i) => {
        const head = row.parentElement.tagName === "THEAD";
        cell.setAttribute("role", head ? "columnheader" : cell.tagName === "TH" ? "rowheader" : "cell");
        if (!head) cell.dataset.column = heads[i];
      });
    }
  }

  for (const button of document.querySelectorAll("button[data-copies]")) {
    const words = button.textContent;
    button.addEventListener("click", async () => {
      const text = document.getElementById(button.dataset.copies);
      try {
        await navigator.clipboard.writeText(text.textContent);
        button.textContent = "Copied";
      } catch {
        getSelection().selectAllChildren(text);
        button.textContent = "Selected";
      }
      setTimeout(() => { button.textContent = words; }, 2000);
    });
  }
  return { figures, show, unrolled, drawn };
})();
