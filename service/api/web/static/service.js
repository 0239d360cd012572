// Sends one picture to the service: it is read or refused, or the service is unavailable.

import { regionText, toSend } from "./picture.js";

const LATER = new Set([429, 502, 503, 504]);
const PATIENCE_SECONDS = 30;

// Messages for answers of a proxy, which sends a page of its own instead of the service's JSON.
const IN_WORDS = {
  403: "A server in front of the service does not allow this.",
  408: "The picture did not arrive in time.",
  413: "The picture is too large for a server in front of the service.",
  429: "A server in front of the service takes no more pictures at the moment.",
  502: "A server in front of the service cannot reach it.",
  503: "A server in front of the service says that it is not available.",
  504: "The service did not answer the server in front of it in time.",
};

/** The service refuses this picture; `problem.again` says whether another try may help. */
export class Refused extends Error {
  constructor(problem) {
    super(problem.detail);
    this.problem = problem;
  }
}

/** The service reads no pictures at the moment. `kind` is busy, away, lost or key. */
export class Unavailable extends Error {
  constructor(kind, { seconds, detail = "" } = {}) {
    super(detail);
    this.kind = kind;
    this.seconds = seconds;
  }
}

/**
 * Reads a picture: the prediction with spans in the picture's own pixels, and the response time.
 *
 * `size` is the size of the copy that was sent instead of the file, or null. `sent(share)` is
 * called during the upload.
 */
export async function read(file, { region, limits, ...options }) {
  await readable(file);
  let upload = await toSend(file, region, limits);
  let answer = await post(upload, file.name, options);
  if (answer.status === 413 && !upload.size) {
    upload = await toSend(file, region, limits, true);
    if (upload.size) answer = await post(upload, file.name, options);
  }
  const { status, body, milliseconds, retryAfter } = answer;
  if (status >= 200 && status < 300 && body?.matrix) {
    for (const character of body.characters) {
      character.span = character.span.map((end) => upload.x + end / upload.scale);
    }
    return { prediction: body, milliseconds, size: upload.size };
  }
  const other = IN_WORDS[status] ?? `The service answered with the status ${status}.`;
  const detail = body?.detail ?? other;
  if (status === 401) throw new Unavailable("key", { detail });
  if (LATER.has(status)) {
    throw new Unavailable(body ? "busy" : "away", { seconds: secondsOf(retryAfter), detail });
  }
  const again = status >= 500 || status === 408;
  throw new Refused({ title: "Not read", status, ...body, detail, again });
}

/** Whether the service can be reached at all. */
export const reachable = () =>
  fetch("health/live", { cache: "no-store" }).then((response) => response.ok, () => false);

/** Sends an upload. Uses XMLHttpRequest, since fetch does not report the progress of an upload. */
function post({ body, region }, name, { query, key, signal, sent }) {
  const form = new FormData();
  form.append("file", body, name);
  const asked = new URLSearchParams(query);
  if (region) asked.set("region", regionText(region));
  return new Promise((resolve, reject) => {
    const request = new XMLHttpRequest();
    let timer = 0;
    const wait = () => {
      clearTimeout(timer);
      timer = setTimeout(() => {
        const detail = `Nothing came from the service for ${PATIENCE_SECONDS} seconds.`;
        reject(new Refused({ title: "No answer", detail, again: true }));
        request.abort();
      }, 1000 * PATIENCE_SECONDS);
    };
    const started = performance.now();
    request.open("POST", `predict?${asked}`);
    if (key) request.setRequestHeader("X-API-Key", key);
    request.upload.addEventListener("progress", ({ loaded, total }) => {
      wait();
      sent(loaded / total);
    });
    request.addEventListener("load", () => resolve({
      status: request.status,
      body: parsed(request.responseText),
      milliseconds: performance.now() - started,
      retryAfter: request.getResponseHeader("Retry-After"),
    }));
    request.addEventListener("error", () => reject(new Unavailable("lost")));
    request.addEventListener("abort", () => reject(new DOMException("Cleared", "AbortError")));
    request.addEventListener("loadend", () => clearTimeout(timer));
    signal.addEventListener("abort", () => request.abort(), { once: true });
    wait();
    request.send(form);
  });
}

function parsed(text) {
  try {
    return JSON.parse(text);
  } catch {
    return null;
  }
}

async function readable(file) {
  try {
    await file.slice(0, 1).arrayBuffer();
  } catch {
    const detail = "The browser cannot read this file. Is it a folder, or has it been moved?";
    throw new Refused({ title: "Unreadable file", detail });
  }
}

function secondsOf(retryAfter) {
  const seconds = Number(retryAfter ?? 2);
  return Number.isFinite(seconds) ? Math.min(Math.max(seconds, 1), 60) : 2;
}
