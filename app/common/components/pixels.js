// Shared by the components: unpacking, and pixels -> canvas. One view (look, channels, contrast) for the whole page.
// Three channels are shown until a person chooses: more laid over each other add up to white.
function firstThree() { return Array.from({ length: 16 }, (_, k) => k < 3); }
function each(value) { return new Array(16).fill(value); }
const VIEW = (window.cytovaeView ??= {
  look: "rgb", on: firstThree(), lo: each(0), hi: each(1), gamma: 1, smooth: false, split: false, step: null, later: null,
});

// What the browser shows without the server stands behind the "#" of the address, in words.
// per channel, or one number where all channels have the same
VIEW.said ??= (values) => {
  const mine = values.slice(0, VIEW.count ?? 3);
  return new Set(mine).size === 1 ? mine[0] : mine.join("_");
};
VIEW.limits ??= (k) => [VIEW.lo[k], VIEW.hi[k]];
VIEW.hash ??= () => new URLSearchParams({
  ...(VIEW.step === null ? {} : { step: VIEW.step }), look: VIEW.look,
  channels: [...Array(VIEW.count ?? 3).keys()].filter((k) => VIEW.on[k]).map((k) => k + 1).join("") || "none",
  black: VIEW.said(VIEW.lo), white: VIEW.said(VIEW.hi), gamma: VIEW.gamma, beside: Number(VIEW.split), smooth: Number(VIEW.smooth),
}).toString();
VIEW.read ??= () => {
  const said = new URLSearchParams(window.location.hash.slice(1));
  const within = (key, low, high, now) => {
    const value = said.has(key) ? Number(said.get(key)) : NaN;
    return value >= low && value <= high ? value : now;
  };
  VIEW.step = within("step", 0, 999, VIEW.step);
  if (["rgb", "mgc", "grey"].includes(said.get("look"))) VIEW.look = said.get("look");
  if (/^([1-9]+|none)$/.test(said.get("channels") ?? "")) VIEW.on = VIEW.on.map((_, k) => said.get("channels").includes(String(k + 1)));
  const perChannel = (key, low, high, now) => {
    const values = (said.get(key) ?? "").split("_").map((word) => (word === "" ? NaN : Number(word)));
    if (!values.every((v) => v >= low && v <= high)) return now;
    return now.map((_, k) => values[Math.min(k, values.length - 1)]);
  };
  VIEW.lo = perChannel("black", 0, 0.9, VIEW.lo); VIEW.hi = perChannel("white", 0.1, 1.5, VIEW.hi);
  VIEW.lo.forEach((low, k) => { if (VIEW.hi[k] - low < 0.05) { VIEW.lo[k] = 0; VIEW.hi[k] = 1; } });
  VIEW.gamma = within("gamma", 0.3, 2, VIEW.gamma);
  VIEW.split = Boolean(within("beside", 0, 1, VIEW.split)); VIEW.smooth = Boolean(within("smooth", 0, 1, VIEW.smooth));
};
// the address follows a moment later: browsers refuse many changes at once, and none of them is a step for Back
VIEW.write ??= () => {
  clearTimeout(VIEW.later);
  VIEW.later = setTimeout(() => window.history.replaceState(window.history.state, "", `#${VIEW.hash()}`), 200);
};
window.cytovaeAddress ??= () => { const url = new URL(window.location.href); url.hash = VIEW.hash(); return url.href; };
if (!window.cytovaeReads) {
  window.cytovaeReads = true;
  VIEW.read();
  window.addEventListener("popstate", () => { clearTimeout(VIEW.later); VIEW.read(); window.dispatchEvent(new CustomEvent("cytovae-view")); });
  window.addEventListener("cytovae-view", () => VIEW.write());
}
const LOOKS = {
  rgb: { name: "RGB", colours: [[1, 0, 0], [0, 1, 0], [0, 0, 1], [1, 1, 0], [0, 1, 1], [1, 0, 1]] },
  mgc: { name: "MGC", colours: [[1, 0, 1], [0, 1, 0], [0, 1, 1], [1, 1, 0], [1, 0.5, 0], [0.6, 0.6, 1]] },
  grey: { name: "Grey", colours: null },
};

