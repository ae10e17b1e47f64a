// A map of points: WebGL marks (2-D canvas where there is no WebGL), lasso, hover and a searchable legend.
const maps = new WeakMap();
const VERTEX = `
attribute vec2 at; attribute vec3 tint; attribute float shape; attribute float weight;
uniform vec4 view; uniform float size; varying vec3 colour; varying float form; varying float alpha; varying float edge;
void main() {
  gl_Position = vec4((at - view.xy) * view.zw, 0.0, 1.0);
  gl_PointSize = size * (weight > 1.5 ? 1.35 : 1.0);
  colour = tint; form = shape; alpha = weight < 0.25 ? 0.10 : (weight < 0.75 ? 0.28 : 0.88); edge = 2.2 / gl_PointSize;
}`;
const FRAGMENT = `
precision mediump float; varying vec3 colour; varying float form; varying float alpha; varying float edge;
void main() {
  vec2 p = gl_PointCoord * 2.0 - 1.0; float d;
  if (form < 0.5) d = length(p) - 0.86;
  else if (form < 1.5) d = max(abs(p.x), abs(p.y)) - 0.74;
  else if (form < 2.5) d = max(p.y - 0.62, abs(p.x) * 0.88 - p.y * 0.5 - 0.42);
  else if (form < 3.5) d = abs(p.x) + abs(p.y) - 1.0;
  else if (form < 4.5) d = max(max(abs(p.x), abs(p.y)) - 0.92, min(abs(p.x), abs(p.y)) - 0.3);
  else d = length(p) - (0.66 + 0.3 * cos(5.0 * atan(p.x, -p.y)));
  float a = alpha * (1.0 - smoothstep(-edge, edge, d));
  if (a < 0.01) discard;
  gl_FragColor = vec4(colour * a, a);
}`;

function rgb(hex) { return [1, 3, 5].map((i) => parseInt(hex.slice(i, i + 2), 16) / 255); }
function between(colours, t) {
  const f = Math.min(0.9999, Math.max(0, t)) * (colours.length - 1), i = Math.floor(f), u = f - i;
  return colours[i].map((v, c) => v + (colours[i + 1][c] - v) * u);
}

class Scatter {
  constructor(root) {
    this.root = root;
    this.$ = (s) => root.querySelector(s);
    this.box = this.$(".map"); this.points = this.$(".points"); this.over = this.$(".over"); this.tip = this.$(".tip");
    this.mode = "lasso"; this.hidden = new Set();
    this.start();
    this.resized = new ResizeObserver(() => this.draw());
    this.resized.observe(this.box);
    const modes = this.$(".modes");
    for (const [key, label, title] of [["lasso", "Lasso", "drag round points to select them"], ["pan", "Pan", "drag the map; the wheel zooms"]]) {
      const button = element("button", "", label);
      button.type = "button"; button.title = title; button.dataset.mode = key;
      button.onclick = () => { this.mode = key; this.modes(); };
      modes.append(button);
    }
    const home = element("button", "", "Whole map"); home.type = "button"; home.onclick = () => { this.home(); this.draw(); };
    const clear = element("button", "clear", "Clear selection"); clear.type = "button";
    clear.onclick = () => { this.mask?.fill(0); this.any = false; this.draw(); this.send("lasso", { polygon: [] }); };
    const far = element("button", "far"); far.type = "button"; far.hidden = true; far.title = "points so far from all others that the map leaves them out at first";
    far.onclick = () => { this.home(true); this.draw(); };
    modes.append(home, clear, far);
    this.modes();
    this.$(".find").oninput = () => this.after();
    this.listen();
  }

  remove() { this.resized.disconnect(); clearTimeout(this.rest); }
  modes() {
    this.root.querySelectorAll("[data-mode]").forEach((b) => b.setAttribute("aria-pressed", b.dataset.mode === this.mode));
    this.box.classList.toggle("pan", this.mode === "pan");
  }

  start() {
    const gl = this.points.getContext("webgl", { premultipliedAlpha: true, antialias: false, preserveDrawingBuffer: true });
    this.gl = gl;
    if (!gl) return;
    const program = gl.createProgram();
    for (const [kind, source] of [[gl.VERTEX_SHADER, VERTEX], [gl.FRAGMENT_SHADER, FRAGMENT]]) {
      const shader = gl.createShader(kind);
      gl.shaderSource(shader, source); gl.compileShader(shader); gl.attachShader(program, shader);
    }
    gl.linkProgram(program);
    if (!gl.getProgramParameter(program, gl.LINK_STATUS)) { this.gl = null; return; }
    gl.useProgram(program);
    this.program = program;
    this.where = Object.fromEntries(["view", "size"].map((u) => [u, gl.getUniformLocation(program, u)]));
    this.buffers = {};
    for (const name of ["at", "tint", "shape", "weight"]) this.buffers[name] = gl.createBuffer();
    gl.enable(gl.BLEND); gl.blendFunc(gl.ONE, gl.ONE_MINUS_SRC_ALPHA);
  }

