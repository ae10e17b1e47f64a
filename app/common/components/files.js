function saved(header, content) {
  const link = document.createElement("a");
  link.href = URL.createObjectURL(new Blob([content], { type: header.mime }));
  link.download = header.name;
  document.body.append(link);
  link.click();
  link.remove();
  setTimeout(() => URL.revokeObjectURL(link.href), 60000);
}

export default function (component) {
  const root = component.parentElement.querySelector(".files");
  const bytes = component.data instanceof Uint8Array ? component.data : new Uint8Array(component.data);
  const size = new DataView(bytes.buffer, bytes.byteOffset, 4).getUint32(0, true);
  const header = JSON.parse(new TextDecoder().decode(bytes.subarray(4, 4 + size)));
  root.replaceChildren();
  for (const [form, words] of Object.entries(header.forms)) {
    const button = element("button", "", form.toUpperCase());
    button.type = "button"; button.title = words; button.setAttribute("aria-label", `${form.toUpperCase()}: ${words}`);
    button.dataset.form = form;
    button.onclick = () => {
      root.querySelectorAll("button").forEach((each) => { each.disabled = true; });
      button.textContent = `${form.toUpperCase()} …`;
      const view = window.cytovaeView ?? {}, count = view.count ?? 0;
      component.setTriggerValue("asked", { form, number: `${Date.now()}`, view: {
        look: view.look, channels: [...Array(count).keys()].filter((k) => view.on[k]),
        limits: [...Array(count).keys()].map((k) => view.limits(k)), gamma: view.gamma, step: view.step ?? 0,
      } });
    };
    root.append(button);
  }
  if (header.name && root.dataset.saved !== header.number) saved(header, bytes.slice(4 + size));
  root.dataset.saved = header.number ?? "";
}
