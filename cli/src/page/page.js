// The whole, and where its data come from.

// Colours.

function remembered() {
  try {
    return localStorage.getItem("distfun-theme");
  } catch {
    return null; // a browser that keeps nothing
  }
}
function remember(theme) {
  try {
    if (theme) localStorage.setItem("distfun-theme", theme);
    else localStorage.removeItem("distfun-theme");
  } catch {
    // It holds until the page is closed.
  }
}

const wish = matchMedia("(prefers-color-scheme: dark)");
let chosen = remembered();
function scheme() {
  return chosen === "dark" || chosen === "light" ? chosen : wish.matches ? "dark" : "light";
}
function applyTheme() {
  setAttribute(document.documentElement, "data-theme", chosen === "dark" || chosen === "light" ? chosen : null);
  const other = scheme() === "dark" ? "light" : "dark";
  setText(at("#theme"), other === "dark" ? "Dark" : "Light");
  setAttribute(at("#theme"), "aria-label", `Show it ${other}`);
  readTheme();
  redraw();
}
at("#theme").addEventListener("click", () => {
  const next = scheme() === "dark" ? "light" : "dark";
  // What the system wishes need not be remembered, and goes on to follow it.
  chosen = next === (wish.matches ? "dark" : "light") ? null : next;
  remember(chosen);
  applyTheme();
});
wish.addEventListener("change", applyTheme);

// Drawing.

let isDue = false, isStreamDue = false;

/// Soon, once, however often it is asked for.
function redraw() {
  if (isDue) return;
  isDue = true;
  requestAnimationFrame(() => {
    isDue = isStreamDue = false;
    draw();
  });
}
function redrawStream() {
  if (isDue || isStreamDue) return;
  isStreamDue = true;
  requestAnimationFrame(() => {
    if (!isStreamDue) return;
    isStreamDue = false;
    if (model.picture) drawStream(now());
  });
}

function draw() {
  drawHeader();
  if (!model.picture) return;
  const begin = performance.now();
  const time = now();
  drawConcerns();
  drawFigures();
  drawCalls(time);
  drawStream(time);
  drawTree(time);
  drawStory();
  drawWorkers(time);
  drawNodes(time);
  drawFailures(time);
  drawShared(time);
  drawLosses();
  performance.clearMeasures("distfun.redraw");
  performance.measure("distfun.redraw", { start: begin });
}

function drawHeader() {
  const { about, picture, broken } = model;
  const [text, kind] = mode(about, broken);
  setText(at("#mode"), text);
  setClass(at("#mode"), `chip ${kind}`);
  if (!picture) return;
  const main = picture.processes.filter((process) => !process.node);
  const names = [...new Set((main.length ? main : picture.processes).map(nameOf))];
  const program = names.length > 3 ? `${names.slice(0, 3).join(", ")} and ${names.length - 3} more` : names.join(", ");
  setText(at("#program"), program);
  const isAll = isWhole(picture.losses);
  setText(at("#record"), isAll ? "record whole" : "record not whole");
  setClass(at("#record"), `chip ${isAll ? "good" : "warn"}`);
  const time = now();
  setText(at("#clock"), clock(time));
  setAttribute(at("#clock"), "datetime", utc(time));
  setAttribute(at("#clock"), "title", `${day(time)} ${clock(time)} (${utc(time)})`);
  let running = 0;
  for (const process of picture.processes) for (const job of Object.values(process.jobs)) running += job.state === "running" ? 1 : 0;
  const wrong = picture.concerns.length ? `${picture.concerns.length} ⚠ ` : "";
  const title = `${wrong}${running ? `${running} running` : "idle"} – ${names[0] ?? "distfun"}`;
  const shown = about.mode === "report" ? `${names[0] ?? "distfun"} – report` : title;
  if (document.title !== shown) document.title = shown;
  icon(broken || picture.concerns.some((it) => it.is_grave) ? "#d33a3a" : picture.concerns.length ? "#e0a021" : running ? "#3b7dd8" : "#2f9e5f");
}

function mode(about, broken) {
  if (about.mode === "report") return ["report", ""];
  if (broken) return ["no answer, trying again", "bad"];
  if (about.share !== null) return [`reading, ${Math.floor(about.share * 100)} %`, "warn"];
  if (!model.picture) return ["connecting", ""];
  if (about.mode === "replay") {
    if (about.has_ended) return ["replay, at the end", ""];
    return [about.speed > 0 ? `replay ×${about.speed}` : "replay, still", ""];
  }
  if (about.has_ended) return ["the log has ended", ""];
  return about.speed > 0 ? ["● live", "good"] : ["live, all has ended", ""];
}

/// A dot in the tab: whether a look is worth while.
let iconIs = "";
function icon(fill) {
  if (iconIs === fill) return;
  iconIs = fill;
  const canvas = document.createElement("canvas");
  canvas.width = canvas.height = 32;
  const pen = canvas.getContext("2d");
  pen.fillStyle = fill;
  pen.beginPath();
  pen.arc(16, 16, 13, 0, 2 * Math.PI);
  pen.fill();
  at('link[rel="icon"]').href = canvas.toDataURL();
}

// Data.

const STORY_KEPT = 1000;

function take(picture, isWhole) {
  if (isWhole) [model.spans, model.story] = [[], []];
  [model.picture, model.received] = [picture, performance.now()];
  // Whoever gives the work comes before those that do it.
  picture.processes.sort((a, b) => Boolean(a.node) - Boolean(b.node) || a.id - b.id);
  model.explanations = new Map(picture.explanations.map((it) => [`${it.process}:${it.job}`, it.text]));
  for (const span of picture.spans) model.spans.push(span);
  for (const told of picture.story) model.story.push(told);
  takeSpans(picture.spans, isWhole);
  if (model.spans.length > model.about.chunks) dropSpans(model.spans.splice(0, model.spans.length - model.about.chunks));
  if (model.story.length > STORY_KEPT) model.story.splice(0, model.story.length - STORY_KEPT);
  picture.spans = picture.story = null;
  redraw();
}

function connect() {
  const events = new EventSource("/events");
  const heard = (name, act) => events.addEventListener(name, (event) => {
    model.broken = false;
    act(JSON.parse(event.data));
  });
  heard("about", (told) => {
    model.about = told;
    redraw();
  });
  heard("whole", (picture) => take(picture, true));
  heard("news", (picture) => take(picture, false));
  events.addEventListener("error", () => {
    model.broken = true;
    redraw();
    events.close();
    setTimeout(connect, 2000);
  });
}

addEventListener("resize", redrawStream);
applyTheme();
const embedded = JSON.parse(document.getElementById("picture").textContent);
if (embedded) take(embedded, true);
else connect();

// Time goes on, also while nothing is told; what is not seen is not drawn.
if (model.about.mode !== "report") {
  let isSeen = true;
  new IntersectionObserver(([entry]) => (isSeen = entry.isIntersecting)).observe(stream.canvas);
  setInterval(() => {
    if (!document.hidden && model.picture && model.about.speed > 0 && !model.broken) redraw();
  }, 1000);
  setInterval(() => {
    if (isSeen && !document.hidden && stream.follow && goesOn() && !model.broken) redrawStream();
  }, 250);
}
