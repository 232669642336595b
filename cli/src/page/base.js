// What everything below uses. Texts from logs become text nodes, and nothing else, wherever they go.

const about = JSON.parse(document.getElementById("about").textContent);

/// Everything the page knows.
const model = { about, picture: null, spans: [], story: [], explanations: new Map(), received: 0, broken: false };

const at = (selector, within = document) => within.querySelector(selector);

function make(tag, classes = "", ...children) {
  const element = document.createElement(tag);
  if (classes) element.className = classes;
  element.append(...children);
  return element;
}

// Each of these leaves alone what is as it should be: nothing flickers, no selection is lost.
function setText(element, text) {
  text = String(text);
  if (element.textContent !== text) element.textContent = text;
}
function setClass(element, classes) {
  if (element.className !== classes) element.className = classes;
}
function setAttribute(element, name, value) {
  if (value === null) element.removeAttribute(name);
  else if (element.getAttribute(name) !== String(value)) element.setAttribute(name, value);
}
function show(element, is) {
  if (element.hidden === is) element.hidden = !is;
}

/// Children of `parent`, one for each of `items`: those that stay are kept, and moved only if they must be.
function keyed(parent, items, keyOf, create, update) {
  const known = parent.known ??= new Map();
  const wanted = new Set();
  let next = parent.firstChild;
  for (const item of items) {
    const key = keyOf(item);
    if (wanted.has(key)) continue;
    wanted.add(key);
    let element = known.get(key);
    if (!element) known.set(key, element = create(item));
    if (element === next) next = next.nextSibling;
    else parent.insertBefore(element, next);
    update(element, item);
  }
  if (known.size > wanted.size) {
    for (const [key, element] of known) {
      if (!wanted.has(key)) {
        element.remove();
        known.delete(key);
      }
    }
  }
}

/// The time of what is shown: that of the last picture, and what has passed since, if time goes on.
function now() {
  const picture = model.picture;
  if (!picture) return 0;
  const since = Math.min((performance.now() - model.received) / 1000, 5);
  return picture.now + (model.broken ? 0 : since * model.about.speed);
}

const grouped = new Intl.NumberFormat("en-US");
const count = (number) => grouped.format(number);
const plural = (number, one, many = one + "s") => `${count(number)} ${number === 1 ? one : many}`;

/// Chunks that a machine computes at once for a Manager: as its policy on GPUs has come to.
function roomAt(manager, node) {
  const placement = manager.judgement?.placement;
  if (placement === "gpus") return node.gpus;
  return node.slots + (placement === "both" ? node.gpus : 0);
}

/// As the messages of a log write it.
function seconds(s) {
  if (s < 0.001) return `${Math.round(Math.max(s, 0) * 1e6)} µs`;
  if (s < 1) return `${(s * 1e3).toFixed(1)} ms`;
  if (s < 100) return `${s.toFixed(1)} s`;
  if (s < 7200) return `${s.toFixed(0)} s`;
  return s < 172800 ? `${(s / 3600).toFixed(1)} h` : `${(s / 86400).toFixed(1)} d`;
}
/// For what grows while one looks: no tenths that flicker.
const age = (s) => (s < 100 ? `${Math.max(0, Math.floor(s))} s` : seconds(s));

function bytes(size) {
  if (size < 1000) return `${size} B`;
  for (const unit of ["kB", "MB", "GB", "TB"]) {
    size /= 1000;
    if (size < 1000) return `${size.toPrecision(3)} ${unit}`;
  }
  return `${count(Math.round(size))} TB`;
}
const rate = (r) => (r === null ? "" : `${r < 10 ? r.toFixed(1) : count(Math.round(r))}/s`);

const two = (number) => String(number).padStart(2, "0");
function clock(time, digits = 0) {
  const date = new Date(time * 1000);
  const text = `${two(date.getHours())}:${two(date.getMinutes())}:${two(date.getSeconds())}`;
  return digits ? `${text}.${String(date.getMilliseconds()).padStart(3, "0").slice(0, digits)}` : text;
}
const day = (time) => {
  const date = new Date(time * 1000);
  return `${date.getFullYear()}-${two(date.getMonth() + 1)}-${two(date.getDate())}`;
};
const utc = (time) => new Date(time * 1000).toISOString();

/// What is over stays for a while, so that one sees that it was; afterwards, in a report, for good.
const GRAVE_S = 60;
const isBuried = (since, time) => model.about.mode !== "report" && time - since > GRAVE_S;

function nameOf(process) {
  if (process.node && process.node.name) return process.node.name;
  if (process.pid !== null && process.service) return `${process.service} ${process.pid}`;
  return process.boot_id.slice(0, 8);
}

/// Of a program that should have been heard of nobody knows what its workers do.
function workerState(worker, process, manager) {
  const state = process.worker_states[manager.id]?.[worker.id] ?? worker.state;
  if (process.is_silent && state !== "offline" && state !== "gave_up") return "unknown";
  return typeof state === "string" ? state : "restarting";
}
/// As messages count them.
const lifeOf = (worker) => worker.generation + 1;
const isLive = (state) => state !== "offline" && state !== "gave_up";
const WORDS = { gave_up: "given up", given_up: "given up" };
const word = (state) => WORDS[state] ?? state;
const DOTS = {
  up: "good", available: "good", busy: "busy", serving: "busy", restarting: "warn", offline: "gone", gave_up: "bad", unknown: "gone",
  suspect: "warn", draining: "warn", lost: "bad", rejected: "warn", given_up: "bad", ended: "gone",
};
/// The connection ends with the Manager.
const nodeState = (node, process, manager) => (manager.ended ? "ended" : process.is_silent ? "unknown" : node.state);
const isUp = (node) => ["up", "suspect", "draining"].includes(node.state);

/// Of a Manager: workers that compute, and workers that can.
function busyOf(process, manager) {
  const [busy, live] = process.busy[manager.id] ?? [0, 0];
  return [process.is_silent ? 0 : busy, live];
}

const items = (first, many) => (many === 1 ? `item ${first}` : `items ${first}..${first + many}`);
const chunk = (running) => `${running.function} ${items(running.index, running.items)}`;

/// Those that are there before those that have ended.
const ordered = (all) => [...all.filter((manager) => !manager.ended), ...all.filter((manager) => manager.ended)];

/// A node's own process belongs below the machine that a Manager knows by its name.
function served() {
  const byName = new Map(model.picture.processes.filter((it) => it.node && it.node.name).map((it) => [it.node.name, it]));
  const below = new Set();
  for (const [, manager] of managers()) {
    for (const node of Object.values(manager.nodes)) if (byName.has(node.name)) below.add(byName.get(node.name).id);
  }
  return { byName, below };
}

/// Managers of the picture, with their processes.
function* managers() {
  for (const process of model.picture.processes) {
    for (const manager of ordered(Object.values(process.managers))) yield [process, manager];
  }
}
