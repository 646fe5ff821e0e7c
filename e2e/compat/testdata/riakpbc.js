'use strict';
// What riakpbc, a client over Protocol Buffers whose calls are the messages, can do. It cannot
// read the properties of buckets and types: it ends at a field of Riak 2.1 that it does not know.

const assert = require('assert');
const riakpbc = require('riakpbc');
const { call, collect, fails } = require('./others.js');

// connect is a client of all the nodes. Its connections are of the nodes in turn.
function connect(pb, auth) {
    return riakpbc.createClient({ auth, nodes: pb.map((address) => ({ host: address.split(':')[0], port: Number(address.split(':')[1]) })) });
}

const features = {
    'ping and server info': async ({ pb }) => {
        const c = connect(pb);
        await call(c, 'ping');
        assert.strictEqual(String((await call(c, 'getServerInfo')).server_version), '3.2.0');
    },
    'store, fetch and delete': async ({ pb, run }) => {
        const c = connect(pb), at = { bucket: 'riakpbc-kv-' + run, key: 'k' };
        const content = { value: '{"n":1}', content_type: 'application/json', usermeta: [{ key: 'm', value: 'x' }] };
        const stored = await call(c, 'put', { ...at, content, return_body: true });
        assert.deepStrictEqual(stored.content[0].value, { n: 1 });
        assert.ok(Buffer.isBuffer(stored.vclock));
        const got = await call(c, 'get', at);
        assert.deepStrictEqual(got.content[0].usermeta.map((m) => m.key + '=' + m.value), ['m=x']);
        await call(c, 'put', { ...at, vclock: got.vclock, content: { value: 'w', content_type: 'text/plain' } });
        assert.strictEqual((await call(c, 'get', at)).content[0].value, 'w');
        await call(c, 'del', at);
        assert.deepStrictEqual(await call(c, 'get', at), {});
    },
    'siblings': async ({ pb, run }) => {
        const c = connect(pb), at = { bucket: 'riakpbc-siblings-' + run, key: 'k' };
        await call(c, 'setBucket', { bucket: at.bucket, props: { allow_mult: true, r: 'quorum' } });
        for (const value of ['a', 'b']) {
            await call(c, 'put', { ...at, content: { value, content_type: 'text/plain' } });
        }
        assert.deepStrictEqual((await call(c, 'get', at)).content.map((v) => v.value).sort(), ['a', 'b']);
        await call(c, 'resetBucket', { bucket: at.bucket });
    },
    'list keys and buckets': async ({ pb, run }) => {
        const c = connect(pb), bucket = 'riakpbc-list-' + run;
        const keys = Array.from({ length: 50 }, (_, i) => 'k' + i).sort();
        await Promise.all(keys.map((key) => call(c, 'put', { bucket, key, content: { value: key } })));
        assert.deepStrictEqual((await call(c, 'getKeys', { bucket })).keys.map(String).sort(), keys);
        const streamed = await collect(c.getKeys({ bucket }));
        assert.deepStrictEqual([].concat(...streamed.map((part) => part.keys)).map(String).sort(), keys);
        assert.ok((await call(c, 'getBuckets', {})).buckets.map(String).includes(bucket));
    },
    'secondary indexes': async ({ pb, run }) => {
        const c = connect(pb), bucket = 'riakpbc-index-' + run;
        for (const i of [0, 1, 2, 3]) {
            await call(c, 'put', { bucket, key: 'k' + i, content: { value: 'v', indexes: [{ key: 'w_bin', value: 'w' + i }] } });
        }
        const { IndexType } = riakpbc;
        assert.deepStrictEqual((await call(c, 'getIndex', { bucket, index: 'w_bin', qtype: IndexType.Exact, key: 'w2' })).keys.map(String), ['k2']);
        const range = { bucket, index: 'w_bin', qtype: IndexType.Range, range_min: 'w1', range_max: 'w2' };
        assert.deepStrictEqual((await call(c, 'getIndex', { ...range })).keys.map(String).sort(), ['k1', 'k2']);
        const streamed = await collect(c.getIndex({ ...range }));
        assert.deepStrictEqual([].concat(...streamed.map((part) => part.keys || [])).map(String).sort(), ['k1', 'k2']);
    },
    'data types': async ({ pb, run }) => {
        const c = connect(pb), at = (type) => ({ bucket: 'riakpbc-' + run, key: 'k', type, return_body: true });
        const counter = await call(c, 'putCrdt', { ...at('counters'), op: { counter_op: { increment: 5 } } });
        assert.strictEqual(Number(counter.counter_value), 5);
        await call(c, 'putCrdt', { ...at('sets'), op: { set_op: { adds: ['a', 'b'] } } });
        const set = await call(c, 'getCrdt', at('sets'));
        assert.strictEqual(set.type, riakpbc.DataType.Set);
        await call(c, 'putCrdt', { ...at('sets'), context: set.context, op: { set_op: { removes: ['a'] } } });
        assert.deepStrictEqual((await call(c, 'getCrdt', at('sets'))).value.set_value.map(String), ['b']);
        const { FieldType, Flag } = riakpbc;
        const updates = [
            { field: { name: 'r', type: FieldType.Register }, register_op: 'v' },
            { field: { name: 'f', type: FieldType.Flag }, flag_op: Flag.Enable },
        ];
        const map = await call(c, 'putCrdt', { ...at('maps'), op: { map_op: { updates } } });
        assert.deepStrictEqual(map.map_value.map((entry) => String(entry.field.name)).sort(), ['f', 'r']);
    },
    MapReduce: async ({ pb, run }) => {
        const c = connect(pb), bucket = 'riakpbc-mapred-' + run;
        for (const n of [1, 2]) {
            await call(c, 'put', { bucket, key: 'k' + n, content: { value: String(n), content_type: 'text/plain' } });
        }
        const query = [{ map: { language: 'javascript', name: 'Riak.mapValuesJson' } }];
        const job = { request: JSON.stringify({ inputs: bucket, query }), content_type: 'application/json' };
        assert.deepStrictEqual((await call(c, 'mapred', job)).sort(), [1, 2]);
        assert.deepStrictEqual((await collect(c.mapred(job))).sort(), [1, 2]);
    },
    'errors': async ({ pb, run }) => {
        const c = connect(pb), at = { bucket: 'riakpbc-errors-' + run, key: 'k' };
        assert.match(await fails(call(c, 'getCrdt', { ...at, type: 'nowhere' })), /nowhere/);
        assert.match(await fails(call(c, 'put', { ...at, w: 9, content: { value: 'v' } })), /n_val_violation/);
        assert.match(await fails(call(c, 'search', { q: 'a', index: 'i' })), /search/);
        await call(c, 'ping');
    },
};

const secured = {
    'signs in over TLS': async ({ pb }) => {
        const c = connect(pb, { user: 'shop', password: 'secret' }), at = { bucket: 'b', key: 'k2' };
        await call(c, 'put', { ...at, content: { value: 'v', content_type: 'text/plain' } });
        assert.strictEqual((await call(c, 'get', at)).content[0].value, 'v');
        assert.match(await fails(call(c, 'del', at)), /'shop' does not have 'riak_kv.delete' on default\/b/);
    },
    'is refused without TLS': async ({ pb }) => {
        assert.match(await fails(call(connect(pb), 'ping')), /^Security is enabled, please STARTTLS first/);
    },
};

module.exports = { features, secured };
