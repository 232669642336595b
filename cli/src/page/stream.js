// What ran where and when: a row for each worker, and as many for each machine as it had chunks at once.

/// Told apart in both schemes, also by people who see red and green alike.
const COLOURS = {
  light: ["#3b7dd8", "#e08a1e", "#2a9d8f", "#8e5bc4", "#c5a100", "#d1609d", "#5a8f29", "#7a6a58", "#3aa6c9", "#8892a0"],
  dark: ["#5b9bf0", "#f0a54a", "#3dbdad", "#a97fe0", "#d9bd3c", "#e585b8", "#86bd52", "#ad9a84", "#5cc3e3", "#a0a9b8"],
};
const GUTTER = 118, AXIS = 20, MOST_HEIGHT = 440;

const stream = {
  canvas: at("#stream canvas"), tip: at("#stream .tip"),
  colours: new Map(), // by function: its number, and how many chunks
  lanes: new Map(), // by key
  nodes: new Map(), // by key: who has which lane
  rows: [], follow: true, width: 60, end: 0, top: 0, height: 120, rowHeight: 16, hover: null, isPlaced: false, failed: 0, lost: 0,
  theme: null,
};


function lane(key, process, manager, order, label) {
  let known = stream.lanes.get(key);
  if (!known) stream.lanes.set(key, known = { key, process, manager, order, label, spans: [], running: [], seen: 0, longest: 0 });
  return known;
}

function machineOf(process, manager, id) {
  const of = model.picture.processes.find((it) => it.id === process)?.managers[manager]?.nodes[id];
  return of ? of.name || of.machine : `node ${id}`;
}

/// A node does not say on which of its slots a chunk runs: it gets a lane for as long as it does.
function nodeLanes(process, manager, id) {
  const key = `${process}/${manager}/n${id}`;
  let known = stream.nodes.get(key);
  if (!known) stream.nodes.set(key, known = { key, held: new Map(), ends: [] });
  return known;
}

function freeLane(node, start) {
  const taken = new Set(node.held.values());
  let number = 0;
  while (taken.has(number) || (node.ends[number] ?? -Infinity) > start + 1e-6) number += 1;
  return number;
}

function laneOfNode(node, number, process, manager, id) {
  return lane(`${node.key}#${number}`, process, manager, 1e9 + id * 1e4 + number, `${machineOf(process, manager, id)} #${number}`);
}

function colour(name, isNew) {
  let known = stream.colours.get(name);
  if (!known) stream.colours.set(name, known = { number: stream.colours.size, count: 0 });
  if (isNew) known.count += 1;
  return known.number;
}

/// Takes in chunks that have ended, and what runs now.
function takeSpans(spans, isWhole) {
  if (isWhole) {
    stream.lanes.clear();
    stream.nodes.clear();
    stream.colours.clear();
    [stream.failed, stream.lost] = [0, 0];
  }
  for (const span of spans) {
    const { process, manager, place } = span;
    let row;
    if ("worker" in place) {
      row = lane(`${process}/${manager}/w${place.worker}`, process, manager, place.worker, `worker ${place.worker}`);
    } else {
      const node = nodeLanes(process, manager, place.node);
      const chunk = `${span.job}:${span.index}`;
      const number = node.held.get(chunk) ?? freeLane(node, span.start);
      node.held.delete(chunk);
      node.ends[number] = Math.max(node.ends[number] ?? 0, span.end);
      row = laneOfNode(node, number, process, manager, place.node);
    }
    span.colour = colour(span.function, true);
    span.lane = row;
    row.longest = Math.max(row.longest, span.end - span.start);
    row.spans.push(span);
    stream.failed += span.is_failed ? 1 : 0;
    stream.lost += span.is_lost ? 1 : 0;
  }
  for (const row of stream.lanes.values()) row.running = [];
  for (const [process, manager] of managers()) {
    if (manager.ended) continue;
    for (const worker of Object.values(manager.workers)) {
      const state = workerState(worker, process, manager);
      if (!isLive(state)) continue;
      const row = lane(`${process.id}/${manager.id}/w${worker.id}`, process.id, manager.id, worker.id, `worker ${worker.id}`);
      row.alive = model.picture.now;
      // What it has not repeated for long may be over.
      const isOld = state !== "busy";
      if (worker.running) row.running.push({ ...worker.running, isOld, colour: colour(worker.running.function), lane: row, process });
    }
    for (const state of Object.values(manager.nodes)) {
      if (state.id === null) continue;
      const node = nodeLanes(process.id, manager.id, state.id);
      const running = new Map(Object.values(state.running).map((it) => [`${it.job}:${it.index}`, it]));
      for (const chunk of node.held.keys()) if (!running.has(chunk)) node.held.delete(chunk);
      for (const [chunk, it] of running) {
        if (!node.held.has(chunk)) node.held.set(chunk, freeLane(node, it.since));
        const row = laneOfNode(node, node.held.get(chunk), process.id, manager.id, state.id);
        row.alive = model.picture.now;
        row.running.push({ ...it, colour: colour(it.function), lane: row, process });
      }
    }
  }
}

