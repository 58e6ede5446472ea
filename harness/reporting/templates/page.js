// Draws the figures of #payload into the elements with data-figure, light or dark as the reader's system is; saves them.
"use strict";
(function () {
  const payload = JSON.parse(document.getElementById("payload").textContent);
  const dark = window.matchMedia("(prefers-color-scheme: dark)");
  const narrow = window.matchMedia("(max-width: 700px)");
  const config = { responsive: true, displayModeBar: false };
  const theme = () => (dark.matches ? "dark" : "light");

  // -- drawing

  function chosen(name) {
    const radio = document.querySelector(`input[name="choice-${name}"]:checked`);
    return payload.figures[name][radio ? Number(radio.value) : 0];
  }

  function draw(element, look) {
    const figure = chosen(element.dataset.figure);
    const layout = { ...structuredClone(figure.layout), template: payload[look] };
    const data = structuredClone(figure.data);
    if (narrow.matches && element.classList.contains("fits")) {
      data.forEach(shorten);
      layout.margin = { ...layout.margin, l: 56, r: 6 };
    }
    return Plotly.react(element, data, layout, config).then(() => {
      element.dataset.drawn = look;
      if (!element.dataset.listens) {
        element.dataset.listens = "yes";
        element.on("plotly_click", (event) => open(event.points[0].customdata));
      }
    });
  }

  function shorten(trace) {
    if (trace.meta && trace.meta.short) trace.text = trace.text.map((text, at) => text && trace.meta.short[at]);
  }

  function drawAll(look) {
    return Promise.all([...document.querySelectorAll("[data-figure]")].map((element) => draw(element, look)));
  }

  function complain(error) {
    document.documentElement.dataset.error = String(error);
    console.error(error);
  }

  function open(id) {
    const popover = typeof id === "string" && id ? document.getElementById(id) : null;
    if (popover && popover.showPopover) popover.showPopover();
  }

  // -- saving

  // What a symmetric logarithmic axis draws, back as the value: see drawing.py.
  function value(drawn, threshold) {
    if (!threshold || typeof drawn !== "number") return drawn;
    const linear = 1 / Math.LN10;
    const size = Math.abs(drawn) <= linear ? (Math.abs(drawn) / linear) * threshold : threshold * 10 ** (Math.abs(drawn) - linear);
    return Number((Math.sign(drawn) * size).toPrecision(12));
  }

  function plain(cell) {
    const text = String(cell ?? "").replace(/<br>/g, " ");
    return /[<&]/.test(text) ? new DOMParser().parseFromString(text, "text/html").body.textContent : text;
  }

  function rows(figure) {
    const threshold = (figure.layout.meta || {}).symlog;
    const end = (trace, axis, at, sign) => {
      const errors = trace[`error_${axis}`];
      const reach = errors && (sign < 0 ? errors.arrayminus : errors.array);
      return reach && reach[at] ? value(trace[axis][at] + sign * reach[at], axis === "y" ? threshold : 0) : "";
    };
    return figure.data.flatMap((trace) =>
      (trace.x || []).map((x, at) => [
        plain(trace.name), plain((trace.hovertext || trace.text || [])[at]), plain(x), end(trace, "x", at, -1), end(trace, "x", at, 1),
        plain(value(trace.y[at], threshold)), end(trace, "y", at, -1), end(trace, "y", at, 1),
      ])
    );
  }

  function csv(figure) {
    const safe = (cell) => (/^[=+@-]/.test(cell) && isNaN(cell) ? `'${cell}` : String(cell)); // no formula of a spreadsheet
    const quoted = (cell) => (/[",\n]/.test(cell) ? `"${safe(cell).replace(/"/g, '""')}"` : safe(cell));
    const heads = ["series", "text", "x", "x low", "x high", "y", "y low", "y high"];
    return [heads, ...rows(figure)].map((row) => row.map(quoted).join(",")).join("\n") + "\n";
  }

  function save(name, format) {
    const filename = `${document.title.replace(/[^\w.-]+/g, "_")}_${name}`;
    const figure = chosen(name);
    if (format !== "csv") {
      const layout = { ...figure.layout, template: payload.light, paper_bgcolor: "#ffffff" };
      const width = Math.max(960, document.getElementById(`figure-${name}`).clientWidth);
      return Plotly.downloadImage({ data: figure.data, layout, config }, { format, filename, width, height: layout.height, scale: format === "png" ? 2 : 1 });
    }
    const link = document.createElement("a");
    link.href = URL.createObjectURL(new Blob([csv(figure)], { type: "text/csv" }));
    link.download = `${filename}.csv`;
    return link.click();
  }

  // -- the page

  if (typeof Plotly === "undefined") {
    document.querySelectorAll("[data-figure]").forEach((element) => {
      element.textContent = "The script that draws the pictures, plotly.min.js, is not beside this page; every number is in the tables.";
      element.style.height = "auto";
    });
    return;
  }
  document.querySelectorAll("[data-save]").forEach((line) => {
    line.hidden = false;
    line.addEventListener("click", (event) => event.target.value && save(line.dataset.save, event.target.value));
  });
  document.querySelectorAll("[data-choices]").forEach((field) =>
    field.addEventListener("change", () => draw(document.getElementById(`figure-${field.dataset.choices}`), theme()))
  );
  drawAll(theme()).catch(complain);
  dark.addEventListener("change", () => drawAll(theme()));
  narrow.addEventListener("change", () => drawAll(theme()));
  window.addEventListener("beforeprint", () => drawAll("light"));
  window.addEventListener("afterprint", () => drawAll(theme()));
})();
