// What an emit of Node's own EventEmitter costs: `node event.mjs COUNT ..` prints, for so many listeners, the
// nanoseconds of the median round and of the quickest, a line each.
import { EventEmitter } from "node:events";

const ROUNDS = 31;
const ROUND_NS = 20e6;

let sum = 0;

function emitter(count) {
  const emitter = new EventEmitter();
  emitter.setMaxListeners(count + 1);
  for (let at = 0; at < count; at++) emitter.on("tick", (tick) => { sum += tick.number + at; });
  return emitter;
}

function round(emitter, emits, tick) {
  const begin = process.hrtime.bigint();
  for (let at = 0; at < emits; at++) emitter.emit("tick", tick);
  return Number(process.hrtime.bigint() - begin) / emits;
}

for (const count of process.argv.slice(2).map(Number)) {
  const measured = emitter(count);
  const tick = { number: 7 };
  round(measured, 100_000, tick); // until it is compiled
  const emits = Math.max(1, Math.round(ROUND_NS / round(measured, 10_000, tick)));
  const rounds = Array.from({ length: ROUNDS }, () => round(measured, emits, tick)).sort((a, b) => a - b);
  console.log(rounds[ROUNDS >> 1], rounds[0]);
}
if (sum < 0) console.error(sum);
