const galleries = new WeakMap();

class Gallery {
  constructor(root) {
    this.root = root;
    this.paintings = [];
    this.repaint = () => this.show();
    this.count = () => this.header?.channels.length ?? 0;
    window.addEventListener("cytovae-view", this.repaint);
    window.cytovaePictures.add(this.count);
  }

  remove() {
    window.removeEventListener("cytovae-view", this.repaint);
    window.cytovaePictures.delete(this.count);
  }

  load(data, pick) {
    this.pick = pick;
    const header = unpack(data);
    if (this.header?.id === header.id) return;
    this.header = header;
    const rows = this.root.querySelector(".rows"), box = this.root.querySelector(".controls");
    rows.replaceChildren();
    this.paintings = [];
    const columns = header.columns;
    rows.classList.toggle("fixed", Boolean(columns));
    rows.classList.toggle("grouped", !columns && header.rows.some((r) => r.label));
    rows.style.setProperty("--size", `${header.size_px}px`);
    rows.style.setProperty("--most", `${header.most_px ?? header.size_px * 1.6}px`);
    rows.style.setProperty("--grow", header.most_px ? `${header.most_px}px` : "1fr");
    rows.style.setProperty("--columns", columns ?? 1);
    rows.style.setProperty("--label", columns && header.rows.some((r) => r.label) ? "8.2rem" : "0px");
    const bar = scaleBar(header);
    header.rows.forEach((row, r) => {
      const line = element("div", "row");
      if (columns) {
        const label = element("div", "label");
        label.append(element("b", "", row.label ?? ""), element("span", "muted", row.text ?? ""));
        line.append(label);
      }
      row.items.forEach((item, c) => {
        const figure = element("figure", item.chosen ? "chosen" : "");
        const button = element("button", "pick"); button.type = "button";
        button.disabled = !header.pickable || !item.id;
        const spoken = [row.label, item.title, item.text, item.id || `picture ${c + 1}`].filter(Boolean).join(", ");
        button.setAttribute("aria-label", spoken);
        if (item.id) figure.dataset.cell = item.id;
        figure.title = item.hover ?? "";
        const picture = element("div", "picture"), canvas = element("canvas");
        canvas.setAttribute("role", "img"); canvas.setAttribute("aria-label", spoken);
        picture.append(canvas);
        this.paintings.push([canvas, item.image, item.only ?? null]);
        if (r === 0 && c === 0) {
          const rule = element("div", "bar"); rule.style.width = `${bar.part * 100}%`;
          rule.append(element("span", "", bar.label)); picture.append(rule);
        }
        button.append(picture);
        if (item.id) button.onclick = () => this.pick(item.id);
        const caption = element("figcaption");
        if (item.tag) caption.append(element("div", "tag", item.tag));
        if (item.title) caption.append(element("div", "", item.title));
        if (item.text) caption.append(element("div", "muted", item.text));
        figure.append(button, caption);
        line.append(figure);
      });
      if (columns || !row.label) { rows.append(line); return; }
      const group = element("div");
      group.append(element("b", "heading", row.label), line);
      rows.append(group);
    });
    if (header.controls) buildControls(box, header); else box.replaceChildren();
    this.show();
    this.root.dataset.ready = header.id;
  }

  show() {
    if (!this.header) return;
    const lut = lookup(this.header.top);
    for (const [canvas, index, only] of this.paintings) paint(canvas, this.header, index, lut, only);
    const box = this.root.querySelector(".controls");
    if (box.childElementCount) syncControls(box);
  }
}

export default function (component) {
  const root = component.parentElement.querySelector(".cells");
  if (!galleries.has(root)) galleries.set(root, new Gallery(root));
  const gallery = galleries.get(root);
  if (component.data) gallery.load(component.data, (id) => component.setTriggerValue("picked", id));
  return () => { gallery.remove(); galleries.delete(root); };
}
