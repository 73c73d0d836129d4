() => {
  // A click on anything with data-go="Train" opens that tab, also one that a narrow window keeps in
  // its menu; so does openTab("Train").
  window.openTab = (name) => [...document.querySelectorAll("[role=tab], .overflow-dropdown button")]
    .find((tab) => tab.textContent.trim() === name)?.click();
  document.addEventListener("click", (event) => {
    const leads = event.target.closest?.("[data-go]");
    if (leads) window.openTab(leads.dataset.go);
  });
}
