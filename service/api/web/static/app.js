// The page: accepts pictures, and updates list, progress and messages on events of the queue.

import { askRegion } from "./crop.js";
import { showModel } from "./model.js";
import { knownOf, makeFields, queryOf } from "./question.js";
import { Queue } from "./queue.js";
import { refusalOf, resultOf, percent } from "./result.js";
import { asCsv, asJson, asLabels, asText, copied, download, recordOf } from "./save.js";

const $ = (id) => document.getElementById(id);
const list = $("results");
const banner = $("banner");
const form = banner.querySelector("form");
const question = $("question");

// Jobs in the order in which their pictures were added; a job with a record is finished.
let jobs = [];
let handedOver = [];
let news = [];
let total = 0;
let places = null;

// What the user entered for a file, {label, region}; kept when the file is read again.
const remarks = new WeakMap();
const remarksOn = (file) => remarks.get(file) ?? remarks.set(file, {}).get(file);

const COMPACT_FROM = 11;

const recordsOf = (some) => some.filter(({ record }) => record).map(({ record }) => record);

const queue = new Queue({
  begin: (job) => {
    if (job.place) return;
    jobs.push(job);
    job.place = placeFor(job);
    places.before(job.place);
    list.classList.toggle("compact", jobs.length >= COMPACT_FROM);
  },
  sent: (job, share) => {
    const bar = job.place.querySelector("progress");
    if (!bar || (bar.hidden && share === 1)) return; // small pictures are sent at once
    bar.hidden = false;
    bar.value = share;
  },
  end: async (job, outcome) => {
    job.record = recordOf(job.file, outcome);
    news.push(job.record);
    progress();
    const place = job.place;
    const shown = { file: job.file, ...remarksOn(job.file), ...outcome };
    const again = () => readOnce(job);
    const on = { copy, crop: () => crop(job), label: (label) => keepLabel(job, label) };
    const item = await (outcome.problem ? refusalOf(shown, again) : resultOf(shown, on));
    if (!place.isConnected) return;
    place.replaceWith(item);
    job.place = item;
    if (queue.length === 0 && news.length) announce();
  },
  pause: (why, seconds) => {
    form.hidden = why.kind !== "key";
    $("now").hidden = why.kind === "key";
    banner.hidden = false;
    const alert = banner.querySelector("[role=alert]");
    // Announced once; the seconds beside it count down silently.
    if (alert.textContent !== sentence(why)) alert.textContent = sentence(why);
    $("left").textContent = why.kind === "key" ? "" : `Trying again in ${seconds} s.`;
  },
  resume: () => {
    banner.hidden = true;
    banner.querySelector("[role=alert]").textContent = "";
  },
});

/** Adds pictures above the existing results, in their own order. */
function take(files) {
  if (files.length === 0) return;
  if (!queue.length) total = 0;
  total += files.length;
  if (!places || !queue.length) {
    places?.remove();
    places = document.createElement("li");
    places.hidden = true;
    list.prepend(places);
  }
  handedOver.push(...files);
  for (const file of files) queue.add({ file }, queryOf(question), remarksOn(file).region);
  progress();
}

/** The placeholder for a picture's result. */
function placeFor({ file }) {
  const place = document.createElement("li");
  const bar = document.createElement("progress");
  place.className = "result reading-now";
  bar.hidden = true;
  bar.setAttribute("aria-label", `Sent of ${file.name}`);
  place.append(`${file.name} …`, bar);
  return place;
}

/** Reads one picture again; its new result replaces the old one. */
function readOnce(job) {
  if (!queue.length) total = 0;
  total += 1;
  job.record = null;
  const place = placeFor(job);
  job.place.replaceWith(place);
  job.place = place;
  queue.add(job, queryOf(question), remarksOn(job.file).region);
  progress();
}

async function crop(job) {
  const region = await askRegion(job.file, remarksOn(job.file).region);
  if (region === undefined || !jobs.includes(job)) return;
  remarksOn(job.file).region = region;
  readOnce(job);
}

function keepLabel(job, label) {
  remarksOn(job.file).label = label;
  progress();
}

/** Pictures with a label from the user; a part of a picture has no label. */
const labelled = () =>
  jobs
    .map(({ file }) => ({ file, ...remarksOn(file) }))
    .filter(({ label, region }) => label !== undefined && !region);

function progress() {
  const records = recordsOf(jobs);
  const done = records.length;
  const all = done + queue.length;
  const bar = $("bar");
  bar.hidden = $("again").hidden = all === 0;
  const refused = records.filter((record) => record.problem).length;
  const counted = done === all ? plural(done, "picture") : `${done} of ${plural(all, "picture")}`;
  $("progress").textContent = counted + (refused ? `, ${refused} not read` : "");
  const meter = bar.querySelector("progress");
  meter.hidden = done === all;
  meter.value = total ? 1 - queue.length / total : 0;
  $("save-labels").hidden = labelled().length === 0;
  $("save-labels").textContent = `Download ${plural(labelled().length, "label")}`;
}

/** Announces the outcome to screen readers when all pictures are finished. */
function announce() {
  const [{ file, text, confidence, problem }] = news;
  if (news.length > 1) {
    const refused = news.filter((record) => record.problem).length;
    $("said").textContent = `${news.length - refused} read, ${refused} not read.`;
  } else if (problem) {
    $("said").textContent = `${file}: ${problem.title}. ${problem.detail}`;
  } else {
    $("said").textContent = `${file}: ${text || "no text"}, ${percent(confidence)} sure.`;
  }
  news = [];
}

function sentence({ kind, message }) {
  if (kind === "busy") return `The service is busy. ${message}`;
  if (kind === "away") return message;
  if (kind === "lost") return "The service cannot be reached. Nothing is lost.";
  return queue.key ? "The service does not know this API key." : "The service asks for an API key.";
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

function forget() {
  jobs = [];
  handedOver = [];
  news = [];
  total = 0;
  places = null;
  queue.clear();
  list.replaceChildren();
  progress();
}

function readAgain() {
  const files = handedOver;
  forget();
  take(files);
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

/** Shows the least accepted confidence, unless every text is accepted, and stores the limits. */
async function heedInfo(place) {
  const response = await fetch("info").catch(() => null);
  if (!response?.ok) return;
  const { min_confidence: least, max_upload_bytes: bytes, max_pixels: pixels } = await response.json();
  queue.limits = { bytes, pixels };
  place.textContent = least ? `Texts are accepted from ${percent(least)} on.` : "";
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
$("copy-text").addEventListener("click", (e) => copy(asText(recordsOf(jobs)), e.currentTarget));
$("copy-json").addEventListener("click", (e) => copy(asJson(recordsOf(jobs)), e.currentTarget));
$("save-json").addEventListener("click", () =>
  download("readings.json", "application/json", asJson(recordsOf(jobs))));
$("save-csv").addEventListener("click", () =>
  download("readings.csv", "text/csv", asCsv(recordsOf(jobs))));
$("save-labels").addEventListener("click", () =>
  download("labels.csv", "text/csv", asLabels(labelled())));
$("clear").addEventListener("click", () => {
  forget();
  $("files").focus();
});
question.addEventListener("input", () => ($("known").textContent = knownOf(question)));
question.addEventListener("submit", (event) => {
  event.preventDefault();
  readAgain();
});
$("here").textContent = new URL(".", location.href).href;
makeFields(question, $("files"));
offerExamples();
heedInfo($("threshold"));
$("model-link").addEventListener("click", (event) => {
  event.preventDefault();
  showModel($("model"));
});
$("model").querySelector("button").addEventListener("click", () => $("model").close());