// u32 header length | JSON header | (n, H, W, C) uint16, little-endian; 65535 stands for header.top
function unpack(data) {
  const bytes = data instanceof Uint8Array ? data : new Uint8Array(data);
  const size = new DataView(bytes.buffer, bytes.byteOffset, 4).getUint32(0, true);
  const header = JSON.parse(new TextDecoder().decode(bytes.subarray(4, 4 + size)));
  VIEW.count = header.channels?.length ?? VIEW.count;
  header.pixels = new Uint16Array(bytes.slice(4 + size).buffer);
  return header;
}

// What each channel's values are shown as, 0 to 255.
function lookup(top) {
  const made = new Map();
  return Array.from({ length: VIEW.count ?? 3 }, (_, c) => {
    const [low, high] = VIEW.limits(c), key = `${low}_${high}`;
    if (!made.has(key)) {
      const lut = new Float32Array(1024), width = Math.max(high - low, 1e-3);
      for (let i = 0; i < 1024; i++) lut[i] = 255 * Math.pow(Math.min(1, Math.max(0, ((i / 1023) * top - low) / width)), VIEW.gamma);
      made.set(key, lut);
    }
    return made.get(key);
  });
}

// Paint image `index` of an unpacked header; `only` shows one channel in grey.
function paint(canvas, header, index, lut, only = null) {
  const [, h, w, c] = header.shape;
  if (canvas.width !== w || canvas.height !== h) { canvas.width = w; canvas.height = h; }
  canvas.classList.toggle("smooth", VIEW.smooth);
  const context = canvas.getContext("2d");
  const image = context.createImageData(w, h);
  const out = image.data, from = index * h * w * c, { pixels } = header;
  const colours = LOOKS[VIEW.look].colours;
  const shown = only !== null ? [only] : [...Array(c).keys()].filter((k) => VIEW.on[k]);
  const grey = only !== null || colours === null || c === 1;
  for (let p = 0, q = from, o = 0; p < h * w; p++, q += c, o += 4) {
    let r = 0, g = 0, b = 0;
    for (const k of shown) {
      const v = lut[k][pixels[q + k] >> 6];
      if (grey) { r += v; } else { const t = colours[k % colours.length]; r += v * t[0]; g += v * t[1]; b += v * t[2]; }
    }
    if (grey) { r /= Math.max(shown.length, 1); g = r; b = r; }
    else {
      // where colours share a component, as magenta and cyan share blue, a sum beyond white is dimmed and keeps its hue
      const most = Math.max(r, g, b);
      if (most > 255) { const down = 255 / most; r *= down; g *= down; b *= down; }
    }
    out[o] = r; out[o + 1] = g; out[o + 2] = b; out[o + 3] = 255;
  }
  context.putImageData(image, 0, 0);
}

// The colour of a channel for text and marks; `light` lifts pure blue so that it can be read on black.
function css(k, light = 0) {
  const colours = VIEW.count === 1 ? null : LOOKS[VIEW.look].colours;
  if (!colours) return "#b9c2c7";
  return `rgb(${colours[k % colours.length].map((v) => Math.round(255 * (light + (1 - light) * v))).join(",")})`;
}

// A round length that is about a quarter of the image: micrometres where the pixel size is known, else pixels.
function scaleBar(header) {
  const w = header.shape[2], unit = header.pixel_size_um;
  const span = unit ? w * unit : w;
  const nice = [1, 2, 5, 10, 20, 25, 50, 100, 200, 500].filter((v) => v <= span * 0.34).pop() ?? 1;
  return { part: nice / span, label: `${nice} ${unit ? "µm" : "px"}` };
}

// The bar of channel chips, looks, contrast and gamma; every component on the page follows it.
function changed() { window.dispatchEvent(new CustomEvent("cytovae-view")); }

