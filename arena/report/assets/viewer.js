"use strict";
// The replay. The page's address is its only state: links, keys and filters change the
// address, and show() then updates the view.

const stage = document.getElementById("stage");
const KEYS = ["game", "player", "outcome", "episode", "move"];
/** Milliseconds per position in automatic play. */
const PACE = 900;
let state = {};
let shown = null;
let timer = null;
let inside = true;

function address(values) {
  const kept = KEYS.filter((key) => values[key] !== undefined && values[key] !== "");
  return `#${new URLSearchParams(kept.map((key) => [key, values[key]]))}`;
}

/** Change the address. trail: also add an entry to the browser's history. */
function go(changes, trail = false) {
  inside = true;
  const next = address({ ...state, ...changes });
  if (trail) location.hash = next;
  else location.replace(next);
}

async function show() {
  const requested = new URLSearchParams(location.hash.slice(1));
  if (location.hash.length > 1 && !KEYS.some((key) => requested.has(key))) return; // the address of a section
  const next = Object.fromEntries(KEYS.map((key) => [key, requested.get(key) ?? ""]));
  if (KEYS.slice(0, 3).some((key) => next[key] !== state[key])) listEpisodes(next);
  state = next;
  const jump = !inside;
  inside = false;
  await showEpisode(state.episode || listed[0]?.id);
  const top = matchMedia("(max-width: 800px)").matches ? stage : document.getElementById("replays");
  if (jump) top.scrollIntoView({ behavior: "instant" });
}

/** Show the move of an episode that the state names. */
async function showEpisode(id) {
  if (!id) return refuse("No episode matches.");
  const episode = byId.get(id);
  if (!episode) return refuse(`This page has no episode ${visible(id)}`);
  if (shown?.episode !== episode) {
    stop();
    let data;
    try {
      data = await loadMoves(episode);
    } catch (error) {
      return refuse(`The moves cannot be unpacked. Try a newer browser. ${error}`);
    }
    if ((state.episode || listed[0]?.id) !== id) return; // another episode was requested meanwhile
    shown = build(episode, data ?? { steps: [], absent: true });
  }
  markEpisode(id);
  showStep(Math.min(Math.max(Number.parseInt(state.move, 10) || 1, 1), shown.steps.length + 1));
}

function refuse(text) {
  stop();
  shown = null;
  stage.replaceChildren(make("p", { class: "card empty" }, text));
}

/** Build the elements that stay while one episode is shown. */
function build(episode, data) {
  const steps = data.steps ?? [];
  const view = { episode, data, steps, frame: make("div", { class: "frame" }), answer: make("div", { id: "answer" }) };
  view.output = make("output", { role: "status" });
  view.slider = make("input", { type: "range", min: 1, max: steps.length + 1, "aria-label": "Move", oninput: () => go({ episode: episode.id, move: view.slider.value }) });
  const button = (text, label, act) => make("button", { type: "button", title: label, "aria-label": label, onclick: act }, text);
  view.play = button("▶", "Play", toggle);
  view.moves = make("nav", { class: "moves", "aria-label": "Moves" }, ...steps.map((step, place) => moveRow(episode, step, place)), endRow(episode, steps.length));
  view.players = make("ul", { class: "players" }, ...episode.agents.map((_, seat) => playerItem(episode, seat)));
  const status = episode.status === "finished" ? null : make("span", { class: `tag ${episode.status}` }, episode.status);
  stage.replaceChildren(
    make("header", {}, make("h3", {}, ...breakable(index.games[episode.game]), ` #${episode.number + 1}`), status, make("small", {}, `${episode.plies} plies`)),
    view.players,
    make("div", { class: "panes" },
      make("div", { class: "card sticky" }, view.frame,
        make("div", { class: "controls" },
          button("⇤", "First (Shift ←)", () => step(-Infinity)), button("←", "Back (←)", () => step(-1)), view.play,
          button("→", "Forward (→)", () => step(1)), button("⇥", "Last (Shift →)", () => step(Infinity)), view.output),
        view.slider, view.moves),
      view.answer));
  return view;
}

