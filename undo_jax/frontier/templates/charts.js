// Puts charts that answer to the pointer in the place of the pictures.
(() => {
  "use strict";
  const phone = matchMedia("(max-width: 50rem)");
  const views = new Map(); // Of each chart the one that is drawn.
  const STORE = "method_store"; // Where Vega-Lite keeps what is chosen.
  let telling = false;

  function chosenIn(view) {
    try { return view.data(STORE); } catch { return null; }
  }

  // What is chosen in one chart is chosen in all, and in the tables.
  async function choose(source, choice) {
    if (telling) return;
    telling = true;
    const others = [...views.values()].filter((v) => v !== source && chosenIn(v));
    await Promise.all(others.map((view) => view.data(STORE, [...choice]).runAsync()));
    const methods = new Set(choice.map((each) => each.values[0]));
    for (const row of document.querySelectorAll("tr[data-method]")) {
      const faded = methods.size > 0 && !methods.has(row.dataset.method);
      row.classList.toggle("faded", faded);
    }
    telling = false;
  }

  async function draw(chart) {
    const { datasets, ...layouts } = JSON.parse(chart.querySelector("script").textContent);
    const spec = { ...layouts[phone.matches ? "narrow" : "wide"], datasets };
    for (const param of spec.params) if (param.name === "hover") param.value = true;
    const { view } = await vegaEmbed(chart.querySelector(".live"), spec, {
      mode: "vega-lite", renderer: "svg", actions: false, ast: true,
      defaultStyle: false, tooltip: { disableDefaultStyle: true },
    });
    views.get(chart)?.finalize();
    views.set(chart, view);
    chart.classList.add("drawn");
    if (chosenIn(view)) view.addDataListener(STORE, (_, rows) => choose(view, rows));
  }

  async function drawAll() {
    for (const chart of document.querySelectorAll(".chart")) {
      try { await draw(chart); } catch (error) { console.error(error); }
      await new Promise((next) => setTimeout(next));
    }
    document.documentElement.dataset.charts = views.size;
  }

  drawAll();
  phone.addEventListener("change", drawAll);
})();