  // u32 header length | JSON | n x (f32 x, f32 y) | n x u16 colour | n x u8 selected
  load(data, send) {
    this.send = send;
    const bytes = data instanceof Uint8Array ? data : new Uint8Array(data);
    const size = new DataView(bytes.buffer, bytes.byteOffset, 4).getUint32(0, true);
    const header = JSON.parse(new TextDecoder().decode(bytes.subarray(4, 4 + size)));
    if (this.header?.id === header.id) return;
    const body = bytes.slice(4 + size), n = header.n;
    this.xy = new Float32Array(body.buffer, 0, 2 * n);
    this.code = new Uint16Array(body.buffer, 8 * n, n);
    this.mask = body.slice(10 * n, 11 * n);
    this.any = this.mask.some((v) => v);
    const same = this.header?.map === header.map, coloured = this.header?.colour === header.colour;
    this.header = header; this.n = n;
    if (!same) this.home();
    if (!coloured) { this.hidden.clear(); this.$(".find").value = ""; }
    this.legend();
    this.colour();
    this.draw();
    this.root.dataset.ready = header.id;
  }

  // The view that holds all points; or, of a map with a few that lie far away, all but those.
  home(all = false) {
    const { xy, n } = this, span = [0, 1].map((c) => {
      const sorted = Float32Array.from({ length: n }, (_, i) => xy[2 * i + c]).sort(), at = (q) => sorted[Math.round(q * (n - 1))];
      const room = 0.5 * (at(0.98) - at(0.02));
      return all || n < 20 || !room ? [sorted[0], sorted[n - 1]] : [Math.max(sorted[0], at(0.02) - room), Math.min(sorted[n - 1], at(0.98) + room)];
    });
    const [[x0, x1], [y0, y1]] = span, pad = 0.05 * Math.max(x1 - x0, y1 - y0, 1e-6);
    // a point on the edge of the frame is moved in, so that the frame does not end in the middle of nothing
    const inside = [...Array(n).keys()].filter((i) => xy[2 * i] >= x0 && xy[2 * i] <= x1 && xy[2 * i + 1] >= y0 && xy[2 * i + 1] <= y1);
    this.far = n - inside.length;
    const tight = [0, 1].map((c) => inside.reduce(([lo, hi], i) => [Math.min(lo, xy[2 * i + c]), Math.max(hi, xy[2 * i + c])], [Infinity, -Infinity]));
    const [[a0, a1], [b0, b1]] = inside.length ? tight : span;
    this.view = { x: (a0 + a1) / 2, y: (b0 + b1) / 2, w: a1 - a0 + 2 * pad, h: b1 - b0 + 2 * pad };
    this.root.dataset.far = this.far;
    this.root.querySelector(".far").hidden = !this.far;
    this.root.querySelector(".far").textContent = `${this.far.toLocaleString("en")} far away: show`;
  }

  ink() {
    const parts = getComputedStyle(this.root).color.match(/[\d.]+/g)?.slice(0, 3).map(Number) ?? [23, 33, 43];
    return `#${parts.map((v) => Math.round(v).toString(16).padStart(2, "0")).join("")}`;
  }

  // the colour and mark of a category; controls take the colour of the text
  style(category) { return { colour: category.colour || this.ink(), shape: category.shape }; }

  colour() {
    const { n, header } = this, tint = new Float32Array(3 * n), shape = new Float32Array(n);
    const tints = header.ramp?.map(rgb);
    const table = header.categories?.map((c) => ({ t: rgb(this.style(c).colour), s: this.style(c).shape }));
    for (let i = 0; i < n; i++) {
      const t = table ? table[this.code[i]].t : between(tints, this.code[i] / 65535);
      tint.set(t, 3 * i);
      shape[i] = table ? table[this.code[i]].s : 0;
    }
    this.tint = tint; this.shape = shape;
    this.upload("tint", tint); this.upload("shape", shape); this.upload("at", this.xy);
    this.weigh();
  }

