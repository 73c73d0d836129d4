// Browsers offer the microphone only to pages that came over https, or from this very machine.
if (!window.isSecureContext) {
  const { hostname, port, protocol } = window.location;
  const texts = { host: hostname, port: port || (protocol === "https:" ? "443" : "80") };
  for (const [name, text] of Object.entries(texts)) {
    for (const place of element.querySelectorAll("." + name)) place.textContent = text;
  }
  element.querySelector(".insecure").hidden = false;
}
