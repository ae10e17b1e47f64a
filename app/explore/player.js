const players = new WeakMap();

class Player {
  constructor(root) {
    this.root = root;
    this.at = 0;
    this.timer = null;
    this.$ = (selector) => root.querySelector(selector);
    this.repaint = () => {
      if (this.header?.kept && VIEW.step !== null && VIEW.step !== this.at) { this.stop(); this.at = Math.min(VIEW.step, this.n - 1); }
      this.show();
    };
    this.keys = (event) => this.key(event);
    this.count = () => this.header?.channels.length ?? 0;
    // players whose step is the page's go in step with each other
    this.follow = () => { if (this.header?.kept && VIEW.step !== this.at) { this.stop(); this.go(VIEW.step, false); } };
    window.addEventListener("cytovae-view", this.repaint);
    window.addEventListener("cytovae-step", this.follow);
    this.judge = () => this.take();
    window.addEventListener("cytovae-evidence", this.judge);
    document.addEventListener("keydown", this.keys);
    window.cytovaePictures.add(this.count);
    this.$(".play").onclick = () => this.toggle();
    // of several players on a page the keys drive the one that was touched last
    const mine = () => { window.cytovaeActive = this; };
    root.addEventListener("pointerenter", mine); root.addEventListener("focusin", mine);
    if (!window.cytovaeActive?.root.isConnected) mine();
  }

  remove() {
    this.stop();
    window.removeEventListener("cytovae-view", this.repaint);
    window.removeEventListener("cytovae-step", this.follow);
    window.removeEventListener("cytovae-evidence", this.judge);
    document.removeEventListener("keydown", this.keys);
    window.cytovaePictures.delete(this.count);
  }

  load(data) {
    const header = unpack(data);
    if (this.header?.id === header.id) return;
    this.stop();
    this.header = header; this.near = header;
    this.n = header.frames.length;
    this.at = Math.min((header.kept ? VIEW.step : null) ?? 0, this.n - 1);
    this.build();
    this.root.classList.toggle("compact", Boolean(header.compact));
    if (header.compact) this.$(".controls").replaceChildren(); else buildControls(this.$(".controls"), header);
    if (header.kept) { VIEW.step = this.at; VIEW.write(); }
    this.show();
    this.root.dataset[header.waits ? "waiting" : "ready"] = header.id;
    this.take();
  }

  // what the server says of the path once it has been compared: the step, and whether it plays, stay
  take() {
    const { header } = this, told = window.cytovaeEvidence;
    if (!header?.waits || told?.path !== header.path || this.near === told) return;
    this.near = told;
    header.frames.forEach((frame, i) => { Object.assign(frame, told.frames[i]); this.frames[i].classList.toggle("off", Boolean(frame.off)); });
    const curve = this.curve();
    curve.style.cssText = this.drawn.style.cssText;  // its place in the grid
    this.drawn.replaceWith(curve); this.drawn = curve;
    this.neighbours();
    this.show();
    this.root.dataset.ready = header.id;
  }

  // under each frame the real cell nearest to it, or the place for it
  neighbours() {
    const { header } = this;
    this.thumbs = this.thumbs.filter(([, , near]) => !near);
    header.frames.forEach((frame, i) => {
      const box = this.nears[i];
      const canvas = element("canvas"), name = element("div", "name", frame.nearest?.treatment ?? "\u00a0");
      canvas.dataset.role = "near"; canvas.setAttribute("role", "img");
      box.replaceChildren(canvas, name);
      if (!frame.nearest) { [, canvas.height, canvas.width] = header.shape; canvas.setAttribute("aria-hidden", "true"); return; }
      canvas.dataset.image = header.frames.length + 2 + i;
      canvas.setAttribute("aria-label", `Nearest real cell of step ${i}: ${frame.nearest.treatment}`);
      this.thumbs.push([canvas, frame.nearest.image, true]);
      name.title = `${frame.nearest.treatment}, ${frame.nearest.moa}\n${frame.nearest.cell_id}\ndistance ${number(frame.nearest.distance)}`;
      if (frame.off) { const tag = element("span", "tag", "unlike any"); tag.title = frame.why ?? ""; box.append(tag); }
    });
  }

