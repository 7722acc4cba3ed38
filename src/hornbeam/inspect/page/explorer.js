// The page: a canvas with the picture, an outline of the same, the details of what is selected. Names reach it only as text.
"use strict";
(() => {
const $ = id => document.getElementById(id), data = JSON.parse($("data").textContent), canvas = $("picture"), ctx = canvas.getContext("2d");
const FONT = getComputedStyle(document.body).fontFamily, BOLD = `600 12px ${FONT}`;
const PLAIN = `10px ${FONT}`, CAPTION = `600 10.5px ${FONT}`, CHIP = `9px ${FONT}`;
const LEAST = .0005, WEIGHTS = 0, units = data.metrics.map(m => m[1]);
function el(tag, attributes = {}, ...kids) {
  const made = document.createElement(tag);
  for (const [k, v] of Object.entries(attributes)) k.startsWith("on") ? made.addEventListener(k.slice(2), v) : made.setAttribute(k, v);
  made.append(...kids);
  return made;
}
function number(n, metric) {
  if (units[metric] === "B") {
    let u = 0;
    while (n >= 999.5 && u < 4) { n /= 1024; u++; }
    return `${u ? n.toPrecision(3) : n} ${["B", "KB", "MB", "GB", "TB"][u]}`;
  }
  for (const [unit, size] of [["T", 1e12], ["G", 1e9], ["M", 1e6], ["k", 1e3]]) if (n >= .9995 * size) return `${+(n / size).toPrecision(3)} ${unit}`;
  return String(n);
}
const percent = share => share >= .9995 ? "100 %" : share >= .1 ? `${(100 * share).toFixed(1)} %` : share >= 1e-4 ? `${+(100 * share).toPrecision(2)} %` : "< 0.01 %";
const amount = (n, metric) => number(n, metric) + (units[metric] === "B" ? "" : " " + data.metrics[metric][0]);
const widthOf = (text, font) => { ctx.font = font; return ctx.measureText(text).width; };
const second = (i, metric) => {                                // the second line of a box
  const cost = i.cost[metric] ? [amount(i.cost[metric], metric)] : [];
  return (i.kids ? [`${i.count} ${i.count === 1 ? "call" : "calls"}`, ...cost] : told(i) && cost.length ? cost : [i.kind, ...cost]).join(" · ");
};
let told = () => false;
const model = explorerModel(data, i => Math.max(widthOf(i.name, BOLD) + (i.kids ? 44 : 26), i.kids ? 0 : widthOf(second(i, WEIGHTS), PLAIN) + 24));
told = model.told;
const {root, leaves, all, path, isOpen} = model;
const kindOf = i => i.kids ? [i.kind, `${i.count} calls`].filter(Boolean).join(" · ") : i.kind;
const shown = i => { for (let p = i.parent; p; p = p.parent) if (!p.open) return false; return true; };
const visible = i => { while (!shown(i)) i = i.parent; return i; };

// ---------------------------------------------------------------- state and colours
let boxes = [], lines = [], view = {x: 0, y: 0, k: 1}, selected = null, hits = new Set(), colour = -1, largest = 1;
let dark = false, asked = false, ink = {};
const stats = {};
const part = (colour, at) => parseInt(colour.slice(at, at + 2), 16);
const mix = (a, b, t) => "#" + [1, 3, 5].map(i => Math.round(part(a, i) * (1 - t) + part(b, i) * t).toString(16).padStart(2, "0")).join("");
const INKS = ["paper", "ink", "quiet", "edge", "border", "shade1", "shade2", "shade3", "shade4", "hot", "shared", "cold", "warm", "glow"];
function theme(wanted) {
  dark = wanted;
  document.documentElement.dataset.theme = dark ? "dark" : "light";
  const style = getComputedStyle(document.documentElement);
  for (const name of INKS) ink[name] = style.getPropertyValue("--" + name).trim();
  legend(); ask();
}
function familyPaint([, fill, stroke, text]) {
  return dark ? [mix(ink.paper, stroke, .26), mix(ink.paper, stroke, .85), mix(stroke, "#ffffff", .55)] : [fill, stroke, text];
}
const GROUP = data.families.find(f => f[0] === "merge");
function paint(i) {                                            // fill, stroke, second ink
  if (colour < 0) return familyPaint(i.kids ? GROUP : data.families[i.family]);
  const t = Math.sqrt(i.cost[colour] / largest);
  return [mix(ink.cold, ink.warm, t), t > .05 ? ink.glow : ink.border, t > .05 ? mix(ink.quiet, ink.ink, .7) : ink.quiet];
}

// ---------------------------------------------------------------- drawing
const cuts = new Map();
function fit(text, font, room) {
  const key = font + room + text;
  if (!cuts.has(key)) {
    let n = text.length, cut = text;
    if (widthOf(cut, font) > room) { while (n > 2 && widthOf(text.slice(0, n) + "…", font) > room) n--; cut = text.slice(0, n) + "…"; }
    cuts.set(key, cut);
  }
  return cuts.get(key);
}
const ask = () => { if (!asked) { asked = true; requestAnimationFrame(draw); } };
function draw() {
  asked = false;
  const start = performance.now(), r = devicePixelRatio || 1, cw = canvas.clientWidth, ch = canvas.clientHeight, {x, y, k} = view;
  for (const [side, size] of [["width", Math.round(cw * r)], ["height", Math.round(ch * r)]]) if (canvas[side] !== size) canvas[side] = size;
  ctx.setTransform(r, 0, 0, r, 0, 0);
  ctx.fillStyle = ink.paper; ctx.fillRect(0, 0, cw, ch);
  ctx.setTransform(r * k, 0, 0, r * k, -x * r * k, -y * r * k);
  const X = x + cw / k, Y = y + ch / k, seen = boxes.filter(b => b !== root && b.x < X && b.x + b.w > x && b.y < Y && b.y + b.h > y);
  const open = seen.filter(isOpen), closed = seen.filter(i => !isOpen(i));
  for (const i of open) panel(i, k);
  drawLines(x, y, X, Y, k);
  for (const i of open) if (k * 10.5 > 4) caption(i);
  for (const i of closed) box(i, k);
  stats.draw = performance.now() - start; stats.drawn = closed.length;
}
function rounded(x, y, w, h, radius, k) { ctx.beginPath(); if (k * h > 4) ctx.roundRect(x, y, w, h, radius); else ctx.rect(x, y, w, h); }
const frame = (i, stroke) => i === selected ? [ink.hot, 2.4] : hits.has(i) ? [ink.hot, 1.8] : [stroke, 1.1];
function panel(i, k) {                                         // an open group
  rounded(i.x, i.y, i.w, i.h, 9, k);
  ctx.fillStyle = ink["shade" + Math.min(4, i.depth)]; ctx.fill();
  [ctx.strokeStyle, ctx.lineWidth] = frame(i, ink.border); ctx.stroke();
}
function triangle(...points) { ctx.beginPath(); for (const p of points) ctx.lineTo(...p); ctx.fill(); }
function arrow(x, y, open) {
  if (open) triangle([x, y - 2.5], [x + 7, y - 2.5], [x + 3.5, y + 2]);
  else triangle([x, y - 4], [x + 4.5, y], [x, y + 4]);
}
function caption(i) {
  const kind = i.kind && !["Functional", "Sequential", i.name].includes(i.kind) ? "  " + i.kind : "";
  const name = fit(i.name, CAPTION, i.w - 40), w = widthOf(name, CAPTION), room = i.w - w - 40;
  ctx.fillStyle = ink["shade" + Math.min(4, i.depth)]; ctx.fillRect(i.x + 8, i.y + 4, w + 20, 16);
  ctx.fillStyle = i === selected || hits.has(i) ? ink.hot : ink.quiet; ctx.textAlign = "left"; ctx.font = CAPTION;
  arrow(i.x + 11, i.y + 12.5, true); ctx.fillText(name, i.x + 22, i.y + 16);
  if (!kind || room < 40) return;
  const text = fit(kind, PLAIN, room);
  ctx.font = PLAIN; ctx.globalAlpha = .75; ctx.fillText(text, i.x + 22 + w, i.y + 16); ctx.globalAlpha = 1;
}
function drawLines(x, y, X, Y, k) {
  const source = selected && !selected.kids ? selected.id : null;
  ctx.lineWidth = Math.max(1.3, .6 / k);
  for (const hot of [false, true]) {
    ctx.strokeStyle = ctx.fillStyle = hot ? ink.hot : ink.edge;
    for (const l of lines) {
      const touched = selected !== null && (l.from === selected || l.to === selected || (source !== null && l.s === source));
      if (touched !== hot || l.x0 > X || l.x1 < x || l.y0 > Y || l.y1 < y || (!hot && (l.y1 - l.y0) * k < 1.5)) continue;
      ctx.stroke(l.path);
      if (l.head && k > .22) triangle([l.x, l.y], [l.x - 3.4, l.y - 7], [l.x + 3.4, l.y - 7]);
    }
  }
}
function box(i, k) {
  const [fill, stroke, quiet] = paint(i), small = k * i.h < 6, metric = Math.max(WEIGHTS, colour), middle = i.x + i.w / 2;
  ctx.fillStyle = fill; ctx.strokeStyle = ink.border; ctx.lineWidth = 1;
  if (i.kids && !small) for (const d of [6, 3]) { rounded(i.x + d, i.y + d, i.w, i.h, 7, k); ctx.fill(); ctx.stroke(); }
  rounded(i.x, i.y, i.w, i.h, 7, k);
  ctx.fillStyle = small ? stroke : fill; ctx.fill();
  [ctx.strokeStyle, ctx.lineWidth] = frame(i, stroke);
  if (i === selected) ctx.lineWidth = Math.max(ctx.lineWidth, 2 / k);
  if (!small || i === selected || hits.has(i)) ctx.stroke();
  if (k < .33) return;
  ctx.textAlign = "center"; ctx.fillStyle = ink.ink;
  const name = fit(i.name, BOLD, i.w - (i.kids ? 40 : 18)), top = i.lines > 1 ? i.y + 18 : i.y + i.h / 2 + 4.2;
  ctx.font = BOLD; ctx.fillText(name, middle + (i.kids ? 5 : 0), top);
  if (i.kids) { ctx.fillStyle = quiet; arrow(middle - ctx.measureText(name).width / 2 - 7, top - 4, false); }
  if (i.lines > 1) {
    const text = fit(second(i, metric), PLAIN, i.w - 12);
    ctx.font = PLAIN; ctx.fillStyle = quiet; ctx.fillText(text, middle, i.y + 32);
  }
  if (colour >= 0 && i.cost[colour] > largest / 100) {
    rounded(i.x + 8, i.y + i.h - 5, Math.max(2, (i.w - 16) * i.cost[colour] / largest), 2.4, 1.2, k);
    ctx.fillStyle = ink.glow; ctx.fill();
  }
  if (colour < 0 && i.changed && i.chip && k > .45) pill(i, stroke, k);
  if (i.shared >= 0) badge(i);
}
function pill(i, stroke, k) {
  const text = fit(i.chip, CHIP, i.w - 40), w = widthOf(text, CHIP) + 14, x = i.x + (i.w - w) / 2, y = i.y + i.h - 4;
  rounded(x, y, w, 14, 7, k); ctx.fillStyle = ink.paper; ctx.fill(); ctx.strokeStyle = stroke; ctx.lineWidth = .9; ctx.stroke();
  ctx.fillStyle = ink.quiet; ctx.fillText(text, i.x + i.w / 2, y + 10.2);
}
function badge(i) {                                            // calls of one layer carry its number
  ctx.beginPath(); ctx.arc(i.x + i.w - 3, i.y + 2, 8.5, 0, 7); ctx.fillStyle = ink.shared; ctx.fill();
  ctx.fillStyle = ink.paper; ctx.font = `600 10px ${FONT}`; ctx.fillText(i.shared + 1, i.x + i.w - 3, i.y + 5.6);
}

// ---------------------------------------------------------------- view
function layout(anchor) {                                      // what was clicked stays where it is on the screen
  const start = performance.now(), old = anchor && [anchor.x + anchor.w / 2, anchor.y];
  ({boxes, lines} = model.place());
  if (old) { view.x += anchor.x + anchor.w / 2 - old[0]; view.y += anchor.y - old[1]; }
  outline(); legend(); ask();
  Object.assign(stats, {layout: performance.now() - start, boxes: boxes.length, lines: lines.length, plans: model.stats.plans});
}
function fitView(whole = true) {                               // all of it, or what of it can be read, above the legend
  const cw = canvas.clientWidth, ch = canvas.clientHeight - $("legend").offsetHeight - 14, wide = (cw - 40) / root.w;
  const all = Math.min(1.3, wide, (ch - 16) / root.h), k = Math.max(LEAST, whole ? all : Math.max(all, Math.min(.85, wide)));
  view = {k, x: root.w / 2 - cw / 2 / k, y: root.h * k > ch ? 8 / k : root.h / 2 - ch / 2 / k};
  ask();
}
function centre(i) {
  const k = Math.max(view.k, .7), over = $("about").offsetParent ? $("details").offsetHeight : 0;   // a panel over the picture
  view = {k, x: i.x + i.w / 2 - canvas.clientWidth / 2 / k, y: i.y + Math.min(i.h / 2, 120 / k) - (canvas.clientHeight - over) / 2 / k};
  ask();
}
function zoom(factor, x = canvas.clientWidth / 2, y = canvas.clientHeight / 2) {
  const k = Math.min(4, Math.max(LEAST, view.k * factor));
  view = {k, x: view.x + x / view.k - x / k, y: view.y + y / view.k - y / k};
  ask();
}
function toggle(i, open = !i.open) {
  if (!i.kids || i === root || i.open === open) return;
  i.open = open; layout(i); say(`${i.name} ${open ? "expanded" : "collapsed"}`);
}
function every(open) { for (const i of all) if (i.kids && i !== root) i.open = open; layout(null); fitView(false); }
function reveal(i) {
  let closed = false;
  for (let p = i.parent; p; p = p.parent) if (!p.open) { p.open = true; closed = true; }
  if (closed) { layout(null); hits = new Set([...hits].filter(h => !isOpen(h))); }
  select(i); centre(i);
}
function select(i) {
  selected = i; details(); mark(); ask();
  if (i) say(`${i.name}, ${kindOf(i)}`);
  const address = i ? "#" + encodeURIComponent(path(i)) : location.pathname + location.search;
  try { history.replaceState(null, "", address); } catch { /* pages without an address refuse */ }
}
const say = text => { $("live").textContent = text; };
function pick(e) {
  const b = canvas.getBoundingClientRect(), x = view.x + (e.clientX - b.left) / view.k, y = view.y + (e.clientY - b.top) / view.k;
  const under = i => i !== root && x >= i.x && x <= i.x + i.w && y >= i.y && y <= i.y + (isOpen(i) ? 24 : i.h);
  return boxes.findLast(under) || null;
}

// ---------------------------------------------------------------- side panels
const link = (i, more = "") => el("button", {class: "link", onclick: () => { drawer("details"); reveal(i); }}, path(i), el("small", {}, more));
function details() {
  const to = $("details"), i = selected || root, metric = Math.max(WEIGHTS, colour), rows = el("dl");
  const row = (k, ...v) => rows.append(el("dt", {}, k), el("dd", {}, ...v));
  const links = (title, list, more = () => "") => {
    if (list.length) to.append(el("h3", {}, title), ...list.slice(0, 12).map(j => link(j, more(j))));
    if (list.length > 12) to.append(el("p", {class: "quiet"}, `and ${list.length - 12} more`));
  };
  to.replaceChildren(el("h2", {}, i.name), el("p", {class: "quiet"}, i === root ? kindOf(i) : path(i)), rows);
  if (i !== root) row("type", i.kids ? kindOf(i) : i.kind);
  if (i.shapes && i.shapes.length) row("output", ...i.shapes.map(s => el("div", {}, s)));
  if (i.ins && i.ins.length) row("input", ...[...new Set(i.ins.flatMap(j => j.shapes))].map(s => el("div", {}, s)));
  data.metrics.forEach(([name], m) => row(name, units[m] === "B" ? number(i.cost[m], m) : i.cost[m].toLocaleString("en"),
    el("small", {}, i !== root && i.cost[m] && root.cost[m] ? "  " + share(i, m) : "")));
  if (i.where) { row("made at", i.where[0]); if (i.where[1]) to.append(el("pre", {}, i.where[1])); }
  if (i.config) config(to, ...i.config);
  if (i.weights) to.append(el("h3", {}, "Weights"), el("table", {}, ...i.weights.map(([name, shape, dtype, learns]) =>
    el("tr", {}, el("td", {}, name), el("td", {}, shape), el("td", {class: "quiet"}, dtype + (learns ? "" : ", not trainable"))))));
  if (i.kids) {
    const parts = (i === root ? leaves.filter(j => metric !== WEIGHTS || j.fresh || !j.cost[metric]) : i.kids).filter(j => j.cost[metric]);
    links("Largest by " + data.metrics[metric][0], parts.sort((a, b) => b.cost[metric] - a.cost[metric]).slice(0, 8), j => " " + number(j.cost[metric], metric));
  } else {
    links("From", i.ins); links("To", i.outs);
    if (i.shared >= 0) links("Same weights at", leaves.filter(j => j !== i && j.shared === i.shared));
  }
  if (i === root) to.append(el("p", {class: "quiet"}, data.note), el("h3", {}, "Keys"), el("p", {class: "quiet"}, KEYS));
}
function share(i, m) {                                         // weights that an earlier call has are counted there
  const first = m === WEIGHTS && i.shared >= 0 ? leaves.find(j => j.shared === i.shared) : i;
  return first !== i && !i.fresh ? `counted at ${first.name}` : percent((m === WEIGHTS && !i.kids ? i.fresh : i.cost[m]) / root.cost[m]);
}
const KEYS = "Click a block to open it, a layer for its details. Drag or scroll to move, Ctrl + scroll or + − to zoom, " +
  "0 to fit, / to search, arrows and Enter to walk.";
function config(to, told, rest) {
  const pair = ([k, v]) => k ? [el("dt", {}, k), el("dd", {}, v)] : [el("dd", {class: "whole"}, v)];
  const list = pairs => el("dl", {class: "config"}, ...pairs.flatMap(pair));
  to.append(el("h3", {}, "Config"), list(told));
  if (rest.length) to.append(el("details", {}, el("summary", {}, `${rest.length} more at their defaults`), list(rest)));
}
function outline() {                                           // an ARIA tree: the way through the model without the canvas
  const rows = document.createDocumentFragment();
  (function walk(i) {
    if (i !== root) {
      const sign = el("i", {"aria-hidden": "true"}, i.kids ? (i.open ? "▾" : "▸") : "");
      const row = el("div", {role: "treeitem", id: "t" + i.id, "aria-level": i.depth, "aria-selected": i === selected}, sign, i.name);
      row.style.paddingLeft = i.depth * 13 - 9 + "px";
      if (i.kids) row.setAttribute("aria-expanded", i.open);
      rows.append(row);
    }
    if (isOpen(i)) i.kids.forEach(walk);
  })(root);
  $("outline").replaceChildren(rows);
  mark();
}
function mark() {
  for (const row of document.querySelectorAll("[role=treeitem][aria-selected=true]")) row.setAttribute("aria-selected", false);
  const row = selected && $("t" + selected.id);
  if (!row) { $("outline").removeAttribute("aria-activedescendant"); return; }
  row.setAttribute("aria-selected", true); row.scrollIntoView({block: "nearest"});
  $("outline").setAttribute("aria-activedescendant", row.id);
}
const words = new Map();
let found = [], at = -1;
function search(text) {
  const list = $("results"), wanted = text.toLowerCase().split(/\s+/).filter(Boolean);
  const says = i => { if (!words.has(i)) words.set(i, `${path(i)} ${i.kind || ""} ${i.chip || ""}`.toLowerCase()); return words.get(i); };
  found = wanted.length ? all.filter(i => i !== root && wanted.every(w => says(i).includes(w))) : [];
  found = [...found.filter(i => !i.kids), ...found.filter(i => i.kids)]; at = -1;
  hits = new Set(found.map(visible)); list.hidden = !wanted.length;
  list.replaceChildren(el("p", {class: "quiet", role: "status"}, `${found.length} found`), ...found.slice(0, 100).map(i => link(i, " " + kindOf(i))));
  ask();
  return found;
}
function legend() {
  if (colour >= 0) largest = boxes.reduce((m, i) => isOpen(i) ? m : Math.max(m, i.cost[colour]), 1);
  const to = $("legend");
  if (colour < 0) {
    const used = [...new Set(leaves.map(l => l.family))].sort((a, b) => a - b).map(f => data.families[f]);
    to.replaceChildren(...used.map(f => {
      const dot = el("i"), [fill, stroke] = familyPaint(f);
      dot.style.background = fill; dot.style.borderColor = stroke;
      return el("span", {}, dot, f[0]);
    }));
    return;
  }
  to.replaceChildren(el("span", {}, "0"), el("b", {class: "ramp"}), el("span", {}, `${amount(largest, colour)}, the most of a box that is shown`));
}

// ---------------------------------------------------------------- hands
const fingers = new Map();
let moved = false, quiet = 0;
canvas.addEventListener("pointerdown", e => {
  fingers.set(e.pointerId, [e.clientX, e.clientY]); moved = moved && fingers.size > 1; canvas.setPointerCapture(e.pointerId);
});
canvas.addEventListener("pointermove", e => {
  const before = fingers.get(e.pointerId);
  if (!before) { canvas.style.cursor = pick(e) ? "pointer" : "grab"; return; }
  const dx = e.clientX - before[0], dy = e.clientY - before[1];
  if (!moved && Math.hypot(dx, dy) < 4) return;
  const other = [...fingers].find(([id]) => id !== e.pointerId), b = canvas.getBoundingClientRect();
  if (other) {
    const [x, y] = other[1], apart = (u, v) => Math.hypot(u - x, v - y);
    zoom(apart(e.clientX, e.clientY) / (apart(...before) || 1), x - b.left, y - b.top);
  } else { view.x -= dx / view.k; view.y -= dy / view.k; ask(); }
  moved = true; fingers.set(e.pointerId, [e.clientX, e.clientY]);
});
canvas.addEventListener("pointercancel", e => fingers.delete(e.pointerId));
canvas.addEventListener("pointerup", e => {
  if (fingers.delete(e.pointerId) && !moved && performance.now() > quiet) {
    const i = pick(e), again = i === selected;
    select(i);
    drawer(i && !i.kids ? "details" : "");
    if (i && i.kids && (!i.open || again)) { toggle(i); quiet = performance.now() + 350; }   // the second click of a double click is none
  }
  moved = fingers.size > 0;
});
canvas.addEventListener("wheel", e => {
  e.preventDefault();
  const b = canvas.getBoundingClientRect(), unit = e.deltaMode ? 30 : 1;
  if (e.ctrlKey || e.metaKey) zoom(Math.exp(-e.deltaY * unit * .004), e.clientX - b.left, e.clientY - b.top);
  else {
    const [dx, dy] = e.shiftKey && !e.deltaX ? [e.deltaY, 0] : [e.deltaX, e.deltaY];
    view.x += dx * unit / view.k; view.y += dy * unit / view.k; ask();
  }
}, {passive: false});
$("outline").addEventListener("click", e => {
  const row = e.target.closest("[role=treeitem]");
  if (!row) return;
  const i = all[+row.id.slice(1)];
  if (i.kids && (e.target.tagName === "I" || i === selected || !i.open)) toggle(i);
  select(i); centre(i);
});

// ---------------------------------------------------------------- keys
function step(key) {
  const i = selected, order = [];
  if (!i) { select(root.kids[0]); return; }
  if (key === "ArrowRight") { if (i.kids && !i.open) toggle(i); else if (i.kids) select(i.kids[0]); }
  else if (key === "ArrowLeft") { if (isOpen(i)) toggle(i); else if (i.parent !== root) select(i.parent); }
  else {
    (function walk(j) { order.push(j); if (isOpen(j)) j.kids.forEach(walk); })(root);
    const to = order[order.indexOf(i) + (key === "ArrowDown" ? 1 : -1)];
    if (to && to !== root) select(to);
  }
  const s = selected, X = view.x + canvas.clientWidth / view.k, Y = view.y + canvas.clientHeight / view.k;
  if (s.x < view.x || s.x + s.w > X || s.y < view.y || s.y + 40 > Y) centre(s);
}
for (const target of [canvas, $("outline")]) target.addEventListener("keydown", e => {
  if (e.key.startsWith("Arrow")) step(e.key);
  else if ((e.key === "Enter" || e.key === " ") && selected) toggle(selected);
  else return;
  e.preventDefault();
});
$("search").addEventListener("input", e => search(e.target.value));
$("search").addEventListener("keydown", e => {
  if (e.key === "Escape") { e.target.value = ""; search(""); canvas.focus(); }
  else if (e.key === "Enter" && found.length) { at = (at + (e.shiftKey ? found.length - 1 : 1)) % found.length; reveal(found[at]); }
});
document.addEventListener("keydown", e => {
  if (e.ctrlKey || e.metaKey || e.altKey || e.target.matches("input, select")) return;
  const near = () => zoom(1.25), far = () => zoom(.8);
  const act = {"/": () => { drawer("outline"); $("search").focus(); }, 0: () => fitView(), "+": near, "=": near, "-": far,
    Escape: () => { drawer(""); select(null); }}[e.key];
  if (act) { act(); e.preventDefault(); }
});
$("colour").append(el("option", {value: -1}, "layer family"), ...data.metrics.map(([name], n) => el("option", {value: n}, name)));
$("colour").addEventListener("change", e => { colour = +e.target.value; details(); legend(); ask(); });
function drawer(name) {                                        // of a narrow window, where panels lie over the picture
  document.body.dataset.panel = name;
  for (const [id, opens] of [["menu", "outline"], ["about", "details"]]) $(id).setAttribute("aria-expanded", name === opens);
}
const other = name => document.body.dataset.panel === name ? "" : name;
const buttons = {menu: () => drawer(other("outline")), about: () => drawer(other("details")), open: () => every(true), close: () => every(false), theme: () => theme(!dark), fit: () => fitView(), closer: () => zoom(1.25), farther: () => zoom(.8)};
for (const [id, act] of Object.entries(buttons)) $(id).addEventListener("click", act);

// ---------------------------------------------------------------- start: open what fits
const alike = i => i.kids ? `(${i.kids.map(alike)})` : i.kind;   // of equal groups that do not fit, the first is opened
for (let room = 40, level = [root]; level.length;) {
  const next = level.flatMap(i => i.kids.filter(k => k.kids)), size = list => list.reduce((n, g) => n + g.kids.length, 0);
  const first = [...new Map(next.toReversed().map(g => [alike(g), g])).values()], opened = size(next) <= room ? next : first;
  if (size(opened) > room) break;
  for (const g of opened) g.open = true;
  room -= size(opened); level = opened;
}
const sums = data.metrics.map((_, m) => root.cost[m] ? amount(root.cost[m], m) : "").filter(Boolean);
$("totals").textContent = [`${leaves.length.toLocaleString("en")} calls`, ...sums].join(" · ");
const wish = matchMedia("(prefers-color-scheme: dark)");
wish.addEventListener("change", e => theme(e.matches));
theme(wish.matches); layout(null); details(); fitView(false);
new ResizeObserver(ask).observe(canvas);
const find = wanted => all.find(i => i.parent && path(i) === wanted);
function linked() {
  let name = "";
  try { name = decodeURIComponent(location.hash.slice(1)); } catch { /* no address of ours */ }
  const i = name && find(name);
  if (i && i !== selected) { reveal(i); toggle(i, true); }
}
window.addEventListener("hashchange", linked);
linked(); draw();
stats.ready = performance.now();
function screen(i) {                                           // where an item is on the screen
  const b = canvas.getBoundingClientRect();
  return [b.left + (i.x + i.w / 2 - view.x) * view.k, b.top + (i.y + (isOpen(i) ? 12 : i.h / 2) - view.y) * view.k];
}
window.explorer = {stats, find, select, toggle, every, theme, draw, screen, get boxes() { return boxes; }, get selected() { return selected; },
  get root() { return root; }, get view() { return view; }, set view(v) { view = v; }};
})();
