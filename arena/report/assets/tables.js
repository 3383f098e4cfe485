"use strict";
// The tables: the game that they show, their order, and the colour scheme.

document.getElementById("panel")?.addEventListener("change", (event) => {
  for (const part of document.querySelectorAll("[data-panel]")) {
    part.hidden = part.dataset.panel !== event.target.value;
  }
});

document.getElementById("scheme").addEventListener("click", () => {
  const root = document.documentElement;
  const chosen = root.dataset.scheme || (matchMedia("(prefers-color-scheme: dark)").matches ? "dark" : "light");
  root.dataset.scheme = chosen === "dark" ? "light" : "dark";
});

function cellValue(row, place) {
  const cell = row.cells[place];
  const text = cell.dataset.value ?? cell.textContent.trim();
  const number = Number.parseFloat(text.replaceAll(",", ""));
  return Number.isNaN(number) ? text : number;
}

function compare(a, b) {
  if (typeof a === "number" && typeof b === "number") return a - b;
  if (typeof a !== typeof b) return typeof a === "number" ? 1 : -1;
  return a.localeCompare(b);
}

function sortBy(table, header) {
  const place = header.cellIndex;
  const down = header.getAttribute("aria-sort") === "descending";
  for (const other of table.tHead.rows[0].cells) other.removeAttribute("aria-sort");
  header.setAttribute("aria-sort", down ? "ascending" : "descending");
  for (const body of table.tBodies) {
    const rows = [...body.rows].sort((a, b) => compare(cellValue(a, place), cellValue(b, place)));
    body.append(...(down ? rows : rows.reverse()));
  }
}

for (const table of document.querySelectorAll("table.sort")) {
  for (const header of table.tHead.rows[0].cells) {
    if (!header.textContent) continue;
    header.className += " sortable";
    header.tabIndex = 0;
    header.addEventListener("click", () => sortBy(table, header));
    header.addEventListener("keydown", (event) => {
      if (event.key === "Enter") sortBy(table, header);
    });
  }
}
