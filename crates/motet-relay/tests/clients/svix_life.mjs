// A whole life with the published JavaScript client of Svix, unchanged, against relay.
//
// Arguments: the folder of the client's package, the URL of the server and an API key. Works with the versions 1.x and
// 2.x of the client.

import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { createServer } from "node:http";
import { join } from "node:path";
import { pathToFileURL } from "node:url";

const [folder, url, key] = process.argv.slice(2);
const client = join(folder, "node_modules/svix");
const entry = join(client, JSON.parse(readFileSync(join(client, "package.json"))).main);
const library = await import(pathToFileURL(entry));
const { Svix, Webhook } = library.Svix ? library : library.default;

const received = [];
const waiting = [];
const seen = new Map();
const receiver = createServer(async (request, response) => {
  let body = "";
  for await (const part of request) body += part;
  const id = request.headers["svix-id"];
  // The first requests of a message fail: one of a message with `fail`, and two with `dead`.
  const failures = body.includes("dead") ? 2 : body.includes("fail") ? 1 : 0;
  seen.set(id, (seen.get(id) ?? 0) + 1);
  response.statusCode = seen.get(id) <= failures ? 500 : 200;
  response.end();
  const hit = { headers: request.headers, body };
  waiting.length > 0 ? waiting.shift()(hit) : received.push(hit);
});
await new Promise((resolve) => receiver.listen(0, "127.0.0.1", resolve));
const arrived = () =>
  received.length > 0 ? Promise.resolve(received.shift()) : new Promise((resolve) => waiting.push(resolve));

/** Polls: the client has no way to wait for an attempt to be recorded. */
async function eventually(what, get) {
  for (const end = Date.now() + 60_000; Date.now() < end; ) {
    const found = await get();
    if (found) return found;
    await new Promise((resolve) => setTimeout(resolve, 50));
  }
  throw new Error(`waited 60 s for ${what}`);
}

async function refused(status, call) {
  await assert.rejects(call, (error) => {
    assert.equal(error.code, status, String(error));
    // The client parses the body of a 4xx only.
    const body = typeof error.body === "string" ? JSON.parse(error.body) : error.body;
    assert.ok(body.detail.length > 0);
    return true;
  });
}

const svix = new Svix(key, { serverUrl: url });
await svix.health.get();
await refused(401, () => new Svix("testsk_unknown.eu", { serverUrl: url }).application.list());

const app = await svix.application.create({ name: "Acme", uid: "acme" });
await refused(409, () => svix.application.create({ name: "Acme", uid: "acme" }));
assert.equal((await svix.application.getOrCreate({ name: "Other", uid: "acme" })).id, app.id);
assert.equal((await svix.application.patch("acme", { name: "Acme 2" })).name, "Acme 2");
await refused(404, () => svix.application.get("nobody"));
await refused(422, () => svix.application.create({ name: "x", uid: "not allowed" }));

await svix.eventType.create({ name: "invoice-line.paid", description: "Paid" });
assert.equal((await svix.eventType.list()).data.length, 1);

const isSecond = typeof svix.endpoint.upsert === "function";
const target = `http://127.0.0.1:${receiver.address().port}/hook`;
const types = ["invoice-line.paid", "invoice.failed"];
const endpoint = await svix.endpoint.create(
  "acme",
  isSecond ? { url: target, uid: "main", eventTypes: types } : { url: target, uid: "main", filterTypes: types },
);
assert.deepEqual(isSecond ? endpoint.eventTypes : endpoint.filterTypes, types);
assert.ok(endpoint.createdAt instanceof Date);
const patched = await svix.endpoint.patch("acme", "main", { description: "the books" });
assert.equal(patched.description, "the books");
const headers = { headers: { "X-Tenant": "acme", Authorization: "Basic abc" } };
await (isSecond ? svix.endpoint.setHeaders("acme", "main", headers) : svix.endpoint.updateHeaders("acme", "main", headers));
const shown = await svix.endpoint.getHeaders("acme", "main");
assert.deepEqual([shown.headers, shown.sensitive], [{ "X-Tenant": "acme" }, ["Authorization"]]);

const secret = (await svix.endpoint.getSecret("acme", "main")).key;
const payload = { id: "inv_1", amount: 12.5, name: "Zoë" };
const paid = { eventType: "invoice-line.paid", eventId: "inv-1", payload, channels: ["books"], tags: ["t"] };
const message = await svix.message.create("acme", paid);
let hit = await arrived();
new Webhook(secret).verify(hit.body, hit.headers);
assert.deepEqual(JSON.parse(hit.body), payload);
assert.equal(hit.headers["svix-id"], message.id);
assert.throws(() => new Webhook(secret).verify(`${hit.body} `, hit.headers));
await refused(409, () => svix.message.create("acme", paid));
await refused(422, () => svix.message.create("acme", { ...paid, eventId: "x", deliverAt: new Date() }));
const listed = await svix.message.list("acme", { eventTypes: ["invoice-line.paid"], channel: "books", tag: "t" });
assert.deepEqual([listed.data.map((found) => found.id), listed.done], [[message.id], true]);

