export default function (component) {
  const button = component.parentElement.querySelector(".copy");
  button.onclick = async () => {
    const link = window.cytovaeAddress?.() ?? window.location.href;
    button.dataset.link = link;
    let done = true;
    try { await navigator.clipboard.writeText(link); } catch { done = false; }
    if (!done) window.prompt("Copy this address", link);
    if (done) { button.textContent = "Copied"; setTimeout(() => { button.textContent = "Copy link"; }, 1400); }
  };
}
