// Draws the figures of #payload into the elements with data-figure, light or dark as the reader's system is.
"use strict";
(function () {
  const payload = JSON.parse(document.getElementById("payload").textContent);
  const dark = window.matchMedia("(prefers-color-scheme: dark)");
  const config = { responsive: true, displayModeBar: false };

  function draw(theme) {
    const drawings = [...document.querySelectorAll("[data-figure]")].map((element) => {
      const figure = payload.figures[element.dataset.figure];
      const layout = { ...structuredClone(figure.layout), template: payload[theme] };
      return Plotly.react(element, structuredClone(figure.data), layout, config).then(() => {
        element.dataset.drawn = theme;
      });
    });
    return Promise.all(drawings);
  }

  const chosen = () => (dark.matches ? "dark" : "light");
  draw(chosen()).catch((error) => {
    document.documentElement.dataset.error = String(error);
    console.error(error);
  });
  dark.addEventListener("change", () => draw(chosen()));
  window.addEventListener("beforeprint", () => draw("light"));
  window.addEventListener("afterprint", () => draw(chosen()));
})();
