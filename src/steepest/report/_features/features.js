// The slider over training: it moves every chart and every text that depends on the step.
(() => {
  const slider = document.getElementById("step");
  const play = document.getElementById("play");
  const scale = document.getElementById("scale");
  const texts = [...document.querySelectorAll("[data-texts]")].map((element) => ({
    element,
    values: JSON.parse(element.dataset.texts),
  }));
  const main = document.querySelector("main");
  const label = texts.find(({ element }) => element.id === "at").values;
  let waiting = new Set();
  let timer = 0;

  const draw = (each) => {
    const { element, figure } = each;
    const frame = figure.frames[slider.value];
    const layout = { ...figure.layout, ...frame.layout, showlegend: false, autosize: true };
    if (figure.scale && scale?.checked && element.id.startsWith("layer")) {
      layout.yaxis = { ...layout.yaxis, ...figure.scale.yaxis, autorange: false };
    }
    page.show(each, figure.data.map((trace, i) => ({ ...trace, ...page.unrolled(frame.data[i]) })), layout);
  };
  const inView = ({ element }) => {
    const { top, bottom } = element.getBoundingClientRect();
    return bottom > 0 && top < innerHeight;
  };
  // What is seen moves at once, the rest when there is time, so that the slider never waits.
  const drawWaiting = () => {
    clearTimeout(timer);
    for (const each of [...waiting].filter(inView)) {
      draw(each);
      waiting.delete(each);
    }
    const next = () => {
      const [each] = waiting;
      if (!each) {
        main.setAttribute("aria-busy", "false");
        return;
      }
      draw(each);
      waiting.delete(each);
      timer = setTimeout(next);
    };
    timer = setTimeout(next, 60);
  };
  const show = () => {
    for (const { element, values } of texts) element.textContent = values[slider.value];
    slider.setAttribute("aria-valuetext", label[slider.value]);
    waiting = new Set(page.figures);
    main.setAttribute("aria-busy", "true");
    requestAnimationFrame(drawWaiting);
  };

  let playing = 0;
  const stop = () => {
    clearInterval(playing);
    playing = 0;
    play.textContent = "▶";
    play.setAttribute("aria-label", "Play the training");
  };
  play.addEventListener("click", () => {
    if (playing) return stop();
    if (slider.value === slider.max) slider.value = "0";
    else slider.value = String(+slider.value + 1);
    show();
    play.textContent = "❚❚";
    play.setAttribute("aria-label", "Pause");
    playing = setInterval(() => {
      slider.value = String(+slider.value + 1);
      show();
      if (slider.value === slider.max) stop();
    }, 800);
  });
  slider.addEventListener("input", () => {
    stop();
    show();
  });
  scale?.addEventListener("change", show);
  page.drawn.then(() => slider.value !== slider.max && show());
  const drawAll = () => {
    clearTimeout(timer);
    waiting.forEach(draw);
    waiting.clear();
    main.setAttribute("aria-busy", "false");
  };
  addEventListener("beforeprint", drawAll);
})();
