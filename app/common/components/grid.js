// A table of squares that can be clicked: a plate of wells, a matrix of mechanisms.
const grids = new WeakMap();

// Dark or light letters, whichever stand out more on a colour.
function inkOn(hex) {
  const [r, g, b] = [1, 3, 5].map((i) => { const v = parseInt(hex.slice(i, i + 2), 16) / 255; return v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4; });
  return 0.2126 * r + 0.7152 * g + 0.0722 * b > 0.18 ? "#101418" : "#ffffff";
}

class Grid {
  constructor(root) { this.root = root; this.table = root.querySelector("table"); }

  load(header, pick) {
    this.pick = pick;
    if (this.header?.id === header.id) return;
    const held = this.root.getRootNode().activeElement?.dataset?.id;
    this.header = header;
    this.root.setAttribute("aria-label", header.name);
    for (const [name, value] of [["--tall", `${header.tall_px}px`], ["--most", header.most_px ? `${header.most_px}px` : "none"], ["--label", header.label_width]]) this.root.style.setProperty(name, value);
    this.table.className = header.tall_heads ? "tall" : "";
    this.table.setAttribute("aria-label", header.name);
    const head = element("thead"), line = element("tr"), corner = element("th", "corner", header.corner);
    line.append(corner);
    header.columns.forEach((name) => { const th = element("th"); th.scope = "col"; th.append(element("span", "", name)); th.title = name; line.append(th); });
    head.append(line);
    const places = new Map(header.squares.map((s) => [`${s.row},${s.column}`, s])), body = element("tbody");
    header.rows.forEach((name, r) => {
      const tr = element("tr"), th = element("th", "", name); th.scope = "row"; tr.append(th);
      header.columns.forEach((_, c) => tr.append(this.square(places.get(`${r},${c}`), header.marked.some(([a, b]) => a === r && b === c))));
      body.append(tr);
    });
    this.table.replaceChildren(head, body);
    this.keys(header);
    if (held) this.table.querySelector(`button[data-id="${CSS.escape(held)}"]`)?.focus();
    this.root.dataset.ready = header.id;
  }

  square(square, marked) {
    const td = element("td", marked ? "mark" : "");
    if (!square) return td;
    const button = element("button", "", square.text); button.type = "button";
    button.dataset.id = square.id; button.title = square.hover;
    button.style.setProperty("--colour", square.colour); button.style.setProperty("--ink", inkOn(square.colour));
    button.setAttribute("aria-label", square.hover.replaceAll("\n", ", "));
    button.setAttribute("aria-pressed", square.chosen);
    button.onclick = (event) => this.pick({ id: square.id, more: event.shiftKey || event.ctrlKey || event.metaKey });
    td.append(button);
    return td;
  }

  keys(header) {
    const box = this.root.querySelector(".keys");
    box.replaceChildren();
    if (header.ramp) {
      const bar = element("div", "ramp"); bar.style.background = `linear-gradient(90deg, ${header.ramp.colours.join(",")})`;
      box.append(element("span", "", `${header.ramp.name}: ${header.ramp.low}`), bar, element("span", "", header.ramp.high));
    }
    for (const key of header.keys) {
      const span = element("span"), mark = element("i"); mark.style.background = key.colour;
      span.append(mark, element("span", "", key.name)); box.append(span);
    }
  }
}

export default function (component) {
  const root = component.parentElement.querySelector(".grid");
  if (!grids.has(root)) grids.set(root, new Grid(root));
  if (component.data) grids.get(root).load(component.data, (what) => component.setTriggerValue("picked", what));
  return () => grids.delete(root);
}
