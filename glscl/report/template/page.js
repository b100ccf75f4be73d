// Tables whose rows a reader may sort and search, and what paper needs.
"use strict";

const SEARCHED = 10;  // rows from which a table has a field to search in

function key(cell) {
  const text = cell.textContent.trim().replace(/,(?=\d{3})/g, "").replace(/^\u2212/, "-");
  const number = parseFloat(text);
  return text === "\u2013" ? null : isNaN(number) ? text.toLowerCase() : number;
}

function compare(a, b) {
  if (typeof a === typeof b) return a < b ? -1 : a > b ? 1 : 0;
  return typeof a === "number" ? -1 : 1;
}

function sort(table, column, heading) {
  const upwards = heading.getAttribute("aria-sort") === "descending";
  const rows = [...table.tBodies[0].rows].map(row => [key(row.cells[column]), row]);
  const [known, unknown] = [rows.filter(row => row[0] !== null), rows.filter(row => row[0] === null)];
  known.sort((a, b) => upwards ? compare(a[0], b[0]) : compare(b[0], a[0]));
  table.querySelectorAll("th[aria-sort]").forEach(other => other.removeAttribute("aria-sort"));
  heading.setAttribute("aria-sort", upwards ? "ascending" : "descending");
  table.tBodies[0].append(...[...known, ...unknown].map(row => row[1]));
}

function search(table, words) {
  for (const row of table.tBodies[0].rows) {
    const text = row.textContent.toLowerCase();
    row.hidden = !words.every(word => text.includes(word));
  }
}

for (const table of document.querySelectorAll("table.results")) {
  const rows = table.tBodies[0].rows.length;
  if (rows < 3) continue;
  table.querySelectorAll("thead th").forEach((heading, column) => {
    const button = document.createElement("button");
    button.append(...heading.childNodes);
    button.title = "Sort by this column";
    button.onclick = () => sort(table, column, heading);
    heading.append(button);
  });
  if (rows < SEARCHED) continue;
  const field = document.createElement("input");
  Object.assign(field, {type: "search", className: "search", placeholder: `Search ${rows} rows`});
  field.setAttribute("aria-label", "Show the rows that have these words");
  field.oninput = () => search(table, field.value.toLowerCase().split(/\s+/));
  table.closest(".scroll").before(field);
}

// Where the bar of pages scrolls, on a phone, the current page is in sight.
const here = document.querySelector("nav [aria-current]");
if (here) here.closest("ul").scrollLeft = here.offsetLeft - 40;

// Paper cannot be scrolled or opened: what is wider is made smaller, and what is folded is shown.
const PAPER = 680;  // pixels between the margins of A4 and Letter
const undo = [];
addEventListener("beforeprint", () => {
  for (const details of document.querySelectorAll("details:not(.log, [open])")) {
    details.open = true;
    undo.push(() => details.open = false);
  }
  for (const plot of document.querySelectorAll(".plotly-graph-div")) {
    plot.style.zoom = Math.min(1, PAPER / plot.offsetWidth);
    undo.push(() => plot.style.zoom = "");
  }
});
addEventListener("afterprint", () => undo.splice(0).forEach(back => back()));