/// Chunks that are not kept any more.
function dropSpans(spans) {
  for (const span of spans) {
    if (span.lane.spans[0] === span) span.lane.spans.shift();
    else span.lane.spans = span.lane.spans.filter((it) => it !== span);
    const known = stream.colours.get(span.function);
    if (known) known.count -= 1;
    stream.failed -= span.is_failed ? 1 : 0;
    stream.lost -= span.is_lost ? 1 : 0;
  }
}

/// For how long it is known that a chunk runs.
function knownUntil(running, time) {
  if (running.process.is_silent) return Math.max(running.process.last, running.since);
  return running.isOld ? running.told : time;
}

/// All there is, in time.
function extent() {
  let [first, last] = [Infinity, -Infinity];
  for (const span of model.spans) {
    first = Math.min(first, span.start);
    last = Math.max(last, span.end);
  }
  for (const row of stream.lanes.values()) {
    for (const running of row.running) {
      first = Math.min(first, running.since);
      last = Math.max(last, knownUntil(running, now()));
    }
  }
  return first < last ? [first, last] : [now() - 60, now()];
}

const goesOn = () => model.about.mode !== "report" && !model.about.has_ended && model.about.speed > 0;

function fit() {
  const [first, last] = extent();
  const width = Math.max(last - first, 1e-3) * 1.04;
  [stream.follow, stream.width, stream.end] = [false, width, last + width * 0.02];
}

function follow() {
  stream.follow = goesOn();
  if (!stream.follow) return fit();
  stream.width = Math.min(Math.max(stream.width, 5), 3600);
}

/// Where to begin, once there is something.
function place() {
  if (stream.isPlaced || !stream.lanes.size) return;
  stream.isPlaced = true;
  const [first, last] = extent();
  if (goesOn() && now() - last < 60) {
    stream.width = Math.min(Math.max((now() - first) * 1.1, 10), 120);
    follow();
  } else {
    fit();
  }
}

function drawStream(time) {
  const hasRows = stream.lanes.size > 0;
  place();
  const spans = model.spans.length;
  const hasRun = hasRows || model.picture.processes.some((process) => Object.keys(process.jobs).length);
  const why = spans ? "" : hasRun
    ? "The log has no chunks that ended: they are told at DEBUG, by distfun::log::json().level(Level::DEBUG)."
    : "Nothing has run yet.";
  setText(at("#stream .calm"), why);
  show(at("#stream .canvas"), hasRows);
  const button = at('[data-does="follow"]');
  setAttribute(button, "aria-pressed", stream.follow && goesOn());
  show(button, goesOn());
  legend();
  paint(time);
  const facts = spans ? [plural(spans, "chunk")] : [];
  if (stream.failed) facts.push(`${count(stream.failed)} failed`);
  if (stream.lost) facts.push(`${count(stream.lost)} lost`);
  const seen = Math.ceil((stream.height - AXIS) / stream.rowHeight), first = Math.floor(stream.top / stream.rowHeight) + 1;
  if (hasRows && seen < stream.rows.length) facts.push(`rows ${count(first)} to ${count(Math.min(first + seen - 1, stream.rows.length))} of ${count(stream.rows.length)}: drag for others`);
  heading("stream", facts.join(", "));
}

