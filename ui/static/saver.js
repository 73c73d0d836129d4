watch("value", () => { // a file made in Python, kept by the browser as a download
  if (!props.value) return;
  const { name, type, base64 } = JSON.parse(props.value);
  const bytes = Uint8Array.from(atob(base64), (c) => c.charCodeAt(0));
  const link = document.createElement("a");
  Object.assign(link, { href: URL.createObjectURL(new Blob([bytes], { type })), download: name });
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 60000);
});
