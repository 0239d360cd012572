// One picture's place in the list: what was read in it, or why it was not.

import { drawHeatmap } from "./heatmap.js";

const DOUBTFUL = 0.9;
const NO_TEXT = "no-text";

/** A share as a percentage that never claims more than it knows. */
export function percent(share) {
  if (share >= 0.9995) return "> 99.9 %";
  return share < 0.0005 ? "< 0.1 %" : `${(100 * share).toFixed(1)} %`;
}

/** The element of a picture that was read; `copy(text, button)` is called by its buttons. */
export async function resultOf({ file, prediction, milliseconds }, copy) {
  const item = copyOf("result");
  const part = (selector) => item.querySelector(selector);
  const { matrix, ...rest } = prediction;
  part(".file").textContent = file.name;
  part(".text").textContent = prediction.text || whyNone(prediction);
  part(".text").classList.toggle("none", !prediction.text);
  part(".sure").append(...sure(prediction));
  showOthers(part(".others"), prediction.alternatives);
  part(".copy-text").hidden = !prediction.text;
  part(".copy-text").addEventListener("click", (e) => copy(prediction.text, e.currentTarget));
  part(".copy-json").addEventListener("click", (e) =>
    copy(JSON.stringify({ file: file.name, ...rest }, null, 2), e.currentTarget));
  for (const button of item.querySelectorAll("button")) {
    button.setAttribute("aria-label", `${button.textContent} of ${file.name}`);
  }

  const image = part("img");
  image.alt = file.name;
  const size = (await show(image, file)) ? `${image.naturalWidth} × ${image.naturalHeight}` : "";
  if (size) {
    part(".plot").style.setProperty("--ratio", image.naturalWidth / image.naturalHeight);
    drawCharacters(part(".plot"), prediction.characters, image.naturalWidth);
    drawHeatmap(part(".plot"), part(".readout"), matrix);
  } else {
    part(".figure").remove();
  }
  const { name, version } = prediction.model;
  const time = `answered in ${milliseconds.toFixed(0)} ms`;
  const facts = [[size, time].filter(Boolean).join(", "), `by ${name} ${version}`];
  part(".facts").append(...facts.map((fact) => element("span", fact)));
  return item;
}

/** The element of a picture that was refused. */
export async function refusalOf({ file, problem }) {
  const item = copyOf("refusal");
  item.querySelector(".file").textContent = file.name;
  item.querySelector("h3").textContent = problem.title;
  item.querySelector(".detail").textContent = problem.detail;
  const image = item.querySelector("img");
  if (!(await show(image, file))) image.remove();
  return item;
}

/** A copy of a template; one that this document owns, as pictures load in no other. */
const copyOf = (id) =>
  document.importNode(document.getElementById(id).content, true).firstElementChild;

/** Whether the browser can show the picture; its address lives no longer than that takes. */
async function show(image, file) {
  const address = URL.createObjectURL(file);
  image.src = address;
  try {
    await image.decode();
    return image.naturalWidth > 0;
  } catch {
    return false;
  } finally {
    URL.revokeObjectURL(address);
  }
}

const whyNone = ({ reason }) => (!reason || reason === NO_TEXT ? "No text" : reason);

function sure({ confidence, accepted, reason }) {
  const share = element("strong", percent(confidence));
  share.classList.toggle("doubtful", confidence < DOUBTFUL);
  return [share, accepted || reason === NO_TEXT ? " sure" : " sure: less than this service accepts"];
}

function showOthers(others, alternatives) {
  others.hidden = alternatives.length === 0;
  const items = alternatives.map(({ text, confidence }) => {
    const item = document.createElement("li");
    const shown = element("span", text || "no text");
    shown.classList.toggle("none", !text);
    item.append(shown, " ", element("span", percent(confidence)));
    return item;
  });
  others.querySelector("ul").replaceChildren(...items);
}

/** A box over the picture and a bar below it for every character, each where it stands. */
function drawCharacters(plot, characters, width) {
  for (const { character, confidence, span: [from, to] } of characters) {
    const place = (node) => {
      node.style.left = `${(100 * from) / width}%`;
      node.style.width = `${(100 * (to - from)) / width}%`;
      return node;
    };
    plot.querySelector(".spans").append(place(document.createElement("i")));
    const item = place(document.createElement("li"));
    const bar = element("i", "");
    bar.style.setProperty("--share", confidence);
    const number = element("small", Math.min(100 * confidence, 99.9).toFixed(1));
    item.append(element("span", character), bar, number);
    item.classList.toggle("doubtful", confidence < DOUBTFUL);
    plot.querySelector(".characters").append(item);
  }
  plot.querySelector(".characters").hidden = characters.length === 0;
}

function element(name, text) {
  const node = document.createElement(name);
  node.textContent = text;
  return node;
}
