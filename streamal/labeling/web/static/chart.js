// Three small charts as SVG. Every text is a text node.
"use strict";
const chart = (() => {
  const WIDE = 640, HALF = 420, H = 240, LEFT = 44, RIGHT = 10, TOP = 10, BOTTOM = 26;
  function node(name, attributes, text) {
    const made = document.createElementNS("http://www.w3.org/2000/svg", name);
    for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
    if (text !== undefined) made.textContent = text;
    return made;
  }
  function frame(label, W, height = H) {
    return node("svg", { viewBox: `0 0 ${W} ${height}`, role: "img", "aria-label": label });
  }
  const short = (n) => (n >= 1e6 ? `${+(n / 1e6).toFixed(1)}M` : n >= 1e4 ? `${+(n / 1e3).toFixed(0)}k` : String(+n.toFixed(2)));
  // points: [{x, value, low, high, naive}], y in [0, 1]; marks: [x]
  function curve(points, marks, label) {
    const W = WIDE, svg = frame(label, W);
    if (points.length < 2) { svg.append(node("text", { x: LEFT, y: H / 2 }, "Not enough labels yet.")); return svg; }
    const xs = points.map((p) => p.x), x0 = xs[0], x1 = xs[xs.length - 1];
    const ys = points.flatMap((p) => [p.low, p.high, p.naive ?? p.value]);
    const y0 = Math.max(0, Math.floor(10 * Math.min(...ys)) / 10), y1 = Math.min(1, Math.ceil(10 * Math.max(...ys)) / 10) || 1;
    const x = (v) => LEFT + ((W - LEFT - RIGHT) * (v - x0)) / (x1 - x0 || 1);
    const y = (v) => H - BOTTOM - ((H - TOP - BOTTOM) * (v - y0)) / (y1 - y0 || 1);
    for (let i = 0; i <= 4; i++) {
      const v = y0 + ((y1 - y0) * i) / 4;
      svg.append(node("line", { class: "grid", x1: LEFT, x2: W - RIGHT, y1: y(v), y2: y(v) }));
      svg.append(node("text", { x: LEFT - 6, y: y(v) + 4, "text-anchor": "end" }, `${(100 * v).toFixed(0)} %`));
      const at = x0 + ((x1 - x0) * i) / 4;
      svg.append(node("text", { x: x(at), y: H - 8, "text-anchor": i === 0 ? "start" : i === 4 ? "end" : "middle" }, i === 4 ? `${short(at)} labels` : short(Math.round(at))));
    }
    const path = (get) => points.filter((p) => get(p) !== null).map((p, i) => `${i ? "L" : "M"}${x(p.x).toFixed(1)} ${y(get(p)).toFixed(1)}`).join("");
    const back = [...points].reverse().map((p) => `L${x(p.x).toFixed(1)} ${y(p.low).toFixed(1)}`).join("");
    svg.append(node("path", { class: "band", d: `${path((p) => p.high)}${back}Z` }));
    for (const mark of marks) if (mark >= x0) svg.append(node("line", { class: "mark", x1: x(mark), x2: x(mark), y1: TOP, y2: H - BOTTOM }));
    svg.append(node("path", { class: "naive", d: path((p) => p.naive) }), node("path", { class: "line", d: path((p) => p.value) }));
    return svg;
  }
  // rows: [{name, part (0..1), limit (0..1 or null), text}]
  function bars(rows, label) {
    const W = HALF, svg = frame(label, W, Math.max(30, rows.length * 34 + 6)), left = 110, right = 110;
    rows.forEach((row, i) => {
      const top = 8 + 34 * i, width = W - left - right;
      const name = row.name.length > 16 ? `${row.name.slice(0, 15)}…` : row.name;
      svg.append(node("text", { x: left - 8, y: top + 15, "text-anchor": "end" }, name));
      svg.append(node("rect", { class: "rest", x: left, y: top, width, height: 22, rx: 3 }));
      svg.append(node("rect", { class: "bar", x: left, y: top, width: width * Math.min(1, Math.max(0, row.part)), height: 22, rx: 3 }));
      if (row.limit !== null && row.limit !== undefined) {
        const at = left + width * Math.min(1, row.limit);
        svg.append(node("line", { class: "limit", x1: at, x2: at, y1: top - 3, y2: top + 25 }));
      }
      svg.append(node("text", { x: W - right + 8, y: top + 15 }, row.text));
    });
    if (!rows.length) svg.append(node("text", { x: 8, y: 20 }, "Nothing yet."));
    return svg;
  }
  function columns(names, counts, label) {
    const W = HALF, LEFT = 4, RIGHT = 4, svg = frame(label, W), most = Math.max(1, ...counts), width = (W - LEFT - RIGHT) / counts.length;
    counts.forEach((count, i) => {
      const height = ((H - TOP - BOTTOM - 14) * count) / most, at = LEFT + i * width;
      svg.append(node("rect", { class: "bar", x: at + 2, y: H - BOTTOM - height, width: width - 4, height, rx: 2 }));
      if (count) svg.append(node("text", { x: at + width / 2, y: H - BOTTOM - height - 4, "text-anchor": "middle" }, short(count)));
      svg.append(node("text", { x: at + width / 2, y: H - 8, "text-anchor": "middle" }, names[i]));
    });
    return svg;
  }
  return { curve, bars, columns };
})();
