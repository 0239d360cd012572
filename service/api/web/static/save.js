// Exports all results as text, JSON or CSV to the clipboard or to a file.

const COLUMNS = ["file", "text", "confidence", "accepted", "characters", "problem"];

/** The record of an outcome: the answer without its matrix, or the problem. */
export function recordOf(file, { prediction, problem }) {
  if (problem) return { file: file.name, problem };
  const { matrix, ...kept } = prediction;
  return { file: file.name, ...kept };
}

/** The user's labels as CSV, in the format of `make data` and `captcha-ocr label`. */
export function asLabels(jobs) {
  const rows = jobs.map(({ file, label }) => [file.webkitRelativePath || file.name, label]);
  return [["path", "label"], ...rows].map((row) => row.map(quoted).join(",") + "\n").join("");
}

export const asText = (records) => records.map(({ text }) => text ?? "").join("\n");

export const asJson = (records) => JSON.stringify(records, null, 2);

/** RFC 4180, with a row for every picture. */
export function asCsv(records) {
  const rows = records.map(({ file, text, confidence, accepted, characters, problem }) => [
    // A spreadsheet would evaluate a name that begins like a formula, and names are not trusted.
    /^[=+\-@\t\r]/.test(file) ? `'${file}` : file,
    text, confidence, accepted,
    characters?.map((character) => character.confidence).join(" "),
    problem?.detail,
  ]);
  return [COLUMNS, ...rows].map((row) => row.map(quoted).join(",") + "\r\n").join("");
}

const quoted = (value = "") =>
  /[",\r\n]/.test(value) ? `"${String(value).replaceAll('"', '""')}"` : String(value);

/** Downloads a text as a file. */
export function download(name, type, text) {
  const link = document.createElement("a");
  link.href = URL.createObjectURL(new Blob([text], { type }));
  link.download = name;
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 10_000);
}

/** Copies a text to the clipboard; tells whether it succeeded. */
export async function copied(text) {
  try {
    await navigator.clipboard.writeText(text);
    return true;
  } catch {
    return copiedByCommand(text);
  }
}

// Without TLS, and not on localhost, browsers provide no other way to copy.
function copiedByCommand(text) {
  const focused = document.activeElement;
  const area = document.createElement("textarea");
  area.value = text;
  document.body.append(area);
  area.select();
  const done = document.execCommand("copy");
  area.remove();
  focused?.focus();
  return done;
}
