"use strict";
// The episodes: an index in memory, and moves that are unpacked when they are shown.

const index = JSON.parse(document.getElementById("index").textContent);
const byId = new Map(index.episodes.map((episode) => [episode.id, episode]));
const parts = document.querySelectorAll("script.part");
const unpacked = new Map();
/** The number of parts of half a megabyte that stay unpacked. */
const KEPT = 4;

async function unpack(number) {
  const raw = Uint8Array.from(atob(parts[number].textContent), (char) => char.charCodeAt(0));
  const stream = new Blob([raw]).stream().pipeThrough(new DecompressionStream("gzip"));
  return new Response(stream).json();
}

/** Return the moves of an episode of the index; null if the page does not contain them. */
async function loadMoves(episode) {
  if (episode.part === undefined) return null;
  const part = unpacked.get(episode.part) ?? unpack(episode.part);
  unpacked.delete(episode.part);
  unpacked.set(episode.part, part);
  if (unpacked.size > KEPT) unpacked.delete(unpacked.keys().next().value);
  return (await part)[episode.place ?? 0];
}
