"use strict";
// Under the pointer: t, and every line's value there, as the run measured it.
const charts = JSON.parse(document.getElementById("numbers").textContent);
const tip = document.getElementById("tip");
const svg = (name, attributes) => {
  const made = document.createElementNS("http://www.w3.org/2000/svg", name);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  return made;
};
const coloured = (made, line) => {
  made.style.setProperty("--light", line.light);
  made.style.setProperty("--dark", line.dark);
  return made;
};
const nearest = (values, at) =>
  values.reduce((best, v, k) => (Math.abs(v - at) < Math.abs(values[best] - at) ? k : best), 0);
const short = (value, digits) => (value === null ? "not finite" : String(+value.toPrecision(digits)));

for (const figure of document.querySelectorAll("[data-chart]")) {
  const chart = charts[+figure.dataset.chart];
  const drawing = figure.querySelector("svg"), pointed = figure.querySelector(".pointed");
  const [left, top, right, bottom] = chart.box, [first, last] = chart.x;
  const height = (value) => {
    const [low, high, v] = [...chart.y, value].map(chart.log ? Math.log10 : (u) => u);
    // Halves, as the difference of numbers near the largest there is may be none.
    return bottom - ((v / 2 - low / 2) / (high / 2 - low / 2)) * (bottom - top);
  };
  const hide = () => { tip.hidden = true; pointed.replaceChildren(); };
  const show = (event) => {
    const box = drawing.getBoundingClientRect();
    const across = ((event.clientX - box.left) / box.width) * chart.width;
    const at = first + ((across - left) / (right - left)) * (last - first);
    const longest = chart.lines.reduce((a, b) => (b.x.length > a.x.length ? b : a));
    const t = longest.x[nearest(longest.x, at)];
    const x = left + ((t - first) / (last - first)) * (right - left);
    pointed.replaceChildren(svg("path", { d: `M${x} ${top}V${bottom}` }));
    const head = document.createElement("b");
    head.textContent = `t = ${short(t, 3)}`;
    tip.replaceChildren(head);
    const here = chart.lines.map((line) => ({ line, k: nearest(line.x, t) }));
    here.sort((a, b) => (b.line.y[b.k] ?? -Infinity) - (a.line.y[a.k] ?? -Infinity));
    for (const { line, k } of here) {
      const row = document.createElement("div"), name = document.createElement("span");
      const value = document.createElement("b");
      name.textContent = line.name;
      value.textContent = short(line.y[k], chart.digits);
      value.dataset.value = line.y[k];
      if (line.dim) row.className = "dim";
      row.append(coloured(name, line), value);
      tip.append(row);
      if (line.y[k] === null || (chart.log && line.y[k] <= 0)) continue;
      const place = { cx: left + ((line.x[k] - first) / (last - first)) * (right - left),
                      cy: height(line.y[k]), r: line.dim ? 2.5 : 4 };
      pointed.append(coloured(svg("circle", place), line));
    }
    tip.hidden = false;
    const wide = tip.offsetWidth, high = tip.offsetHeight;
    const beside = event.clientX + 16 + wide < innerWidth ? event.clientX + 16 : event.clientX - 16 - wide;
    tip.style.left = `${Math.max(4, beside)}px`;
    tip.style.top = `${Math.max(4, Math.min(event.clientY + 12, innerHeight - high - 4))}px`;
  };
  drawing.addEventListener("pointermove", show);
  drawing.addEventListener("pointerdown", show);
  drawing.addEventListener("pointerleave", hide);
}
