// Shows made pictures one at a time and takes a verdict, scores and a note for each.

function mount(root, spec, onChange = null) {
  const { names, criteria } = spec, past = [], find = (selector) => root.querySelector(selector);
  const undecided = (name) => decisions[name].verdict === null;
  let decisions = spec.decisions, at = Math.max(0, names.findIndex(undecided)), row = 0;
  const windows = makePictures(find, spec, onChange), tools = makeTools(find, spec, { decide, undo, step, score, highlight });
  const keys = { a: () => decide("accept"), r: () => decide("reject"), u: undo, n: () => tools.note.focus(),
    c: () => highlight((row + 1) % criteria.length), ArrowLeft: () => step(-1), ArrowRight: () => step(1) };

  function set(change) {
    decisions = { ...decisions, [names[at]]: { ...decisions[names[at]], ...change } };
    draw();
    onChange?.(decisions);
  }
  function decide(verdict) {
    past.push([at, decisions[names[at]].verdict]);
    set({ verdict });
    const next = names.map((_, i) => (at + i) % names.length).find((i) => undecided(names[i]));
    if (next !== undefined) go(next);
  }
  function undo() { // takes the last verdict back
    if (!past.length) return;
    const [i, verdict] = past.pop();
    go(i);
    set({ verdict });
  }
  function step(by) { go(Math.max(0, Math.min(names.length - 1, at + by))); }
  function go(to) {
    if (to !== at) highlight(0);
    at = to;
    draw();
  }
  function score(criterion, value) { // the same score again takes it away
    const { [criterion]: old, ...scores } = decisions[names[at]].scores;
    set({ scores: old === value ? scores : { ...scores, [criterion]: value } });
  }
  function highlight(to) {
    const within = tools.rows[row].contains(document.activeElement);
    row = to;
    tools.rows.forEach((element, i) => element.classList.toggle("vr-current", i === row));
    if (within) tools.rows[row].querySelector("[tabindex='0']").focus();
  }
  function draw() {
    const { verdict, scores, note } = decisions[names[at]], verdicts = names.map((name) => decisions[name].verdict);
    windows.forEach((frame, side) => {
      const place = at + side * names.length;
      frame.style.setProperty("--c", place % spec.columns);
      frame.style.setProperty("--r", Math.floor(place / spec.columns));
      frame.firstElementChild.alt = `${side ? "The source of the" : "The"} made picture ${names[at]}.`;
    });
    find(".vr-made").dataset.verdict = verdict ?? "";
    find(".vr-made p").textContent = { accept: "made · accepted", reject: "made · rejected" }[verdict] ?? "made";
    find(".vr-name").textContent = names[at];
    const counts = [verdicts.filter(Boolean).length, verdicts.filter((one) => one === "accept").length];
    const tally = `${counts[0]} of ${names.length} seen, ${counts[1]} accepted`;
    if (tools.tally.textContent !== tally) tools.tally.textContent = tally; // read out only where it moved
    tools.marks.forEach((mark, i) => (mark.className = `${verdicts[i] ?? ""} ${i === at ? "vr-here" : ""}`));
    for (const kind of ["accept", "reject"]) tools[kind].setAttribute("aria-pressed", verdict === kind);
    const ends = { undo: !past.length, back: at === 0, on: at === names.length - 1 };
    for (const name in ends) tools[name].setAttribute("aria-disabled", ends[name]); // "disabled" would lose the focus
    tools.rows.forEach((line, i) => {
      const score = scores[criteria[i]], buttons = [...line.querySelectorAll("button")];
      buttons.forEach((button, j) => {
        button.setAttribute("aria-pressed", score === j + 1);
        button.tabIndex = j + 1 === (score ?? 1) ? 0 : -1; // Tab goes from criterion to criterion
      });
      if (line.contains(document.activeElement)) buttons[(score ?? 1) - 1].focus();
    });
    if (tools.note.value !== note) tools.note.value = note;
  }

  tools.note.addEventListener("input", () => set({ note: tools.note.value }));
  tools.download.addEventListener("click", () => {
    const text = JSON.stringify({ criteria, decisions }, null, 1);
    tools.download.href = URL.createObjectURL(new Blob([text], { type: "application/json" }));
  });
  root.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    if (event.key !== "Tab") event.stopPropagation(); // a notebook deletes cells on some of these keys
    if (event.target === tools.note) return event.key === "Escape" ? root.focus() : undefined;
    const act = /^[1-5]$/.test(event.key) ? () => score(criteria[row], Number(event.key)) : keys[event.key];
    if (act) event.preventDefault(), act();
  });
  setAttributes(root, { tabindex: 0, role: "group", "aria-label": `Review of ${names.length} made pictures` });
  root.classList.add("vr-live");
  highlight(0);
  draw();
  return { load: (now) => { decisions = now; draw(); }, say: (words) => (tools.trouble.textContent = words) };
}

function makePictures(find, spec, saved) {
  const made = find(".vr-made");
  if (spec.sources) {
    const source = made.cloneNode(true);
    source.className = "vr-source";
    source.querySelector("p").textContent = "source";
    made.before(source);
  }
  const kept = saved ? `Saved at once in ${spec.file}.` : "Here nothing is saved; in the notebook it is.";
  find(".vr-help").textContent = `Keys: a accept, r reject, u undo, ← → move, 1–5 score, c next criterion, n note, Esc leaves it. ${kept} `;
  return [made, find(".vr-source")].filter(Boolean).map((side) => side.querySelector(".vr-window"));
}

function makeTools(find, { names, criteria }, { decide, undo, step, score, highlight }) {
  const press = (label, onclick, name, className) =>
    make("button", { type: "button", textContent: label, onclick, className: className ?? "" }, { "aria-label": name });
  const rows = criteria.map((criterion, i) => {
    const line = make("div", { className: "vr-row" }, { role: "group", "aria-label": `${criterion}, 1 to 5` });
    const scores = [1, 2, 3, 4, 5].map((n) => press(n, () => score(criterion, n), `${criterion}: ${n} of 5`));
    line.append(make("span", { textContent: criterion }), ...scores);
    line.addEventListener("focusin", () => highlight(i));
    return line;
  });
  const marks = names.map(() => make("i")), tools = { rows, marks,
    note: make("textarea", { rows: 2, placeholder: "A note" }, { "aria-label": "Note" }),
    tally: make("span", { className: "vr-tally" }, { role: "status" }), trouble: make("p", { className: "vr-trouble" }, { role: "alert" }),
    back: press("←", () => step(-1), "Back"), undo: press("Undo", undo, "Undo the last verdict"),
    reject: press("Reject", () => decide("reject"), "Reject", "reject"), accept: press("Accept", () => decide("accept"), "Accept", "accept"),
    on: press("→", () => step(1), "Forward"), download: make("a", { textContent: "Download", href: "#", download: "review.json" }) };
  const group = (className, ...parts) => { const box = make("div", { className }); box.append(...parts); return box; };
  find(".vr-head").append(tools.tally);
  find(".vr-head").after(setAttributes(group("vr-line", ...marks), { "aria-hidden": true }));
  find(".vr-stage").append(group("vr-side", ...rows, tools.note));
  find(".vr-stage").after(group("vr-bar", tools.back, tools.undo, tools.reject, tools.accept, tools.on), tools.trouble);
  find(".vr-help").append(tools.download);
  return tools;
}
