"use strict";
// The live page. Its address says what is shown: #episode=KEY or #game=ID.

const place = (id) => document.getElementById(id);
let source = null;
let options = null;

/** Follow a stream of the server, in place of the one before. */
function follow(path, show) {
  source?.close();
  source = new EventSource(path);
  source.onmessage = (event) => show(JSON.parse(event.data));
  source.onerror = () => {
    // The browser tries again by itself, but not after a refusal.
    if (source.readyState === EventSource.CLOSED) place("stage").replaceChildren(make("p", { class: "empty" }, "This game is no longer on the server."));
  };
}

async function send(path, body) {
  const answer = await fetch(path, { method: "POST", headers: { "content-type": "application/json" }, body: JSON.stringify(body) });
  place("problem").textContent = answer.ok ? "" : visible(await answer.text());
  return answer.ok ? answer : null;
}

function title(episode) {
  const name = episode.title ?? episode.game ?? `episode ${episode.episode.slice(0, 12)}`;
  return visible(episode.number === undefined ? name : `${name} #${episode.number}`);
}

function episodeItem(episode) {
  const shown = new URLSearchParams(location.hash.slice(1)).get("episode") === episode.episode;
  const detail = episode.replies === undefined ? episode.status : `${episode.replies} replies`;
  return make("li", {}, make("a", { href: `#${new URLSearchParams({ episode: episode.episode })}`, "aria-current": shown && "true" },
    make("b", {}, title(episode)), " ", make("small", {}, detail), make("br"), ...breakable((episode.agents ?? []).join(" · "))));
}

let listed = { running: [], latest: [], problem: "" };
function list() {
  const empty = (text) => make("li", {}, make("small", {}, visible(text)));
  for (const name of ["running", "latest"]) place(name).replaceChildren(...(listed[name].length ? listed[name].map(episodeItem) : [empty("none")]));
  if (listed.problem) place("running").replaceChildren(empty(listed.problem));
}

function players(view) {
  return make("ul", { class: "players" }, ...(view.agents ?? []).map((name, seat) =>
    make("li", { class: view.turn === seat && "turn" }, make("small", {}, `seat ${seat}`), make("b", {}, ...breakable(name)),
      view.returns && make("small", {}, `return ${view.returns[seat]}`))));
}

function moveItem(view, move) {
  const who = move.seat === null ? "chance" : (view.agents?.[move.seat] ?? `seat ${move.seat}`);
  return make("li", {}, make("small", {}, ...breakable(who)), " ", make("span", {}, visible(move.text)));
}

function showGame(view, act) {
  const board = view.board === undefined || view.board === null ? make("small", {}, "no board") : boardPicture(view.game ?? "", view.board, view.before);
  const moves = make("ol", { id: "moves" }, ...(view.moves ?? []).map((move) => moveItem(view, move)));
  const buttons = (view.legal ?? []).map((one) => make("button", { type: "button", title: visible(one.note), "data-action": one.action, onclick: () => act(one.action, view.request) }, visible(one.text)));
  place("stage").replaceChildren(
    make("header", {}, make("h3", {}, title(view)), " ", make("span", { id: "status", class: `tag ${view.status}`, role: "status" }, view.status)),
    players(view),
    make("div", { class: "frame" }, board),
    make("div", { class: "actions" }, ...buttons),
    view.problem || view.reason ? make("p", { class: "problem" }, visible(view.problem || view.reason)) : "",
    moves,
    view.rules ? make("details", {}, make("summary", {}, "Rules"), make("pre", {}, visible(view.rules))) : "");
  moves.scrollTop = moves.scrollHeight;
}

function show() {
  const wanted = new URLSearchParams(location.hash.slice(1));
  const [episode, game] = [wanted.get("episode"), wanted.get("game")];
  if (episode) follow(`/episodes/${encodeURIComponent(episode)}`, showGame);
  else if (game) {
    const path = `/games/${encodeURIComponent(game)}`;
    follow(path, (view) => showGame(view, (action, request) => send(`${path}/actions`, { action, request })));
  }
  list();
}

function offerSeats() {
  const game = options.games.find((one) => one.name === place("game").value);
  place("seat").replaceChildren(...Array.from({ length: game.players }, (_, seat) => make("option", { value: String(seat) }, String(seat))));
}

async function offer() {
  options = await (await fetch("/games")).json();
  place("game").replaceChildren(...options.games.map((one) => make("option", { value: one.name, selected: one.name === "tic_tac_toe" }, one.title)));
  place("opponent").append(...options.opponents.map((name) => make("option", { value: name }, name)));
  offerSeats();
  const answer = await fetch("/models"); // slow where there is no router
  if (answer.ok) place("opponent").append(...(await answer.json()).map((name) => make("option", { value: name, "data-model": true }, visible(name))));
  else place("problem").textContent = visible(await answer.text());
}

place("game").addEventListener("change", offerSeats);
place("play").addEventListener("submit", async (event) => {
  event.preventDefault();
  const opponent = place("opponent").selectedOptions[0];
  const answer = await send("/games", { game: place("game").value, seat: Number(place("seat").value), opponent: opponent.value, model: "model" in opponent.dataset });
  if (answer) location.hash = new URLSearchParams({ game: (await answer.json()).id });
});

/** Open the streams. A hidden page has none, because a browser allows a site only six connections. */
let lists = null;
function connect() {
  lists?.close();
  source?.close();
  if (document.hidden) return;
  lists = new EventSource("/episodes");
  lists.onmessage = (event) => {
    listed = JSON.parse(event.data);
    list();
  };
  show();
}
addEventListener("hashchange", show);
document.addEventListener("visibilitychange", connect);
offer();
connect();
