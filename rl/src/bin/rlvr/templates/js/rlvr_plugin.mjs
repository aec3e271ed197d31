// The protocol rlvr-plugin/1 around a function. Only what Node.js has.
import { writeSync } from "node:fs";

let config = {};

async function result(score, item) {
  try {
    const value = await score(item, config);
    if (value === null || value === undefined) return { i: item.i, verdict: "unverifiable" };
    const fields = typeof value === "object" ? value : { score: value };
    if (fields.verdict === "unverifiable" || fields.verdict === "error") return { ...fields, i: item.i };
    if (Number.isFinite(fields.score)) return { ...fields, i: item.i };
    return { i: item.i, verdict: "error", reason: `score ${fields.score} is not a finite number` };
  } catch (error) {
    console.error(error);
    return { i: item.i, verdict: "error", reason: String(error).toWellFormed?.() ?? "an exception" };
  }
}

function send(message) {
  let bytes = Buffer.from(JSON.stringify(message) + "\n");
  while (bytes.length > 0) {
    try {
      bytes = bytes.subarray(writeSync(1, bytes));
    } catch (error) {
      if (error.code !== "EAGAIN") throw error;
    }
  }
}

// Lines end with \n alone: node:readline would also split at U+2028, which JSON text may contain.
async function* lines() {
  let parts = [];
  for await (const chunk of process.stdin) {
    let start = 0;
    for (let end; (end = chunk.indexOf(10, start)) >= 0; start = end + 1) {
      yield Buffer.concat([...parts, chunk.subarray(start, end)]).toString();
      parts = [];
    }
    parts.push(chunk.subarray(start));
  }
}

// Answers the host until it says bye.
export async function serve(score, { name = "reward", version = "1", deterministic = true } = {}) {
  console.log = console.info = console.error;
  const capabilities = deterministic ? ["batch", "deterministic"] : ["batch"];
  for await (const line of lines()) {
    const message = JSON.parse(line);
    if (message.type === "bye") process.exit(0);
    if (message.type === "hello") {
      config = message.config ?? {};
      send({ type: "hello", protocol: 1, name, version, capabilities });
    } else {
      const items = [];
      for (const item of message.items) items.push(await result(score, item));
      send({ type: "result", batch: message.batch, items });
    }
  }
}