  weigh() {
    const { n, header } = this, weight = new Float32Array(n), wanted = this.wanted();
    const alike = wanted && header.categories?.map((c) => c.name.toLowerCase().includes(wanted));
    for (let i = 0; i < n; i++) {
      const gone = header.categories && this.hidden.has(this.code[i]);
      // what is searched for stands out, else what is selected
      const found = wanted ? alike?.[this.code[i]] || header.names?.[i].toLowerCase().includes(wanted) : this.mask[i];
      weight[i] = gone ? 0 : wanted || this.any ? (found ? 2 : 0.5) : 1;
    }
    this.weight = weight;
    this.upload("weight", weight);
    const chosen = this.mask.reduce((a, v) => a + v, 0);
    this.$(".count").textContent = (this.header.says ?? "") + (chosen ? ` · ${chosen.toLocaleString("en")} selected` : "");
    this.root.dataset.selected = chosen;
  }

  upload(name, values) {
    const gl = this.gl;
    if (!gl) return;
    gl.bindBuffer(gl.ARRAY_BUFFER, this.buffers[name]);
    gl.bufferData(gl.ARRAY_BUFFER, values, gl.STATIC_DRAW);
    const place = gl.getAttribLocation(this.program, name);
    gl.enableVertexAttribArray(place);
    gl.vertexAttribPointer(place, name === "at" ? 2 : name === "tint" ? 3 : 1, gl.FLOAT, false, 0, 0);
  }

  legend() {
    const list = this.$(".legend-list"), { header } = this, find = this.$(".find");
    list.replaceChildren();
    const [across, up] = header.axes ?? ["", ""];
    this.$(".across").textContent = across; this.$(".up").textContent = up;
    if (header.paths?.length) {
      const row = element("div", "trail muted");
      row.append(element("span", "", "•—● "), element("span", "", header.path_says));
      list.append(row);
    }
    if (!header.categories) {
      const bar = element("div", "ramp");
      bar.style.background = `linear-gradient(90deg, ${header.ramp.join(",")})`;
      const ends = element("div", "ramp-ends");
      ends.append(element("span", "", header.low), element("span", "", header.high));
      list.append(element("div", "", header.colour_label), bar, ends);
      return;
    }
    const wanted = this.wanted();
    const hits = wanted ? (header.names ?? []).map((name, i) => [name, i]).filter(([name]) => name.toLowerCase().includes(wanted)) : [];
    for (const [name, i] of hits.slice(0, 12)) {  // a point that was searched for, to open
      const row = element("button", "hit"); row.type = "button"; row.title = "open this point";
      row.append(element("span", "", "→"), element("span", "name", name));
      row.onclick = () => this.send("opened", { point: i, map: header.map });
      list.append(row);
    }
    if (wanted && !hits.length && !header.categories.some((c) => c.name.toLowerCase().includes(wanted))) {
      list.append(element("div", "muted none", "no match"));
    }
    header.categories.forEach((category, k) => {
      if (wanted && !category.name.toLowerCase().includes(wanted)) return;
      const { colour, shape } = this.style(category), row = element("button", this.hidden.has(k) ? "dim" : "");
      row.type = "button"; row.title = `${category.name}: click hides, double click shows it alone`;
      const mark = new DOMParser().parseFromString(this.mark(colour, shape), "image/svg+xml").documentElement;
      row.append(document.importNode(mark, true), element("span", "name", category.name), element("span", "n muted", category.count.toLocaleString("en")));
      row.onclick = () => { this.hidden.has(k) ? this.hidden.delete(k) : this.hidden.add(k); this.after(); };
      row.ondblclick = () => {
        const alone = this.hidden.size === header.categories.length - 1 && !this.hidden.has(k);
        this.hidden = new Set(alone ? [] : header.categories.map((_, j) => j).filter((j) => j !== k)); this.after();
      };
      list.append(row);
    });
  }

  wanted() { return this.$(".find").value.trim().toLowerCase(); }
  after() { this.legend(); this.weigh(); this.draw(); }

  mark(colour, shape) {
    const inner = [`<circle cx="8" cy="8" r="6"/>`, `<rect x="2.5" y="2.5" width="11" height="11"/>`, `<path d="M8 2 L14 13 L2 13 Z"/>`,
      `<path d="M8 1 L15 8 L8 15 L1 8 Z"/>`, `<path d="M6 1h4v5h5v4h-5v5H6v-5H1V6h5z"/>`, `<path d="M8 0.8 L10 6 L15.4 6.2 L11.1 9.6 L12.6 15 L8 11.9 L3.4 15 L4.9 9.6 L0.6 6.2 L6 6 Z"/>`][shape];
    return `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 16 16" fill="${colour}">${inner}</svg>`;
  }

  pixel() { return Math.min(window.devicePixelRatio || 1, 2); }

