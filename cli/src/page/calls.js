// What is wrong, the figures at a glance, and the calls.

function drawConcerns() {
  const list = at("#concerns ul");
  const concerns = model.picture.concerns.map((concern) => ({ kind: concern.is_grave ? "bad" : "", text: concern.text }));
  if (model.broken) {
    const text = "The dashboard does not answer: it has ended, or the tunnel to it. This is what it said last; trying again.";
    concerns.unshift({ kind: "bad", text });
  }
  const calls = model.picture.processes.flatMap((process) => Object.values(process.jobs)).filter((job) => job.state === "running");
  if (model.about.mode === "report" && calls.length) {
    const text = `The log ends while ${plural(calls.length, "call")} ${calls.length === 1 ? "runs" : "run"}: the program went on, or ended without a word.`;
    concerns.push({ kind: "", text });
  }
  const shown = concerns.slice(0, 8);
  if (concerns.length > 8) shown.push({ kind: "", text: `and ${concerns.length - 8} more` });
  if (!shown.length) {
    const ended = model.picture.processes.flatMap((process) => Object.values(process.jobs));
    const failed = ended.filter((job) => job.state === "failure" || job.state === "timeout").length;
    const text = failed ? `Nothing is wrong now; ${plural(failed, "call")} failed.` : "Nothing is wrong.";
    shown.push({ kind: failed ? "" : "good", text });
  }
  const numbered = shown.map((concern, number) => ({ ...concern, number }));
  keyed(list, numbered, (concern) => concern.number, () => make("li"), (element, concern) => {
    setText(element, concern.text);
    setClass(element, concern.kind);
  });
  // Read out when it gets better or worse, not whenever a number in it changes.
  const grave = concerns.filter((concern) => concern.kind === "bad").length;
  setText(at("#said"), `${plural(grave, "grave concern")}, ${plural(concerns.length - grave, "other")}`);
}

function drawFigures() {
  let [busy, live, up, nodes, restarts, there, slots] = [0, 0, 0, 0, 0, 0, 0];
  const { below } = served();
  for (const [process, manager] of managers()) {
    for (const worker of Object.values(manager.workers)) restarts += worker.restarts;
    if (manager.ended) continue;
    // What a node's own log says of its workers is what Managers call chunks there.
    const [here, can] = below.has(process.id) ? [0, 0] : busyOf(process, manager);
    [busy, live] = [busy + here, live + can];
    for (const node of Object.values(manager.nodes)) {
      nodes += 1;
      if (!isUp(node)) continue;
      up += 1;
      there += Object.keys(node.running).length;
      slots += roomAt(manager, node);
    }
  }
  let [running, done, failed, retries] = [0, 0, 0, 0];
  for (const process of model.picture.processes) {
    for (const job of Object.values(process.jobs)) {
      running += job.state === "running" ? 1 : 0;
      [done, failed, retries] = [done + job.done, failed + job.failed, retries + job.retries];
    }
  }
  const figures = [
    ["calls running", running],
    ["workers busy", busy, live],
    ["machines connected", up, nodes, up < nodes ? "warn" : ""],
    ["chunks at machines", there, slots],
    ["items done", done],
    ["items failed", failed, null, failed ? "bad" : ""],
    ["items retried", retries],
    ["workers restarted", restarts, null, restarts ? "warn" : ""],
  ].filter(([label, , of]) => (label === "machines connected" || label === "chunks at machines" ? of > 0 || nodes > 0 : true));
  const create = () => make("div", "", make("div", "value", make("span"), make("span", "of")), make("div", "label"));
  keyed(at("#figures"), figures, ([label]) => label, create, (element, [label, value, of, kind]) => {
    setText(at(".value span", element), count(value));
    setText(at(".of", element), of === undefined || of === null ? "" : ` of ${count(of)}`);
    setText(at(".label", element), label);
    setClass(element, kind ?? "");
  });
}

const ENDED_SHOWN = 8, RUNNING_SHOWN = 50;
const calls = { all: false, open: new Set() };
const CHIPS = { running: "", success: "good", failure: "bad", timeout: "bad", cancelled: "warn", unknown: "warn" };
const STATES = { success: "complete", failure: "failed", timeout: "out of time", unknown: "ended, unknown" };

function drawCalls(time) {
  const all = [];
  for (const process of model.picture.processes) {
    for (const job of Object.values(process.jobs)) all.push({ key: `${process.id}:${job.id}`, process, job });
  }
  const running = all.filter(({ job }) => job.state === "running").sort((a, b) => a.job.submitted - b.job.submitted);
  const ended = all.filter(({ job }) => job.state !== "running").sort((a, b) => b.job.ended - a.job.ended);
  const shown = calls.all ? [...running, ...ended] : [...running.slice(0, RUNNING_SHOWN), ...ended.slice(0, ENDED_SHOWN)];
  const many = model.picture.processes.filter((process) => Object.keys(process.jobs).length).length > 1;
  heading("calls", all.length ? `${count(running.length)} running, ${count(ended.length)} ended` : "");
  setText(at("#calls .calm"), all.length ? "" : "No call was made yet.");
  keyed(at("#calls .calls"), shown, (call) => call.key, createCall, (element, call) => updateCall(element, call, many, time));
  const more = at("#calls .more");
  show(more, calls.all || shown.length < all.length);
  setText(more, calls.all ? "Show fewer" : `Show all ${count(all.length)}`);
}

