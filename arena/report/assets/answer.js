"use strict";
// The texts about one move and about the end of an episode.

const seatName = (episode, seat) => (seat < 0 ? "chance" : visible(index.agents[episode.agents[seat]].name));

const card = (title, note, ...content) => make("section", { class: "card" }, make("h4", {}, title, note && make("small", {}, note)), ...content);
const block = (text) => make("pre", { class: "text" }, visible(text));
const count = (number) => (number === null ? "unknown" : number);
const length = (text) => `${text.length.toLocaleString("en")} characters`;

function answer(episode, step, data) {
  const chosen = step.text === undefined ? null : make("code", {}, visible(step.text));
  const said = step.seat < 0
    ? ["Chance: ", chosen]
    : [make("b", {}, seatName(episode, step.seat)), chosen && (step.status === "ok" ? " plays " : " gets the random move "), chosen,
      make("span", { class: `tag ${step.status}` }, step.status), step.policy && make("span", { class: "tag" }, `then: ${step.policy}`),
      step.attempt && make("small", {}, `answer ${step.attempt + 1} of this turn`)];
  const facts = [
    ["model", step.model], ["latency", step.ms && `${Math.round(step.ms).toLocaleString("en")} ms`],
    ["tokens", step.tokens && `${count(step.tokens[0])} in, ${count(step.tokens[1])} out${step.tokens[2] ? ` (${step.tokens[2]} reasoning)` : ""}`],
    ["cost", step.cost ?? (step.model && "unknown")],
    ["served by", step.served], ["enforced by", step.enforcement], ["ended by", step.end],
    ["attempts", step.attempts > 1 && String(step.attempts)],
    ["regret", step.regret !== undefined && String(Number(step.regret.toFixed(3)))],
    ["best", step.best && (step.best.includes(step.text) ? "this move" : step.best.join(", "))],
  ].filter(([, value]) => value).map(([name, value]) => make("span", {}, `${name} `, make("b", {}, visible(value))));
  return [
    make("section", { class: "card" }, make("p", { class: "said" }, ...said.filter(Boolean)),
      step.problem && make("p", { class: `problem ${step.status}` }, visible(step.problem)),
      facts.length > 0 && make("p", { class: "facts" }, ...facts)),
    step.reasoning && card("Reasoning", length(step.reasoning), block(step.reasoning)),
    step.reply && card("Reply", length(step.reply), block(step.reply)),
    data.brief && card("Prompt, reasoning, reply", null, make("small", {}, "left out to keep this page small; see the results file")),
    step.legal && card("Legal actions", String(step.legal.length), make("div", { class: "chips" },
      ...step.legal.map(([action, text]) => make("span", { class: [action === step.action && "chosen", step.best?.includes(text) && "best"].filter(Boolean).join(" "), title: step.best?.includes(text) && "best" }, visible(text))))),
    step.prompt && card("Prompt", length(step.prompt), block(step.prompt)),
  ].filter(Boolean);
}

function ending(episode, data) {
  const words = { finished: "The game is over.", truncated: "Stopped at max_plies: the returns so far are the result.", forfeited: "Forfeited.", failed: "The episode failed and has no result." };
  return [make("section", { class: "card" }, make("p", { class: "said" }, make("b", {}, words[episode.status])),
    episode.reason && make("p", { class: `problem ${episode.status === "failed" ? "error" : ""}` }, visible(episode.reason)),
    data.problem && make("p", { class: "problem error" }, `OpenSpiel does not confirm this result: ${visible(data.problem)}`),
    data.absent && make("p", {}, "The moves are left out to keep this page small; see the results file."),
    make("p", { class: "facts" }, ...episode.agents.map((_, seat) =>
      make("span", {}, `${seatName(episode, seat)} `, make("b", {}, episode.outcomes[seat] ?? "played"), episode.returns ? ` (${episode.returns[seat]})` : ""))))];
}
