const LOOKS = {
  RGB: [[1, 0, 0], [0, 1, 0], [0, 0, 1], [1, 1, 0], [0, 1, 1], [1, 0, 1]],
  MGC: [[1, 0, 1], [0, 1, 0], [0, 1, 1], [1, 1, 0], [1, 0.5, 0], [0.6, 0.6, 1]],
  Grey: null,
};
const LEAST_MS = 250; // a key still held down from the last card is no answer to this one
const cards = new WeakMap();

// MurmurHash3's finaliser; card.py makes the same stream
function mix(h) {
  h = Math.imul(h ^ (h >>> 16), 0x85ebca6b);
  h = Math.imul(h ^ (h >>> 13), 0xc2b2ae35);
  return (h ^ (h >>> 16)) >>> 0;
}

function unpack(data) {
  const bytes = data instanceof Uint8Array ? data : new Uint8Array(data);
  const head = new DataView(bytes.buffer, bytes.byteOffset, 20);
  const [h, w, c, position, total, length] = [0, 2, 4, 6, 8, 10].map((at) => head.getUint16(at, true));
  const first = head.getUint32(12, true), second = head.getUint32(16, true);
  const names = new TextDecoder().decode(bytes.subarray(20, 20 + length)).split("\n");
  const pixels = bytes.slice(20 + length, 20 + length + h * w * c);
  for (let i = 0; i < pixels.length; i += 4) {
    const word = mix(mix((i >>> 2) ^ first) ^ second);
    for (let k = 0; k < 4 && i + k < pixels.length; k++) pixels[i + k] ^= (word >>> (8 * k)) & 255;
  }
  return { h, w, c, position, total, names, pixels, nonce: `${first} ${second}` };
}

class Card {
  constructor(root) {
    this.root = root;
    this.view = { on: [], look: "RGB", crisp: false };
    this.$ = (selector) => root.querySelector(selector);
    this.keys = (event) => this.key(event);
    window.addEventListener("keydown", this.keys, true); // before Streamlit, which reruns on a bare R
    root.querySelectorAll("[data-call]").forEach((button) => { button.onclick = () => this.call(button.dataset.call); });
    this.$(".look").onclick = () => this.turn();
    this.$(".pixels").onclick = () => { this.view.crisp = !this.view.crisp; this.draw(); };
    this.$("canvas").oncontextmenu = (event) => event.preventDefault();
  }

  remove() { window.removeEventListener("keydown", this.keys, true); }

  load(data, send) {
    this.send = send;
    const card = unpack(data);
    if (card.nonce === this.card?.nonce) return; // the same message again
    const fresh = card.position !== this.card?.position;
    this.card = card;
    if (fresh) this.shown = performance.now();
    if (this.view.on.length !== card.c) { this.view.on = Array.from({ length: card.c }, (_, k) => k < 3); this.chips(); }
    this.lock(null);
    this.$(".count").textContent = `Card ${card.position + 1} of ${card.total}`;
    const bar = this.$(".progress");
    bar.setAttribute("aria-valuemax", card.total);
    bar.setAttribute("aria-valuenow", card.position);
    bar.firstElementChild.style.width = `${(100 * card.position) / card.total}%`;
    this.draw();
    this.root.dataset.position = card.position;
  }

  chips() {
    this.$(".chips").replaceChildren(...this.card.names.slice(0, this.card.c).map((name, k) => {
      const chip = document.createElement("button");
      chip.type = "button"; chip.className = "chip"; chip.title = `${name}: key ${k + 1}`;
      const dot = document.createElement("i"), word = document.createElement("span"), key = document.createElement("kbd");
      word.textContent = name; key.textContent = k + 1;
      chip.append(dot, word, key);
      chip.onclick = () => this.channel(k);
      return chip;
    }));
  }

  channel(k) { this.view.on[k] = !this.view.on[k]; this.draw(); }

  turn() {
    const names = Object.keys(LOOKS);
    this.view.look = names[(names.indexOf(this.view.look) + 1) % names.length];
    this.draw();
  }

  draw() {
    const { h, w, c, pixels } = this.card, { on, look, crisp } = this.view;
    const colours = c === 1 ? null : LOOKS[look];
    const canvas = this.$("canvas");
    if (canvas.width !== w || canvas.height !== h) { canvas.width = w; canvas.height = h; }
    canvas.classList.toggle("crisp", crisp);
    const context = canvas.getContext("2d"), image = context.createImageData(w, h), out = image.data;
    const shown = [...Array(c).keys()].filter((k) => on[k]);
    for (let p = 0, o = 0; p < h * w; p++, o += 4) {
      const sum = [0, 0, 0];
      for (const k of shown) {
        const value = pixels[p * c + k];
        for (let i = 0; i < 3; i++) sum[i] += value * (colours ? colours[k % colours.length][i] : 1 / shown.length);
      }
      const down = Math.min(1, 255 / Math.max(...sum)); // beyond white it is dimmed and keeps its hue, as on the other pages
      for (let i = 0; i < 3; i++) out[o + i] = sum[i] * down;
      out[o + 3] = 255;
    }
    context.putImageData(image, 0, 0);
    this.$(".look span").textContent = look;
    this.$(".pixels").setAttribute("aria-pressed", crisp);
    [...this.$(".chips").children].forEach((chip, k) => {
      chip.setAttribute("aria-pressed", on[k]);
      chip.style.setProperty("--c", colours ? `rgb(${colours[k % colours.length].map((v) => 255 * v).join(",")})` : "#9aa4aa");
    });
  }

  key(event) {
    const from = event.composedPath()[0];
    if (event.repeat || event.ctrlKey || event.metaKey || event.altKey || !this.card || !this.root.isConnected) return;
    if (from?.isContentEditable || from?.matches?.("input, textarea, select, [role=combobox]")) return;
    const pressed = event.key.toLowerCase();
    if (pressed === "r") this.call("real");
    else if (pressed === "s") this.call("synthetic");
    else if (pressed === "l") this.turn();
    else if (pressed === "p") this.$(".pixels").click();
    else if (/^[1-9]$/.test(pressed) && Number(pressed) <= this.card.c) this.channel(Number(pressed) - 1);
    else return;
    event.preventDefault();
    event.stopPropagation();
  }

  call(word) {
    const looked = performance.now() - this.shown;
    if (this.waiting || looked < LEAST_MS) return;
    this.lock(word);
    this.send("call", { position: this.card.position, real: word === "real", seconds: Math.round(looked) / 1000 });
  }

  lock(word) {
    this.waiting = word !== null;
    this.root.classList.toggle("waiting", this.waiting);
    this.root.querySelectorAll("[data-call]").forEach((button) => {
      button.disabled = this.waiting;
      button.classList.toggle("chosen", button.dataset.call === word);
    });
  }
}

export default function (component) {
  const root = component.parentElement.querySelector(".quiz");
  if (!cards.has(root)) cards.set(root, new Card(root));
  const card = cards.get(root);
  if (component.data) card.load(component.data, component.setTriggerValue);
  return () => { card.remove(); cards.delete(root); };
}
