// Makes the list item of one picture: its reading, or why it was not read.

import { drawHeatmap } from "./heatmap.js";
import { cut } from "./picture.js";

const DOUBTFUL = 0.9;
const NO_TEXT = "no-text";

/** A share as a percentage, never rounded to 0 or 100 %. */
export function percent(share) {
  if (share >= 0.9995) return "> 99.9 %";
  return share < 0.0005 ? "< 0.1 %" : `${(100 * share).toFixed(1)} %`;
}

/**
 * The list item of a picture that was read.
 *
 * Its buttons call on.copy(text, button), on.crop() and on.label(text).
 */
export async function resultOf({ file, region, label, prediction, milliseconds, size }, on) {
  const item = copyOf("result");
  const part = (selector) => item.querySelector(selector);
  const { matrix, ...rest } = prediction;
  part(".file").textContent = file.name;
  part(".text").textContent = prediction.text || whyNone(prediction);
  part(".text").classList.toggle("none", !prediction.text);
  part(".sure").append(...sure(prediction));
  showOthers(part(".others"), prediction);
  part(".hint").hidden = prediction.reason !== NO_TEXT || Boolean(region);
  part(".copy-text").hidden = !prediction.text;
  part(".copy-text").addEventListener("click", (e) => on.copy(prediction.text, e.currentTarget));
  part(".copy-json").addEventListener("click", (e) =>
    on.copy(JSON.stringify({ file: file.name, ...rest }, null, 2), e.currentTarget));
  part(".crop").addEventListener("click", on.crop);
  // Only a whole picture has a label.
  part(".correct").hidden = Boolean(region);
  takeLabel(item, label ?? prediction.text, on.label);
  showLabel(item, region ? undefined : label);
  part(".more").addEventListener("click", ({ currentTarget }) => {
    currentTarget.setAttribute("aria-expanded", item.classList.toggle("open"));
  });
  for (const button of item.querySelectorAll("button[type=button]")) {
    button.setAttribute("aria-label", `${button.textContent} of ${file.name}`);
  }

  const image = part("img");
  image.alt = file.name;
  const facts = [];
  if (await show(image, file, region)) {
    const { naturalWidth: width, naturalHeight: height } = image;
    part(".plot").style.setProperty("--ratio", width / height);
    drawCharacters(part(".plot"), prediction.characters, region?.x ?? 0, width);
    drawHeatmap(part(".plot"), part(".readout"), matrix);
    facts.push(`${width} × ${height}`);
  } else {
    part(".figure").remove();
    part(".crop").remove();
  }
  if (size) facts.push(`sent as ${size.join(" × ")}`);
  facts.push(`answered in ${milliseconds.toFixed(0)} ms`);
  const { name, version } = prediction.model;
  part(".facts").append(element("span", facts.join(", ")), element("span", `by ${name} ${version}`));
  return item;
}

/** The list item of a picture that was refused. Its button calls `again`, if that may help. */
export async function refusalOf({ file, problem }, again) {
  const item = copyOf("refusal");
  item.querySelector(".file").textContent = file.name;
  item.querySelector("h3").textContent = problem.title;
  item.querySelector(".detail").textContent = problem.detail;
  const button = item.querySelector("button");
  button.hidden = !problem.again;
  button.setAttribute("aria-label", `Try ${file.name} again`);
  button.addEventListener("click", again);
  const image = item.querySelector("img");
  if (!(await show(image, file))) image.remove();
  return item;
}

/** A copy of a template. Imported into this document, since pictures load in no other. */
const copyOf = (id) =>
  document.importNode(document.getElementById(id).content, true).firstElementChild;

/** Shows the user's label, if there is one. */
function showLabel(item, label) {
  const shown = item.querySelector(".label");
  shown.hidden = label === undefined;
  shown.textContent = label === undefined ? "" : `Label: ${label}`;
}

/** Lets the user enter the text in the picture, and calls `keep(text)`. */
function takeLabel(item, text, keep) {
  const form = item.querySelector(".correction");
  const button = item.querySelector(".correct");
  const field = form.querySelector("input");
  const close = () => {
    form.hidden = true;
    button.hidden = false;
    button.focus();
  };
  field.value = text;
  button.addEventListener("click", () => {
    form.hidden = false;
    button.hidden = true;
    field.select();
  });
  form.addEventListener("keydown", (event) => event.key === "Escape" && close());
  form.addEventListener("submit", (event) => {
    event.preventDefault();
    showLabel(item, field.value);
    keep(field.value);
    close();
  });
}

/** Shows the picture, if the browser can; false if it cannot. Revokes the picture's URL. */
async function show(image, file, region) {
  const shown = region ? await cut(file, region).catch(() => null) : file;
  if (!shown) return false;
  const address = URL.createObjectURL(shown);
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

/** Shows the alternatives, scaled to sum to at most 1, as confidences are calibrated one by one. */
function showOthers(others, { confidence: first, alternatives }) {
  others.hidden = alternatives.length === 0;
  const sum = alternatives.reduce((total, { confidence }) => total + confidence, 0);
  const factor = Math.min(1, (1 - first) / (sum || 1));
  const items = alternatives.map(({ text, confidence }) => {
    const item = document.createElement("li");
    const shown = element("span", text || "no text");
    shown.classList.toggle("none", !text);
    item.append(shown, " ", element("span", percent(factor * confidence)));
    return item;
  });
  others.querySelector("ul").replaceChildren(...items);
}

/** Draws a box over the picture and a bar below it at the position of every character. */
function drawCharacters(plot, characters, left, width) {
  for (const { character, confidence, span: [from, to] } of characters) {
    const place = (node) => {
      node.style.left = `${(100 * (from - left)) / width}%`;
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
