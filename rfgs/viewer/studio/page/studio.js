// The studio's page. It shows what /state says and asks for what its buttons say; it keeps nothing of its own.
// Whatever comes from prompts, names and files is put in as text (textContent), never as HTML.
"use strict";

const $ = (id) => document.getElementById(id);
const EVERY = 1000, UNSEEN = 5000, TURN = 350; // Milliseconds.
const WORDS = {
  finished: "finished", stopped: "stopped early", running: "at work", starting: "begins", failed: "failed",
  interrupted: "broken off", gone: "its process is gone", elsewhere: "at work in another program",
};
let state = null, cards = new Map(), picked = new Set(), shown = null, timer = 0;
let from = null; // The run that the next prompt starts from.
// `shown` is what the stage has: {page, runs, live, number}.

function make(tag, text, parent, more = {}) {
  const element = Object.assign(document.createElement(tag), more);
  element.textContent = text;
  parent.append(element);
  return element;
}

async function ask(what, content) {
  const response = await fetch(what, {
    method: "POST", headers: {"Content-Type": "application/json"}, body: JSON.stringify(content),
  });
  const told = await response.json();
  if (!response.ok) throw Object.assign(new Error(told.problem), told);
  refresh();
  return told;
}

function tell(problem) { // What a button could not do.
  $("lost").textContent = problem.message || String(problem);
  $("lost").hidden = false;
}

async function attempt(what, content) {
  try {
    $("lost").hidden = true;
    return await ask(what, content);
  } catch (problem) {
    tell(problem);
    return null;
  }
}

// The form ------------------------------------------------------------------------------------------------------------

async function go(anyWords = false) {
  if ($("go").disabled) return; // The one before is on its way: who presses Return twice wants one object.
  $("answer").hidden = true;
  $("go").disabled = true;
  try {
    if (state === null) await refresh(); // Before that there is no model to choose; who types fast waits for it.
    if (state === null) throw new Error("The studio does not answer yet; press Go again.");
    const told = await ask("go", {
      prompt: $("prompt").value, backend: $("backend").value, quality: $("quality").value,
      seed: Number($("seed").value || 0), any_words: anyWords, start: from,
    });
    $("prompt").value = "";
    startFrom(null);
    if (told.remark) answer(told.remark);
  } catch (problem) {
    answer(problem.message, problem);
  }
  $("go").disabled = false;
}

function startFrom(run) {
  from = run && run.id;
  $("from").hidden = !run;
  if (!run) return;
  $("from").querySelector("b").textContent = `${run.prompt} (${run.name})`;
  $("prompt").value = run.prompt; // The most part of the next prompt is often that of this one.
  $("prompt").select();
  $("ask").scrollIntoView({block: "start", behavior: "smooth"});
  $("prompt").focus({preventScroll: true});
}

function answer(text, {word, near} = {}) {
  const box = $("answer");
  box.textContent = text;
  box.hidden = false;
  if (word === undefined) return;
  const buttons = make("div", "", box, {className: "buttons"});
  for (const other of near) {
    make("button", other, buttons, {type: "button", title: `Put “${other}” in its place`}).onclick = () => {
      const at = $("prompt").value.toLowerCase().indexOf(word.toLowerCase());
      const old = $("prompt").value;
      $("prompt").value = at < 0 ? other : old.slice(0, at) + other + old.slice(at + word.length);
      box.hidden = true;
      $("prompt").focus();
    };
  }
  make("button", "Try all the same", buttons, {type: "button"}).onclick = () => go(true);
}

function choices(select, options) {
  if (select.options.length) return;
  for (const [value, text] of options) select.append(new Option(text, value));
}

// The stage -----------------------------------------------------------------------------------------------------------

function show(next) {
  if (shown === null || next.page !== shown.page) $("frame").src = next.page;
  shown = next;
  $("told").hidden = true;
  $("frame").hidden = $("stage").hidden = false;
}

function hide() {
  shown = null;
  $("frame").removeAttribute("src");
  $("stage").hidden = true;
}

async function open(ids, byItself = false) {
  if (ids.length === 1 && state.now && state.now.run === ids[0]) {
    watch();
  } else {
    const before = shown;
    const told = await attempt("open", {runs: ids, slow: document.cookie.includes("rfgs-software=1")});
    // Meanwhile the next run may have come, and what nobody asked for is not to take its place.
    if (told && (!byItself || shown === before)) show({page: told.page, runs: ids, live: false, byItself});
  }
  render();
  if (shown && !byItself) $("stage").scrollIntoView({block: "start", behavior: "smooth"});
}