  // on the first visit with this browser: what can be done here
  guide() {
    const box = this.$(".guide"), { guide } = this.header;
    let seen = true;
    try { seen = Boolean(window.localStorage.getItem("cytovae-guided")); } catch { /* a browser that keeps nothing */ }
    if (!guide || seen) { box.hidden = true; return; }
    box.hidden = false;
    box.replaceChildren(element("span", "", guide[0]));
    guide.slice(1).forEach((hint, k) => { const line = element("span"); line.append(element("b", "", `${k + 1} `), hint); box.append(line); });
    const done = element("button", "", "Got it");
    done.type = "button";
    done.onclick = () => { box.hidden = true; try { window.localStorage.setItem("cytovae-guided", "1"); } catch { /* as above */ } };
    box.append(done);
  }

  build() {
    this.guide();
    const { header, n } = this, film = this.$(".film");
    film.style.setProperty("--n", n);
    film.style.setProperty("--least", n > 24 ? "1.9rem" : n > 13 ? "2.5rem" : "3.5rem");
    film.classList.toggle("dense", n > 13);
    film.replaceChildren();
    this.thumbs = []; this.frames = [];
    const put = (node, column, row) => { node.style.gridColumn = column; node.style.gridRow = row; film.append(node); return node; };
    const picture = (index, role) => {
      const canvas = element("canvas");
      canvas.dataset.role = role; canvas.dataset.image = index;
      canvas.setAttribute("role", "img");
      canvas.setAttribute("aria-label", this.spoken(index));
      this.thumbs.push([canvas, index, false]);
      return canvas;
    };
    const label = (row, title, lines = []) => {
      const box = put(element("div", "label"), 1, row);
      box.append(element("b", "", title));
      for (const [text, className] of lines) box.append(element("div", `muted ${className ?? ""}`, text));
    };
    // images 0: real control, 1..n: the path, n+1: real target, n+2..: nearest real cell of each frame
    label(1, "Path", [["real, then decoded, then real"]]);
    const end = (index, column, title) => {
      const box = put(element("div", "cell"), column, 1);
      box.append(picture(index, "end"));
      put(element("div", "cell ends", title), column, 2);
    };
    end(0, 2, "real");
    end(n + 1, n + 5, "real");
    header.frames.forEach((frame, i) => {
      const box = put(element("div", `cell frame${frame.off ? " off" : ""}`), i + 4, 1);
      box.append(picture(i + 1, "frame"));
      box.title = frame.label || `${frame.n_features} of ${header.n_features} features set to the target's`;
      box.onpointerdown = () => { this.stop(); this.go(i); this.dragging = true; };
      box.onpointerenter = (event) => { if (this.dragging && event.buttons) this.go(i); };
      this.frames.push(box);
      put(element("div", "cell muted", frame.label?.replace(` ${header.along}`, "") || (i === 0 ? "decoded" : String(frame.n_features))), i + 4, 2);
    });
    label(2, "", [[header.along]]);
    window.addEventListener("pointerup", () => { this.dragging = false; });
    this.slider = element("input", "scrub");
    Object.assign(this.slider, { type: "range", min: 0, max: n - 1, step: 1 });
    this.slider.setAttribute("aria-label", "Step of the path");
    this.slider.oninput = () => { this.stop(); this.go(Number(this.slider.value)); };
    put(element("div", "slide"), `4 / ${n + 4}`, 3).append(this.slider);
    label(4, "Cosine to target", [["planned", "dash"], ["seen in the image", "dash two"]]);
    this.drawn = put(this.curve(), `4 / ${n + 4}`, 4);
    header.frames.forEach((frame, i) => {
      const box = put(element("div", "cell numbers"), i + 4, 5);
      box.append(element("div", "", number(frame.cosine)), element("div", "muted", number(frame.cosine_reencoded)));
    });
    if (header.waits || header.frames.some((f) => f.nearest)) {
      label(6, "Nearest real cell", [["and its treatment"]]);
      this.nears = header.frames.map((_, i) => put(element("div", "cell near"), i + 4, 6));
      this.neighbours();
    }
    this.big = [];
  }

  // a picture in words
  spoken(index) {
    const { header, n } = this;
    if (index === 0) return `${header.control.title}: ${header.control.text}`;
    if (index === n + 1) return `${header.target.title}: ${header.target.text}`;
    return `Decoded step ${index - 1} of ${n - 1}`;
  }

