// Answers questions to exported folders as transformers.js does in Node, and runs graphs in onnxruntime-web, which is
// what it has in a browser. Reads a list of questions as JSON on standard input, and prints the list of answers.
import { readFile } from 'node:fs/promises';
import { basename, dirname } from 'node:path';
import { text } from 'node:stream/consumers';
import { env, pipeline } from '@huggingface/transformers';
import * as web from 'onnxruntime-web';

env.allowRemoteModels = false;
web.env.wasm.numThreads = 1;
web.env.logLevel = 'error';

async function ask({ task, folder, dtype, texts, options }) {
    env.localModelPath = dirname(folder);
    const answer = await pipeline(task, basename(folder), { dtype });
    const answers = [];
    for (const one of texts) answers.push(await answer(one, options));
    await answer.dispose();
    return answers;
}

async function run({ graph, inputs }) {
    const session = await web.InferenceSession.create(await readFile(graph));
    const feeds = {};
    for (const [name, { type, shape, values }] of Object.entries(inputs)) {
        const data = type === 'int64' ? BigInt64Array.from(values, BigInt) : Float32Array.from(values);
        feeds[name] = new web.Tensor(type, data, shape);
    }
    const { logits } = await session.run(feeds);
    return { shape: logits.dims, values: Array.from(logits.data) };
}

const answers = [];
for (const question of JSON.parse(await text(process.stdin))) {
    answers.push(await (question.graph ? run(question) : ask(question)));
}
console.log(JSON.stringify(answers));