function watch() {
  const now = state.now;
  if (now && now.page) show({page: now.page, runs: [now.run], live: true, number: now.number, prompt: now.prompt});
}

function stage() {
  const now = state.now;
  if (shown && shown.live) {
    if (now && now.number === shown.number) {
      shown.runs = [now.run];
    } else if (!shown.over) {
      over(); // Before the next run is looked for, which may have begun since the page last asked.
    }
  }
  if (now && now.page && now.number !== stage.seen) {
    stage.seen = now.number; // Once: who closes it, or has opened something else, is left alone.
    if (shown === null || shown.over || shown.byItself) watch();
  }
  if (shown === null) return;
  const runs = shown.runs.map((id) => state.runs.find((run) => run.id === id)).filter(Boolean);
  if (!shown.live && runs.length < shown.runs.length) return hide(); // It was deleted.
  const there = state.views.includes(shown.page);
  if (shown.there && !there) closed();
  shown.there = there; // What has just been opened, the state at hand does not know yet.
  $("title").textContent = runs.length ? runs.map((run) => run.prompt).join(" · ") : shown.prompt || "";
  const at = shown.live && now && now.number === shown.number;
  $("what").textContent = at ? progress(now) : runs.length === 1 ? facts(runs[0]) : "side by side";
  $("stop").hidden = !at;
  $("onward").hidden = !at || !now.paused || now.stops > 0;
  $("stop").textContent = at && now.stops ? "Stop at once" : "Stop";
}

function stop() {
  if (state.now) attempt("stop", {number: state.now.number, stops: state.now.stops});
}

function onward() {
  if (state.now) attempt("go_on", {number: state.now.number});
}

function over() { // The run that the stage shows has ended.
  shown.over = true;
  const run = state.runs.find((one) => one.id === shown.runs[0]);
  if (run && run.has_splats && !run.words) return open([run.id], true);
  $("frame").removeAttribute("src");
  $("frame").hidden = true;
  $("told").textContent = ended(run);
  $("told").hidden = false;
  if (run && run.goes_on) {
    make("div", "", $("told"), {className: "buttons"});
    make("button", "Go on", $("told").lastChild).onclick = () => attempt("resume", {run: run.id});
  }
}

function closed() { // Others have opened so many that this view had to make room.
  $("frame").removeAttribute("src");
  $("frame").hidden = true;
  $("told").textContent = "This view was closed, since many others are open.";
  $("told").hidden = false;
  make("div", "", $("told"), {className: "buttons"});
  make("button", "Open again", $("told").lastChild).onclick = () => open(shown.runs);
}

function ended(run) {
  if (!run) return "This run has ended before there was anything to keep.";
  const far = run.steps ? ` after step ${run.done} of ${run.steps}` : "";
  return `${run.words || "It has ended"}${run.words ? " It ended" : ""}${far}.` +
    (run.goes_on ? " What it has come to is kept: Go on takes it up at its last checkpoint." : "");
}

function progress(now) {
  if (now.stops) return "stopping, and writing what there is";
  if (now.paused) return "paused"; // At which step its own page says; what it prints is seldom the newest.
  if (!now.steps) return "getting ready";
  const [done, total] = now.steps;
  if (now.left) return `past step ${done} of ${total}`; // Of its last checkpoint: it tells another studio, which is gone, more.
  return done < total ? `step ${done} of ${total}` : "writing its files";
}

// The runs ------------------------------------------------------------------------------------------------------------

function span(seconds) {
  const whole = Math.round(seconds);
  return whole < 90 ? `${whole} s` : whole < 5400 ? `${Math.round(whole / 60)} min` : `${(whole / 3600).toFixed(1)} h`;
}

function facts(run) {
  const when = new Date(run.when * 1000).toLocaleString([], {dateStyle: "medium", timeStyle: "short"});
  const steps = run.steps && run.state !== "finished" ? `step ${run.done} of ${run.steps}` : "";
  return [WORDS[run.state] || run.state, steps, when, run.seconds && run.state !== "running" ? `took ${span(run.seconds)}` : "",
    [run.quality, run.seed && `seed ${run.seed}`, run.backend !== "tiny-sd3" && run.backend].filter(Boolean).join(", ")]
    .filter(Boolean).join(" · ");
}

