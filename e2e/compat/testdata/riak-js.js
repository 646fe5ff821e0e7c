'use strict';
// What riak-js, a client over HTTP and, by way of riakpbc, over Protocol Buffers, can do.

const assert = require('assert');
const http = require('http');
const { call, collect, fails } = require('./others.js');

// The client hands Node.js options that are getters of a prototype. Node.js used to read those,
// and today takes the options that are the object's own: it would ask for / whatever is wanted.
const request = http.request;
http.request = (options, ...rest) => request({ ...options, method: options.method, path: options.path, headers: options.headers }, ...rest);
const riak = require('riak-js');

// connect is a client of all the nodes, over HTTP. It asks whether a node that has failed is back,
// and leaves it alone until then: otherwise it would try one by chance, and the same again.
function connect(nodes) {
    return riak({ encodeUri: true, pool: { servers: nodes, options: { ping: '/ping' } } });
}

// alone is a client of one, which has what the other cannot do: to list in pieces.
function alone(nodes) {
    const [host, port] = nodes[0].split(':');
    return riak({ encodeUri: true, host, port });
}

function connectPB(pb) {
    const [host, port] = pb[0].split(':');
    return riak.protobuf({ host, port: Number(port) });
}

// listed is all that a listing emits as the event.
async function listed(emitter, event) {
    const all = collect(emitter, event);
    emitter.start();
    return [].concat(...await all);
}

