"use strict";
// The list of episodes that match the three filters.

const filters = document.getElementById("filters");
const list = document.getElementById("episodes");
const SIGNS = { win: "✓", draw: "=", loss: "✕", failed: "!" };
/** The number of rows that are added to the list at a time. */
const PAGE = 100;
let listed = [];

function option(value, text) {
  return make("option", { value }, text);
}
filters.game.append(...index.games.map((game) => option(game, game)));
filters.player.append(...index.agents.map((agent) => option(agent.name, agent.name)));

/** Whether the chosen player (any player, if none is chosen) had the chosen outcome in the chosen game. */
function fits(episode, { game, player, outcome }) {
  if (game && index.games[episode.game] !== game) return false;
  const seats = episode.agents.map((agent) => !player || index.agents[agent].name === player);
  if (!seats.includes(true)) return false;
  if (!outcome) return true;
  if (outcome === "illegal") return episode.illegal !== undefined && seats.some((chosen, seat) => chosen && episode.illegal[seat]);
  if (outcome === "forfeited") return episode.status === "forfeited" && seats.some((chosen, seat) => chosen && [seat, undefined].includes(episode.loser));
  return episode.outcomes.some((result, seat) => seats[seat] && result === outcome);
}

function listEpisodes(state) {
  for (const name of ["game", "player", "outcome"]) filters[name].value = state[name] ?? "";
  listed = index.episodes.filter((episode) => fits(episode, state));
  document.getElementById("count").textContent = `${listed.length.toLocaleString("en")} of ${index.episodes.length.toLocaleString("en")} episodes`;
  list.replaceChildren();
  addRows(Math.max(PAGE, listed.findIndex((episode) => episode.id === state.episode) + 1), state);
}

function addRows(count, state) {
  list.querySelector("button")?.parentElement.remove();
  const start = list.children.length;
  for (const episode of listed.slice(start, start + count)) list.append(make("li", {}, row(episode, state)));
  if (start + count < listed.length) {
    list.append(make("li", {}, make("button", { type: "button", onclick: () => addRows(PAGE, state) }, "Show more")));
  }
}

function row(episode, state) {
  const seats = episode.agents.map((agent, seat) =>
    make("span", { class: `seat ${episode.outcomes[seat] ?? ""}` }, make("i", {}, SIGNS[episode.outcomes[seat]] ?? "·"), make("span", {}, ...breakable(index.agents[agent].name))));
  const status = episode.status === "finished" ? null : make("span", { class: `tag ${episode.status}` }, episode.status);
  return make("a", { href: address({ ...state, episode: episode.id, move: undefined }), "data-id": episode.id },
    make("span", { class: "head" }, make("span", {}, ...breakable(index.games[episode.game]), ` #${episode.number + 1}`), status), ...seats);
}

/** Mark the shown episode in the list. */
function markEpisode(id) {
  for (const link of list.querySelectorAll("a")) {
    const chosen = link.dataset.id === id;
    if (chosen) {
      link.setAttribute("aria-current", "true");
      const top = link.offsetTop - list.offsetTop;
      if (top < list.scrollTop || top + link.offsetHeight > list.scrollTop + list.clientHeight) list.scrollTop = top - list.clientHeight / 3;
    } else link.removeAttribute("aria-current");
  }
}

filters.addEventListener("change", () => {
  const { game, player, outcome } = filters;
  go({ game: game.value, player: player.value, outcome: outcome.value, episode: undefined, move: undefined }, true);
});
filters.addEventListener("submit", (event) => event.preventDefault());
