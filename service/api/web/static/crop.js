// Asks for the part of a picture that contains the text: a dragged rectangle, or four numbers.

import { regionText } from "./picture.js";

const SMALLEST = 4;

const dialog = document.getElementById("crop");
const area = dialog.querySelector(".area");
const image = dialog.querySelector("img");
const mark = dialog.querySelector("i");
const field = dialog.querySelector("input");

/** Asks for a region {x, y, width, height} in pixels; null: whole picture, undefined: no change. */
export async function askRegion(file, region) {
  const address = URL.createObjectURL(file);
  image.src = address;
  image.alt = file.name;
  await image.decode().catch(() => null);
  URL.revokeObjectURL(address);
  field.value = region ? regionText(region) : "";
  field.setCustomValidity("");
  mark.hidden = true;
  dialog.returnValue = "";
  dialog.showModal();
  draw(region);
  await new Promise((resolve) => dialog.addEventListener("close", resolve, { once: true }));
  const answer = { part: regionOf(field.value), whole: null }[dialog.returnValue];
  image.removeAttribute("src");
  return answer;
}

/** Parses a region; null if the text is not a region within the picture. */
function regionOf(text) {
  const match = /^\s*(\d+)\s*,\s*(\d+)\s*,\s*(\d+)\s*,\s*(\d+)\s*$/.exec(text);
  if (!match) return null;
  const [x, y, width, height] = match.slice(1).map(Number);
  const inside = x + width <= image.naturalWidth && y + height <= image.naturalHeight;
  return inside && width && height ? { x, y, width, height } : null;
}

function draw(region) {
  mark.hidden = !region;
  if (!region) return;
  mark.style.left = `${(100 * region.x) / image.naturalWidth}%`;
  mark.style.top = `${(100 * region.y) / image.naturalHeight}%`;
  mark.style.width = `${(100 * region.width) / image.naturalWidth}%`;
  mark.style.height = `${(100 * region.height) / image.naturalHeight}%`;
}

/** The position of a pointer in pixels of the picture, clamped to the picture. */
function placeOf({ clientX, clientY }) {
  const box = image.getBoundingClientRect();
  const share = (at, from, length) => Math.min(Math.max((at - from) / length, 0), 1);
  return [
    Math.round(share(clientX, box.left, box.width) * image.naturalWidth),
    Math.round(share(clientY, box.top, box.height) * image.naturalHeight),
  ];
}

let start = null;
area.addEventListener("pointerdown", (event) => {
  event.preventDefault();
  area.setPointerCapture(event.pointerId);
  start = placeOf(event);
});
area.addEventListener("pointermove", (event) => {
  if (!start) return;
  const end = placeOf(event);
  const [x, y] = [0, 1].map((axis) => Math.min(start[axis], end[axis]));
  const [width, height] = [0, 1].map((axis) => Math.abs(start[axis] - end[axis]));
  if (width < SMALLEST || height < SMALLEST) return;
  field.value = regionText({ x, y, width, height });
  field.setCustomValidity("");
  draw({ x, y, width, height });
});
area.addEventListener("pointerup", () => (start = null));
area.addEventListener("pointercancel", () => (start = null));
field.addEventListener("input", () => {
  const region = regionOf(field.value);
  const size = `${image.naturalWidth} × ${image.naturalHeight}`;
  field.setCustomValidity(region ? "" : `Give x,y,width,height within ${size} pixels.`);
  draw(region);
});
dialog.querySelector("form").addEventListener("submit", (event) => {
  event.preventDefault();
  dialog.close("part");
});
dialog.querySelector(".whole").addEventListener("click", () => dialog.close("whole"));
dialog.querySelector(".cancel").addEventListener("click", () => dialog.close());