  curve() {
    const ns = "http://www.w3.org/2000/svg", { header, n } = this;
    const svg = document.createElementNS(ns, "svg");
    svg.setAttribute("class", "curve"); svg.setAttribute("viewBox", `0 0 ${n * 100} 74`); svg.setAttribute("preserveAspectRatio", "none");
    const values = header.frames.flatMap((f) => [f.cosine, f.cosine_reencoded]).filter((v) => v !== null && v !== undefined);
    const low = Math.min(0, ...values), y = (v) => 66 - (58 * (v - low)) / (1 - low || 1), x = (i) => i * 100 + 50;
    const add = (tag, attributes) => {
      const node = document.createElementNS(ns, tag);
      for (const [k, v] of Object.entries(attributes)) node.setAttribute(k, v);
      node.setAttribute("vector-effect", "non-scaling-stroke");
      svg.append(node); return node;
    };
    header.frames.forEach((f, i) => { if (f.off) add("rect", { class: "hatch", x: i * 100, y: 2, width: 100, height: 70 }); });
    for (const v of [0, 1]) add("line", { class: "grid", x1: 0, x2: n * 100, y1: y(v), y2: y(v) });
    for (const [key, className] of [["cosine_reencoded", "again"], ["cosine", "latent"]]) {
      const points = header.frames.map((f, i) => [x(i), f[key]]).filter(([, v]) => v !== null && v !== undefined);
      if (points.length) add("polyline", { class: className, points: points.map(([px, v]) => `${px},${y(v)}`).join(" ") });
    }
    this.cursor = add("line", { class: "cursor", y1: 0, y2: 74 });
    svg.setAttribute("role", "img");
    svg.setAttribute("aria-label", "Cosine similarity to the target along the path");
    return svg;
  }

  stage() {
    const { header, n } = this, c = header.channels.length;
    const split = VIEW.split && !header.compact;
    const want = split ? `split${c}` : "ends";
    if (this.staged === want && this.stagedFor === header.id) return;
    this.staged = want; this.stagedFor = header.id;
    const stage = this.$(".stage");
    stage.replaceChildren(); this.big = [];
    stage.classList.toggle("split", split);
    stage.style.setProperty("--panels", c + 1);
    const figure = (image, only, title, text, className = "") => {
      const box = element("figure", className), wrap = element("div", "picture"), canvas = element("canvas");
      canvas.dataset.role = className || "end-large";
      canvas.setAttribute("role", "img");
      canvas.setAttribute("aria-label", `${image === "now" ? "The present step" : this.spoken(image)}${only === null ? "" : `, ${title} alone`}`);
      wrap.append(canvas);
      const bar = scaleBar(header), line = element("div", "bar");
      line.style.width = `${bar.part * 100}%`; line.append(element("span", "", bar.label));
      wrap.append(line);
      const caption = element("figcaption");
      caption.append(element("b", "", title), element("span", "muted", text));
      box.append(wrap, caption); stage.append(box);
      this.big.push({ canvas, image, only, caption, wrap });
      return wrap;
    };
    if (split) {
      // control, decoded and target under each other, all channels together and then each alone, at the same contrast
      for (const [image, title] of [[0, header.control.title], ["now", "Decoded"], [n + 1, header.target.title]]) {
        figure(image, null, title, "", image === "now" ? "now" : "");
        header.channels.forEach((name, k) => figure(image, k, name, "", image === "now" ? "now" : ""));
      }
    } else {
      if (!header.compact) figure(0, null, header.control.title, header.control.text);
      const wrap = figure("now", null, "", "", "now");
      this.legend = element("div", "legend"); wrap.append(this.legend);
      figure(n + 1, null, header.target.title, header.target.text);
    }
  }

  show() {
    if (!this.header) return;
    const { header, at, near } = this, frame = header.frames[at], lut = lookup(header.top), nearLut = lookup(near.top);
    this.stage();
    for (const { canvas, image, only, caption } of this.big) {
      paint(canvas, header, image === "now" ? at + 1 : image, lut, only);
      if (image === "now" && only === null) {
        this.caption(caption, frame);
      }
    }
    if (this.legend) {
      this.legend.replaceChildren(...header.channels.map((name, k) => {
        const word = element("span", "", name);
        word.style.color = css(k, 0.38); word.style.opacity = VIEW.on[k] ? 1 : 0.3;
        return word;
      }));
    }
    this.where();
    for (const [canvas, index, isNear] of this.thumbs) paint(canvas, isNear ? near : header, index, isNear ? nearLut : lut);
    if (!header.compact) syncControls(this.$(".controls"));
  }

