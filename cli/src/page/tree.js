// Who looks after whom: processes, Managers, workers and machines, and what runs there.

/// Of more, those that need a look are shown, and the others counted.
const WORKERS_SHOWN = 32;
const opened = new Set();

function drawTree(time) {
  const processes = model.picture.processes;
  const { byName, below } = served();
  // Each once, those that others look after below these; where all look after one another, the first is on top.
  const placed = new Set();
  const roots = [];
  for (const process of [...processes.filter((process) => !below.has(process.id)), ...processes]) {
    if (placed.has(process.id)) continue;
    placed.add(process.id);
    roots.push(processEntry(process, byName, time, placed));
  }
  for (let index = roots.length - 1; index >= 0; index -= 1) if (!roots[index]) roots.splice(index, 1);
  setText(at("#tree .calm"), roots.length ? "" : "Nobody is there.");
  drawEntries(at("#tree .tree"), roots);
}

function processEntry(process, byName, time, placed) {
  const all = ordered(Object.values(process.managers));
  const { is_over: over, is_silent: silent } = process;
  if (over && isBuried(process.last, time)) return null;
  const notes = [process.node ? "node" : process.role, process.host && `on ${process.host}`];
  if (process.node) {
    const { slots, gpus, managers: many, stopping, has_stopped, address } = process.node;
    notes.push(address && `at ${address}`, slots && plural(slots, "slot"), gpus && plural(gpus, "GPU"), many ? plural(many, "manager") + " connected" : "");
    notes.push(has_stopped ? "stopped" : stopping && `stopping: ${stopping}`);
  }
  if (over && !process.node) notes.push("ended");
  if (silent) notes.push(`nothing heard for ${age(time - process.last)}`);
  const children = all.map((manager) => managerEntry(process, manager, byName, time, placed)).filter(Boolean);
  return {
    key: `p${process.id}`, kind: over ? "dead" : "", dot: over ? "gone" : silent ? "warn" : "good", name: nameOf(process),
    note: notes.filter(Boolean).join(", "), error: "", children,
  };
}

function managerEntry(process, manager, byName, time, placed) {
  if (manager.ended && isBuried(manager.ended.at, time)) return null;
  const key = `p${process.id}m${manager.id}`;
  const workers = Object.values(manager.workers)
    .map((worker) => ({ worker, state: workerState(worker, process, manager) }))
    .filter(({ worker, state }) => state !== "offline" || !isBuried(worker.since, time));
  const nodes = Object.values(manager.nodes);
  if (!workers.length && !nodes.length && !manager.snapshot) return null;
  const [busy, live] = busyOf(process, manager);
  const notes = [manager.ended ? `${manager.ended.reason} ${clock(manager.ended.at)}` : `${busy} of ${plural(live, "worker")} busy`];
  if (nodes.length && !manager.ended) notes.push(`${nodes.filter(isUp).length} of ${plural(nodes.length, "machine")} connected`);
  if (manager.stall) notes.push(`stalled for ${age(time - manager.stall.since)}`);
  let shown = workers;
  const isLong = workers.length > WORKERS_SHOWN;
  if (isLong && !opened.has(key)) {
    shown = workers.filter(({ worker, state }) => !["busy", "available", "up", "offline", "unknown"].includes(state) || worker.error);
    shown = shown.slice(0, WORKERS_SHOWN);
  }
  const children = shown.map(({ worker, state }) => workerEntry(key, worker, state, time));
  if (isLong) children.push(restEntry(key, workers, shown));
  for (const node of nodes) children.push(nodeEntry(key, process, node, byName, time, placed, manager));
  return {
    key, kind: manager.ended ? "dead" : "", dot: manager.ended ? "gone" : manager.stall ? "bad" : "good",
    name: `manager ${manager.id}`, note: notes.join(", "), error: "", children,
  };
}

