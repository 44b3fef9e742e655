// Sorts tables by the head of a column, and filters their rows by a text.
(() => {
  "use strict";
  const number = /^[−-]?[\d,]*\.?\d+(e[+-]?\d+)?/;

  // What is absent comes last, then words, whatever the direction.
  function key(text) {
    if (text === "–" || text === "") return [2, 0];
    const found = text.match(number);
    if (!found) return [1, text];
    return [0, Number(found[0].replace("−", "-").replaceAll(",", ""))];
  }

  function compare(one, other, sign) {
    const [[kind, a], [otherKind, b]] = [key(one), key(other)];
    if (kind !== otherKind) return kind - otherKind;
    if (kind === 1) return sign * a.localeCompare(b, undefined, { numeric: true });
    return sign * (a - b);
  }

  function sort(table, column) {
    const heads = [...table.tHead.rows[0].cells];
    const up = heads[column].ariaSort !== "ascending";
    heads.forEach((head) => head.removeAttribute("aria-sort"));
    heads[column].setAttribute("aria-sort", up ? "ascending" : "descending");
    const text = (row) => row.cells[column].textContent.trim();
    const rows = [...table.tBodies[0].rows];
    rows.sort((a, b) => compare(text(a), text(b), up ? 1 : -1));
    table.tBodies[0].append(...rows);
  }

  function filtered(table) {
    const rows = [...table.tBodies[0].rows];
    const bar = document.createElement("div");
    const input = document.createElement("input");
    const count = document.createElement("span");
    bar.className = "filter";
    input.type = "search";
    input.placeholder = "filter rows";
    input.setAttribute("aria-label", "filter rows");
    count.setAttribute("aria-live", "polite");
    input.addEventListener("input", () => {
      const words = input.value.toLowerCase().split(/\s+/).filter(Boolean);
      for (const row of rows) {
        const text = row.textContent.toLowerCase();
        row.hidden = !words.every((word) => text.includes(word));
      }
      const left = rows.filter((row) => !row.hidden).length;
      count.textContent = words.length ? `${left} of ${rows.length}` : "";
    });
    bar.append(input, count);
    table.parentElement.before(bar);
  }

  for (const table of document.querySelectorAll(".scroll table")) {
    [...table.tHead.rows[0].cells].forEach((head, column) => {
      const button = document.createElement("button");
      button.append(...head.childNodes);
      button.addEventListener("click", () => sort(table, column));
      head.append(button);
    });
    if (table.tBodies[0].rows.length > 5) filtered(table);
  }
  document.documentElement.dataset.tables = document.querySelectorAll("th button").length;
})();