function playerItem(episode, seat) {
  const outcome = episode.outcomes[seat];
  const result = episode.returns ? `return ${episode.returns[seat]}` : null;
  return make("li", { "data-seat": seat }, make("small", {}, `seat ${seat}`), make("b", {}, ...breakable(index.agents[episode.agents[seat]].name)),
    outcome && make("span", { class: `tag ${outcome}` }, outcome), result && make("small", {}, result));
}

function moveRow(episode, step, place) {
  const sign = step.status === "ok" ? null : make("span", { class: `tag ${step.status}` }, step.status);
  const seat = step.seat < 0 ? "⚂" : String(step.seat);
  return make("a", { href: address({ ...state, episode: episode.id, move: place + 1 }), title: seatName(episode, step.seat) },
    make("span", { class: "ply" }, String(step.ply)), make("small", {}, seat), make("span", {}, step.text ? visible(step.text) : "–"), sign);
}

function endRow(episode, count) {
  return make("a", { href: address({ ...state, episode: episode.id, move: count + 1 }) }, make("span", { class: "ply" }), make("small", {}), make("span", {}, "end"));
}

function showStep(number) {
  const { steps, episode, data } = shown;
  shown.number = number;
  const current = steps[number - 1];
  shown.output.textContent = current ? `${number} / ${steps.length}` : `end of ${steps.length}`;
  shown.slider.value = number;
  [...shown.moves.children].forEach((link, place) => {
    if (place === number - 1) {
      link.setAttribute("aria-current", "step");
      const box = shown.moves;
      if (link.offsetTop < box.scrollTop || link.offsetTop + link.offsetHeight > box.scrollTop + box.clientHeight) box.scrollTop = link.offsetTop - box.clientHeight / 2;
    } else link.removeAttribute("aria-current");
  });
  for (const item of shown.players.children) item.classList.toggle("turn", current !== undefined && Number(item.dataset.seat) === current.seat);
  shown.frame.replaceChildren(drawPosition(number));
  shown.answer.replaceChildren(...(current ? answer(episode, current, data) : ending(episode, data)));
}

/** Draw the position before this move; at the end, the final position. */
function drawPosition(number) {
  const { steps, data, episode } = shown;
  const ply = steps[number - 1]?.ply ?? Infinity;
  const before = steps.findLast((step) => step.ply < ply && step.board !== undefined)?.board;
  const text = steps[number - 1]?.board ?? data.board ?? before;
  if (text === undefined) return make("small", {}, "no board");
  const played = steps[number - 1]?.text !== undefined;
  const after = played ? (steps.find((step) => step.ply > ply)?.board ?? data.board) : undefined;
  return boardPicture(index.games[episode.game], text, before, after);
}

function step(count) {
  if (!shown) return;
  go({ episode: shown.episode.id, move: Math.min(Math.max(shown.number + count, 1), shown.steps.length + 1) });
}

function toggle() {
  if (timer) return stop();
  timer = setInterval(() => (shown && shown.number <= shown.steps.length ? step(1) : stop()), PACE);
  shown.play.textContent = "❚❚";
}

function stop() {
  clearInterval(timer);
  timer = null;
  if (shown) shown.play.textContent = "▶";
}

function turnPage(count) {
  const next = listed[listed.indexOf(shown?.episode) + count];
  if (next) go({ episode: next.id, move: undefined }, true);
}

addEventListener("keydown", (event) => {
  if (!shown || event.ctrlKey || event.metaKey || event.altKey || /^(INPUT|SELECT|TEXTAREA)$/.test(event.target.tagName)) return;
  const act = {
    ArrowLeft: () => step(event.shiftKey ? -Infinity : -1),
    ArrowRight: () => step(event.shiftKey ? Infinity : 1),
    n: () => turnPage(1),
    p: () => turnPage(-1),
    " ": event.target === document.body && toggle,
  }[event.key];
  if (act) {
    event.preventDefault();
    act();
  }
});
document.getElementById("viewer").addEventListener("click", () => (inside = true), true);
addEventListener("hashchange", show);
inside = location.hash.length < 2;
show();
