"use strict";
// Boards: drawn as a picture for the games in BOARDS, shown as text for all others.

const CELL = 40;
const PIECES = { k: "♚", q: "♛", r: "♜", b: "♝", n: "♞", p: "♟" };
const LETTERS = "abcdefghijklmnopqrstuvwxyz";
const down = (row, rows) => String(rows - row);

/** For each game: the signs of its cells, the functions that draw cells and pieces, and the labels. */
const BOARDS = {
  tic_tac_toe: { signs: ".xo", cell: plainCell, piece: mark, column: (i) => i, row: (i) => i },
  connect_four: { signs: ".xo", cell: well, piece: disc, column: (i) => i },
  breakthrough: { signs: ".bw", cell: square, piece: pawn, column: (i) => LETTERS[i], row: down },
  chess: { signs: ".pnbrqkPNBRQK", cell: square, piece: chessman, column: (i) => LETTERS[i], row: down },
  hex: { signs: ".xyzXopqO", cell: hexagon, piece: () => null, column: (i) => LETTERS[i], row: (i) => i + 1, slant: true },
};

/** Return the rows of cells in a board's text; null if the text is not a board of this kind. */
function parseCells(kind, text) {
  const fen = /^\s*((?:[1-8pnbrqkPNBRQK]+\/){7}[1-8pnbrqkPNBRQK]+) [wb] /.exec(text);
  if (fen) text = fen[1].replace(/\d/g, (count) => ".".repeat(count)).replaceAll("/", "\n");
  const rows = [];
  for (const line of text.split("\n")) {
    const cells = [...line.replace(/^\s*\d+(?!\d)/, "").replace(/\s+\d+\s*$/, "").replace(/[\s|]/g, "")];
    if (cells.length > 1 && cells.every((cell) => kind.signs.includes(cell))) rows.push(cells);
  }
  const width = rows[0]?.length;
  return rows.length > 1 && rows.every((row) => row.length === width) ? rows : null;
}

/** Draw `text` as a picture. Cells that differ from `before` get a ring; new pieces of `after` are faint. */
function boardPicture(game, text, before, after) {
  const name = game.split("(")[0];
  const kind = Object.hasOwn(BOARDS, name) ? BOARDS[name] : null;
  const rows = kind && parseCells(kind, text);
  if (!rows) return make("pre", {}, visible(text));
  const was = before && parseCells(kind, before);
  const next = after && parseCells(kind, after);
  const left = kind.row ? 20 : 2;
  const lean = kind.slant ? CELL / 2 : 0;
  const rise = kind.slant ? CELL * 0.866 : CELL;
  const width = left + rows[0].length * CELL + lean * (rows.length - 1) + 2;
  const height = 20 + rows.length * rise + (kind.slant ? CELL * 0.3 : 2);
  const picture = draw("svg", { class: `board ${name}`, viewBox: `0 0 ${width} ${height}`, role: "img", "aria-label": text });
  const rings = [];
  rows.forEach((cells, row) => {
    const y = 18 + row * rise;
    if (kind.row) {
      picture.append(draw("text", { class: "label", x: left - 8 + row * lean, y: y + CELL / 2 + 4, "text-anchor": "middle" }, String(kind.row(row, rows.length))));
    }
    cells.forEach((sign, column) => {
      const x = left + column * CELL + row * lean;
      if (row === 0) picture.append(draw("text", { class: "label", x: x + CELL / 2, y: 12, "text-anchor": "middle" }, String(kind.column(column))));
      const place = (part, faint) => part && picture.append(draw("g", { transform: `translate(${x} ${y})`, class: faint && "ghost" }, part));
      place(kind.cell(sign, row, column));
      if (kind.slant) for (const edge of edges(row, column, rows.length - 1, cells.length - 1)) place(edge);
      const coming = next?.[row]?.[column];
      const ring = (name) => rings.push(draw("rect", { class: name, x: x + 2, y: y + 2, width: CELL - 4, height: CELL - 4, rx: 5 }));
      if (sign !== ".") place(kind.piece(sign));
      if (coming !== undefined && owner(coming) !== owner(sign)) {
        if (coming !== ".") place(kind.piece(coming) ?? kind.cell(coming, row, column), true);
        ring("next");
      } else if (was && owner(was[row]?.[column] ?? sign) !== owner(sign)) {
        ring("last");
      }
    });
  });
  picture.append(...rings);
  return picture;
}

/** OpenSpiel uses other letters for Hex stones that are connected to an edge. */
const owner = (sign) => ({ y: "x", z: "x", X: "x" })[sign] ?? sign;

function plainCell() {
  return draw("rect", { class: "cell", width: CELL, height: CELL });
}
function square(_, row, column) {
  return draw("rect", { class: (row + column) % 2 ? "dark" : "light", width: CELL, height: CELL });
}
function well() {
  return draw("g", {}, draw("rect", { class: "plate", width: CELL + 0.5, height: CELL + 0.5 }), draw("circle", { class: "well", cx: 20, cy: 20, r: 15 }));
}
function disc(sign) {
  return draw("circle", { class: sign === "x" ? "one" : "two", cx: 20, cy: 20, r: 15 });
}
function mark(sign) {
  if (sign === "o") return draw("circle", { class: "stroke two", cx: 20, cy: 20, r: 10.5 });
  return draw("path", { class: "stroke one", d: "M10 10 L30 30 M30 10 L10 30" });
}
function pawn(sign) {
  return draw("circle", { class: sign === "w" ? "white" : "black", cx: 20, cy: 20, r: 12 });
}
function chessman(sign) {
  const white = sign === sign.toUpperCase();
  return draw("text", { class: `glyph ${white ? "white" : "black"}`, x: 20, y: 31, "text-anchor": "middle" }, PIECES[sign.toLowerCase()]);
}
/** x connects top and bottom, o connects left and right. */
function edges(row, column, lastRow, lastColumn) {
  return [
    row === 0 && ["x", "0,8.5 20,-3.1 40,8.5"],
    row === lastRow && ["x", "0,31.5 20,43.1 40,31.5"],
    column === 0 && ["o", row === lastRow ? "0,8.5 0,31.5" : "0,8.5 0,31.5 20,43.1"],
    column === lastColumn && ["o", row === 0 ? "40,31.5 40,8.5" : "40,31.5 40,8.5 20,-3.1"],
  ].filter(Boolean).map(([name, points]) => draw("polyline", { class: `edge ${name}`, points }));
}
function hexagon(sign) {
  const side = "xyzX".includes(sign) ? "hexone" : "opqO".includes(sign) ? "hextwo" : "";
  return draw("polygon", { class: `cell ${side}`, points: "20,-3.1 40,8.5 40,31.5 20,43.1 0,31.5 0,8.5" });
}
