// Asks a server questions through OpenFeature's own JavaScript SDK and OFREP provider, as a service would.
//
// `node client.mjs URL < questions`: the questions are a JSON array of { flag, type, default, context }, where type is
// "boolean" or "string"; the answers come out as a JSON array in the same order.

import process from 'node:process';
import { json } from 'node:stream/consumers';

import { OFREPProvider } from '@openfeature/ofrep-provider';
import { OpenFeature } from '@openfeature/server-sdk';

const GIVE_UP_AFTER_MS = 60_000;
setTimeout(() => {
  console.error(`no end after ${GIVE_UP_AFTER_MS} ms`);
  process.exit(3);
}, GIVE_UP_AFTER_MS).unref();

const questions = await json(process.stdin);
await OpenFeature.setProviderAndWait(new OFREPProvider({ baseUrl: process.argv[2] }));
const client = OpenFeature.getClient();
// What goes wrong is part of the answer; the SDK would say it once more on the console.
client.setLogger({ error() {}, warn() {}, info() {}, debug() {} });

const ask = {
  boolean: (q) => client.getBooleanDetails(q.flag, q.default, q.context),
  string: (q) => client.getStringDetails(q.flag, q.default, q.context),
};
const answers = [];
for (const question of questions) {
  const details = await ask[question.type](question);
  answers.push({
    value: details.value,
    variant: details.variant ?? null,
    reason: details.reason ?? null,
    errorCode: details.errorCode ?? null,
    metadata: details.flagMetadata ?? {},
  });
}
process.stdout.write(JSON.stringify(answers));