function legend() {
  const colours = palette();
  const known = [...stream.colours].sort(([, a], [, b]) => b.count - a.count || a.number - b.number);
  const entries = known.slice(0, 12).map(([name, it]) => ({
    key: name, text: it.count ? `${name} (${count(it.count)})` : name, fill: colours[it.number % colours.length], title: name,
  }));
  if (known.length > 12) entries.push({ key: "\0more", text: `${known.length - 12} more functions`, fill: "transparent" });
  const theme = stream.theme;
  if (known.length) {
    entries.push({ key: "\0running", text: "runs", fill: `color-mix(in srgb, ${theme.bar} 40%, transparent)`, edge: theme.bar });
    entries.push({ key: "\0failed", text: "failed", fill: theme.bad });
    entries.push({ key: "\0lost", text: "lost", fill: `repeating-linear-gradient(135deg, ${theme.warn} 0 3px, transparent 3px 6px)`, edge: theme.warn });
  }
  keyed(at("#stream .legend"), entries, (entry) => entry.key, () => make("li", "", make("i"), make("span")), (element, entry) => {
    const swatch = `${entry.fill}|${entry.edge ?? ""}`;
    if (element.swatch !== swatch) {
      element.swatch = swatch;
      element.firstChild.style.background = entry.fill;
      element.firstChild.style.borderRight = entry.edge ? `2px solid ${entry.edge}` : "";
    }
    setText(element.lastChild, entry.text);
  });
}

const palette = () => COLOURS[scheme()];

function readTheme() {
  const style = getComputedStyle(document.documentElement);
  const of = (name) => style.getPropertyValue(`--${name}`).trim();
  stream.theme = { text: of("text"), muted: of("muted"), line: of("line"), bad: of("bad"), warn: of("warn"), card: of("card"), soft: of("soft"), bar: of("bar"), edge: of("edge") };
}

/// Steps of a time axis that people like.
function step(atLeast) {
  const nice = [1e-6, 2e-6, 5e-6, 1e-5, 2e-5, 5e-5, 1e-4, 2e-4, 5e-4, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5,
    1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 14400, 43200, 86400];
  return nice.find((it) => it >= atLeast) ?? Math.ceil(atLeast / 86400) * 86400;
}

/// Rows that have something to show: those of who lives, and those with a chunk in the window.
function rowsIn(from, to) {
  const picked = [];
  // Of a Manager whose chunks are told, idle workers are shown too: that they are is worth knowing.
  const active = new Set();
  for (const row of stream.lanes.values()) if (row.spans.length || row.running.length) active.add(`${row.process}/${row.manager}`);
  for (const row of stream.lanes.values()) {
    const isAlive = row.alive === model.picture.now && active.has(`${row.process}/${row.manager}`);
    if (isAlive || row.running.length || row.spans.some((span) => span.end >= from && span.start <= to)) picked.push(row);
  }
  picked.sort((a, b) => a.process - b.process || a.manager - b.manager || a.order - b.order);
  const many = new Set(picked.map((row) => `${row.process}/${row.manager}`)).size > 1;
  picked.forEach((row, index) => {
    const above = picked[index - 1];
    row.isFirst = index > 0 && (above.process !== row.process || above.manager !== row.manager);
    row.title = many ? `${row.manager}: ${row.label}` : row.label;
  });
  return picked;
}

/// The first of the spans of a row, which are in the order of their ends, that ends after `from`.
function firstAfter(spans, from) {
  let [low, high] = [0, spans.length];
  while (low < high) {
    const middle = (low + high) >> 1;
    if (spans[middle].end < from) low = middle + 1;
    else high = middle;
  }
  return low;
}

