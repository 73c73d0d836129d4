element.addEventListener("click", (event) => {
  const chosen = event.target.closest("[data-id]");
  if (chosen) trigger("pick", { id: Number(chosen.dataset.id) });
});
