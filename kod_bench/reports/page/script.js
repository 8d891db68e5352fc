"use strict";
(() => {
  // Tables. A cell sorts by its first number, or else by its text; pinned rows stay on top.
  const key = (row, column) => {
    const text = row.cells[column].textContent.trim();
    const number = text.match(/^[+-]?(\d+\.?\d*|\.\d+)(e[+-]?\d+)?/i);
    return number ? Number(number[0]) : text;
  };
  const compare = (a, b) => {
    if (typeof a === "number" && typeof b === "number") return a - b;
    if (typeof a !== typeof b) return typeof a === "number" ? -1 : 1;
    return a.localeCompare(b, undefined, { numeric: true });
  };
  for (const table of document.querySelectorAll("table.sortable")) {
    const heads = [...table.tHead.rows[0].cells];
    heads.forEach((head, column) => {
      const button = head.querySelector("button");
      if (!button) return;
      button.addEventListener("click", () => {
        const down = head.getAttribute("aria-sort") === "ascending";
        heads.forEach((other) => other.removeAttribute("aria-sort"));
        head.setAttribute("aria-sort", down ? "descending" : "ascending");
        const body = table.tBodies[0];
        const rows = [...body.rows].filter((row) => !row.classList.contains("pinned"));
        rows.sort((a, b) => (down ? -1 : 1) * compare(key(a, column), key(b, column)));
        body.append(...rows);
      });
    });
  }

  // Figures: each is drawn when it is first seen, in the colours of the moment.
  const source = document.getElementById("figures");
  if (!source) return;
  const figures = JSON.parse(source.textContent);
  const dark = window.matchMedia("(prefers-color-scheme: dark)");
  const narrow = () => window.innerWidth < 640;
  const drawn = new Set();
  let printing = false;

  const layout = (own) => {
    const style = getComputedStyle(document.documentElement);
    const colour = (name) => style.getPropertyValue(name).trim();
    const axis = (axis) => ({ ...axis, gridcolor: colour("--line"), linecolor: colour("--line") });
    const shapes = (own.shapes || []).map((shape) => ({
      ...shape, label: { ...shape.label, font: { ...shape.label.font, color: colour("--faint") } },
    }));
    return {
      ...own,
      shapes,
      xaxis: axis(own.xaxis),
      yaxis: axis(own.yaxis),
      paper_bgcolor: "rgba(0,0,0,0)",
      plot_bgcolor: "rgba(0,0,0,0)",
      font: { color: colour("--text"), size: 13, family: style.fontFamily || "sans-serif" },
      margin: { t: 16, r: narrow() ? 8 : 24, b: 48, l: narrow() ? 44 : 60 },
      legend: { orientation: "h", x: 0, xanchor: "left", y: 1.02, yanchor: "bottom" },
      hoverlabel: { bgcolor: colour("--panel"), bordercolor: colour("--line"), font: { color: colour("--text") } },
    };
  };
  const draw = (id) => {
    const { data, layout: own } = figures[id];
    drawn.add(id);
    return Plotly.react(id, data, layout(own), {
      displaylogo: false, responsive: true, displayModeBar: printing ? false : "hover",
      modeBarButtonsToRemove: ["select2d", "lasso2d", "autoScale2d"],
      toImageButtonOptions: { format: "svg", filename: id },
    });
  };
  const drawVisible = () => {
    for (const panel of document.querySelectorAll('[role="tabpanel"]:not([hidden])')) {
      const id = panel.querySelector(".plot").id;
      if (!drawn.has(id)) draw(id);
    }
  };

  let ready = false;
  for (const tabs of document.querySelectorAll(".tabs")) {
    const buttons = [...tabs.querySelectorAll('[role="tab"]')];
    const choose = (chosen) => {
      for (const button of buttons) {
        const selected = button === chosen;
        button.setAttribute("aria-selected", String(selected));
        button.tabIndex = selected ? 0 : -1;
        document.getElementById(button.getAttribute("aria-controls")).hidden = !selected;
      }
      if (ready) drawVisible();
    };
    buttons.forEach((button, place) => {
      button.addEventListener("click", () => choose(button));
      button.addEventListener("keydown", (event) => {
        const by = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
        if (!by) return;
        const next = buttons[(place + by + buttons.length) % buttons.length];
        next.focus();
        choose(next);
      });
    });
  }

  const nonce = document.currentScript.nonce;
  const unpack = async () => {
    const packed = Uint8Array.from(atob(document.getElementById("plotly").textContent.trim()), (c) => c.charCodeAt(0));
    const stream = new Blob([packed]).stream().pipeThrough(new DecompressionStream("gzip"));
    const script = document.createElement("script");
    script.nonce = nonce;
    script.textContent = await new Response(stream).text();
    document.head.append(script);
  };
  unpack().then(() => {
    ready = true;
    drawVisible();
    document.documentElement.dataset.ready = "true";
    dark.addEventListener("change", () => drawn.forEach(draw));
    // Paper shows every figure, in light colours.
    window.addEventListener("beforeprint", () => {
      printing = true;
      Object.keys(figures).forEach(draw);
    });
    window.addEventListener("afterprint", () => {
      printing = false;
      drawn.forEach(draw);
    });
  }).catch(() => {
    for (const plot of document.querySelectorAll(".plot")) {
      plot.textContent = "This browser cannot unpack the figures; they are files in the folder figures beside this page.";
    }
  });
})();
