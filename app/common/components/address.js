// Streamlit pushes an address without its "#" part, and after a change of page first one without a query.
if (!window.cytovaePushed) {
  window.cytovaePushed = true;
  const push = window.history.pushState.bind(window.history);
  window.history.pushState = (state, title, to) => {
    const here = window.location, url = new URL(to, here.href);
    url.hash = window.cytovaeView?.hash?.() ?? "";
    // the page's choices complete the address of the page: one step for Back, not two
    if (url.pathname === here.pathname && !here.search) window.history.replaceState(state, title, url.href);
    else push(state, title, url.href);
  };
}

export default function (component) {
  const query = component.data, here = window.location;
  if (query && here.search !== `?${query}`) {
    window.history.replaceState(window.history.state, "", `${here.pathname}?${query}${here.hash}`);
  }
}
