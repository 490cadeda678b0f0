for (const chip of document.querySelectorAll("#series .chip")) {
  chip.addEventListener("click", () => {
    const shown = chip.getAttribute("aria-pressed") !== "true";
    chip.setAttribute("aria-pressed", String(shown));
    for (const { element } of page.figures) {
      const traces = element.data.flatMap((trace, i) => (trace.legendgroup === chip.dataset.series ? [i] : []));
      if (traces.length) Plotly.restyle(element, { visible: shown }, traces);
    }
  });
}
