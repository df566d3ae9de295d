"use strict";
// The page works without this script, which adds sorting and filtering to its tables and opens what a link points to.

const UNITS = {k: 1e3, M: 1e6, G: 1e9, T: 1e12, P: 1e15};

function sortKey(cell) {
  if (cell.dataset.sort) return Number(cell.dataset.sort);
  const text = cell.textContent.trim();
  const match = text.replaceAll(",", "").replace("−", "-").match(/^[+±p]? ?(-?[\d.]+)(?: ([kMGTP])\b)?/);
  if (match) return Number(match[1]) * (UNITS[match[2]] ?? 1);
  return text === "–" || text === "" ? null : text;
}

function compare(a, b) {
  if (a === null || b === null) return (a === null) - (b === null);  // what is missing comes last
  const numbers = typeof a === "number" && typeof b === "number";
  return numbers ? a - b : String(a).localeCompare(String(b));
}

function addSorting(table) {
  const heads = [...table.tHead.rows[0].cells];
  heads.forEach((head, column) => {
    const button = document.createElement("button");
    button.append(...head.childNodes);
    head.append(button);
    button.addEventListener("click", () => {
      const isNumber = head.classList.contains("number");
      const current = head.getAttribute("aria-sort");
      const order = current ? (current === "descending" ? "ascending" : "descending") : isNumber ? "descending" : "ascending";
      heads.forEach((other) => other.removeAttribute("aria-sort"));
      head.setAttribute("aria-sort", order);
      const sign = order === "ascending" ? 1 : -1;
      const keyed = [...table.tBodies[0].rows].map((row) => [sortKey(row.cells[column]), row]);
      keyed.sort(([a], [b]) => (a === null || b === null ? compare(a, b) : sign * compare(a, b)));
      table.tBodies[0].append(...keyed.map(([, row]) => row));
    });
  });
}

function addFilter(box) {
  const input = document.createElement("input");
  const rows = [...box.querySelector("tbody").rows];
  input.type = "search";
  input.placeholder = `filter ${rows.length} rows`;
  input.setAttribute("aria-label", "Show only rows with this text");
  input.addEventListener("input", () => {
    const words = input.value.toLowerCase().split(/\s+/);
    for (const row of rows) row.hidden = !words.every((word) => row.textContent.toLowerCase().includes(word));
  });
  box.prepend(input);
}

function openTarget() {
  const target = document.getElementById(decodeURIComponent(location.hash.slice(1)));
  for (let part = target; part; part = part.parentElement) if (part.tagName === "DETAILS") part.open = true;
  if (target) target.scrollIntoView();
}

document.querySelectorAll("table[data-sortable]").forEach(addSorting);
document.querySelectorAll(".table-box[data-filter]").forEach(addFilter);
if (matchMedia("(max-width: 74.99rem)").matches) document.querySelector(".contents").open = false;
addEventListener("hashchange", openTarget);
if (location.hash) openTarget();