function paint(time) {
  const { canvas } = stream;
  const wide = canvas.parentElement.clientWidth;
  if (!wide || !stream.lanes.size) return;
  if (stream.follow && goesOn()) stream.end = time + stream.width * 0.03;
  const [from, to] = [stream.end - stream.width, stream.end];
  const rows = stream.rows = rowsIn(from, to);
  stream.rowHeight = Math.min(Math.max((MOST_HEIGHT - AXIS) / Math.max(rows.length, 1), 7), 18);
  const height = Math.max(Math.min(Math.round(rows.length * stream.rowHeight) + AXIS, MOST_HEIGHT), 60);
  // It grows with what there is and does not shrink again, so that what is below stays where it is.
  stream.height = Math.max(stream.height, height);
  const most = Math.max(rows.length * stream.rowHeight + AXIS - stream.height, 0);
  stream.top = Math.min(Math.max(stream.top, 0), most);

  const scale = window.devicePixelRatio || 1;
  const [pixelsWide, pixelsHigh] = [Math.round(wide * scale), Math.round(stream.height * scale)];
  if (canvas.width !== pixelsWide || canvas.height !== pixelsHigh) {
    [canvas.width, canvas.height] = [pixelsWide, pixelsHigh];
    canvas.style.height = `${stream.height}px`;
  }
  const pen = canvas.getContext("2d");
  const theme = stream.theme;
  const colours = palette();
  pen.setTransform(scale, 0, 0, scale, 0, 0);
  pen.clearRect(0, 0, wide, stream.height);
  pen.font = "11px system-ui, sans-serif";
  pen.textBaseline = "middle";
  const gutter = Math.min(GUTTER, wide * 0.28);
  const perSecond = (wide - gutter) / stream.width;
  const x = (at) => gutter + (at - from) * perSecond;
  const bottom = stream.height - AXIS;

  // Time.
  const every = step(90 / perSecond);
  const digits = every < 0.001 ? 6 : every < 1 ? 3 : 0;
  pen.fillStyle = theme.line;
  const offset = every >= 3600 ? new Date(from * 1000).getTimezoneOffset() * 60 : 0;
  const first = Math.ceil((from - offset) / every) * every + offset;
  for (let tick = first, guard = 0; tick < to && guard < 200; tick += every, guard += 1) pen.fillRect(Math.round(x(tick)), 0, 1, bottom);
  pen.fillStyle = theme.muted;
  pen.textAlign = "center";
  for (let tick = first, guard = 0; tick < to && guard < 200; tick += every, guard += 1) {
    const label = digits === 6 ? `${clock(tick)}.${String(Math.round((tick % 1) * 1e6)).padStart(6, "0")}` : clock(tick + (digits ? 0.0005 : 0), digits);
    const half = pen.measureText(label).width / 2;
    if (x(tick) - half > gutter - 8 && x(tick) + half < wide) pen.fillText(label, x(tick), stream.height - 8);
  }

  pen.save();
  pen.beginPath();
  pen.rect(0, 0, wide, bottom);
  pen.clip();
  const high = stream.rowHeight, gap = high >= 10 ? 2 : 1;
  rows.forEach((row, index) => {
    const y = index * high - stream.top;
    if (y + high < 0 || y > bottom) return;
    row.y = y;
    if (high >= 10 || index % Math.ceil(11 / high) === 0) {
      pen.fillStyle = theme.muted;
      pen.textAlign = "left";
      pen.fillText(short(pen, row.title, gutter - 10), 2, y + Math.max(high, 10) / 2);
    }
    pen.fillStyle = theme.soft;
    pen.fillRect(gutter, y + high - 1, wide - gutter, 1);
    pen.fillStyle = theme.edge;
    if (row.isFirst) pen.fillRect(0, Math.round(y) - 1, wide, 1);
  });
  pen.beginPath();
  pen.rect(gutter, 0, wide - gutter, bottom);
  pen.clip();
  rows.forEach((row, index) => {
    const y = index * high - stream.top;
    if (y + high < 0 || y > bottom) return;
    // Where many share a pixel one is enough, but one that did not end well is seen whatever is beside it.
    const [failed, lost] = [[], []];
    let [last, lastColour] = [-1, -1];
    for (let number = firstAfter(row.spans, from); number < row.spans.length; number += 1) {
      const span = row.spans[number];
      if (span.start > to) {
        if (span.start - to > row.longest) break;
        continue;
      }
      if (span.is_failed) failed.push(span);
      else if (span.is_lost) lost.push(span);
      const left = x(span.start), right = x(span.end);
      if (right - left < 1 && Math.floor(right) === last && span.colour === lastColour) continue;
      [last, lastColour] = [Math.floor(right), span.colour];
      pen.fillStyle = colours[span.colour % colours.length];
      const width = Math.max(right - left - (right - left > 4 ? 1 : 0), 1);
      pen.fillRect(left, y, width, high - gap);
      if (width > 60 && high >= 12 && !span.is_failed) label(pen, span, Math.max(left, gutter), Math.min(right, wide), y, high - gap);
    }
    for (const span of lost) {
      const left = x(span.start), width = Math.max(x(span.end) - left - 1, 3);
      hatch(pen, Math.max(left, gutter), y, Math.min(left + width, wide) - Math.max(left, gutter), high - gap);
      pen.fillStyle = theme.warn;
      pen.fillRect(left + width - 2, y, 2, high - gap);
    }
    for (const span of failed) {
      const left = x(span.start), width = Math.max(x(span.end) - left - 1, 3);
      pen.fillStyle = theme.bad;
      pen.fillRect(left, y, width, high - gap);
      if (width > 9 && high >= 9) {
        const middle = Math.max(left, gutter) + Math.min(width, wide) / 2, r = 3;
        pen.strokeStyle = theme.card;
        pen.lineWidth = 1.5;
        pen.beginPath();
        pen.moveTo(middle - r, y + (high - gap) / 2 - r);
        pen.lineTo(middle + r, y + (high - gap) / 2 + r);
        pen.moveTo(middle + r, y + (high - gap) / 2 - r);
        pen.lineTo(middle - r, y + (high - gap) / 2 + r);
        pen.stroke();
      }
    }
    for (const running of row.running) {
      const left = x(running.since), right = x(knownUntil(running, time));
      if (right < gutter || left > wide) continue;
      const paint = colours[running.colour % colours.length];
      pen.globalAlpha = 0.42;
      pen.fillStyle = paint;
      pen.fillRect(left, y, Math.max(right - left, 2), high - gap);
      pen.globalAlpha = 1;
      pen.fillStyle = running.is_slow ? theme.warn : paint;
      pen.fillRect(Math.max(right - 2, left), y, 2, high - gap);
      if (right - left > 60 && high >= 12) label(pen, running, Math.max(left, gutter), Math.min(right, wide), y, high - gap, theme.text);
    }
  });
  if (goesOn() && time <= to) {
    pen.fillStyle = theme.muted;
    pen.fillRect(Math.round(x(time)), 0, 1, bottom);
  }
  if (stream.hover) {
    const { lane: row, start, since, end } = stream.hover;
    const index = rows.indexOf(row);
    if (index >= 0) {
      pen.strokeStyle = theme.text;
      pen.lineWidth = 1.5;
      const left = x(start ?? since);
      pen.strokeRect(left, index * high - stream.top, Math.max(x(end ?? time) - left, 2), high - gap);
    }
  }
  pen.restore();
  if (most > 0) {
    const all = rows.length * high;
    pen.fillStyle = theme.muted;
    pen.fillRect(wide - 4, (stream.top / all) * bottom, 3, Math.max((bottom / all) * bottom, 8));
  }
  const failedText = (stream.failed ? `, ${plural(stream.failed, "chunk")} failed` : "") + (stream.lost ? `, ${count(stream.lost)} lost` : "");
  setAttribute(canvas, "aria-label", `Task stream: ${plural(rows.length, "row")}, ${plural(model.spans.length, "chunk")}${failedText}, from ${clock(from)} to ${clock(to)}`);
}

