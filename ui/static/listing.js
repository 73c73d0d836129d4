element.addEventListener("click", (event) => {
  const id = event.target.closest("[data-id]")?.dataset.id;
  if (id !== undefined) trigger("pick", { id: isNaN(id) ? id : Number(id) });
});
