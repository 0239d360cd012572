// Queues pictures: a few are sent at a time, and none while the service is unavailable.

import { Refused, Unavailable, read, reachable } from "./service.js";

const AT_ONCE = 2;
const SENDS = 2;
const LONGEST_WAIT = 15;

/**
 * Sends the pictures to the service in order, each with the query that it was added with.
 *
 * Calls on.begin(job), on.sent(job, share), on.end(job, outcome), on.pause(Unavailable, seconds)
 * and on.resume(). An outcome is {prediction, milliseconds, size} or {problem}.
 */
export class Queue {
  key = "";
  limits = { bytes: 1 << 20, pixels: 4_000_000 };
  #waiting = [];
  #running = new Set();
  #pause = null;
  #failures = 0;

  constructor(on) {
    this.on = on;
  }

  get length() {
    return this.#waiting.length + this.#running.size;
  }

  /** Adds a job {file}, possibly again; with a region, only that part of the picture is read. */
  add(job, query, region) {
    Object.assign(job, { query, region, lost: 0, abort: new AbortController() });
    this.#waiting.push(job);
    this.#fill();
  }

  clear() {
    this.#waiting = [];
    for (const job of this.#running) job.abort.abort();
    this.#running.clear();
    this.resume();
  }

  /** Ends a pause at once. */
  resume() {
    if (!this.#pause) return;
    clearInterval(this.#pause);
    this.#pause = null;
    this.on.resume();
    this.#fill();
  }

  #fill() {
    while (!this.#pause && this.#waiting.length && this.#running.size < AT_ONCE) {
      const job = this.#waiting.shift();
      this.#running.add(job);
      this.on.begin(job);
      this.#read(job);
    }
  }

  async #read(job) {
    try {
      const { file, query, region, abort: { signal } } = job;
      const sent = (share) => this.on.sent(job, share);
      const { key, limits } = this;
      const outcome = await read(file, { query, region, key, limits, signal, sent });
      this.#failures = 0;
      this.#end(job, outcome);
    } catch (error) {
      if (job.abort.signal.aborted) return;
      if (error instanceof Unavailable) await this.#later(job, error);
      else if (error instanceof Refused) this.#end(job, { problem: error.problem });
      else {
        const problem = { title: "The page failed", detail: String(error), again: true };
        this.#end(job, { problem });
      }
    }
    this.#fill();
  }

  #end(job, outcome) {
    if (this.#running.delete(job)) this.on.end(job, outcome);
  }

  async #later(job, why) {
    // If the connection breaks for one picture only, the picture is the cause, not the network.
    const broke = why.kind === "lost" || why.kind === "away";
    if (broke && ++job.lost >= SENDS && (await reachable())) {
      const detail = why.message ||
        "The service closed the connection while the picture was sent. Is it too large?";
      this.#end(job, { problem: { title: "Not sent", detail, again: true } });
      return;
    }
    if (!this.#running.delete(job)) return;
    this.#waiting.unshift(job);
    if (!this.#pause) this.#wait(why);
  }

  #wait(why) {
    this.#failures += 1;
    let left = why.seconds ?? Math.min(2 ** (this.#failures - 1), LONGEST_WAIT);
    this.on.pause(why, left);
    this.#pause = setInterval(() => {
      if (why.kind === "key") return;
      left -= 1;
      if (left <= 0) this.resume();
      else this.on.pause(why, left);
    }, 1000);
  }
}
