// Draws the model's probabilities: a column for every time step, a row for every symbol.

import { percent } from "./result.js";

const FAINTEST = 0.01;
const MOST_ROWS = 16;
const INK = [61, 109, 240];
const BLANK_INK = [160, 156, 150];

/** Draws the matrix into an element; pointer and keys select a time step. */
export function drawHeatmap(plot, readout, matrix) {
  const rows = shownRows(matrix);
  const steps = matrix.probabilities.length;
  const heat = plot.querySelector(".heat");
  heat.style.setProperty("--rows", rows.length);
  heat.querySelector(".symbols").replaceChildren(...rows.map((row) => label(matrix.symbols[row])));
  paint(heat.querySelector("canvas"), matrix, rows);

  const cursor = plot.querySelector(".cursor");
  const hidden = matrix.symbols.length - rows.length;
  const rest = `What the model saw in ${steps} steps` +
    (hidden ? `; ${hidden} symbols below 1 % are left out.` : ".");
  let step = Math.floor(steps / 2);

  function leave() {
    cursor.hidden = true;
    readout.textContent = rest;
  }
  function visit(wanted) {
    step = Math.min(Math.max(wanted, 0), steps - 1);
    cursor.hidden = false;
    cursor.style.left = `${(100 * step) / steps}%`;
    cursor.style.width = `${100 / steps}%`;
    readout.textContent = describe(matrix, step);
    heat.setAttribute("aria-valuenow", step + 1);
    heat.setAttribute("aria-valuetext", readout.textContent);
  }

  visit(step);
  heat.setAttribute("aria-valuemax", steps);
  leave();
  plot.addEventListener("pointermove", (event) => {
    const box = plot.getBoundingClientRect();
    visit(Math.floor(((event.clientX - box.left) / box.width) * steps));
  });
  plot.addEventListener("pointerleave", leave);
  heat.addEventListener("focus", () => heat.matches(":focus-visible") && visit(step));
  heat.addEventListener("blur", leave);
  heat.addEventListener("keydown", (event) => {
    const back = step - 1, on = step + 1;
    const wanted = {
      ArrowLeft: back, ArrowDown: back, ArrowRight: on, ArrowUp: on,
      PageDown: step - 5, PageUp: step + 5, Home: 0, End: steps - 1,
    }[event.key];
    if (wanted === undefined) return;
    event.preventDefault();
    visit(wanted);
  });
}

/** The classes to show: symbols above FAINTEST, by the time of their peak; then the blank. */
function shownRows({ symbols, blank_index: blank, probabilities }) {
  const peaks = symbols.map((_, index) => {
    const column = probabilities.map((row) => row[index]);
    const height = Math.max(...column);
    return { index, height, time: column.indexOf(height) };
  });
  const shown = peaks
    .filter(({ index, height }) => index !== blank && height >= FAINTEST)
    .sort((a, b) => b.height - a.height)
    .slice(0, MOST_ROWS)
    .sort((a, b) => a.time - b.time);
  return [...shown.map(({ index }) => index), blank];
}

function label(symbol) {
  const element = document.createElement("span");
  element.textContent = symbol || "∅";
  return element;
}

function paint(canvas, { probabilities, blank_index: blank }, rows) {
  canvas.width = probabilities.length;
  canvas.height = rows.length;
  const image = new ImageData(canvas.width, canvas.height);
  rows.forEach((index, y) => {
    const ink = index === blank ? BLANK_INK : INK;
    probabilities.forEach((row, x) => {
      // The square root makes small probabilities visible.
      image.data.set([...ink, Math.round(255 * Math.sqrt(row[index]))], 4 * (y * canvas.width + x));
    });
  });
  canvas.getContext("2d").putImageData(image, 0, 0);
}

function describe({ symbols, probabilities }, step) {
  const best = probabilities[step]
    .map((probability, index) => ({ symbol: symbols[index] || "blank", probability }))
    .sort((a, b) => b.probability - a.probability)
    .slice(0, 3)
    .filter(({ probability }, rank) => rank === 0 || probability >= 0.0005);
  const said = best.map(({ symbol, probability }) => `${symbol} ${percent(probability)}`);
  return `Step ${step + 1} of ${probabilities.length}: ${said.join(", ")}`;
}
