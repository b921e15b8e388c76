// Turns the still pictures that the page carries into a map one can drag a point over.

const HELP = "Drag the point, or use the arrow keys (Shift: bigger steps, Home: centre).";

function mount(root, spec, onChange = () => {}) {
  const elements = [...root.querySelectorAll(".vx-panel")];
  const panels = elements.map((element, i) => makePanel(element, spec.panels[i], (z) => onChange(names[i], z)));
  const names = spec.panels.map((panel) => panel.name);
  const tabs = panels.length > 1 ? makeTabs(root, names, (i) => { show(i); onChange(names[i], panels[i].z()); }) : [];
  let active = 0;
  function show(i) {
    active = i;
    elements.forEach((element, j) => (element.hidden = i !== j));
    tabs.forEach((tab, j) => tab.setAttribute("aria-pressed", i === j));
    panels[i].draw();
  }
  root.classList.add("vx-live");
  show(0);
  return { show: (name) => show(names.indexOf(name)), move: (z) => panels[active].move(z) };
}

function makeTabs(root, names, choose) {
  const bar = make("div", { className: "vx-tabs" }, { role: "group", "aria-label": "Which map" });
  const tabs = names.map((name, i) => make("button", { type: "button", textContent: name, onclick: () => choose(i) }));
  bar.append(...tabs);
  root.querySelector(".vx-panel").before(bar);
  return tabs;
}

function makePanel(element, panel, onMove) {
  const map = element.querySelector(".vx-map"), readout = element.querySelector(".vx-readout");
  const handle = make("span", { className: "vx-handle" });
  const spoken = make("span", { className: "vx-spoken" }, { "aria-live": "polite" });
  const canvas = make("canvas", { className: element.querySelector(".vx-picture").className, width: panel.width, height: panel.height }, { role: "img" });
  const { extent } = panel, codes = readCodes(map.dataset.codes), far = Number(map.dataset.far);
  let z = [...panel.start], decode = null, queued = false, silence = 0;

  element.querySelector(".vx-picture").replaceWith(canvas);
  element.querySelector(".vx-help").textContent = HELP;
  map.append(make("span", { className: "vx-line vx-across" }), make("span", { className: "vx-line vx-down" }), handle);
  element.append(spoken);
  setAttributes(map, { tabindex: 0, role: "application", "aria-label": `${panel.name}: a map of decoded pictures. ${HELP}` });

  function draw() {
    queued = false;
    decode ??= makeDecoder(panel.decoder); // weights are unpacked when a panel is first seen
    paint(canvas, decode(z), panel.decoder.c);
    map.style.setProperty("--x", `${50 + (50 * z[0]) / extent}%`);
    map.style.setProperty("--y", `${50 - (50 * z[1]) / extent}%`);
    const [place, near, isFar] = describe(z, codes, far, panel);
    readout.querySelector(".vx-z").textContent = place;
    readout.querySelector(".vx-near").textContent = near;
    readout.classList.toggle("vx-far", isFar);
    canvas.setAttribute("aria-label", `Decoded picture at ${place}`);
    clearTimeout(silence); // say it once the point rests
    silence = setTimeout(() => (spoken.textContent = `${place}. ${near}`), 400);
  }
  function move(target) {
    const next = target.map((value) => Math.max(-extent, Math.min(extent, value)));
    if (next.every((value, i) => value === z[i])) return;
    z = next;
    if (!queued) requestAnimationFrame(draw); // many moves, one picture a frame
    queued = true;
    onMove(z);
  }
  listen(map, extent, () => z, move);
  return { move, draw, z: () => z };
}

function listen(map, extent, current, move) {
  const follow = (event) => {
    const box = map.getBoundingClientRect();
    move([extent * ((2 * (event.clientX - box.left)) / box.width - 1), extent * (1 - (2 * (event.clientY - box.top)) / box.height)]);
  };
  map.addEventListener("pointerdown", (event) => {
    map.setPointerCapture(event.pointerId);
    map.focus({ preventScroll: true });
    follow(event);
    event.preventDefault();
  });
  map.addEventListener("pointermove", (event) => { if (map.hasPointerCapture(event.pointerId)) follow(event); });
  map.addEventListener("keydown", (event) => {
    const [x, y] = current(), step = (extent / 60) * (event.shiftKey ? 6 : 1);
    const targets = { ArrowLeft: [x - step, y], ArrowRight: [x + step, y], ArrowUp: [x, y + step], ArrowDown: [x, y - step], Home: [0, 0] };
    if (!targets[event.key] || event.ctrlKey || event.altKey || event.metaKey) return;
    move(targets[event.key]);
    event.preventDefault();
    event.stopPropagation(); // a notebook has plans of its own for arrow keys
  });
}

function readCodes(text) { // "x y kind x y kind …" -> [[x, y, kind], …]
  const numbers = text ? text.split(" ").map(Number) : [];
  return numbers.flatMap((x, i) => (i % 3 ? [] : [numbers.slice(i, i + 3)]));
}

function describe(z, codes, far, { item, names }) {
  const show = (value) => value.toFixed(2).replace("-", "−").replace(/^−(0\.00)$/, "$1");
  const place = `z = (${show(z[0])}, ${show(z[1])})`;
  if (!codes.length) return [place, "", false];
  let nearest = null, distance = Infinity;
  for (const code of codes) {
    const d = Math.hypot(code[0] - z[0], code[1] - z[1]);
    if (d < distance) [nearest, distance] = [code, d];
  }
  if (distance > far) return [place, `far from every real ${item}: the nearest is ${distance.toFixed(2)} away`, true];
  const name = names.length ? `${names[nearest[2]]}, ` : "";
  return [place, `nearest real ${item}: ${name}${distance.toFixed(2)} away`, false];
}

function paint(canvas, x, channels) {
  const context = canvas.getContext("2d"), image = context.createImageData(canvas.width, canvas.height);
  for (let p = 0; p < canvas.width * canvas.height; p++) {
    for (let k = 0; k < 3; k++) image.data[4 * p + k] = 255 * x[p * channels + (channels === 3 ? k : 0)];
    image.data[4 * p + 3] = 255;
  }
  context.putImageData(image, 0, 0);
}
