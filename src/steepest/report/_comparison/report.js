for (const chip of document.querySelectorAll("#series .chip")) {
  chip.addEventListener("click", () => {
    const shown = chip.getAttribute("aria-pressed") !== "true";
    chip.setAttribute("aria-pressed", String(shown));
    for (const each of page.figures) {
      const traces = each.shown.data.filter((trace) => trace.legendgroup === chip.dataset.series);
      for (const trace of traces) trace.visible = shown;
      if (traces.length) page.show(each);
    }
  });
}