  // how the view maps to the canvas: the same scale on both axes
  scale() {
    const w = this.box.clientWidth, h = this.box.clientHeight;
    const s = Math.min(w / this.view.w, h / this.view.h);
    return { w, h, s };
  }

  draw() {
    if (!this.header || !this.box.clientWidth) return;
    const { w, h, s } = this.scale(), dpr = this.pixel(), { gl, n } = this;
    for (const canvas of [this.points, this.over]) {
      if (canvas.width !== Math.round(w * dpr) || canvas.height !== Math.round(h * dpr)) { canvas.width = Math.round(w * dpr); canvas.height = Math.round(h * dpr); }
    }
    const zoom = s / (Math.min(w, h) / Math.max(this.view.w, this.view.h) || 1);
    this.radius = Math.max(3.2, Math.min(13, (n < 200 ? 13 : n < 1500 ? 10 : n < 10000 ? 6.5 : n < 40000 ? 4.5 : 3.2) * Math.max(1, Math.sqrt(zoom)))) / 2;
    if (gl) {
      gl.viewport(0, 0, this.points.width, this.points.height);
      gl.clearColor(0, 0, 0, 0); gl.clear(gl.COLOR_BUFFER_BIT);
      gl.uniform4f(this.where.view, this.view.x, this.view.y, (2 * s) / w, (2 * s) / h);
      gl.uniform1f(this.where.size, 2 * this.radius * dpr);
      gl.drawArrays(gl.POINTS, 0, n);
    } else this.draw2d(w, h, s, dpr);
    this.overlay();
  }

  draw2d(w, h, s, dpr) {
    const g = this.points.getContext("2d");
    if (!g) return;
    g.setTransform(dpr, 0, 0, dpr, 0, 0); g.clearRect(0, 0, w, h);
    for (let i = 0; i < this.n; i++) {
      const [x, y] = this.place(i, w, h, s), v = this.weight[i];
      g.globalAlpha = v < 0.25 ? 0.1 : v < 0.75 ? 0.28 : 0.88;
      g.fillStyle = `rgb(${[0, 1, 2].map((c) => Math.round(255 * this.tint[3 * i + c])).join(",")})`;
      g.fillRect(x - this.radius, y - this.radius, 2 * this.radius, 2 * this.radius);
    }
  }

  place(i, w, h, s) { return [w / 2 + (this.xy[2 * i] - this.view.x) * s, h / 2 - (this.xy[2 * i + 1] - this.view.y) * s]; }
  inverse(px, py) { const { w, h, s } = this.scale(); return [this.view.x + (px - w / 2) / s, this.view.y - (py - h / 2) / s]; }

  overlay() {
    const g = this.over.getContext("2d"), dpr = this.pixel(), { w, h, s } = this.scale();
    g.setTransform(dpr, 0, 0, dpr, 0, 0); g.clearRect(0, 0, w, h);
    const accent = getComputedStyle(this.root).getPropertyValue("--st-primary-color") || "#0B6E75";
    g.strokeStyle = accent; g.lineWidth = 1.6;
    for (const path of this.header?.paths ?? []) {
      g.beginPath();
      const at = ([x, y]) => [w / 2 + (x - this.view.x) * s, h / 2 - (y - this.view.y) * s];
      path.forEach((point, i) => { const [px, py] = at(point); i ? g.lineTo(px, py) : g.moveTo(px, py); });
      g.stroke();
      path.forEach((point, i) => { const [px, py] = at(point); g.beginPath(); g.arc(px, py, i === path.length - 1 ? 5 : 2.5, 0, 7); g.fillStyle = accent; g.fill(); });
    }
    if (this.trail?.length > 1) {
      g.beginPath(); this.trail.forEach(([x, y], i) => (i ? g.lineTo(x, y) : g.moveTo(x, y))); g.closePath();
      g.globalAlpha = 0.13; g.fillStyle = accent; g.fill(); g.globalAlpha = 1; g.stroke();
    }
    if (this.over_point !== undefined && this.over_point >= 0) {
      const [x, y] = this.place(this.over_point, w, h, s);
      g.beginPath(); g.arc(x, y, this.radius + 3.5, 0, 7); g.lineWidth = 2; g.stroke();
    }
  }

  nearest(px, py) {
    const { w, h, s } = this.scale();
    let best = -1, least = Math.max(10, this.radius + 4) ** 2;
    const [x, y] = this.inverse(px, py), reach = Math.sqrt(least) / s, { xy, n, weight } = this;
    for (let i = 0; i < n; i++) {
      const dx = xy[2 * i] - x, dy = xy[2 * i + 1] - y;
      if (dx > reach || dx < -reach || dy > reach || dy < -reach || weight[i] === 0) continue;
      const d = (dx * dx + dy * dy) * s * s;
      if (d < least) { least = d; best = i; }
    }
    return best;
  }

