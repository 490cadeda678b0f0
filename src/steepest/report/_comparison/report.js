// Series are shown or hidden, and curves are over steps (or evaluations of the loss) or seconds, in all charts at once.
(() => {
  const hidden = new Set();
  let over = "steps";

  const refresh = (each) => {
    const { data, layout } = each.figure.views?.[over] ?? each.figure;
    const shown = data.map((trace) => (hidden.has(trace.legendgroup) ? { ...trace, visible: false } : trace));
    page.show(each, shown, { ...layout, showlegend: false, autosize: true });
  };
  for (const chip of document.querySelectorAll("#series .chip")) {
    chip.addEventListener("click", () => {
      const shown = chip.getAttribute("aria-pressed") !== "true";
      chip.setAttribute("aria-pressed", String(shown));
      if (shown) hidden.delete(chip.dataset.series);
      else hidden.add(chip.dataset.series);
      page.figures.filter(({ figure }) => figure.data.some((trace) => trace.legendgroup)).forEach(refresh);
    });
  }
  for (const choice of document.querySelectorAll("input[name=over]")) {
    choice.addEventListener("change", () => {
      over = choice.value;
      page.figures.filter(({ figure }) => figure.views).forEach(refresh);
    });
  }
})();
