export default { render({ model, el }) {
  el.innerHTML = model.get("body");
  const explorer = mount(el.firstElementChild, model.get("spec"), (panel, z) => {
    model.set({ panel, z });
    model.save_changes();
  });
  model.on("change:panel", () => explorer.show(model.get("panel")));
  model.on("change:z", () => explorer.move(model.get("z")));
} };
