"use strict";
// Draws the figures of a page, in light and dark, on a screen and on paper. Scripts of a page find them in `page`.
const page = (() => {
  const root = document.documentElement;
  const figures = [];

  /** Return a layout in the colours of the page. */
  const dress = (layout) => {
    const css = getComputedStyle(root);
    const colour = (name) => css.getPropertyValue(name).trim();
    const dressed = {
      ...layout,
      font: { ...layout.font, color: colour("--ink") },
      hoverlabel: { ...layout.hoverlabel, bgcolor: colour("--panel"), font: { color: colour("--ink") } },
    };
    for (const key of Object.keys(layout)) {
      if (/^[xy]axis\d*$/.test(key)) dressed[key] = { ...layout[key], gridcolor: colour("--line") };
    }
    return dressed;
  };
  const repaint = () => {
    for (const { element } of figures) Plotly.react(element, element.data, dress(element.layout));
  };

  for (const source of document.querySelectorAll("script[data-figure]")) {
    const element = document.getElementById(source.dataset.figure);
    const figure = JSON.parse(source.textContent);
    // The page's own buttons or keys are the legend: they work with a keyboard and for all charts at once.
    figure.layout.showlegend = false;
    figure.layout.autosize = true;
    const given = figure.layout.height;
    figure.layout.height = given ?? Math.max(300, Math.min(420, 0.6 * element.clientWidth));
    const heights = { screen: figure.layout.height, print: given ?? 260 };
    Plotly.newPlot(element, figure.data, dress(figure.layout), { responsive: true, displayModeBar: false, scrollZoom: false });
    figures.push({ element, figure, heights });
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
    for (const { element, heights } of figures) {
      const width = element.closest(".panels") ? 325 : 680;
      Plotly.relayout(element, { width, height: heights.print, "font.color": "#000000" });
    }
  });
  addEventListener("afterprint", () => {
    for (const { element, heights } of figures) {
      Plotly.relayout(element, { width: null, height: heights.screen, autosize: true });
    }
    repaint();
  });
  return { figures, dress };
})();
