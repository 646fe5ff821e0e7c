'use strict';
// What nodiak, a client over HTTP of one node, can do.

const assert = require('assert');
const nodiak = require('nodiak');
const { call, collect, fails } = require('./others.js');

function connect(http) {
    const [host, port] = http[0].split(':');
    return nodiak.getClient('http', host, port);
}

// fill stores values of a bucket, each with index entries of its number.
async function fill(c, bucket, numbers) {
    const values = numbers.map((n) => {
        const object = c.bucket(bucket).objects.new('k' + n, { n });
        object.addToIndex('n', n);
        object.addToIndex('w', 'w' + n);
        object.setMeta('m', 'x' + n);
        return object;
    });
    await call(c.bucket(bucket).objects, 'save', values);
}

const features = {
    'ping, statistics and resources': async ({ http }) => {
        const c = connect(http);
        assert.strictEqual((await call(c, 'ping')), 'OK');
        assert.match((await call(c, 'stats')).riak_kv_version, /^3\./);
        assert.ok((await call(c, 'resources')).riak_kv_wm_buckets);
    },
    'store, fetch and delete': async ({ http, run }) => {
        const c = connect(http), bucket = c.bucket('nodiak-kv-' + run);
        await fill(c, bucket.name, [1, 2, 3]);
        const got = await call(bucket.objects, 'get', 'k1');
        assert.deepStrictEqual(got.data, { n: 1 });
        assert.strictEqual(got.getMeta('m'), 'x1');
        assert.deepStrictEqual(got.getIndex('w'), ['w1']);
        assert.ok(got.metadata.vclock && got.metadata.etag && got.metadata.last_modified);
        got.data = { n: 'x'.repeat(5000) }; // more than would come in one piece
        await call(got, 'save');
        assert.deepStrictEqual((await call(got, 'fetch')).data, got.data);
        assert.strictEqual((await call(bucket.objects, 'get', ['k1', 'k2', 'k3'])).length, 3);
        assert.strictEqual((await collect(bucket.objects.get(['k1', 'k2', 'k3']).stream())).length, 3);
        assert.strictEqual(await call(bucket.objects, 'exists', 'k1'), true);
        await call(got, 'delete');
        assert.strictEqual(await call(bucket.objects, 'exists', 'k1'), false);
        assert.match(await fails(call(bucket.objects, 'get', 'k1')), /not found/);
    },
    'siblings': async ({ http, run }) => {
        const c = connect(http), bucket = c.bucket('nodiak-siblings-' + run);
        bucket.props.allow_mult = true;
        await call(bucket, 'saveProps');
        for (const n of [1, 2]) {
            await call(c._object, 'save', bucket.name, 'k', { n }, {});
        }
        for (const together of [false, true]) { // one by one, and as multipart/mixed
            bucket.getSiblingsSync = together;
            bucket.resolver = (siblings) => siblings[0];
            const got = await call(bucket.objects, 'get', 'k');
            const data = got.siblings.map((s) => (together ? JSON.parse(s.data) : s.data)); // it leaves parts as they are
            assert.deepStrictEqual(data.map((d) => d.n).sort(), [1, 2]);
        }
        bucket.getSiblingsSync = false; // from the parts it would take no vclock
        const got = await call(bucket.objects, 'get', 'k');
        got.data = { n: 3 };
        await call(got, 'save');
        const { data, siblings } = await call(c.bucket(bucket.name).objects, 'get', 'k');
        assert.deepStrictEqual([data, siblings], [{ n: 3 }, undefined]);
    },
    'list keys and buckets, and properties': async ({ http, run }) => {
        const c = connect(http), name = 'nodiak-list-' + run;
        await fill(c, name, Array.from({ length: 300 }, (_, i) => i));
        const keys = [].concat(...await collect(c._bucket.keys(name).stream()));
        assert.strictEqual(new Set(keys).size, 300);
        assert.ok((await call(c._bucket, 'list')).includes(name));
        const props = await call(c.bucket(name), 'getProps');
        assert.deepStrictEqual([props.name, props.n_val], [name, 3]);
        await call(c._bucket, 'save', name, { n_val: 2 });
        assert.strictEqual((await call(c._bucket, 'props', name)).n_val, 2);
        assert.strictEqual((await call(c._bucket, 'keys', name)).length, 300);
    },
    'secondary indexes': async ({ http, run }) => {
        const c = connect(http), bucket = c.bucket('nodiak-index-' + run);
        await fill(c, bucket.name, Array.from({ length: 300 }, (_, i) => i));
        const [hundreds] = await call(bucket.search, 'twoi', [100, 299], 'n');
        assert.strictEqual(hundreds.length, 200);
        assert.deepStrictEqual((await call(bucket.search, 'twoi', 7, 'n'))[0], ['k7']);
        assert.deepStrictEqual(await collect(bucket.search.twoi('w8', 'w').stream()), ['k8']);
        assert.strictEqual((await collect(bucket.search.twoi([0, 299], 'n').stream())).length, 300);
        const [keys, continuation] = await call(c._bucket, 'twoi', bucket.name, [0, 299], 'n_int', { max_results: 10 });
        assert.strictEqual(keys.length, 10);
        const [more] = await call(c._bucket, 'twoi', bucket.name, [0, 299], 'n_int', { max_results: 10, continuation });
        assert.strictEqual(new Set(keys.concat(more)).size, 20);
    },
    'counters of Riak 1.4': async ({ http, run }) => {
        const c = connect(http), name = 'nodiak-counters-' + run;
        await call(c._bucket, 'save', name, { allow_mult: true });
        const counter = c.counter(name, 'k');
        await call(counter, 'add', 5);
        await call(counter, 'subtract', 2);
        assert.strictEqual(await call(counter, 'value'), 3);
    },
    MapReduce: async ({ http, run }) => {
        const c = connect(http), name = 'nodiak-mapred-' + run;
        await fill(c, name, [1, 2, 3]);
        const job = () => c.mapred.inputs(name).map({ language: 'erlang', module: 'riak_kv_mapreduce', function: 'map_object_value' })
            .reduce({ language: 'erlang', module: 'riak_kv_mapreduce', function: 'reduce_count_inputs' });
        assert.deepStrictEqual((await call(job(), 'execute')).data, [3]);
        const parts = await collect(job().execute().stream());
        assert.deepStrictEqual(parts.map((part) => part.data), [[3]]);
    },
};

module.exports = { features };