function workerEntry(key, worker, state, time) {
  const notes = [];
  if (state === "busy" && worker.running) {
    notes.push(`${chunk(worker.running)} for ${age(time - worker.running.since)}`);
    if (worker.running.attempt > 1) notes.push(`attempt ${worker.running.attempt}`);
    if (worker.running.is_slow) notes.push("much longer than others");
  } else if (state === "restarting") {
    const wait = worker.state.restarting ? worker.state.restarting.until - time : 0;
    notes.push(wait > 0.5 ? `restarting in ${age(wait + 0.5)}` : "restarting");
  } else {
    notes.push(word(state));
  }
  if (worker.generation || worker.restarts) notes.push(`life ${lifeOf(worker)}`);
  if (worker.restarts) notes.push(`restarted ${worker.restarts === 1 ? "once" : `${worker.restarts} times`}`);
  return {
    key: `${key}w${worker.id}`, kind: isLive(state) ? "worker" : "worker dead",
    dot: state === "busy" && worker.running && worker.running.is_slow ? "warn" : DOTS[state],
    name: `${worker.kind === "gpu" ? "gpu " : ""}worker ${worker.id}`, note: notes.concat(worker.gpu ?? []).join(", "),
    error: worker.error ? `last: ${worker.error}` : "", children: [],
  };
}

function restEntry(key, workers, shown) {
  const rest = new Map();
  const listed = new Set(shown.map(({ worker }) => worker.id));
  for (const { worker, state } of workers) if (!listed.has(worker.id)) rest.set(word(state), (rest.get(word(state)) ?? 0) + 1);
  const isOpen = opened.has(key);
  const note = [...rest].sort().map(([state, many]) => `${count(many)} ${state}`).join(", ");
  const name = isOpen ? "" : `${count(workers.length - shown.length)} ${shown.length ? "more workers" : "workers"}`;
  return { key: `${key}rest`, kind: "worker", dot: "", name, note, error: "", children: [], opens: key, isOpen };
}

function nodeEntry(key, of, node, byName, time, placed, manager) {
  const state = nodeState(node, of, manager);
  const notes = [state === "up" ? "connected" : state === "unknown" ? "unknown" : `${word(state)} for ${age(time - node.since)}`];
  if (manager.ended) notes.length = 0;
  if (node.name && node.name !== node.machine) notes.push(node.name);
  const running = Object.keys(node.running).length;
  const room = roomAt(manager, node);
  if (room) {
    const queued = running > room ? `, ${running - room} queued` : "";
    notes.push(`${Math.min(running, room)} of ${plural(room, "slot")} busy${queued}`);
  }
  if (node.gpus) notes.push(plural(node.gpus, "GPU"));
  if (node.losses) notes.push(`lost ${node.losses === 1 ? "once" : `${node.losses} times`}, ${plural(node.requeued, "chunk")} requeued`);
  const process = byName.get(node.name);
  const goes = process && !placed.has(process.id);
  if (goes) placed.add(process.id);
  const child = goes ? processEntry(process, byName, time, placed) : null;
  return {
    key: `${key}n${node.id ?? node.machine}`, kind: manager.ended ? "dead" : "",
    dot: manager.ended ? "gone" : DOTS[state], name: node.machine, note: notes.join(", "),
    error: node.error ? `last: ${node.error}` : "", children: child ? [child] : [],
  };
}

function drawEntries(list, entries) {
  keyed(list, entries, (entry) => entry.key, createEntry, updateEntry);
}

function createEntry(entry) {
  const row = make("div", "row", make("span", "dot"), make("span", "name"), make("span", "note"));
  if (entry.opens) {
    const button = make("button", "more");
    button.type = "button";
    button.addEventListener("click", () => {
      if (!opened.delete(entry.opens)) opened.add(entry.opens);
      redraw();
    });
    row.append(button);
  }
  row.append(make("span", "error"));
  return make("li", "", row);
}

function updateEntry(element, entry) {
  setClass(element, entry.kind);
  const row = element.firstChild;
  const [dot, name, note] = row.children;
  setClass(dot, `dot ${entry.dot}`);
  show(dot, entry.dot !== "");
  setText(name, entry.name);
  setText(note, entry.note);
  setText(row.lastChild, entry.error);
  show(row.lastChild, entry.error !== "");
  if (entry.opens) setText(at("button", row), entry.isOpen ? "Show those that need a look" : "Show all");
  if (entry.children.length || element.children.length > 1) {
    if (element.children.length === 1) element.append(make("ul"));
    drawEntries(element.lastChild, entry.children);
  }
}
