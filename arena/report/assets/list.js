"use strict";
// Which episodes are listed: those that the three filters let through.

const filters = document.getElementById("filters");
const list = document.getElementById("episodes");
const SIGNS = { win: "✓", draw: "=", loss: "✕", failed: "!" };
/** So many rows are added to the list at once. */
const PAGE = 100;
let listed = [];

function option(value, text) {
  return make("option", { value }, text);
}
filters.game.append(...index.games.map((game) => option(game, game)));
filters.player.append(...index.agents.map((agent) => option(agent.name, agent.name)));

/** Whether the chosen player (or anybody, if none is chosen) came to the chosen outcome. */
function fits(episode, { game, player, outcome }) {
  if (game && index.games[episode.game] !== game) return false;
  const seats = episode.agents.map((agent) => !player || index.agents[agent].name === player);
  if (!seats.includes(true)) return false;
  if (!outcome) return true;
  if (outcome === "illegal") return episode.bad !== undefined && seats.some((mine, seat) => mine && episode.bad[seat]);
  if (outcome === "forfeited") return episode.status === "forfeited" && seats.some((mine, seat) => mine && [seat, undefined].includes(episode.loser));
  return episode.outcomes.some((found, seat) => seats[seat] && found === outcome);
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

/** Mark the episode that is shown. */
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