/// What has no result of this chunk: it was taken away.
function hatch(pen, left, top, width, high) {
  pen.save();
  pen.beginPath();
  pen.rect(left, top, width, high);
  pen.clip();
  pen.fillStyle = stream.theme.card;
  pen.globalAlpha = 0.55;
  pen.fillRect(left, top, width, high);
  pen.globalAlpha = 1;
  pen.strokeStyle = stream.theme.warn;
  pen.lineWidth = 2;
  pen.beginPath();
  for (let at = left - high; at < left + width; at += 8) {
    pen.moveTo(at, top + high);
    pen.lineTo(at + high, top);
  }
  pen.stroke();
  pen.restore();
}

function label(pen, span, left, right, y, high, ink = "#ffffff") {
  const text = short(pen, `${span.function} ${items(span.index, span.items)}`, right - left - 8);
  if (!text) return;
  pen.textAlign = "left";
  pen.fillStyle = ink;
  if (ink === "#ffffff" && scheme() === "dark") pen.fillStyle = "#10131a";
  pen.fillText(text, left + 4, y + high / 2 + 0.5);
}

const shortened = new Map();
function short(pen, text, room) {
  const key = `${Math.round(room)}|${text}`;
  let known = shortened.get(key);
  if (known !== undefined) return known;
  known = text;
  if (pen.measureText(text).width > room) {
    let [low, high] = [0, text.length];
    while (low < high) {
      const middle = (low + high + 1) >> 1;
      if (pen.measureText(`${text.slice(0, middle)}…`).width <= room) low = middle;
      else high = middle - 1;
    }
    known = low ? `${text.slice(0, low)}…` : "";
  }
  if (shortened.size > 4000) shortened.clear();
  shortened.set(key, known);
  return known;
}

