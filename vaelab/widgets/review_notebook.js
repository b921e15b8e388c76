export default { render({ model, el }) {
  el.innerHTML = model.get("body");
  const spec = { ...model.get("spec"), decisions: model.get("decisions") };
  const review = mount(el.firstElementChild, spec, (decisions) => {
    model.set({ decisions });
    model.save_changes();
  });
  review.say(model.get("trouble"));
  model.on("change:decisions", () => review.load(model.get("decisions")));
  model.on("change:trouble", () => review.say(model.get("trouble")));
} };
