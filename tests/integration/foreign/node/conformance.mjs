// A short conformance run with gRPC's own client for Node, which knows only the .proto files.
//
//   node conformance.mjs TARGET MODEL PROTO_DIR GOOGLE_PROTO_DIR
//
// The model is that of examples/parrot.py: it repeats the prompt. Prints the versions and one line
// for each check, and ends with 1 if one fails.

import assert from "node:assert/strict";
import { createRequire } from "node:module";
import grpc from "@grpc/grpc-js";
import loader from "@grpc/proto-loader";

const [target, model, protoDir, googleDir] = process.argv.slice(2);
const files = ["arena_llm/v1/llm_service.proto", "arena_llm/v1/call_report.proto"];
// With longs as strings no cost loses digits; without defaults an unset number is undefined.
const options = { keepCase: true, longs: String, enums: String, includeDirs: [protoDir, googleDir] };
const details = ["google/rpc/status.proto", "google/rpc/error_details.proto"];
const definition = loader.loadSync([...files, ...details], options);
const { arena_llm, google } = grpc.loadPackageDefinition(definition);
const service = new arena_llm.v1.LlmService(target, grpc.credentials.createInsecure());

const call = (method, request) =>
  new Promise((resolve, reject) =>
    service[method](request, { deadline: Date.now() + 30_000 }, (error, reply) =>
      error ? reject(error) : resolve(reply),
    ),
  );

const stream = (request) =>
  new Promise((resolve, reject) => {
    const events = [];
    service
      .StreamGenerate(request, { deadline: Date.now() + 30_000 })
      .on("data", (event) => events.push(event))
      .on("error", reject)
      .on("end", () => resolve(events));
  });

/** The details of a failed call: {"google.rpc.ErrorInfo": {...}, ...}. */
const unpack = (error) => {
  const [bytes] = error.metadata.get("grpc-status-details-bin");
  const status = definition["google.rpc.Status"].deserialize(bytes);
  const found = {};
  for (const { type_url, value } of status.details) {
    const name = type_url.split("/").at(-1);
    found[name] = definition[name].deserialize(value);
  }
  return found;
};

const fails = async (request, code, reason, field) => {
  const error = await call("Generate", request).then(
    () => assert.fail("the call succeeded"),
    (failure) => failure,
  );
  assert.equal(error.code, grpc.status[code], error.message);
  const info = unpack(error);
  assert.equal(info["google.rpc.ErrorInfo"].reason, reason);
  assert.equal(info["google.rpc.ErrorInfo"].domain, "arena_llm");
  if (field) assert.equal(info["google.rpc.BadRequest"].field_violations[0].field, field);
};

const user = (...parts) => ({ role: "ROLE_USER", parts });

const checks = {
  "the service tells its revision and its limits": async () => {
    const info = await call("GetServiceInfo", {});
    assert.ok(info.contract_revision >= 1);
    assert.ok(info.backends.some((backend) => backend.prefixes.includes("parrot_")));
  },
  "the models come in pages": async () => {
    const page = await call("ListModels", { page_size: 1, name_prefix: "parrot_" });
    assert.deepEqual(page.models.map((one) => one.name), [model]);
    assert.ok(page.models[0].supported_fields.includes("constraint.choices"));
  },
  "a model's state": async () => {
    const state = await call("IsAvailable", { model });
    assert.equal(state.available, true);
    assert.equal(state.state, "MODEL_STATE_READY");
  },
  "a prompt gets a reply of parts": async () => {
    const reply = await call("Generate", { model, prompt: "one two" });
    assert.equal(reply.text, "one two");
    assert.equal(reply.message.role, "ROLE_ASSISTANT");
    assert.deepEqual(reply.message.parts.map((part) => part.text), ["one two"]);
    assert.equal(reply.finish_reason, "FINISH_REASON_STOP");
    assert.ok(reply.request_id);
  },
  "a cost is exact, and a number that is not reported is undefined": async () => {
    const { usage } = await call("Generate", { model, prompt: "one two" });
    assert.equal(usage.cost_picousd, "0");
    assert.equal(usage.cost_basis, "COST_BASIS_FREE");
    assert.equal(usage.completion_tokens, 2);
    assert.equal(usage.cached_tokens, undefined);
  },
  "a reply is appended to the conversation unchanged": async () => {
    const messages = [user({ text: "one" })];
    messages.push((await call("Generate", { model, conversation: { messages } })).message);
    messages.push(user({ text: "three" }));
    const reply = await call("Generate", { model, conversation: { messages } });
    assert.equal(reply.text, "three");
  },
  "a constraint is kept": async () => {
    const constraint = { choices: { values: ["0", "4"] } };
    const reply = await call("Generate", { model, prompt: "4", constraint });
    assert.equal(reply.text, "4");
  },
  "a stream starts, grows and ends with the whole reply": async () => {
    const events = await stream({ model, prompt: "one two three", request_id: "node-1" });
    assert.deepEqual(events.map((event) => event.sequence ?? "0"), events.map((_, i) => `${i}`));
    assert.equal(events[0].start.request_id, "node-1");
    const pieces = events.filter((event) => event.delta).map((event) => event.delta.text);
    const last = events.at(-1).completion;
    assert.equal(pieces.join(""), "one two three");
    assert.equal(last.text, "one two three");
  },
  "an error names reason and field": async () => {
    await fails({ model, prompt: "" }, "INVALID_ARGUMENT", "INVALID_REQUEST", "prompt");
    await fails({ model: "nobody_x", prompt: "a" }, "NOT_FOUND",
      target === process.env.ROUTER ? "UNKNOWN_PREFIX" : "MODEL_NOT_FOUND");
  },
  "what the backend cannot honour is refused by name": async () => {
    const config = { temperature: 0.5 };
    await fails({ model, prompt: "a", config }, "UNIMPLEMENTED", "UNSUPPORTED", "config.temperature");
    const image = { data: Buffer.from("x"), media_type: "image/png" };
    const conversation = { messages: [user({ image })] };
    const field = "conversation.messages[0].parts[0].image.data";
    await fails({ model, conversation }, "UNIMPLEMENTED", "UNSUPPORTED", field);
  },
  "an unknown enum value is refused": async () => {
    const conversation = { messages: [{ role: 99, parts: [{ text: "a" }] }] };
    await fails({ model, conversation }, "UNIMPLEMENTED", "UNKNOWN_FIELD",
      "conversation.messages[0].role");
  },
};

const { version } = createRequire(import.meta.url)("@grpc/grpc-js/package.json");
console.log(`@grpc/grpc-js ${version}, Node.js ${process.versions.node}`);
for (const [name, check] of Object.entries(checks)) {
  try {
    await check();
    console.log(`ok - ${name}`);
  } catch (error) {
    console.log(`not ok - ${name}\n${error.stack}`);
    process.exitCode = 1;
  }
}
service.close();
