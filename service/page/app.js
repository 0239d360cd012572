// The page: takes pictures in, and keeps list, progress and messages as the queue tells of them.

import { Queue } from "./queue.js";
import { refusalOf, resultOf, percent } from "./result.js";
import { asCsv, asJson, asText, copied, download, recordOf } from "./save.js";

const $ = (id) => document.getElementById(id);
const list = $("results");
const banner = $("banner");
const form = banner.querySelector("form");

let records = [];
let begun = 0;
let places = null;

const queue = new Queue({
  begin: (job) => {
    if (job.place) return;
    job.place = document.createElement("li");
    job.place.className = "result reading-now";
    job.place.textContent = job.file.name;
    places.before(job.place);
  },
  end: async (job, outcome) => {
    const index = records.push(recordOf(job.file, outcome)) - 1;
    progress();
    const shown = { file: job.file, ...outcome };
    const item = await (outcome.problem ? refusalOf(shown) : resultOf(shown, copy));
    job.place.replaceWith(item);
    if (queue.length === 0) announce(index);
  },
  pause: (why, seconds) => {
    form.hidden = why.kind !== "key";
    $("now").hidden = why.kind === "key";
    tell(sentence(why, seconds));
  },
  resume: () => {
    banner.hidden = true;
    banner.querySelector("p").textContent = "";
  },
});

/** Puts pictures in front of those that are there, in their own order. */
function take(files) {
  if (files.length === 0) return;
  if (!queue.length) begun = records.length;
  if (!places || !queue.length) {
    places?.remove();
    places = document.createElement("li");
    places.hidden = true;
    list.prepend(places);
  }
  queue.add([...files]);
  progress();
}

function progress() {
  const all = records.length + queue.length;
  const done = records.length;
  const bar = $("bar");
  bar.hidden = all === 0;
  const refused = records.filter((record) => record.problem).length;
  const counted = done === all ? plural(done, "picture") : `${done} of ${plural(all, "picture")}`;
  $("progress").textContent = counted + (refused ? `, ${refused} not read` : "");
  const meter = bar.querySelector("progress");
  meter.hidden = done === all;
  meter.value = done === begun ? 0 : (done - begun) / (all - begun);
}

/** Says aloud what came of the pictures, once they are all through. */
function announce(last) {
  const news = records.slice(begun);
  const { file, text, confidence, problem } = records[last];
  if (news.length > 1) {
    const refused = news.filter((record) => record.problem).length;
    $("said").textContent = `${news.length - refused} read, ${refused} not read.`;
  } else if (problem) {
    $("said").textContent = `${file}: ${problem.title}. ${problem.detail}`;
  } else {
    $("said").textContent = `${file}: ${text || "no text"}, ${percent(confidence)} sure.`;
  }
}

function sentence({ kind, message }, seconds) {
  const again = `trying again in ${seconds} s.`;
  if (kind === "busy") return `The service is busy; ${again} ${message}`;
  if (kind === "lost") return `The service cannot be reached; ${again} Nothing is lost.`;
  return message;
}

function tell(text) {
  banner.hidden = false;
  banner.querySelector("p").textContent = text;
}

async function copy(text, button) {
  const done = await copied(text);
  const label = button.textContent;
  button.textContent = done ? "Copied" : "Not allowed";
  $("said").textContent = done ? "Copied." : "The browser does not allow copying.";
  button.disabled = true;
  setTimeout(() => {
    button.textContent = label;
    button.disabled = false;
  }, 1200);
}

function clear() {
  records = [];
  places = null;
  queue.clear();
  list.replaceChildren();
  progress();
  $("files").focus();
}

async function offerExamples() {
  const response = await fetch("examples").catch(() => null);
  if (!response?.ok) return;
  const addresses = await response.json();
  const buttons = addresses.map((address, index) => {
    const button = document.createElement("button");
    const image = document.createElement("img");
    image.src = address;
    image.alt = `Example ${index + 1}`;
    button.type = "button";
    button.append(image);
    button.addEventListener("click", async () => {
      const picture = await fetch(address).then((found) => found.blob(), () => null);
      if (picture) take([new File([picture], `example-${index + 1}.png`, { type: picture.type })]);
    });
    return button;
  });
  $("examples").querySelector(".row").replaceChildren(...buttons);
  $("examples").hidden = buttons.length === 0;
}

const plural = (count, word) => `${count} ${word}${count === 1 ? "" : "s"}`;

$("files").addEventListener("change", ({ target }) => {
  take(target.files);
  target.value = "";
});
document.addEventListener("paste", ({ clipboardData }) => take(clipboardData?.files ?? []));
document.addEventListener("dragover", (event) => {
  event.preventDefault();
  $("drop").classList.add("over");
});
document.addEventListener("dragleave", ({ relatedTarget }) => {
  if (!relatedTarget) $("drop").classList.remove("over");
});
document.addEventListener("drop", (event) => {
  event.preventDefault();
  $("drop").classList.remove("over");
  take(event.dataTransfer.files);
});
form.addEventListener("submit", (event) => {
  event.preventDefault();
  queue.key = form.querySelector("input").value;
  queue.resume();
});
$("now").addEventListener("click", () => queue.resume());
window.addEventListener("online", () => queue.resume());
$("copy-text").addEventListener("click", (e) => copy(asText(records), e.currentTarget));
$("copy-json").addEventListener("click", (e) => copy(asJson(records), e.currentTarget));
$("save-json").addEventListener("click", () =>
  download("readings.json", "application/json", asJson(records)));
$("save-csv").addEventListener("click", () => download("readings.csv", "text/csv", asCsv(records)));
$("clear").addEventListener("click", clear);
$("here").textContent = new URL(".", location.href).href;
offerExamples();
