// Puts one picture to the service; it is read or refused, or the service is unavailable.

const LATER = new Set([429, 502, 503, 504]);

/** The service will not read this picture; trying again would change nothing. */
export class Refused extends Error {
  constructor(problem) {
    super(problem.detail);
    this.problem = problem;
  }
}

/** The service reads nothing just now. `kind` is busy, lost or key. */
export class Unavailable extends Error {
  constructor(kind, { seconds, detail = "" } = {}) {
    super(detail);
    this.kind = kind;
    this.seconds = seconds;
  }
}

/** The prediction for a picture, and the time from question to answer. */
export async function read(file, { query, key, signal }) {
  await readable(file);
  const body = new FormData();
  body.append("file", file, file.name);
  const headers = key ? { "X-API-Key": key } : {};
  const started = performance.now();
  const asked = fetch(`predict?${query}`, { method: "POST", body, headers, signal });
  const response = await asked.catch((error) => {
    throw signal.aborted ? error : new Unavailable("lost");
  });
  const milliseconds = performance.now() - started;
  const answer = await response.json().catch(() => ({}));
  if (response.ok) return { prediction: answer, milliseconds };
  const detail = answer.detail ?? `The service answered with the status ${response.status}.`;
  if (response.status === 401) throw new Unavailable("key", { detail });
  if (LATER.has(response.status)) {
    throw new Unavailable("busy", { seconds: retryAfter(response), detail });
  }
  throw new Refused({ title: "Not read", status: response.status, ...answer, detail });
}

/** Whether the service can be reached at all. */
export const reachable = () =>
  fetch("health/live", { cache: "no-store" }).then((response) => response.ok, () => false);

async function readable(file) {
  try {
    await file.slice(0, 1).arrayBuffer();
  } catch {
    const detail = "The browser cannot read this file. Is it a folder, or has it been moved?";
    throw new Refused({ title: "Unreadable file", detail });
  }
}

function retryAfter(response) {
  const seconds = Number(response.headers.get("Retry-After") ?? 2);
  return Number.isFinite(seconds) ? Math.min(Math.max(seconds, 1), 60) : 2;
}