// Hands.

function timeAt(clientX) {
  const box = stream.canvas.getBoundingClientRect();
  const gutter = Math.min(GUTTER, box.width * 0.28);
  return stream.end - stream.width + ((clientX - box.left - gutter) / (box.width - gutter)) * stream.width;
}

function zoom(factor, around) {
  const width = Math.min(Math.max(stream.width * factor, 1e-5), 40 * 86400);
  if (!(stream.follow && goesOn())) stream.end = around + ((stream.end - around) * width) / stream.width;
  stream.width = width;
  redrawStream();
}

function pan(share) {
  stream.follow = false;
  stream.end += stream.width * share;
  redrawStream();
}

let scrolled = -Infinity;
addEventListener("scroll", () => (scrolled = performance.now()), { passive: true });

stream.canvas.addEventListener("wheel", (event) => {
  // Who scrolls the page and comes across the stream goes on scrolling.
  if (performance.now() - scrolled < 300) return;
  event.preventDefault();
  if (event.shiftKey) {
    stream.top += event.deltaY || event.deltaX;
    redrawStream();
  } else if (Math.abs(event.deltaX) > Math.abs(event.deltaY)) {
    pan(event.deltaX / 1000);
  } else {
    zoom(Math.exp(Math.max(Math.min(event.deltaY, 200), -200) / 300), timeAt(event.clientX));
  }
}, { passive: false });