  listen() {
    const over = this.over, at = (event) => { const r = over.getBoundingClientRect(); return [event.clientX - r.left, event.clientY - r.top]; };
    over.onpointerdown = (event) => {
      over.setPointerCapture(event.pointerId);
      this.down = at(event); this.trail = this.mode === "lasso" && !event.shiftKey ? [this.down] : null; this.from = { ...this.view };
    };
    over.onpointermove = (event) => {
      const [x, y] = at(event);
      if (this.down) {
        if (this.trail) { this.trail.push([x, y]); this.overlay(); }
        else { const { s } = this.scale(); this.view.x = this.from.x - (x - this.down[0]) / s; this.view.y = this.from.y + (y - this.down[1]) / s; this.draw(); }
        return;
      }
      this.hover(this.nearest(x, y), x, y);
    };
    over.onpointerup = (event) => {
      const [x, y] = at(event), moved = this.down && Math.hypot(x - this.down[0], y - this.down[1]) > 5;
      const far = this.trail && this.trail.some(([a, b]) => Math.hypot(a - this.down[0], b - this.down[1]) > 8);
      const trail = this.trail;
      this.down = null; this.trail = null;
      if (trail && far) this.lasso(trail.map(([a, b]) => this.inverse(a, b)));
      else if (!moved) { const i = this.nearest(x, y); if (i >= 0) this.send("opened", { point: i, map: this.header.map }); }
      this.overlay();
    };
    over.onpointerleave = () => { if (!this.down) this.hover(-1); };
    over.onwheel = (event) => {
      event.preventDefault();
      const [x, y] = at(event), [bx, by] = this.inverse(x, y), f = Math.exp(event.deltaY * 0.0016);
      this.view.w *= f; this.view.h *= f;
      const [ax, ay] = this.inverse(x, y);
      this.view.x += bx - ax; this.view.y += by - ay;
      this.draw();
    };
    over.ondblclick = () => { this.home(); this.draw(); };
  }

  hover(i, x = 0, y = 0) {
    if (i === this.over_point) return;
    this.over_point = i;
    this.overlay();
    clearTimeout(this.rest);
    const category = i >= 0 && this.header.categories?.[this.code[i]];
    this.tip.style.display = i >= 0 ? "block" : "none";
    if (i < 0) return;
    this.tip.textContent = this.header.names?.[i] ?? category?.name ?? "";
    if (!this.tip.textContent) this.tip.style.display = "none";
    // beside the pointer, wherever it fits in whole
    const { w, h } = this.scale(), { offsetWidth: tw, offsetHeight: th } = this.tip, fit = (at, size, room) => Math.max(2, at + 14 + size > room ? at - 14 - size : at + 14);
    this.tip.style.left = `${Math.min(fit(x, tw, w), Math.max(2, w - tw - 2))}px`; this.tip.style.top = `${Math.min(fit(y, th, h), Math.max(2, h - th - 2))}px`;
    this.rest = setTimeout(() => this.send("hovered", { point: i, map: this.header.map }), 110);
  }

  lasso(polygon) {
    // thin the trail: a lasso is drawn by hand, a vertex every few pixels is enough
    const step = Math.max(1, Math.floor(polygon.length / 200)), thin = polygon.filter((_, i) => i % step === 0);
    let chosen = 0;
    for (let i = 0; i < this.n; i++) {
      let inside = 0;
      if (!(this.header.categories && this.hidden.has(this.code[i]))) {
        const x = this.xy[2 * i], y = this.xy[2 * i + 1];
        for (let a = 0, b = thin.length - 1; a < thin.length; b = a++) {
          const [xa, ya] = thin[a], [xb, yb] = thin[b];
          if ((ya > y) !== (yb > y) && x < ((xb - xa) * (y - ya)) / (yb - ya) + xa) inside ^= 1;
        }
      }
      this.mask[i] = inside; chosen += inside;
    }
    this.any = chosen > 0;
    this.weigh(); this.draw();
    this.send("lasso", { polygon: thin, hidden: [...this.hidden], map: this.header.map });
  }
}

export default function (component) {
  const root = component.parentElement.querySelector(".scatter");
  if (!maps.has(root)) maps.set(root, new Scatter(root));
  const map = maps.get(root);
  if (component.data) map.load(component.data, (name, value) => component.setTriggerValue(name, value));
  return () => { map.remove(); maps.delete(root); };
}
