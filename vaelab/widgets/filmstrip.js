// Turns a still, its chart and its words into a film that one can drag through.

function mount(root, spec, onChange = () => {}) {
  const names = spec.reels, elements = [...root.querySelectorAll(".vf-reel")];
  const reels = elements.map((element, i) => makeReel(element, names[i], spec.frames, (to) => { if (move(to)) tell(); }));
  const tabs = names.length > 1 ? makeTabs(elements[0], names, (name) => { show(name); tell(); }) : [];
  let active = names.indexOf(spec.reel), position = spec.position;
  const tell = () => onChange(names[active], position);

  function move(to) {
    const next = Math.max(0, Math.min(spec.frames - 1, to));
    if (next === position) return false;
    position = next;
    reels.forEach((draw) => draw(position)); // all of them: a tab opens where the last one stood
    return true;
  }
  function show(name) {
    active = names.indexOf(name);
    elements.forEach((element, j) => (element.hidden = active !== j));
    tabs.forEach((tab, j) => tab.setAttribute("aria-pressed", active === j));
  }
  root.classList.add("vf-live");
  reels.forEach((draw) => draw(position));
  show(spec.reel);
  return { show, move };
}

function makeTabs(first, names, choose) {
  const bar = make("div", { className: "vf-tabs" }, { role: "group", "aria-label": "Which film" });
  const tabs = names.map((name) => make("button", { type: "button", textContent: name, onclick: () => choose(name) }));
  bar.append(...tabs);
  first.before(bar);
  return tabs;
}

function makeReel(element, name, frames, move) { // gives a function that draws the reel at a position
  const find = (selector) => element.querySelector(selector);
  const frame = find(".vf-window"), chart = find(".vf-chart"), cursor = find(".vf-cursor");
  const { columns, positions, words } = element.dataset, x = positions.split(" ").map(Number), said = JSON.parse(words);
  const curves = [...element.querySelectorAll("polyline")].map((line) =>
    line.getAttribute("points").split(" ").map((point) => Number(point.split(",")[1])));
  const dots = [...element.querySelectorAll(".vf-dot")];
  const values = [...element.querySelectorAll(".vf-values div")].map((row) => ({
    name: row.querySelector("dt").textContent, shown: row.querySelector("dd"), digits: row.querySelector("dd").dataset.digits }));
  const series = values.length > curves.length ? [x, ...curves] : curves;
  const slider = make("input", { type: "range", min: 0, max: frames - 1, className: "vf-slider" }, { "aria-label": name });
  find(".vf-window").after(slider);
  find(".vf-help").textContent = `Drag the picture${chart ? ", the chart" : ""} or the slider, or use the arrow keys.`;

  slider.addEventListener("input", () => move(Number(slider.value)));
  slider.addEventListener("keydown", (event) => event.stopPropagation()); // a notebook has plans of its own for arrow keys
  drag(frame, frame, slider, (share) => move(Math.round(share * (frames - 1))));
  if (chart) drag(chart, find(".vf-area"), slider, (share) => move(nearest(x, x[0] + share * (x[frames - 1] - x[0]))));

  return function draw(i) {
    frame.style.setProperty("--c", i % columns);
    frame.style.setProperty("--r", Math.floor(i / columns));
    find(".vf-words").textContent = said[i];
    values.forEach(({ shown, digits }, k) => (shown.textContent = show(series[k][i], digits)));
    if (cursor) cursor.setAttribute("d", cursor.getAttribute("d").replace(/^M\S+/, `M${x[i]}`));
    dots.forEach((dot, k) => dot.setAttribute("d", `M${x[i]} ${curves[k][i]}h0`));
    slider.value = i;
    slider.setAttribute("aria-valuetext", [said[i], ...values.map((value) => `${value.name} ${value.shown.textContent}`)].join(", "));
  };
}

function show(value, digits) {
  return value.toFixed(digits).replace(/^-(0\.?0*)$/, "$1").replace("-", "−");
}

function drag(surface, scale, slider, follow) { // tells how far across `scale` the pointer is, from 0 to 1
  const at = ({ clientX }) => {
    const { left, width } = scale.getBoundingClientRect();
    follow(Math.max(0, Math.min(1, (clientX - left) / width)));
  };
  surface.addEventListener("pointerdown", (event) => {
    surface.setPointerCapture(event.pointerId);
    slider.focus({ preventScroll: true });
    at(event);
    event.preventDefault();
  });
  surface.addEventListener("pointermove", (event) => { if (surface.hasPointerCapture(event.pointerId)) at(event); });
}

function nearest(values, target) {
  return values.reduce((best, value, i) => (Math.abs(value - target) < Math.abs(values[best] - target) ? i : best), 0);
}
