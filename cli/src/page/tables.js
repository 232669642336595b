// Tables, the story, and what the record lacks.

const ROWS_SHOWN = 100;

/// `columns`: title, what is shown, and what it is sorted by if that is a number.
function table(id, empty, columns, rowsOf) {
  const section = at(`#${id}`);
  const calm = make("p", "calm"), body = make("tbody"), more = make("button", "more");
  const sort = { by: null, down: false, all: false };
  const heads = columns.map(([title, , number], by) => {
    const button = make("button", "", title);
    button.type = "button";
    button.addEventListener("click", () => {
      if (sort.by !== by) [sort.by, sort.down] = [by, Boolean(number)];
      else if (sort.down === Boolean(number)) sort.down = !sort.down;
      else sort.by = null; // as it came
      redraw();
    });
    return make("th", number ? "number" : "", button);
  });
  heads.forEach((head) => setAttribute(head, "scope", "col"));
  more.type = "button";
  more.addEventListener("click", () => {
    sort.all = !sort.all;
    redraw();
  });
  const frame = make("div", "table", make("table", "", make("thead", "", make("tr", "", ...heads)), body));
  setAttribute(frame, "tabindex", 0);
  setAttribute(frame, "role", "region");
  setAttribute(frame, "aria-labelledby", `${id}-title`);
  section.append(calm, frame, more);
  return (time) => {
    let rows = rowsOf(time);
    heading(id, rows.length ? count(rows.length) : "");
    setText(calm, rows.length ? "" : empty);
    show(frame, rows.length > 0);
    heads.forEach((head, by) => setAttribute(head, "aria-sort", sort.by === by ? (sort.down ? "descending" : "ascending") : null));
    if (sort.by !== null) {
      const [, text, number] = columns[sort.by];
      const of = (row) => (number ? number(row, time) ?? -1 : String(text(row, time)));
      const known = rows.map((row) => [of(row), row]);
      known.sort(([a], [b]) => (a < b ? -1 : a > b ? 1 : 0) * (sort.down ? -1 : 1));
      rows = known.map(([, row]) => row);
    }
    const shown = sort.all ? rows : rows.slice(0, ROWS_SHOWN);
    show(more, rows.length > ROWS_SHOWN);
    setText(more, sort.all ? `Show ${ROWS_SHOWN}` : `Show all ${count(rows.length)}`);
    const create = () => make("tr", "", ...columns.map(([, , number, kind]) => make("td", number ? "number" : kind ?? "")));
    keyed(body, shown, (row) => row.key, create, (element, row) => {
      columns.forEach(([, text], column) => {
        const cell = element.children[column], value = text(row, time) ?? "";
        if (typeof value !== "object") {
          setText(cell, value);
          if (cell.className === "cut") setAttribute(cell, "title", value);
          return;
        }
        // A state, with its mark.
        if (!cell.firstChild) cell.append(make("span"), " ", make("span"));
        setClass(cell.firstChild, `dot ${value.dot}`);
        cell.firstChild.style.display = "inline-block";
        setText(cell.lastChild, value.text);
      });
    });
  };
}

const some = (number, text = count) => (number ? text(number) : "");

const drawWorkers = table("workers", "No workers here.", [
  ["worker", (row) => `${row.prefix}${row.worker.kind === "gpu" ? "gpu " : ""}${row.worker.id}`, null, "short"],
  ["state", (row) => ({ dot: DOTS[row.state], text: word(row.state) }), null, "short"],
  ["for", (row, time) => age(time - row.since), (row, time) => time - row.since],
  ["computes", (row) => (row.running ? chunk(row.running) : ""), null, "cut"],
  ["call", (row) => row.running?.job ?? "", (row) => row.running?.job],
  ["chunks", (row) => some(row.worker.chunks), (row) => row.worker.chunks],
  ["computed", (row, time) => some(row.computed, seconds), (row) => row.computed],
  ["life", (row) => lifeOf(row.worker), (row) => row.worker.generation],
  ["restarts", (row) => some(row.worker.restarts), (row) => row.worker.restarts],
  ["last error", (row) => row.worker.error ?? "", null, "text"],
], (time) => {
  const rows = [];
  const alive = [...managers()].filter(([, manager]) => !manager.ended || !isBuried(manager.ended.at, time));
  const many = alive.filter(([, manager]) => Object.keys(manager.workers).length).length > 1;
  for (const [process, manager] of alive) {
    for (const worker of Object.values(manager.workers)) {
      const state = workerState(worker, process, manager);
      if (state === "offline" && isBuried(worker.since, time)) continue;
      const running = state === "busy" ? worker.running : null;
      const prefix = many ? `${nameOf(process)}, ${manager.id}: ` : "";
      const computed = worker.busy_s + (running ? Math.max(time - running.since, 0) : 0);
      const since = state === "busy" && running ? running.since : worker.since;
      rows.push({ key: `${process.id}/${manager.id}/${worker.id}`, prefix, worker, state, running, computed, since });
    }
  }
  return rows;
});

