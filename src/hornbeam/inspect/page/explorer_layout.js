// The items of a model (calls and groups), and where they go. dagre (the global) lays out one group at a time, equal groups once.
"use strict";
const explorerModel = (data, measure) => {
  const ROW = 42, LOW = 28, PAD = 16, HEAD = 26, FOOT = 18, GAP = 36, MERGE = 6, MOST = 8;
  const note = i => i < 0 ? null : data.table[i];

  // ---- items: the model, its groups, its calls
  const root = {name: data.title, kind: data.kind, params: data.totals[0], kids: [], parent: null, open: true};
  const groups = data.groups.map(([name, , kind, params, config, weights, where]) =>
    ({name, kind, params, config: note(config), weights: note(weights), where: note(where), kids: [], open: false}));
  data.groups.forEach(([, p], i) => { groups[i].parent = p < 0 ? root : groups[p]; });
  const leaves = data.nodes.map(([name, kind, family, parent, chip, shapes, shared, cost, config, weights, where, fresh]) =>
    ({name, kind: note(kind), family, parent: parent < 0 ? root : groups[parent], chip: note(chip), shapes: note(shapes) || [],
      shared, cost, config: note(config), weights: note(weights), where: note(where), fresh, ins: [], outs: []}));
  const put = new Set();                                       // children stand in the order in which their first call runs
  for (const leaf of leaves) for (let i = leaf; i.parent && !put.has(i); i = i.parent) { put.add(i); i.parent.kids.push(i); }
  const all = [root, ...groups, ...leaves];
  all.forEach((i, n) => { i.id = n; });
  (function total(i, depth) {
    i.depth = depth;
    if (!i.kids) { i.count = 1; return; }
    i.cost = data.metrics.map(() => 0); i.count = 0;
    for (const k of i.kids) {
      total(k, depth + 1);
      i.count += k.count;
      for (let m = 1; m < i.cost.length; m++) i.cost[m] += k.cost[m];
    }
    i.cost[0] = i.params;                                      // shared weights count once
  })(root, 0);
  data.totals.forEach((t, m) => { if (t !== null) root.cost[m] = t; });

  // ---- edges, lifted to the level where they are seen; a group has a port for each value that crosses its border
  for (const g of [root, ...groups]) Object.assign(g, {inner: new Map(), into: new Map(), out: new Map()});
  for (let e = 0; e < data.edges.length; e += 2) {
    const s = leaves[data.edges[e]], t = leaves[data.edges[e + 1]];
    s.outs.push(t); t.ins.push(s);
    let a = s, b = t;
    while (a.parent !== b.parent) {
      if (a.depth >= b.depth) { a.parent.out.set(s.id + ">" + a.id, [s.id, a]); a = a.parent; }
      else { b.parent.into.set(s.id + ">" + b.id, [s.id, b]); b = b.parent; }
    }
    a.parent.inner.set(a.id + ">" + b.id + ">" + s.id, [a, b, s.id]);
  }
  for (const l of leaves) l.changed = l.chip !== null && !l.ins.some(s => s.chip === l.chip);   // the shape is worth telling
  const keyed = crossing => new Set([...crossing.values()].map(v => v[0])).size > MERGE ? () => -1 : s => s;
  for (const g of [root, ...groups]) { g.inKey = keyed(g.into); g.outKey = keyed(g.out); }

  // ---- size: all boxes have one width
  const told = i => i.kind && i.name.replace(/_?\d*$/, "").replaceAll("_", "").toLowerCase() === i.kind.replaceAll("_", "").toLowerCase();
  for (const i of all) i.lines = i.kids || i.cost[0] || (i.kind && !told(i)) ? 2 : 1;
  const width = Math.min(216, all.reduce((w, i) => Math.max(w, measure(i)), 120));
  const isOpen = i => i.kids !== undefined && i.open;
  const size = i => isOpen(i) ? arrange(i) : {w: width, h: i.lines > 1 ? ROW : LOW};

  // ---- one group's plan, remembered by what it depends on
  const known = new Map(), stats = {plans: 0};
  const distinct = list => [...new Set(list)];
  function arrange(g) {
    const index = new Map(g.kids.map((k, n) => [k, n])), sizes = g.kids.map(size), crowd = g.kids.filter(isOpen).length > 4;
    const seen = new Set(), inner = [];
    for (const [a, b, s] of g.inner.values()) {                // one line for a pair of boxes where neither shows its ports
      const key = [a.id, b.id, isOpen(a) ? a.outKey(s) : "", isOpen(b) ? b.inKey(s) : ""].join();
      if (!seen.has(key)) { seen.add(key); inner.push([index.get(a), index.get(b), s, off(a, s, "out", crowd), off(b, s, "in", crowd)]); }
    }
    const [ins, pin] = ports(g.into, g.inKey, index), [outs, pout] = ports(g.out, g.outKey, index);
    for (const p of pin) p.push(off(g.kids[p[1]], ins[p[0]], "in", crowd));
    for (const p of pout) p.push(off(g.kids[p[1]], outs[p[0]], "out", crowd));
    const shape = JSON.stringify([sizes.map(s => [s.w, s.h]), inner.map(([a, b, , p, q]) => [a, b, p, q]), pin, pout]);
    if (!known.has(shape)) known.set(shape, planned(sizes, inner, pin, pout, ins.length, outs.length));
    g.lay = {plan: known.get(shape), sizes, inner, ins, outs, pin, pout};
    return g.lay.plan;
  }
  function off(i, s, side, crowd) {                            // where a line meets a box, from its middle
    if (!isOpen(i)) return 0;
    const {plan, ins, outs} = i.lay;
    if (!crowd) return Math.round(gate(i, keyAt(i, s, side), side) - plan.w / 2);
    const all = [...ins.map(k => gate(i, k, "in")), ...outs.map(k => gate(i, k, "out"))];   // one for all, else a long row drifts aside
    return Math.round(all.reduce((sum, x) => sum + x, 0) / (all.length || 1) - plan.w / 2);
  }
  function ports(crossing, key, index) {
    const pairs = [...crossing.values()].map(([s, k]) => [key(s), index.get(k)]), keys = distinct(pairs.map(p => p[0]));
    return [keys, distinct(pairs.map(([k, n]) => keys.indexOf(k) + "," + n)).map(t => t.split(",").map(Number))];
  }
  function planned(sizes, inner, pin, pout, ins, outs) {       // dagre says the rows and the order in them, `columns` the rest
    const ends = [...inner.map(([a, b, , p, q]) => ["k" + a, "k" + b, p, q]), ...pin.map(([p, k, q]) => ["i" + p, "k" + k, 0, q]),
      ...pout.map(([p, k, q]) => ["k" + k, "o" + p, q, 0])];
    const fed = new Set(inner.map(e => e[1])), feeds = new Set(inner.map(e => e[0])), pairs = new Set(ends.map(e => e[0] + e[1]));
    const G = new dagre.graphlib.Graph({multigraph: true});
    stats.plans++;
    G.setGraph({rankdir: "TB", nodesep: 24, edgesep: 14, ranksep: GAP});
    G.setDefaultEdgeLabel(() => ({}));
    sizes.forEach((s, n) => G.setNode("k" + n, {width: s.w, height: s.h}));
    for (let n = 0; n < ins; n++) G.setNode("i" + n, {width: 8, height: 0});
    for (let n = 0; n < outs; n++) G.setNode("o" + n, {width: 8, height: 0});
    const [above, cells] = wrapped(sizes, inner), cell = name => name[0] === "k" ? cells.get(+name.slice(1)) : undefined;
    const routes = ends.map(([a, b]) => {                      // past the other branches of a column a line runs beside them
      const from = cell(a), to = cell(b), out = from !== to && !(from && to && from.branch === to.branch);
      return [out && from && !from.last ? from.column : null, out && to && !to.first ? to.column : null];
    });
    const proxies = ends.map(([a, b], n) => [routes[n][0] ? "k" + routes[n][0].bottom : a, routes[n][1] ? "k" + routes[n][1].top : b]);
    proxies.forEach(([a, b], n) => G.setEdge(a, b, {weight: 8}, "e" + n));
    above.forEach(([a, b], n) => G.setEdge("k" + a, "k" + b, {weight: 8}, "w" + n));
    const hold = (a, b) => { if (!pairs.has(a + b)) G.setEdge(a, b, {weight: 1}, "hold"); };   // ports stay on the border
    sizes.forEach((_, k) => {
      if (!fed.has(k)) for (let n = 0; n < ins; n++) hold("i" + n, "k" + k);
      if (!feeds.has(k)) for (let n = 0; n < outs; n++) hold("k" + k, "o" + n);
    });
    dagre.layout(G);
    const rows = new Map(), row = y => rows.get(Math.round(y)), top = ins ? HEAD - 14 : HEAD + 6;
    const mark = (x, y, w, h, box) => {
      const r = row(y), e = {x, w, box, row: r, dx: 0, up: [], down: []};
      r.h = Math.max(r.h, h / 2); r.marks.push(e);
      return e;
    };
    for (const name of G.nodes()) { const y = G.node(name).y; if (!row(y)) rows.set(Math.round(y), {y: y + top, h: 0, marks: []}); }
    const nodes = new Map(G.nodes().map(name => { const v = G.node(name); return [name, mark(v.x, v.y, v.width, v.height, true)]; }));
    const heights = [...rows.keys()].sort((p, q) => p - q), lanes = new Map();
    const beside = (column, side, y0, y1) => heights.filter(y => y > y0 && y < y1).map(y => {
      const at = column.kids.find(k => Math.round(G.node("k" + k).y) === y) ?? column.top, key = [column.top, side, y].join();
      if (!lanes.has(key)) lanes.set(key, mark(G.node("k" + at).x + side * (sizes[at].w / 2 + 6), y, 2, 0, false));
      return lanes.get(key);
    });
    const lines = ends.map(([a, b], n) => {
      const [p, q] = proxies[n], [out, into] = routes[n], y = name => Math.round(G.node(name).y);
      return [nodes.get(a), ...(out ? beside(out, 1, y(a), y(p) + 1) : []),
        ...G.edge(p, q, "e" + n).points.slice(1, -1).filter(v => row(v.y)).map(v => mark(v.x, v.y, 2, 0, false)),
        ...(into ? beside(into, -1, y(q) - 1, y(b)) : []), nodes.get(b)];
    });
    if (backwards([...rows.values()])) for (const r of rows.values()) for (const e of r.marks) e.x = -e.x;
    columns([...rows.values()], lines, ends, above.map(pair => pair.map(k => nodes.get("k" + k))));
    const marks = [...rows.values()].flatMap(r => r.marks), left = Math.min(...marks.map(e => e.x - e.w / 2)) - PAD;
    const w = Math.max(...marks.map(e => e.x + e.w / 2)) + PAD - left, h = G.graph().height + top + (outs ? FOOT - GAP : PAD);
    const all = lines.map(l => l.map(e => ({x: e.x - left, a: Math.min(h, e.row.y - e.row.h), b: Math.min(h, e.row.y + e.row.h)})));
    const xs = (count, side) => Array.from({length: count}, (_, n) => nodes.get(side + n).x - left);
    return {w, h, inX: xs(ins, "i"), outX: xs(outs, "o"), inner: all.slice(0, inner.length),
      pin: all.slice(inner.length, inner.length + pin.length), pout: all.slice(inner.length + pin.length),
      kid: sizes.map((s, n) => { const e = nodes.get("k" + n); return [e.x - left - s.w / 2, e.row.y - s.h / 2]; })};
  }

  // ---- many branches side by side stand in several rows: each branch below the one that is so many places before it
  function wrapped(sizes, inner) {
    const degree = [0, 0].map(() => sizes.map(() => 0)), home = sizes.map((_, n) => n), above = [];
    const pairs = distinct(inner.map(([a, b]) => a + "," + b)).map(t => t.split(",").map(Number));
    for (const [a, b] of pairs) { degree[0][a]++; degree[1][b]++; }
    const hub = n => degree[0][n] > MOST || degree[1][n] > MOST, find = n => home[n] === n ? n : (home[n] = find(home[n]));
    for (const [a, b] of pairs) if (!hub(a) && !hub(b)) home[find(b)] = find(a);
    const gather = () => { const all = new Map(); sizes.forEach((_, n) => { const b = find(n); all.set(b, [...all.get(b) || [], n]); }); return all; };
    let circle = false;                                        // branches that are tangled stay as they are
    const ranked = (all, home) => {                            // those that do not depend on one another, by the longest way to them
      const rank = new Map(), busy = new Set(), before = new Map([...all.keys()].map(b => [b, new Set()])), found = new Map();
      for (const [a, b] of pairs) if (home(a) !== home(b)) before.get(home(b)).add(home(a));
      const visit = b => {
        if (busy.has(b)) circle = true;
        if (circle || rank.has(b)) return rank.get(b) || 0;
        busy.add(b); rank.set(b, Math.max(-1, ...[...before.get(b)].map(visit)) + 1); busy.delete(b);
        return rank.get(b);
      };
      for (const b of all.keys()) found.set(visit(b), [...found.get(visit(b)) || [], all.get(b)]);
      return found;
    };
    const single = ranked(new Map(sizes.map((_, n) => [n, [n]])), n => n);
    for (const b of gather().values()) {                       // a branch that is wide itself is none
      const own = new Set(b);
      if ([...single.values()].some(row => row.filter(([n]) => own.has(n)).length > MOST)) for (const n of b) home[n] = n;
    }
    const ranks = ranked(gather(), find);
    const ends = (branch, side) => branch.filter(n => !pairs.some(p => p[side] === n && find(p[1 - side]) === find(n)));
    const cells = new Map();
    if (!circle) for (const row of ranks.values()) if (row.length > MOST) {
      const high = Math.max(...row.map(b => b.reduce((sum, n) => sum + sizes[n].h + GAP, 0))), wide = Math.max(...row.flat().map(n => sizes[n].w)) + 56;
      const many = Math.max(4, Math.ceil(Math.sqrt(row.length * 1.6 * high / wide))), columns = row.slice(0, many).map(() => ({kids: []}));
      row.forEach((b, n) => {
        const column = columns[n % many], heads = ends(b, 1), tails = ends(b, 0);
        if (n < many) column.top = heads[0]; else above.push([column.bottom, heads[0]]);
        column.bottom = tails[0]; column.kids.push(...b);
        for (const k of b) cells.set(k, {column, branch: b});
      });
    }
    for (const c of cells.values()) { c.first = c.branch.includes(c.column.top); c.last = c.branch.includes(c.column.bottom); }
    return [above, cells];
  }

  function backwards(rows) {                                   // whether neighbours stand against the running order
    let turned = 0;
    for (const {marks} of rows) marks.forEach((a, n) => { for (const b of marks.slice(n + 1)) if (a.box && b.box) turned += b.x < a.x ? 1 : -1; });
    return turned > 0;
  }

  // ---- columns: what runs on alone stands straight below what it comes from, the rest in the middle of its neighbours
  function columns(rows, lines, ends, straight) {
    const links = [], inputs = new Map();
    for (const l of lines) inputs.set(l[l.length - 1], (inputs.get(l[l.length - 1]) || 0) + 1);
    lines.forEach((l, at) => {
      for (let n = 1; n < l.length; n++) {
        const a = l[n - 1], b = l[n], branch = l.length === 2 || inputs.get(l[l.length - 1]) === 1;
        const shift = (n === 1 ? ends[at][2] : 0) - (n === l.length - 1 ? ends[at][3] : 0);
        if (!a.box && !b.box && a.down.some(o => o.b === b)) continue;   // lines side by side in one lane
        const link = {a, b, shift, weight: !a.box && !b.box ? 16 : branch ? 8 : 1};
        links.push(link); a.down.push(link); b.up.push(link);
      }
    });
    for (const [a, b] of straight) { const link = {a, b, shift: 0, weight: 32}; links.push(link); a.down.push(link); b.up.push(link); }
    for (const r of rows) { r.marks.sort((a, b) => a.x - b.x); r.marks.forEach((e, n) => { e.at = n; }); r.along = []; }
    const chosen = (list, link, end) => {                      // the heaviest of a box's links, of an odd number of such the middle one
      const like = list.filter(l => l.weight >= link.weight).sort((p, q) => p[end].at - q[end].at);
      return like.length % 2 === 1 && like[(like.length - 1) / 2] === link && like.every(l => l.weight === link.weight);
    };
    for (const link of links.sort((p, q) => q.weight - p.weight)) {
      const {a, b} = link;
      const crosses = () => a.row.along.some(o => (o.a.at - a.at) * (o.b.at - b.at) < 0);
      if (a.below || b.above || !chosen(a.down, link, "b") || !chosen(b.up, link, "a") || crosses()) continue;
      a.below = b; b.above = a; b.shift = link.shift; a.row.along.push(link);
    }
    const blocks = [];
    for (const r of rows) for (const e of r.marks) if (!e.above) {
      const block = {marks: [], left: new Map(), right: new Map(), pull: []};
      for (let m = e; m; m = m.below) { if (m.above) m.dx = m.above.dx + m.shift; m.block = block; block.marks.push(m); }
      block.x = block.marks.reduce((sum, m) => sum + m.x - m.dx, 0) / block.marks.length;
      blocks.push(block);
    }
    for (const r of rows) for (let n = 1; n < r.marks.length; n++) {
      const a = r.marks[n - 1], b = r.marks[n], gap = (a.w + b.w) / 2 + (a.box && b.box ? 24 : 16) + a.dx - b.dx;
      a.block.right.set(b.block, Math.max(gap, a.block.right.get(b.block) ?? gap));
      b.block.left.set(a.block, Math.max(gap, b.block.left.get(a.block) ?? gap));
    }
    for (const {a, b, weight, shift} of links) if (a.block !== b.block) {
      const by = b.dx - a.dx - shift;
      a.block.pull.push([b.block, by, weight]); b.block.pull.push([a.block, -by, weight]);
    }
    const order = [], known = new Set(), visit = b => { if (known.has(b)) return; known.add(b); b.left.forEach((_, l) => visit(l)); order.push(b); };
    blocks.forEach(visit);
    const least = b => Math.max(-Infinity, ...[...b.left].map(([l, gap]) => l.x + gap));
    const most = b => Math.min(Infinity, ...[...b.right].map(([r, gap]) => r.x - gap));
    for (const b of order) b.x = Math.max(b.x, least(b));
    for (let turn = 0; turn < 40; turn++) for (const b of turn % 2 ? order : order.toReversed()) if (b.pull.length) {
      const wish = b.pull.reduce((sum, [o, by, w]) => sum + (o.x + by) * w, 0) / b.pull.reduce((sum, [, , w]) => sum + w, 0);
      b.x = Math.max(least(b), Math.min(most(b), wish));
    }
    for (const b of blocks) for (const m of b.marks) m.x = b.x + m.dx;
  }

  // ---- where a value enters and leaves a box: an open group's port stands straight above (below) the only child that it serves
  const keyAt = (i, s, side) => !i.kids ? 0 : side === "in" ? i.inKey(s) : i.outKey(s);
  function gate(g, key, side) {
    if (!isOpen(g)) return width / 2;
    const {plan, ins, outs, pin, pout} = g.lay, inside = side === "in", n = (inside ? ins : outs).indexOf(key);
    const own = (inside ? pin : pout).map(([p, k], at) => [p, k, at]).filter(p => p[0] === n);
    if (n < 0) return plan.w / 2;
    if (own.length === 1 && (inside ? plan.pin : plan.pout)[own[0][2]].length === 2) {
      const k = g.kids[own[0][1]];
      return plan.kid[own[0][1]][0] + gate(k, keyAt(k, key, side), side);
    }
    return (inside ? plan.inX : plan.outX)[n];
  }

  // ---- the whole picture: boxes and lines with their places
  function place() {
    const boxes = [], lines = [], {w, h} = arrange(root), moved = (stops, x, y) => stops.map(s => ({x: s.x + x, a: s.a + y, b: s.b + y}));
    function line(stops, s, from, to) {
      if (from) { stops[0].x = from.x + gate(from, keyAt(from, s, "out"), "out"); stops[0].a = from.y + from.h; }
      if (to) { const end = stops[stops.length - 1]; end.x = to.x + gate(to, keyAt(to, s, "in"), "in"); end.b = to.y; }
      const xs = stops.map(p => p.x), path = new Path2D(), first = stops[0], last = stops[stops.length - 1];
      path.moveTo(first.x, first.a);
      stops.forEach((p, n) => {
        const before = stops[n - 1];
        if (n && Math.abs(p.x - before.x) > .5) { const y = (before.b + p.a) / 2; path.bezierCurveTo(before.x, y, p.x, y, p.x, p.a); }
        path.lineTo(p.x, p.b);
      });
      const edge = {x0: Math.min(...xs), x1: Math.max(...xs), y0: first.a, y1: last.b};
      lines.push({path, s, from, to, head: to && !isOpen(to), x: last.x, y: last.b, ...edge});
    }
    (function put(i, x, y, w, h) {
      Object.assign(i, {x, y, w, h});
      boxes.push(i);
      if (!isOpen(i)) return;
      const {plan, sizes, inner, ins, outs, pin, pout} = i.lay;
      i.kids.forEach((k, n) => put(k, x + plan.kid[n][0], y + plan.kid[n][1], sizes[n].w, sizes[n].h));
      inner.forEach(([a, b, s], n) => line(moved(plan.inner[n], x, y), s, i.kids[a], i.kids[b]));
      pin.forEach(([p, k], n) => {
        const stops = moved(plan.pin[n], x, y);
        Object.assign(stops[0], {x: x + gate(i, ins[p], "in"), a: y});
        line(stops, ins[p], null, i.kids[k]);
      });
      pout.forEach(([p, k], n) => {
        const stops = moved(plan.pout[n], x, y);
        Object.assign(stops[stops.length - 1], {x: x + gate(i, outs[p], "out"), b: y + h});
        line(stops, outs[p], i.kids[k], null);
      });
    })(root, 0, 0, w, h);
    return {boxes, lines};
  }
  const path = i => {                                            // runs, which only cut a long level, are no part of a name
    let p = i.parent, name = i.name;
    for (; p && p.parent; p = p.parent) if (p.kind) name = p.name + "/" + name;
    return name;
  };
  return {root, groups, leaves, all, place, path, stats, told, isOpen};
};