  caption(box, frame) {
    const { at, n, header } = this;
    box.firstChild.textContent = frame.label ? `Decoded, ${frame.label}` : at === 0 ? "Decoded start" : at === n - 1 ? "Decoded end" : `Step ${at} of ${n - 1}`;
    const cosines = `cosine ${number(frame.cosine)} planned, ${number(frame.cosine_reencoded)} seen in the image`;
    box.lastChild.textContent = frame.label ? cosines : `${frame.n_features} of ${header.n_features} features changed · ${cosines}`;
  }

  where() {
    const { header, n, at } = this, frame = header.frames[at];
    this.slider.value = at;
    this.frames.forEach((box, i) => box.classList.toggle("now", i === at));
    this.cursor.setAttribute("x1", at * 100 + 50); this.cursor.setAttribute("x2", at * 100 + 50);
    this.$(".where").textContent = `step ${at} / ${n - 1}`;
    const verdict = this.$(".verdict");
    const doubts = [frame.off ? frame.why ?? "unlike any real cell" : "", frame.odd ? `the picture could be no cell: ${frame.odd}` : ""].filter(Boolean);
    verdict.className = `verdict ${doubts.length ? "off" : "muted"}`;
    verdict.textContent = doubts.join("; ") || (frame.nearest ? `nearest real cell: ${frame.nearest.treatment}` : "");
    this.$(".play").textContent = this.timer ? "❚❚" : "▶";
    this.$(".play").setAttribute("aria-label", this.timer ? "Pause" : "Play");
    this.root.dataset.frame = at;
    const said = frame.label || `${frame.n_features} of ${header.n_features} features`;
    this.slider.setAttribute("aria-valuetext", `step ${at} of ${n - 1}, ${said}, cosine ${number(frame.cosine)}`);
    const film = this.$(".scroller"), box = this.frames[at];  // the strip follows the step
    const left = box.offsetLeft - film.offsetLeft, right = left + box.offsetWidth;
    if (left < film.scrollLeft) film.scrollLeft = left - 8;
    else if (right > film.scrollLeft + film.clientWidth) film.scrollLeft = right - film.clientWidth + 8;
  }

  // a step repaints the large picture alone; the thumbnails do not change
  go(i, lead = true) {
    this.at = Math.min(this.n - 1, Math.max(0, i));
    const { header, at } = this, frame = header.frames[at], lut = lookup(header.top);
    for (const { canvas, image, only, caption } of this.big) {
      if (image !== "now") continue;
      paint(canvas, header, at + 1, lut, only);
      if (only === null) {
        this.caption(caption, frame);
      }
    }
    this.where();
    if (header.kept && lead) { VIEW.step = this.at; VIEW.write(); window.dispatchEvent(new CustomEvent("cytovae-step")); }
  }

  key(event) {
    if (typing(event) || !this.header || !this.root.isConnected) return;
    if (!window.cytovaeActive?.root.isConnected) window.cytovaeActive = this;  // the one that had the keys is gone
    if (window.cytovaeActive !== this) return;
    const inside = event.composedPath().includes(this.root) || this.root.matches(":hover");
    const step = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
    if (step) { this.stop(); this.go(this.at + step); event.preventDefault(); }
    else if (event.key === "Home" && inside) { this.go(0); event.preventDefault(); }
    else if (event.key === "End" && inside) { this.go(this.n - 1); event.preventDefault(); }
    else if (event.key === " " && !event.composedPath()[0]?.matches?.("button, a, summary, [role=tab], [role=button]")) { this.toggle(); event.preventDefault(); }
  }

  toggle() { if (this.timer) { this.stop(); } else { this.play(); } this.where(); }
  stop() { clearTimeout(this.timer); this.timer = null; if (this.header) this.$(".play").textContent = "▶"; }
  play() {
    if (this.at === this.n - 1) this.at = -1;
    const tick = () => {
      const last = this.at + 1 >= this.n - 1;
      this.go(this.at + 1 >= this.n ? 0 : this.at + 1);
      this.timer = setTimeout(tick, last ? 1100 : Math.max(90, 1800 / this.n));
      if (!this.root.isConnected) this.stop();
    };
    this.timer = setTimeout(tick, 10);
  }
}

function number(value) { return value === null || value === undefined ? "–" : Number(value).toFixed(2).replace(/^-(?=0\.00$)/, ""); }

export default function (component) {
  const root = component.parentElement.querySelector(".player");
  if (!players.has(root)) players.set(root, new Player(root));
  const player = players.get(root);
  if (component.data) player.load(component.data);
  return () => { player.remove(); players.delete(root); };
}