const features = {
    'HTTP: ping, statistics and resources': async ({ http }) => {
        const c = alone(http);
        await call(c, 'ping');
        assert.match((await call(c, 'stats'))[0].riak_core_version, /^3\./);
        assert.ok((await call(c, 'resources'))[0].riak_kv_wm_buckets);
    },
    'HTTP: store, fetch and delete': async ({ http, run }) => {
        const c = connect(http), bucket = 'riak-js-kv-' + run;
        await call(c, 'save', bucket, 'k 1/é', { n: 1 }, { index: { age: 7, name: 'x' } });
        const [data, meta] = await call(c, 'get', bucket, 'k 1/é', {});
        assert.deepStrictEqual(data, { n: 1 });
        assert.deepStrictEqual(meta.index, { age: 7, name: 'x' });
        assert.ok(meta.vclock && meta.etag && meta.lastMod);
        const [saved] = await call(c, 'save', bucket, 'k 1/é', { n: 2 }, { vclock: meta.vclock, returnbody: true });
        assert.deepStrictEqual(saved, { n: 2 });
        assert.strictEqual((await call(c, 'head', bucket, 'k 1/é', {}))[1].statusCode, 200);
        const [, created] = await call(c, 'save', bucket, undefined, 'text', {});
        assert.strictEqual((await call(c, 'get', bucket, created.key, {}))[0], 'text');
        assert.strictEqual((await call(c, 'remove', bucket, 'k 1/é', {}))[1].statusCode, 204);
        assert.strictEqual((await call(alone(http), 'exists', bucket, 'k 1/é', {}))[0], false);
    },
    'HTTP: siblings': async ({ http, run }) => {
        const c = connect(http), bucket = 'riak-js-siblings-' + run;
        await call(c, 'saveBucket', bucket, { allow_mult: true }, {});
        assert.strictEqual((await call(c, 'getBucket', bucket, {}))[0].allow_mult, true);
        await call(c, 'save', bucket, 'k', { n: 1 }, {});
        await call(c, 'save', bucket, 'k', { n: 2 }, {});
        const [siblings, meta] = await call(alone(http), 'get', bucket, 'k', {});
        assert.strictEqual(meta.statusCode, 300);
        assert.deepStrictEqual(siblings.map((s) => s.data.n).sort(), [1, 2]);
        await call(c, 'save', bucket, 'k', { n: 3 }, { vclock: meta.vclock });
        assert.deepStrictEqual((await call(c, 'get', bucket, 'k', {}))[0], { n: 3 });
    },
    'HTTP: list keys and buckets': async ({ http, run }) => {
        const c = alone(http), bucket = 'riak-js-list-' + run;
        const keys = Array.from({ length: 300 }, (_, i) => 'key-of-some-length-' + i).sort();
        await Promise.all(keys.map((key) => call(c, 'save', bucket, key, key, {})));
        assert.deepStrictEqual((await call(c, 'keys', bucket, { keys: 'true' }))[0].sort(), keys);
        assert.deepStrictEqual((await listed(c.keys(bucket, { keys: 'stream' }, () => {}), 'keys')).sort(), keys);
        assert.strictEqual((await call(c, 'count', bucket, {}))[0], keys.length);
        assert.ok((await call(c, 'buckets', {}))[0].includes(bucket));
        assert.ok((await listed(c.buckets({ buckets: 'stream' }, () => {}), 'buckets')).includes(bucket));
    },
    'HTTP: links and link walking': async ({ http, run }) => {
        const c = connect(http), bucket = 'riak-js-links-' + run;
        await call(c, 'save', bucket, 'to', { n: 1 }, {});
        await call(c, 'save', bucket, 'from', { n: 2 }, { links: [{ bucket, key: 'to', tag: 'next' }] });
        assert.deepStrictEqual((await call(c, 'get', bucket, 'from', {}))[1].links, [{ bucket, key: 'to', tag: 'next' }]);
        const [steps] = await call(alone(http), 'walk', bucket, 'from', [{ bucket, tag: 'next' }], {});
        assert.deepStrictEqual(steps.map((step) => step.map((found) => found.data)), [[{ n: 1 }]]);
        assert.ok(steps[0][0].meta.vclock);
    },
    'HTTP: secondary indexes': async ({ http, run }) => {
        const c = alone(http), bucket = 'riak-js-index-' + run;
        for (const n of [1, 2, 3]) {
            await call(c, 'save', bucket, 'k' + n, { n }, { index: { n, w: 'w' + n } });
        }
        assert.deepStrictEqual((await call(c, 'query', bucket, { n: [2, 3] }, {}))[0].sort(), ['k2', 'k3']);
        assert.deepStrictEqual((await call(c, 'query', bucket, { w: 'w1' }, {}))[0], ['k1']);
        const [page] = await call(c, 'query', bucket, { $bucket: '_' }, { max_results: 2 });
        assert.ok(page.length === 2 && page.continuation);
    },
    'HTTP: MapReduce': async ({ http, run }) => {
        const c = connect(http), bucket = 'riak-js-mapred-' + run;
        await call(c, 'save', bucket, 'a', { name: 'a', n: 1 }, {});
        await call(c, 'save', bucket, 'b', { name: 'b', n: 2 }, {});
        const run1 = (job) => new Promise((resolve, reject) => job.run((err, data) => (err ? reject(err) : resolve(data))));
        const { mapreduce } = alone(http);
        assert.deepStrictEqual((await run1(mapreduce.add(bucket).map('Riak.mapValuesJson'))).map((v) => v.n).sort(), [1, 2]);
        assert.deepStrictEqual(await run1(mapreduce.add(bucket).map('Riak.mapByFields', { name: 'b' }).reduce('Riak.reduceLimit', 2)), [{ name: 'b', n: 2 }]);
        assert.match(await fails(run1(mapreduce.add(bucket).map((v) => [v]))), /no engine runs functions that come as source/);
    },
    'Protocol Buffers': async ({ pb, run }) => {
        const c = connectPB(pb), bucket = 'riak-js-pb-' + run;
        await call(c, 'ping', {});
        await call(c, 'save', bucket, 'k', { n: 1 }, {});
        assert.deepStrictEqual((await call(c, 'get', bucket, 'k', {}))[0], { n: 1 });
        await call(c, 'saveBucket', bucket, { allow_mult: true }, {});
        assert.ok((await call(c, 'buckets', {}))[0].includes(bucket));
        assert.deepStrictEqual(await listed(c.keys(bucket, {}, () => {}), 'keys'), ['k']);
        await call(c, 'remove', bucket, 'k', {});
        await assert.rejects(call(c, 'get', bucket, 'k', {}), { notFound: true });
    },
};

module.exports = { features };