function buildControls(box, header) {
  box.replaceChildren();
  const chips = element("div", "group chips");
  header.channels.forEach((name, k) => {
    const chip = element("button", "chip");
    chip.type = "button"; chip.dataset.channel = k; chip.title = `${name}: key ${k + 1}`;
    chip.append(element("i"), element("span", "", name), element("kbd", "", String(k + 1)));
    chip.onclick = () => { VIEW.on[k] = !VIEW.on[k]; changed(); };
    chips.append(chip);
  });
  const looks = element("div", "group looks");
  looks.setAttribute("role", "group"); looks.setAttribute("aria-label", "Look");
  for (const [key, look] of Object.entries(LOOKS)) {
    const button = element("button", "", look.name);
    button.type = "button"; button.dataset.look = key;
    button.title = { rgb: "red, green, blue", mgc: "magenta, green, cyan: readable with red-green blindness", grey: "grey" }[key];
    button.onclick = () => { VIEW.look = key; changed(); };
    looks.append(button);
  }
  // contrast, per channel: the same for every picture of the page
  const more = element("details", "more"), panel = element("div", "contrast");
  const summary = element("summary", "", "Contrast"); summary.title = "black and white points per channel, the same in every picture";
  more.append(summary, panel);
  const slider = (key, label, spoken, k, min, max, step) => {
    const wrap = element("label", "", label), range = element("input"), value = element("output");
    range.type = "range"; Object.assign(range, { min, max, step }); range.dataset.view = key; range.dataset.of = k;
    range.setAttribute("aria-label", spoken);
    range.oninput = () => {
      const now = Number(range.value);
      if (key === "gamma") VIEW.gamma = now; else VIEW[key][k] = now;
      if (key !== "gamma" && VIEW.hi[k] - VIEW.lo[k] < 0.05) { if (key === "lo") VIEW.lo[k] = VIEW.hi[k] - 0.05; else VIEW.hi[k] = VIEW.lo[k] + 0.05; }
      changed();
    };
    wrap.append(range, value);
    return wrap;
  };
  header.channels.forEach((name, k) => {
    const line = element("div", "line");
    line.append(element("b", "", name), slider("lo", "black", `${name}: black`, k, 0, 0.9, 0.01), slider("hi", "white", `${name}: white`, k, 0.1, 1.5, 0.01));
    panel.append(line);
  });
  const last = element("div", "line");
  last.append(element("b", "", "All"), slider("gamma", "gamma", "gamma", 0, 0.3, 2, 0.05));
  const extras = element("div", "group extras");
  for (const [key, label, title] of [["split", "Side by side", "each channel in grey beside the composite"],
                                     ["smooth", "Smooth", "interpolate between pixels; off shows the pixels as they are"]]) {
    if (key === "split" && !header.can_split) continue;
    const button = element("button", "toggle", label);
    button.type = "button"; button.dataset.toggle = key; button.title = title;
    button.onclick = () => { VIEW[key] = !VIEW[key]; changed(); };
    (key === "split" ? extras : last).append(button);
  }
  const reset = element("button", "toggle", "Reset");
  reset.type = "button"; reset.title = "the first three channels, contrast 0 to 1, gamma 1";
  reset.onclick = () => { Object.assign(VIEW, { on: firstThree(), lo: each(0), hi: each(1), gamma: 1 }); changed(); };
  last.append(reset);
  panel.append(last);
  box.append(chips, looks, more, extras);
}

function syncControls(box) {
  box.querySelectorAll("[data-channel]").forEach((chip) => {
    const k = Number(chip.dataset.channel);
    chip.setAttribute("aria-pressed", VIEW.on[k]);
    chip.style.setProperty("--c", css(k));
  });
  box.querySelectorAll("[data-look]").forEach((b) => b.setAttribute("aria-pressed", b.dataset.look === VIEW.look));
  box.querySelectorAll("[data-toggle]").forEach((b) => b.setAttribute("aria-pressed", VIEW[b.dataset.toggle]));
  box.querySelectorAll("[data-view]").forEach((range) => {
    const { view, of } = range.dataset, value = view === "gamma" ? VIEW.gamma : VIEW[view][Number(of)];
    range.value = value; range.setAttribute("aria-valuetext", value.toFixed(2));
    range.nextElementSibling.textContent = value.toFixed(2);
  });
  const plain = VIEW.gamma === 1 && VIEW.lo.every((v) => v === 0) && VIEW.hi.every((v) => v === 1);
  box.querySelector(".more > summary").classList.toggle("changed", !plain);
}

// Keys are for the page, not for a field someone types into.
function typing(event) {
  const from = event.composedPath()[0];
  return event.ctrlKey || event.metaKey || event.altKey || from?.isContentEditable ||
    (from?.matches?.("input:not([type=range]), textarea, select, [role=combobox], [role=listbox] *") ?? false);
}

// Channel keys work once a page, however many components listen.
if (!window.cytovaeKeys) {
  window.cytovaeKeys = true;
  document.addEventListener("keydown", (event) => {
    if (typing(event) || !/^[1-6]$/.test(event.key)) return;
    if (!window.cytovaePictures?.size) return;
    const k = Number(event.key) - 1;
    if (k >= Math.max(...[...window.cytovaePictures].map((c) => c()))) return;
    VIEW.on[k] = !VIEW.on[k];
    changed();
  });
}
window.cytovaePictures ??= new Set();
