// Shows one picture after another and sends each label to the server, which stores it at once.

const element = (id) => document.getElementById(id);
const input = element("label");
const RETRY_MS = 1000;

let pictures = [];
let at = 0;
let touched = false; // whether the user has edited the input
let saved = new Map(); // labels that are stored, by path
let queue = []; // answers that are not stored yet, in order
const disputed = new Map(); // labels given here but not stored, since another label is, by path
let sending = false;
let began = null; // time of the first answer, for the speed
let answered = 0;

const source = (picture) => `/picture?path=${encodeURIComponent(picture.path)}`;

function labelOf(picture) {
  const waiting = queue.findLast((answer) => answer.path === picture.path);
  return waiting ? waiting.label : saved.get(picture.path);
}

function show(index) {
  at = Math.min(Math.max(index, 0), pictures.length - 1);
  const picture = pictures[at];
  const label = labelOf(picture);
  element("picture").src = source(picture);
  element("name").textContent = picture.path;
  element("remark").textContent =
    label !== undefined ? "labelled" : picture.proposal
      ? `proposed with confidence ${picture.confidence.toFixed(2)}` : "no proposal";
  input.value = label ?? picture.proposal;
  touched = false;
  element("work").hidden = false;
  input.focus();
  input.select();
  complain("");
  for (const next of pictures.slice(at + 1, at + 4)) new Image().src = source(next);
  report();
}

// Shows the next picture that is disputed or has no label, from here on and then from the start.
function next() {
  disputed.delete(pictures[at].path);
  const order = [...pictures.slice(at + 1), ...pictures.slice(0, at)];
  const open = order.find((picture) => disputed.has(picture.path)) ??
    order.find((picture) => labelOf(picture) === undefined);
  show(open ? pictures.indexOf(open) : at + 1);
}

function report() {
  const labelled = pictures.filter((picture) => saved.has(picture.path)).length;
  element("progress").max = pictures.length;
  element("progress").value = labelled;
  let text = `${labelled} of ${pictures.length} labelled`;
  const minutes = began === null ? 0 : (performance.now() - began) / 60_000;
  if (labelled === pictures.length && !disputed.size) {
    text += " · all done: close this page and stop the command with Ctrl-C";
  } else if (answered > 1 && minutes > 0) {
    const speed = answered / minutes;
    const left = (pictures.length - labelled) / speed;
    text += ` · ${Math.round(speed)} a minute · ${left < 1 ? "under a minute" :
      `${Math.round(left)} min`} left`;
  }
  element("status").textContent = text;
}

// Shows a problem; without a text, the dispute about the shown picture, if there is one.
function complain(text) {
  const problem = text || dispute(pictures[at].path);
  element("problem").textContent = problem;
  element("problem").hidden = !problem;
}

function dispute(path) {
  if (!disputed.has(path)) return "";
  const stored = saved.get(path);
  return `${path} was labelled “${stored}” meanwhile; your “${disputed.get(path)}” is not stored. ` +
    `At that picture, Enter keeps “${stored}”; type to change it.`;
}

// Another browser has stored a label. The user decides: at once, or after typing this label.
function contest(path, label, stored) {
  const deciding = disputed.has(pictures[at].path);
  queue = queue.filter((answer) => answer.path !== path);
  saved.set(path, stored);
  disputed.set(path, label);
  if (!touched && !deciding) show(pictures.findIndex((picture) => picture.path === path));
}

// Sends answers one by one, in order. Answers that cannot be sent are kept and sent again, so that
// nothing is lost when the command is stopped and started again.
async function send() {
  if (sending) return;
  sending = true;
  while (queue.length) {
    const { path, label } = queue[0];
    let refused = "", why = "is captcha-ocr label running?";
    try {
      const answer = await fetch("/labels", {
        method: "POST",
        headers: { "Content-Type": "application/json" },
        body: JSON.stringify({ path, label, shown: saved.get(path) }),
      });
      if (answer.status === 409) {
        contest(path, label, (await answer.json()).label);
        refused = dispute(pictures[at].path) || dispute(path);
      } else {
        if (answer.ok) saved.set(path, (await answer.json()).label);
        else if (answer.status === 422) refused = await answer.text();
        else {
          if (answer.status === 503) why = await answer.text();
          throw new Error(why);
        }
        queue.shift();
      }
      complain(refused);
    } catch {
      complain(`${queue.length} not stored yet: ${why} Keep this page open.`);
      await new Promise((resolve) => setTimeout(resolve, RETRY_MS));
    }
    report();
  }
  sending = false;
}

function accept() {
  const label = input.value.trim();
  if (!label) return complain("Type what the picture says, or skip it with Escape.");
  complain("");
  began ??= performance.now();
  answered += 1;
  queue.push({ path: pictures[at].path, label });
  next();
  send();
}

input.addEventListener("input", () => { touched = true; });

document.addEventListener("keydown", (event) => {
  if (!pictures.length || event.isComposing || event.ctrlKey || event.metaKey || event.altKey) return;
  // While a label is being typed, left and right move within it.
  const within = touched && (event.key === "ArrowLeft" || event.key === "ArrowRight");
  const actions = {
    Enter: accept,
    Escape: next,
    ArrowUp: () => show(at - 1),
    ArrowLeft: () => show(at - 1),
    ArrowDown: () => show(at + 1),
    ArrowRight: () => show(at + 1),
  };
  const action = actions[event.key];
  if (!action || within || event.shiftKey || (event.repeat && event.key === "Enter")) return;
  event.preventDefault();
  action();
});

window.addEventListener("beforeunload", (event) => { if (queue.length) event.preventDefault(); });

const { folder, pictures: found } = await (await fetch("/pictures")).json();
document.title = `label ${folder}`;
pictures = found;
saved = new Map(found.filter((p) => p.label !== null).map((p) => [p.path, p.label]));
const first = pictures.findIndex((picture) => !saved.has(picture.path));
show(Math.max(first, 0));