function heading(id, text) {
  const title = at(`#${id}-title`);
  title.label ??= title.textContent;
  title.count ??= title.appendChild(make("span", "count"));
  setText(title.count, text ? ` ${text}` : "");
}

function createCall({ key }) {
  const button = make("button", "call",
    make("span", "name", make("span"), make("span", "muted")), make("span", "chip"),
    make("span", "track", make("i", "done"), make("i", "lost")),
    make("span", "number percent"), make("span", "number of"), make("span", "number rate"), make("span", "number left"),
    make("span", "number failed"), make("span", "number retries"), make("span", "why"));
  button.type = "button";
  button.addEventListener("click", () => {
    if (!calls.open.delete(key)) calls.open.add(key);
    redraw();
  });
  return make("li", "", button, make("div", "details", make("p"), make("dl")));
}

function updateCall(element, { key, process, job }, many, time) {
  const isRunning = job.state === "running";
  const isOpen = calls.open.has(key);
  const button = element.firstChild;
  setAttribute(button, "aria-expanded", isOpen);
  const [name, of] = at(".name", button).children;
  setText(name, job.function || "?");
  setText(of, ` call ${job.id}${many ? `, ${nameOf(process)}` : ""}`);
  setAttribute(at(".name", button), "title", `${job.function}, call ${job.id}`);
  const chip = at(".chip", button);
  setText(chip, STATES[job.state] ?? job.state);
  setClass(chip, `chip ${CHIPS[job.state] ?? ""}`);

  const isEndless = isRunning && (job.items === 0 || job.mode === "stream");
  const share = isEndless ? null : job.items ? Math.min(job.done / job.items, 1) : 1;
  const lost = job.items ? Math.min(job.failed / job.items, 1) : 0;
  const track = at(".track", button);
  setClass(track, `track ${job.state}${isEndless ? " endless" : ""}`);
  setAttribute(track, "aria-hidden", true); // the share is beside it
  width(track.children[0], share === null ? 0 : Math.max(share - lost, 0));
  width(track.children[1], share === null ? 0 : lost);

  setText(at(".percent", button), share === null ? "" : `${Math.floor(share * 100)} %`);
  setText(at(".of", button), isEndless ? `${count(job.done)} so far` : `${count(job.done)} of ${count(job.items)}`);
  setText(at(".rate", button), rate(job.rate));
  const took = (job.ended ?? time) - job.submitted;
  const left = isRunning && job.eta ? Math.max(job.eta[0] - (time - job.eta[1]), 0) : null;
  setText(at(".left", button), left !== null && left > 0 ? `${age(left)} left` : isRunning ? age(took) : seconds(took));
  setText(at(".failed", button), job.failed ? `${count(job.failed)} failed` : "");
  setClass(at(".failed", button), `number failed${job.failed ? " bad-text" : ""}`);
  setText(at(".retries", button), job.retries ? `${count(job.retries)} retried` : "");
  // The name is above it already.
  const why = (model.explanations.get(key) ?? "").replace(`call ${job.id} (${job.function}) `, "");
  setText(at(".why", button), isRunning && !isOpen ? why : "");

  const details = element.lastChild;
  show(details, isOpen);
  if (!isOpen) return;
  setText(details.firstChild, why ? `It ${why}.` : "");
  const facts = [
    ["program", nameOf(process)], ["manager", job.manager ?? "none: the calling thread"], ["mode", job.mode],
    ["made by", job.made_by === null ? null : `an item of worker ${job.made_by}`],
    ["submitted", `${day(job.submitted)} ${clock(job.submitted, 3)}`],
    ["began after", job.began === null ? null : seconds(job.began - job.submitted)],
    ["ended", job.ended === null ? null : `${day(job.ended)} ${clock(job.ended, 3)}`],
    [isRunning ? "runs for" : "took", isRunning ? age(took) : seconds(took)],
    ["items", isEndless ? `${count(job.items)} so far` : count(job.items)], ["done", count(job.done)],
    ["failed", count(job.failed)], ["retried", count(job.retries)], ["chunks", count(job.chunks)], ["rate", rate(job.rate)],
    ["computing", job.compute_s === null ? null : seconds(job.compute_s)],
    ["workers used", job.efficiency === null ? null : `${Math.round(job.efficiency * 100)} %`],
    ["last heard of", `${age(time - job.heard)} ago`], ["last error", job.error],
  ].filter(([, value]) => value !== null && value !== "");
  keyed(details.lastChild, facts, ([label]) => label, ([label]) => make("div", "", make("dt", "", label), make("dd")),
    (fact, [, value]) => setText(fact.lastChild, value));
}

function width(element, share) {
  const text = `${(share * 100).toFixed(2)}%`;
  if (element.style.width !== text) element.style.width = text;
}

at("#calls .more").addEventListener("click", () => {
  calls.all = !calls.all;
  redraw();
});
