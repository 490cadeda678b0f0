"use strict";
(() => {
  const root = document.documentElement;
  const figures = [];
  const heights = new Map();
  const style = () => getComputedStyle(root);
  const colours = () => {
    const css = style();
    return {
      "font.color": css.getPropertyValue("--ink").trim(),
      "xaxis.gridcolor": css.getPropertyValue("--line").trim(),
      "yaxis.gridcolor": css.getPropertyValue("--line").trim(),
      "hoverlabel.bgcolor": css.getPropertyValue("--panel").trim(),
      "hoverlabel.font.color": css.getPropertyValue("--ink").trim(),
    };
  };
  const repaint = () => figures.map((element) => Plotly.relayout(element, colours()));

  for (const data of document.querySelectorAll("script[data-figure]")) {
    const element = document.getElementById(data.dataset.figure);
    const figure = JSON.parse(data.textContent);
    // The page's own buttons are the legend: they work with a keyboard and for all charts at once.
    figure.layout.showlegend = false;
    figure.layout.autosize = true;
    const height = figure.layout.height ?? Math.max(300, Math.min(420, 0.6 * element.clientWidth));
    heights.set(element, { screen: height, print: figure.layout.height ?? 260 });
    figure.layout.height = height;
    Plotly.newPlot(element, figure.data, figure.layout, { responsive: true, displayModeBar: false, scrollZoom: false });
    figures.push(element);
  }
  repaint();

  for (const chip of document.querySelectorAll("#series .chip")) {
    chip.addEventListener("click", () => {
      const shown = chip.getAttribute("aria-pressed") !== "true";
      chip.setAttribute("aria-pressed", String(shown));
      for (const element of figures) {
        const traces = element.data.flatMap((trace, i) => (trace.legendgroup === chip.dataset.series ? [i] : []));
        if (traces.length) Plotly.restyle(element, { visible: shown }, traces);
      }
    });
  }

  const dark = matchMedia("(prefers-color-scheme: dark)");
  dark.addEventListener("change", repaint);
  document.getElementById("theme").addEventListener("click", () => {
    const now = root.dataset.theme ?? (dark.matches ? "dark" : "light");
    root.dataset.theme = now === "dark" ? "light" : "dark";
    repaint();
  });

  const closed = document.querySelectorAll("details:not([open])");
  addEventListener("beforeprint", () => {
    closed.forEach((element) => { element.open = true; });
    figures.forEach((element) => Plotly.relayout(element, { width: 680, height: heights.get(element).print, "font.color": "#000000" }));
  });
  addEventListener("afterprint", () => {
    figures.forEach((element) => Plotly.relayout(element, { width: null, height: heights.get(element).screen, autosize: true }));
    repaint();
  });
})();