const drawNodes = table("nodes", "No other machines: everything runs here.", [
  ["machine", (row) => row.prefix + row.node.machine, null, "short"],
  ["name", (row) => row.node.name],
  ["state", (row) => ({ dot: DOTS[row.state], text: row.state === "up" ? "connected" : word(row.state) }), null, "short"],
  ["for", (row, time) => age(time - row.node.since), (row, time) => time - row.node.since],
  ["busy", (row) => `${Math.min(Object.keys(row.node.running).length, row.room)} of ${row.room}`, (row) => Object.keys(row.node.running).length],
  ["chunks", (row) => some(row.node.chunks), (row) => row.node.chunks],
  ["computed", (row) => some(row.node.busy_s, seconds), (row) => row.node.busy_s],
  ["lost", (row) => some(row.node.losses), (row) => row.node.losses],
  ["requeued", (row) => some(row.node.requeued), (row) => row.node.requeued],
  ["shared data", (row) => some(row.node.shared_bytes, bytes), (row) => row.node.shared_bytes],
  ["round trip", (row) => (row.node.rtt_s === null ? "" : seconds(row.node.rtt_s)), (row) => row.node.rtt_s],
  ["version", (row) => row.node.version],
  ["last error", (row) => row.node.error ?? "", null, "text"],
], (time) => {
  const rows = [];
  const alive = [...managers()].filter(([, manager]) => !manager.ended || !isBuried(manager.ended.at, time));
  const many = alive.filter(([, manager]) => Object.keys(manager.nodes).length).length > 1;
  for (const [process, manager] of alive) {
    for (const node of Object.values(manager.nodes)) {
      const prefix = many ? `${nameOf(process)}, ${manager.id}: ` : "";
      rows.push({ key: `${process.id}/${manager.id}/${node.id ?? node.machine}`, prefix, node, room: roomAt(manager, node), state: nodeState(node, process, manager) });
    }
  }
  return rows;
});

const drawFailures = table("failures", "Nothing has failed.", [
  ["kind", (row) => row.kind, null, "short"],
  ["of", (row) => row.of, null, "cut"],
  ["failed", (row) => some(row.failed), (row) => row.failed],
  ["retried", (row) => some(row.retried), (row) => row.retried],
  ["last", (row) => clock(row.last), (row) => row.last],
  ["where", (row) => row.place],
  ["code", (row) => row.code ?? ""],
  ["what was said last", (row) => row.text, null, "text"],
], () => model.picture.failures.map((row) => ({ key: JSON.stringify([row.kind, row.of]), ...row })).reverse());

const drawShared = table("shared", "No shared data.", [
  ["program", (row) => row.program, null, "short"],
  ["key", (row) => row.name],
  ["size", (row) => bytes(row.bytes), (row) => row.bytes],
  ["holders", (row) => count(row.count), (row) => row.count],
  ["for", (row, time) => age(time - row.since), (row, time) => time - row.since],
], () => model.picture.processes.flatMap((process) => Object.entries(process.shared).map(
  ([name, shared]) => ({ key: `${process.id}/${name}`, program: nameOf(process), name, ...shared }),
)));

const LINES_SHOWN = 200;
const story = { all: false, text: "", level: 0 };
const LEVELS = { ERROR: 2, WARN: 1 };

function drawStory() {
  const isWanted = (told) => (Object.hasOwn(LEVELS, told.level) ? LEVELS[told.level] : 0) >= story.level
    && (!story.text || told.text.toLowerCase().includes(story.text) || told.name.includes(story.text));
  const wanted = [];
  for (let index = model.story.length - 1; index >= 0; index -= 1) if (isWanted(model.story[index])) wanted.push(model.story[index]);
  const shown = story.all ? wanted : wanted.slice(0, LINES_SHOWN);
  heading("story", model.story.length ? `${count(wanted.length)}${wanted.length < model.story.length ? ` of ${count(model.story.length)}` : ""}` : "");
  setText(at("#story .calm"), wanted.length ? "" : model.story.length ? "No line is like that." : "Nothing was told yet.");
  const names = new Map(model.picture.processes.map((process) => [process.id, nameOf(process)]));
  keyed(at("#story .story"), shown, (told) => `${told.number} ${told.at}`, (told) => {
    const element = make("li", told.level, make("time", "", clock(told.at)), make("span", "level", told.level), make("span", "text", told.text));
    setAttribute(element, "title", `${utc(told.at)}\n${told.name}\n${names.get(told.process) ?? ""}`);
    return element;
  }, () => {});
  const more = at("#story .more");
  show(more, wanted.length > LINES_SHOWN);
  setText(more, story.all ? `Show ${LINES_SHOWN}` : `Show all ${count(wanted.length)}`);
}

at("#story .more").addEventListener("click", () => {
  story.all = !story.all;
  redraw();
});
at("#story input").addEventListener("input", (event) => {
  story.text = event.target.value.toLowerCase();
  redraw();
});
at("#story select").addEventListener("change", (event) => {
  story.level = Number(event.target.value);
  redraw();
});

function isWhole(losses) {
  return losses.unreadable + losses.missing + losses.dropped === 0;
}

function drawLosses() {
  const { losses, first, now: last } = model.picture;
  const paragraphs = [];
  const lost = [
    [losses.missing, "missing"], [losses.dropped, "dropped by a program that said more than its log could take"],
    [losses.unreadable, "that are no lines of a log"],
  ].filter(([many]) => many > 0).map(([many, what]) => `${count(many)} ${what}`);
  paragraphs.push(`${plural(losses.lines, "line")} read${losses.duplicates ? `, ${count(losses.duplicates)} of them twice` : ""}. `
    + (lost.length ? `The record is not whole: ${lost.join(", ")}.` : "The record is whole: no line is missing."));
  const cut = [];
  if (losses.spans_cut) cut.push(plural(losses.spans_cut, "earlier chunk"));
  if (losses.cut) cut.push(`${count(losses.cut)} calls, workers or others`);
  paragraphs.push(cut.length ? `Left out to bound what is kept: ${cut.join(", and ")}.` : "Nothing was left out.");
  if (first !== null) paragraphs.push(`From ${utc(first)} to ${utc(last)}; times are shown in this browser's zone.`);
  paragraphs.push(`distfun ${model.about.version}: ${model.about.logs.join(", ")}. Read only: nothing here changes anything.`);
  const numbered = paragraphs.map((text, number) => ({ text, number }));
  keyed(at("#losses"), numbered, (it) => it.number, () => make("p"), (element, it) => setText(element, it.text));
}
