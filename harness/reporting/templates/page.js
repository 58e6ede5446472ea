// Draws the figures of #payload into the elements with data-figure, light or dark as the reader's system is; saves them.
"use strict";
(function () {
  const payload = JSON.parse(document.getElementById("payload").textContent);
  const dark = window.matchMedia("(prefers-color-scheme: dark)");
  const narrow = window.matchMedia("(max-width: 700px)");
  const config = { responsive: true, displayModeBar: false };
  const PHONE_LETTERS = 40, TITLE_PX = 18; // of an axis' title: on a line at 400 px; a line's height
  const PAPER_PX = 1030; // A4, landscape, within the margins that style.css gives it
  let printed = false;
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
    if (printed) layout.width = PAPER_PX;
    else if (narrow.matches && element.classList.contains("fits")) {
      data.forEach(shorten);
      layout.margin = { ...layout.margin, l: 56, r: 16 };
      rearrange(layout);
      breakTitle(layout);
    }
    element.style.height = `${layout.height}px`;
    return Plotly.react(element, data, layout, config).then(() => {
      element.dataset.drawn = look;
      if (!element.dataset.listens) {
        element.dataset.listens = "yes";
        element.on("plotly_click", (event) => open(event.points[0].customdata));
      }
    });
  }

  // The panels in fewer columns: see on_a_phone in drawing.py.
  function rearrange(layout) {
    const { height, titles, ...axes } = (layout.meta || {}).narrow || {};
    if (!height) return;
    layout.height = height;
    for (const [name, axis] of Object.entries(axes)) layout[name] = { ...layout[name], ...axis };
    titles.forEach((title, at) => Object.assign(layout.annotations[at], title));
  }

  // The title of a single panel's cost, on as many lines as a phone needs.
  function breakTitle(layout) {
    const title = layout.xaxis && layout.xaxis.title && layout.xaxis.title.text;
    if (!title || layout.xaxis2) return;
    const lines = [""];
    const whole = title.replace(/\u2190.*/, (end) => end.replaceAll(" ", "\u00a0"));
    for (const word of whole.split(/(<br>)| +/).filter(Boolean)) {
      const last = lines.length - 1;
      if (word === "<br>") lines.push("");
      else if (lines[last] && lines[last].length + word.length >= PHONE_LETTERS) lines.push(word);
      else lines[last] += `${lines[last] && " "}${word}`;
    }
    layout.xaxis = { ...layout.xaxis, title: { ...layout.xaxis.title, text: lines.join("<br>") } };
    const more = TITLE_PX * (lines.length - 1);
    layout.margin.b += more;
    layout.height += more;
  }

  function shorten(trace) {
    if (trace.mode === "lines+text") trace.mode = "lines"; // a level, which the legend names
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
    if (typeof id !== "string" || !id) return;
    const popover = document.getElementById(id);
    if (popover && popover.hasAttribute("popover")) popover.showPopover();
    else document.dispatchEvent(new CustomEvent("candidate", { detail: id }));
  }

  // A card shows the grid that the page has among its samples.
  document.querySelectorAll("[data-grid]").forEach((place) => {
    place.closest("[popover]").addEventListener("beforetoggle", () => {
      const grids = [...document.querySelectorAll("[data-subject] img")];
      const grid = grids.find((each) => each.closest("[data-subject]").dataset.subject === place.dataset.grid);
      place.replaceChildren();
      if (!grid) return;
      const image = place.appendChild(document.createElement("img"));
      image.src = grid.src;
      image.alt = `samples of ${place.dataset.title}`;
    });
  });

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
    const called = (trace, at) => plain(Array.isArray(trace.hovertext) ? String(trace.hovertext[at]).split("<br>")[0] : (trace.text || [])[at]);
    return figure.data.flatMap((trace) =>
      (trace.x || []).map((x, at) => [
        plain(trace.name), called(trace, at), plain(x), end(trace, "x", at, -1), end(trace, "x", at, 1),
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
  // On paper: light, as wide as the sheet, and with all that is folded, which nobody can unfold there, but the longest.
  window.addEventListener("beforeprint", () => {
    printed = true;
    document.querySelectorAll("details:not([open]):not([data-long])").forEach((each) => { each.open = true; each.dataset.folded = "yes"; });
    drawAll("light");
  });
  window.addEventListener("afterprint", () => {
    printed = false;
    document.querySelectorAll("details[data-folded]").forEach((each) => { each.open = false; delete each.dataset.folded; });
    drawAll(theme());
  });
})();

// Tables whose rows are JSON: a few at a time; they sort, filter and are saved as CSV. See sections/candidates.py.
(function () {
  for (const table of document.querySelectorAll("table[data-rows]")) manyRows(table);

  function manyRows(table) {
    const { columns, rows, front, rungs, pages, untrained } = JSON.parse(document.getElementById(table.dataset.rows).textContent);
    const tools = table.closest("section").querySelector("[data-rows-tools]");
    const tool = (name) => tools.querySelector(`[data-rows-${name}]`);
    const shown = Number(table.dataset.shown);
    const onFront = new Set(front);
    const every = rows.map((_, at) => at);
    const texts = rows.map(() => null);
    const places = new Map(columns.map((column, at) => [column.key.toLowerCase(), at]));
    let chosen = every, order = { at: null, down: false }, first = 0;

    const text = (cell) => (cell === 0 ? untrained : typeof cell === "string" ? cell : cell[1]);
    const value = (cell) => (Array.isArray(cell) ? cell[0] : null);

    function compare(one, other) {  // what has no number comes last, whichever way
      const a = value(rows[one][order.at]), b = value(rows[other][order.at]), way = order.down ? -1 : 1;
      if (a !== null && b !== null) return way * (a - b) || one - other;
      if (a !== null || b !== null) return a !== null ? -1 : 1;
      return way * text(rows[one][order.at]).localeCompare(text(rows[other][order.at]), "en", { numeric: true }) || one - other;
    }

    function test(word) {
      const [, key, sign, wanted] = word.match(/^([^<>=]+)(<=|>=|<|>|=)(.+)$/) || [];
      const at = places.get((key || "").toLowerCase()), limit = Number(wanted);
      if (at === undefined) {
        return (row) => (texts[row] ??= [...rows[row].map(text), rungs[row] || ""].join("\n").toLowerCase()).includes(word.toLowerCase());
      }
      if (sign === "=" && Number.isNaN(limit)) return (row) => text(rows[row][at]).toLowerCase() === wanted.toLowerCase();
      return (row) => {
        const is = value(rows[row][at]);
        if (is === null) return sign === "=" && text(rows[row][at]) === wanted;
        return { "<": is < limit, "<=": is <= limit, ">": is > limit, ">=": is >= limit, "=": is === limit }[sign];
      };
    }

    function choose() {
      const tests = tool("filter").value.split(/\s+/).filter(Boolean).map(test);
      chosen = every.filter((row) => (!tool("front").checked || onFront.has(row)) && tests.every((passes) => passes(row)));
      if (order.at !== null) chosen.sort(compare);
      first = 0;
      draw();
    }

    function element(tag, content, name, title) {
      const made = document.createElement(tag);
      made.textContent = content;
      if (name) made.className = name;
      if (title) made.title = title;
      return made;
    }

    function drawn(cell, kind) {
      if (typeof cell === "string") return [document.createTextNode(cell)];
      if (cell === 0) return [element("span", untrained, "k-missing")];
      const [, content, own, hint, other] = cell;
      const pieces = [element("span", content, `k-${own || kind}`, hint)];
      return other ? [...pieces, element("abbr", "\u2020", "other-protocol", `another protocol: ${other}`)] : pieces;
    }

    function drawnRow(row) {
      const made = document.createElement("tr");
      made.dataset.row = text(rows[row][0]);
      if (text(rows[row][1]) === "beaten") made.className = "beaten";
      const head = document.createElement("th");
      head.scope = "row";
      head.append(element(pages[row] ? "a" : "button", made.dataset.row, "title"));
      if (pages[row]) head.firstChild.href = pages[row];
      else head.firstChild.addEventListener("click", () => openCard(row));
      if (rungs[row]) head.append(element("span", `${rungs[row]} of the ladder`, "name"));
      if (onFront.has(row)) head.append(" ", element("span", "front", "mark front"));
      made.append(head);
      rows[row].slice(1).forEach((cell, at) => {
        const place = document.createElement("td");
        place.append(...drawn(cell, columns[at + 1].kind));
        made.append(place);
      });
      return made;
    }

    // What a click on the picture opens: the candidate's grid, its page, and its line of the table.
    const card = document.getElementById("candidate-card");
    document.addEventListener("candidate", (event) => {
      const row = rows.findIndex((cells) => text(cells[0]) === event.detail);
      if (row >= 0) openCard(row);
    });

    function openCard(row) {
      const [name, link] = [text(rows[row][0]), element("a", "its page")];
      if (pages[row]) link.href = pages[row];
      card.querySelector("h3").textContent = name + (rungs[row] ? `, ${rungs[row]} of the ladder` : "");
      card.querySelector(".links").replaceChildren(...(pages[row] ? [link] : []));
      Object.assign(card.querySelector("[data-grid]").dataset, { grid: name, title: name });
      card.querySelector("dl").replaceChildren(...columns.slice(1).map((column, at) => {
        const [line, value] = [document.createElement("div"), document.createElement("dd")];
        value.append(...drawn(rows[row][at + 1], column.kind));
        line.append(element("dt", column.title), value);
        return line;
      }));
      card.showPopover();
    }

    function draw() {
      const last = Math.min(first + shown, chosen.length);
      table.tBodies[0].replaceChildren(...chosen.slice(first, last).map(drawnRow));
      const of = chosen.length === rows.length ? "" : ` of ${rows.length.toLocaleString("en")}`;
      tool("count").textContent = chosen.length
        ? `${(first + 1).toLocaleString("en")} to ${last.toLocaleString("en")} of ${chosen.length.toLocaleString("en")}${of && ` found${of}`}`
        : "none found";
      for (const button of tools.querySelectorAll("[data-rows-step]")) {
        const to = first + shown * Number(button.dataset.rowsStep);
        button.disabled = to < 0 || to >= chosen.length;
      }
    }

    function csv() {  // a text that a spreadsheet would compute is set apart by an apostrophe
      const quoted = (content) => `"${content.replace(/"/g, '""')}"`;
      const safe = (content) => quoted(/^[=+\-@\t\r]/.test(content) ? `'${content}` : content);
      const field = (cell) => (value(cell) !== null ? String(value(cell)) : safe(text(cell)));
      const lines = [columns.map((column) => safe(column.key)), ...chosen.map((row) => rows[row].map(field))];
      return lines.map((line) => line.join(",")).join("\r\n") + "\r\n";
    }

    [...table.tHead.rows[0].cells].forEach((head, at) => {
      const button = document.createElement("button");
      button.type = "button";
      button.className = "sort";
      button.append(...head.childNodes);
      head.append(button);
      button.addEventListener("click", () => {
        order = { at, down: order.at === at && !order.down };
        for (const other of table.tHead.rows[0].cells) other.removeAttribute("aria-sort");
        head.setAttribute("aria-sort", order.down ? "descending" : "ascending");
        choose();
      });
    });
    tool("filter").addEventListener("input", choose);
    tool("front").addEventListener("change", choose);
    for (const button of tools.querySelectorAll("[data-rows-step]")) {
      button.addEventListener("click", () => {
        first += shown * Number(button.dataset.rowsStep);
        draw();
      });
    }
    tool("csv").addEventListener("click", () => {
      const link = document.createElement("a");
      link.href = URL.createObjectURL(new Blob(["\ufeff", csv()], { type: "text/csv" }));
      link.download = tool("csv").dataset.rowsCsv;
      link.click();
      setTimeout(() => URL.revokeObjectURL(link.href), 1000);
    });
    tools.hidden = false;
    draw();
  }
})();

// A page that is drawn anew while its sweep runs loads itself, but not under the hands of somebody who types.
(function () {
  const mark = document.querySelector("[data-reload]");
  const reload = () => (document.activeElement?.matches("input") ? setTimeout(reload, 5000) : location.reload());
  if (mark) setTimeout(reload, 1000 * Number(mark.dataset.reload));
})();

// Samples: a click or Enter enlarges a picture by whole factors, Escape closes it; two are chosen to stand side by side.
(function () {
  const dialog = document.getElementById("enlarged");
  if (!dialog) return;
  const enlarged = dialog.appendChild(new Image());

  function enlarge(picture) {
    enlarged.src = picture.src;
    enlarged.alt = picture.alt;
    const room = Math.min((0.9 * innerWidth) / picture.naturalWidth, (0.8 * innerHeight) / picture.naturalHeight);
    enlarged.style.width = picture.naturalWidth * (room < 1 ? room : Math.floor(room)) + "px";
    dialog.showModal();
  }

  for (const button of document.querySelectorAll("button.enlarge")) {
    button.addEventListener("click", () => enlarge(button.querySelector("img")));
  }
  dialog.addEventListener("click", (event) => event.target === dialog && dialog.close());

  const beside = document.querySelector(".two-samples");
  if (!beside) return;
  const pictures = [...document.querySelectorAll("#samples figure[data-samples=yes] img, #samples figure[data-real] img")];
  [...beside.querySelectorAll("figure")].forEach((figure, index) => {
    const [select, button, picture] = [figure.querySelector("select"), figure.querySelector("button"), new Image()];
    button.append(picture);
    pictures.forEach((each, number) => select.add(new Option(each.alt.replace("samples of ", ""), number)));
    const show = () => {
      const chosen = pictures[select.value];
      [picture.src, picture.alt] = [chosen.src, chosen.alt];
      button.setAttribute("aria-label", "enlarge: " + chosen.alt);
    };
    select.value = pictures.length > 2 && pictures[0].closest("[data-real]") ? index + 1 : index;
    select.addEventListener("change", show);
    show();
  });
  beside.hidden = false;
})();
