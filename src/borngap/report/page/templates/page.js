"use strict";
// Links the charts to the chosen context, sorts tables and switches the theme. The page's data are numbers and words
// of the summary record; text enters the document as text only.
(() => {
  const page = JSON.parse(document.getElementById("page-data").textContent);
  const root = document.documentElement;
  const byId = (id) => document.getElementById(id);
  const views = new Map();
  // log level 1: errors; Vega warns of the empty extent of a context without marks
  const options = { actions: false, renderer: "svg", ast: true, logLevel: 1, tooltip: { theme: "custom" } };

  const number = (value) => {
    if (value === null || value === undefined) return "–";
    const size = Math.abs(value);
    const text = size !== 0 && (size < 1e-3 || size >= 1e5) ? value.toExponential(2) : String(Number(value.toPrecision(3)));
    return text.replace(/-/g, "−");
  };

  const rows = (series) => {
    const names = Object.keys(series);
    return series.step.map((_, i) => Object.fromEntries(names.map((name) => [name, series[name][i]])));
  };

  // first and last known value of each line of a chart, or its largest change: its caption, and its text alternative
  const reading = (panel, item) => panel.lines.map(({ column, name }) => {
    const known = (item.series[column] || []).filter((value) => value !== null);
    if (known.length === 0) return null;
    if (panel.peak) {
      const most = known.reduce((a, b) => (Math.abs(b) > Math.abs(a) ? b : a));
      const at = item.series.step[item.series[column].indexOf(most)];
      return `${panel.lines.length > 1 ? name + " " : ""}at most ${number(most)}, step ${at}`;
    }
    const ends = known.length === 1 ? number(known[0]) : `${number(known[0])} → ${number(known.at(-1))}`;
    return panel.lines.length > 1 ? `${name} ${ends}` : ends;
  }).filter((text) => text !== null).join("; ");

  const describe = (panel, item, text) => {
    const marks = item.marks.map((mark) => mark.text).join(", ");
    const steps = item.series.step;
    return `${panel.title}, ${item.label}, steps ${steps[0]} to ${steps.at(-1)}: ${text}${marks ? "; " + marks : ""}.`;
  };

  // Vega names the element that it draws in itself: the text alternative belongs to the one around it
  const show = async (panel, item) => {
    const figure = byId(`chart-${panel.id}`);
    const plot = figure.querySelector(".plot");
    const absent = figure.querySelector(".absent");
    const text = item.series ? reading(panel, item) : "";
    figure.querySelector(".reading").textContent = text;
    plot.hidden = text === "";
    absent.hidden = text !== "";
    if (text === "") { plot.removeAttribute("aria-label"); return; }
    plot.setAttribute("aria-label", describe(panel, item, text));
    const data = { series: rows(item.series), marks: item.marks };
    if (!views.has(panel.id)) {
      const spec = { ...panel.spec, datasets: { ...panel.spec.datasets, ...data } };
      views.set(panel.id, (await vegaEmbed(plot.firstElementChild, spec, options)).view);
      return;
    }
    const view = views.get(panel.id);
    await view.data("series", data.series).data("marks", data.marks).resize().runAsync();
  };

  const fillTable = (item) => {
    const table = byId("values");
    if (!table || !byId("values-box").open) return;
    table.replaceChildren();
    if (!item.series) return;
    const columns = page.columns.filter(({ column }) => column in item.series);
    const head = table.createTHead().insertRow();
    for (const { name } of [{ name: "step" }, ...columns]) {
      const cell = document.createElement("th");
      cell.scope = "col";
      cell.textContent = name;
      head.append(cell);
    }
    const body = table.createTBody();
    item.series.step.forEach((step, i) => {
      const row = body.insertRow();
      row.insertCell().textContent = String(step);
      for (const { column } of columns) row.insertCell().textContent = number(item.series[column][i]);
    });
  };

  let chosen = 0;
  const queue = { busy: Promise.resolve() };
  const choose = (index) => {
    const count = page.items.length;
    if (count === 0) return queue.busy;
    chosen = (index + count) % count;
    const item = page.items[chosen];
    byId("choice").value = String(chosen);
    for (const row of document.querySelectorAll("#contexts-table tbody tr")) {
      row.setAttribute("aria-current", String(Number(row.dataset.item) === chosen));
    }
    for (const box of document.querySelectorAll(".chosen")) box.hidden = Number(box.dataset.item) !== chosen;
    fillTable(item);
    queue.busy = queue.busy.then(() => Promise.all(page.panels.map((panel) => show(panel, item))));
    return queue.busy;
  };

  const still = async (id, { spec, data }) => {
    const embedded = await vegaEmbed(byId(id).firstElementChild, { ...spec, datasets: { ...spec.datasets, ...data } }, options);
    views.set(id, embedded.view);
  };

  const sort = (table, column, button) => {
    const head = button.closest("th");
    const down = head.getAttribute("aria-sort") === "ascending";
    for (const other of table.tHead.querySelectorAll("th")) other.removeAttribute("aria-sort");
    head.setAttribute("aria-sort", down ? "descending" : "ascending");
    const key = (row) => row.cells[column].dataset.sort ?? row.cells[column].textContent.trim();
    const compare = (a, b) => {
      const [first, second] = [key(a), key(b)];
      if (first === "" || second === "") return (first === "") - (second === ""); // what is not known stays last
      const [x, y] = [Number(first), Number(second)];
      const order = Number.isNaN(x) || Number.isNaN(y) ? first.localeCompare(second) : x - y;
      return down ? -order : order;
    };
    const body = table.tBodies[0];
    body.append(...[...body.rows].sort(compare));
  };

  for (const table of document.querySelectorAll("table.sortable")) {
    table.tHead.querySelectorAll("th").forEach((head, column) => {
      const button = head.querySelector("button");
      if (button) button.addEventListener("click", () => sort(table, column, button));
    });
  }

  const dark = () => (root.dataset.theme ? root.dataset.theme === "dark" : matchMedia("(prefers-color-scheme: dark)").matches);
  const label = () => { byId("theme").textContent = dark() ? "☀ Light" : "☾ Dark"; };
  const remember = (theme) => { try { localStorage.setItem("borngap-theme", theme); } catch { /* private window */ } };
  try {
    const kept = localStorage.getItem("borngap-theme");
    if (kept === "dark" || kept === "light") root.dataset.theme = kept;
  } catch { /* private window */ }
  byId("theme").addEventListener("click", () => {
    root.dataset.theme = dark() ? "light" : "dark";
    remember(root.dataset.theme);
    label();
  });
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", label);
  label();

  if (page.items.length > 0) {
    byId("choice").addEventListener("change", (event) => choose(Number(event.target.value)));
    byId("previous").addEventListener("click", () => choose(chosen - 1));
    byId("next").addEventListener("click", () => choose(chosen + 1));
    byId("values-box").addEventListener("toggle", () => fillTable(page.items[chosen]));
    for (const row of document.querySelectorAll("#contexts-table tbody tr")) {
      row.addEventListener("click", (event) => {
        const button = event.target.closest("button");
        if (!button && (event.target.closest("summary, a, details") || String(getSelection()) !== "")) return;
        choose(Number(row.dataset.item));
        if (button) byId("watch").scrollIntoView();
      });
    }
  }

  const started = Promise.all([choose(page.first), ...Object.entries(page.stills).map(([id, chart]) => still(id, chart))]);
  started.then(() => { root.dataset.ready = "true"; }, (error) => {
    root.dataset.ready = "false";
    console.error(error);
  });
})();
