// Where somebody wanted to go, kept by their browser's tab while they log in: it is sent to nobody.
const KEPT_MS = 15 * 60 * 1000;
const plain = (path) => path.replace(/\/+$/, "");

export default function (component) {
  const { base, back } = component.data, here = window.location, key = `cytovae-way ${base}`;
  try {
    if (!back) {
      // the app's own address asks for nothing: what was asked for before stays
      if (plain(here.pathname) === plain(base) && !here.search) return;
      sessionStorage.setItem(key, JSON.stringify([here.pathname + here.search + here.hash, Date.now()]));
      return;
    }
    const [asked, at] = JSON.parse(sessionStorage.getItem(key) ?? "[]");
    sessionStorage.removeItem(key);
    if (typeof asked !== "string" || !(Date.now() - at < KEPT_MS)) return;
    const to = new URL(asked, here.origin);
    // this app's pages alone, whatever stands there
    if (to.origin === here.origin && to.pathname.startsWith(base) && to.href !== here.href) here.replace(to.href);
  } catch { /* a browser that keeps nothing: the link is to be opened again */ }
}