let drag = null;
stream.canvas.addEventListener("pointerdown", (event) => {
  if (event.button !== 0) return;
  drag = { x: event.clientX, y: event.clientY, end: stream.end, top: stream.top, moved: false };
  stream.canvas.setPointerCapture(event.pointerId);
});
stream.canvas.addEventListener("pointermove", (event) => {
  if (!drag) return hover(event);
  const box = stream.canvas.getBoundingClientRect();
  const [dx, dy] = [event.clientX - drag.x, event.clientY - drag.y];
  if (!drag.moved && Math.hypot(dx, dy) < 4) return;
  drag.moved = true;
  hideTip();
  if (Math.abs(dx) >= 4) stream.follow = false;
  if (!stream.follow) stream.end = drag.end - (dx / (box.width - Math.min(GUTTER, box.width * 0.28))) * stream.width;
  stream.top = drag.top - dy;
  redrawStream();
});
for (const name of ["pointerup", "pointercancel"]) stream.canvas.addEventListener(name, () => (drag = null));
stream.canvas.addEventListener("pointerleave", hideTip);
stream.canvas.addEventListener("dblclick", () => {
  follow();
  redrawStream();
});
stream.canvas.addEventListener("keydown", (event) => {
  const middle = stream.end - stream.width / 2;
  const does = {
    ArrowLeft: () => pan(-0.1), ArrowRight: () => pan(0.1),
    ArrowUp: () => { stream.top -= 40; redrawStream(); }, ArrowDown: () => { stream.top += 40; redrawStream(); },
    "+": () => zoom(0.7, middle), "=": () => zoom(0.7, middle), "-": () => zoom(1 / 0.7, middle),
    f: () => { follow(); redrawStream(); }, End: () => { follow(); redrawStream(); }, Home: () => { fit(); redrawStream(); },
  }[event.key];
  if (!does || event.ctrlKey || event.metaKey || event.altKey) return;
  event.preventDefault();
  does();
});
at("#stream .tools").addEventListener("click", (event) => {
  const middle = stream.end - stream.width / 2;
  const does = { follow, fit, in: () => zoom(0.6, middle), out: () => zoom(1 / 0.6, middle) }[event.target.dataset.does];
  if (!does) return;
  does();
  redraw();
});

function hover(event) {
  const box = stream.canvas.getBoundingClientRect();
  const time = timeAt(event.clientX);
  const slack = (stream.width / box.width) * 3;
  const y = event.clientY - box.top;
  const row = y < stream.height - AXIS ? stream.rows[Math.floor((y + stream.top) / stream.rowHeight)] : null;
  if (!row) return hideTip();
  const isAt = (start, end) => start - slack <= time && time <= end + slack;
  const far = (span) => (span.start <= time && time <= span.end ? 0 : Math.min(Math.abs(span.start - time), Math.abs(span.end - time)));
  let found = row.running.find((running) => isAt(running.since, knownUntil(running, now()))) ?? null;
  for (const span of row.spans) {
    if (!isAt(span.start, span.end)) continue;
    if (!found || (found.start !== undefined && (far(span) < far(found) || span.is_failed || span.is_lost))) found = span;
  }
  if (!found) return hideTip();
  const isNew = stream.hover !== found;
  stream.hover = found;
  const many = found.end === undefined ? `runs for ${age(knownUntil(found, now()) - found.since)}` : `took ${seconds(found.end - found.start)}`;
  const lines = [
    found.function, `${items(found.index, found.items)} of call ${found.job}`,
    `${row.label}${found.attempt > 1 ? `, attempt ${found.attempt}` : ""}`,
    `${many}, from ${clock(found.start ?? found.since, 3)}`,
  ];
  if (found.is_failed) lines.push("failed");
  else if (found.is_lost) lines.push("lost: its worker died, or its machine was lost");
  if (found.is_slow) lines.push("much longer than others");
  setText(stream.tip, lines.join("\n"));
  show(stream.tip, true);
  const [x, tall] = [event.clientX - box.left, stream.tip.offsetHeight];
  const wide = stream.tip.offsetWidth;
  stream.tip.style.left = `${Math.min(Math.max(x + 14, 0), Math.max(box.width - wide, 0))}px`;
  stream.tip.style.top = `${y + 18 + tall > stream.height + 60 ? y - tall - 8 : y + 18}px`;
  if (isNew) redrawStream();
}

function hideTip() {
  show(stream.tip, false);
  if (!stream.hover) return;
  stream.hover = null;
  redrawStream();
}