await svix.endpoint.rotateSecret("acme", "main", {});
const rotated = (await svix.endpoint.getSecret("acme", "main")).key;
assert.notEqual(rotated, secret);
await svix.message.create("acme", { eventType: "invoice-line.paid", payload: { n: 2 } });
hit = await arrived();
new Webhook(secret).verify(hit.body, hit.headers);
new Webhook(rotated).verify(hit.body, hit.headers);

const failing = await svix.message.create("acme", { eventType: "invoice.failed", payload: { fail: true } });
await arrived();
await arrived();
const attempts = await eventually("two attempts", async () => {
  const found = await svix.messageAttempt.listByMsg("acme", failing.id);
  return found.data.length === 2 && found;
});
assert.deepEqual(attempts.data.map((attempt) => attempt.status), [0, 2]);
const one = await svix.messageAttempt.get("acme", failing.id, attempts.data[0].id);
assert.equal(one.msgId, failing.id);
const options = { eventTypes: ["invoice.failed"], withMsg: true, status: 2, statusCodeClass: 500 };
const found = await svix.messageAttempt.listByEndpoint("acme", "main", options);
assert.deepEqual(found.data.map((attempt) => attempt.msg.id), [failing.id]);
assert.ok((await svix.messageAttempt.listAttemptedMessages("acme", "main")).data.length >= 3);
assert.equal((await svix.messageAttempt.listAttemptedDestinations("acme", failing.id)).data[0].id, endpoint.id);

await svix.messageAttempt.resend("acme", failing.id, "main");
assert.equal((await arrived()).headers["svix-id"], failing.id);
await eventually("the statistics", async () => (await svix.endpoint.getStats("acme", "main")).success === 4);

// After a rotation without a grace period only the new secret verifies.
await svix.endpoint.rotateSecret("acme", "main", { gracePeriodSeconds: 0 });
const last = (await svix.endpoint.getSecret("acme", "main")).key;
await svix.message.create("acme", { eventType: "invoice-line.paid", payload: { n: 3 } });
hit = await arrived();
new Webhook(last).verify(hit.body, hit.headers);
for (const old of [secret, rotated]) assert.throws(() => new Webhook(old).verify(hit.body, hit.headers));

const since = new Date(Date.now() - 3_600_000);
const finished = (task) =>
  eventually("the task", async () => {
    const found = await svix.backgroundTask.get(task.id);
    return found.status === "finished" && found;
  });
const dead = await svix.message.create("acme", { eventType: "invoice.failed", payload: { dead: true } });
for (const _ of [1, 2]) assert.equal((await arrived()).headers["svix-id"], dead.id);
await eventually("a dead letter", async () => (await svix.endpoint.getStats("acme", "main")).fail === 1);
const recovery = await svix.endpoint.recover("acme", "main", { since });
assert.equal(recovery.task, "endpoint.recover");
assert.equal((await arrived()).headers["svix-id"], dead.id);
assert.equal((await finished(recovery)).data.messagesSent, 1);
const late = { url: target, uid: "late" };
await svix.endpoint.create("acme", { ...late, [isSecond ? "eventTypes" : "filterTypes"]: ["invoice-line.paid"] });
const missing = await svix.endpoint.replayMissing("acme", "late", { since });
const first = [await arrived(), await arrived(), await arrived()];
assert.ok(first.some((replayed) => replayed.headers["svix-id"] === message.id));
await finished(missing);
const again = await svix.endpoint.bulkReplay("acme", "late", { since, channel: "books", status: 0 });
assert.equal((await arrived()).headers["svix-id"], message.id);
await finished(again);
assert.deepEqual(
  (await svix.backgroundTask.list()).data.map((task) => task.task),
  ["endpoint.bulk-replay", "endpoint.replay", "endpoint.recover"],
);

const access = await svix.authentication.appPortalAccess("acme", {});
assert.ok(access.url.includes(access.token));
await svix.endpoint.delete("acme", "main");
await refused(404, () => svix.endpoint.get("acme", "main"));
await svix.eventType.delete("invoice-line.paid");
await svix.application.delete("acme");
await refused(404, () => svix.application.get("acme"));
receiver.close();
console.log("done");
process.exit(0);