function card(run) {
  const element = $("card").content.firstElementChild.cloneNode(true);
  const part = (name) => element.querySelector("." + name);
  element.dataset.run = run.id;
  part("picture").onclick = part("open").onclick = () => open([run.id]);
  part("resume").onclick = () => attempt("resume", {run: run.id});
  part("restart").onclick = () => startFrom(state.runs.find((one) => one.id === run.id));
  part("export").onclick = () => formats(run.id);
  part("delete").onclick = () => sure(run.id);
  part("pick").firstElementChild.onchange = (event) => {
    event.target.checked ? picked.add(run.id) : picked.delete(run.id);
    render();
  };
  return {element, part, was: "", picture: ""};
}

function fill(one, run) {
  const {part} = one, now = state.now && state.now.run === run.id;
  const waits = state.waiting.some((wish) => wish.name === run.name);
  const busy = now || waits || run.state === "elsewhere";
  const said = JSON.stringify([run, now, waits, picked.has(run.id), picked.size]);
  if (said === one.was) return;
  one.was = said;
  part("prompt").textContent = run.prompt;
  part("facts").textContent = facts(run);
  part("words").textContent = run.words || (run.state === "gone" ? "Its process is gone; Go on takes it up again." : "");
  part("words").hidden = !part("words").textContent;
  part("open").disabled = part("picture").disabled = !(run.has_splats || now || run.picture);
  part("export").disabled = part("restart").disabled = !run.has_splats;
  part("delete").disabled = busy;
  part("delete").title = now ? "Stop it first" : "Delete this run";
  part("resume").disabled = busy;
  part("resume").textContent = waits ? "Waits" : "Go on";
  part("resume").title = run.goes_on ? "From where it stopped" : `For as many steps again: ${2 * run.done} in all`;
  part("pick").hidden = !run.has_splats;
  part("pick").firstElementChild.checked = picked.has(run.id);
  part("pick").firstElementChild.disabled = !picked.has(run.id) && picked.size >= 4;
  part("picture").classList.toggle("none", !run.picture);
  if (run.picture !== one.picture) turn(one, run);
}

function turn(one, run) { // A strip of views, shown one at a time; under the mouse or a finger it turns.
  one.picture = run.picture;
  if (!run.picture) return;
  const image = new Image(), view = one.part("picture").firstElementChild;
  image.src = `picture/${run.id}?${encodeURIComponent(run.picture)}`;
  image.onload = () => {
    const count = Math.max(Math.round(image.naturalWidth / image.naturalHeight), 1);
    view.style.backgroundImage = `url("${image.src}")`;
    view.style.backgroundSize = `${100 * count}% 100%`;
    let at = 0, ticking = 0;
    const place = () => { view.style.backgroundPosition = `${count > 1 ? 100 * at / (count - 1) : 0}% 0`; };
    const button = one.part("picture");
    button.onpointerenter = () => {
      clearInterval(ticking);
      ticking = setInterval(() => { at = (at + 1) % count; place(); }, TURN);
    };
    button.onpointerleave = () => { clearInterval(ticking); at = 0; place(); };
    place();
  };
}

function sure(id) {
  const run = state.runs.find((one) => one.id === id);
  $("question").textContent = `Delete “${run.prompt}” (${run.name}) and all its files? There is no way back.`;
  $("yes").onclick = async () => {
    $("sure").close();
    const told = await attempt("delete", {run: id});
    if (told && told.remark) tell(told.remark);
  };
  $("no").onclick = () => $("sure").close();
  $("sure").showModal();
}

function formats(id) {
  const run = state.runs.find((one) => one.id === id);
  $("exported").textContent = run.prompt;
  $("suffixes").replaceChildren();
  for (const [suffix, summary] of state.formats) {
    const button = make("button", suffix, $("suffixes"));
    make("small", summary, button);
    button.onclick = () => download(id, suffix);
  }
  $("done").onclick = () => $("formats").close();
  $("formats").showModal();
}

async function download(id, suffix) {
  const buttons = [...$("suffixes").children];
  buttons.forEach((button) => { button.disabled = true; });
  $("exported").textContent = `Making the ${suffix} …`;
  try {
    const response = await fetch(`export/${id}/${suffix}`);
    if (!response.ok) throw new Error((await response.json()).problem);
    const name = decodeURIComponent(response.headers.get("Content-Disposition").split("''")[1]);
    const link = document.createElement("a");
    link.href = URL.createObjectURL(await response.blob());
    link.download = name;
    link.click();
    setTimeout(() => URL.revokeObjectURL(link.href), 60000);
    $("exported").textContent = `${name} is downloaded.`;
  } catch (problem) {
    $("exported").textContent = problem.message;
  }
  buttons.forEach((button) => { button.disabled = false; });
}

