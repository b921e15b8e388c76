export default { render({ model, el }) {
  el.innerHTML = model.get("body");
  const spec = { ...model.get("spec"), reel: model.get("reel"), position: model.get("position") };
  const film = mount(el.firstElementChild, spec, (reel, position) => {
    model.set({ reel, position });
    model.save_changes();
  });
  model.on("change:reel", () => film.show(model.get("reel")));
  model.on("change:position", () => film.move(model.get("position")));
} };