// What there is -------------------------------------------------------------------------------------------------------

function render() {
  if (state === null) return;
  choices($("backend"), state.backends.map(([name]) => [name, name]));
  const summary = Object.fromEntries(state.backends)[$("backend").value] || "";
  $("summary").textContent = summary;
  if (!$("quality").options.length) {
    choices($("quality"), state.qualities.map((name) => [name, name]));
    $("quality").value = "normal";
  }
  $("prompt").maxLength = state.longest;
  queue();
  const there = new Set(state.runs.map((run) => run.id));
  if (from && !there.has(from)) startFrom(null);
  picked.forEach((id) => { if (!there.has(id)) picked.delete(id); });
  for (const [id, one] of cards) if (!there.has(id)) { one.element.remove(); cards.delete(id); }
  state.runs.forEach((run, index) => {
    if (!cards.has(run.id)) cards.set(run.id, card(run));
    const one = cards.get(run.id);
    fill(one, run);
    if ($("runs").children[index] !== one.element) $("runs").insertBefore(one.element, $("runs").children[index] || null);
  });
  $("empty").hidden = state.runs.length > 0 || state.now !== null || state.waiting.length > 0;
  $("compare").hidden = picked.size < 2;
  $("compare").textContent = `Compare ${picked.size} side by side`;
  stage();
}

function queue() {
  const said = JSON.stringify([state.waiting, state.now && [state.now.number, state.now.paused, progress(state.now)], state.failed]);
  if (said === queue.was) return;
  queue.was = said;
  $("waiting").replaceChildren();
  if (state.now) {
    const item = make("li", "", $("waiting"));
    make("small", progress(state.now), make("span", state.now.prompt, item));
    if (state.now.paused && !state.now.stops) { // Whoever paused it may be gone, and all others wait for it.
      make("button", "Go on", item).onclick = onward;
      make("button", "Stop", item).onclick = stop;
    }
  }
  for (const wish of state.waiting) {
    const item = make("li", "", $("waiting"));
    const how = `waits · ${wish.quality}, seed ${wish.seed}` + (wish.start && ` · from ${wish.start}`);
    make("small", wish.resumes ? "waits, to go on" : how, make("span", wish.prompt, item));
    make("button", "Remove", item).onclick = () => attempt("cancel", {number: wish.number});
  }
  $("line").hidden = !state.now && !state.waiting.length;
  $("failed").replaceChildren();
  for (const one of state.failed) {
    const box = make("div", `“${one.prompt}”: ${one.words} `, $("failed"));
    make("button", "Dismiss", box).onclick = () => attempt("cancel", {number: one.number});
  }
}

async function refresh() {
  clearTimeout(timer);
  const number = refresh.number = (refresh.number || 0) + 1;
  try {
    const response = await fetch("state");
    if (!response.ok) throw new Error(response.status === 403 ? "denied" : "broken");
    const news = await response.json();
    if (number !== refresh.number) return; // A newer question is on its way.
    state = news;
    if (refresh.lost) $("lost").hidden = true;
    refresh.lost = false;
    render();
  } catch (problem) {
    if (number !== refresh.number) return;
    refresh.lost = true;
    tell(problem.message === "denied"
      ? "The studio was started again: open the address that it prints now."
      : "The studio does not answer. If it has ended, start it again with: rfgs studio. Nothing is lost: all runs are in their folders.");
  }
  timer = setTimeout(refresh, document.hidden ? UNSEEN : EVERY);
}

$("backend").onchange = render;
$("ask").onsubmit = (event) => { event.preventDefault(); go(); };
$("prompt").onkeydown = (event) => {
  if (event.key === "Enter" && !event.shiftKey) { event.preventDefault(); go(); }
};
$("from").querySelector("button").onclick = () => startFrom(null);
$("stop").onclick = stop;
$("onward").onclick = onward;
$("close").onclick = hide;
$("compare").onclick = () => open([...picked]);
document.addEventListener("visibilitychange", () => { if (!document.hidden) refresh(); });
refresh();
