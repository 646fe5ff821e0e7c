'use strict';
// What no-riak, a client over Protocol Buffers, can do.

const assert = require('assert');
const Riak = require('no-riak');
const { fails } = require('./others.js');

let client;

// connect is a client of all the nodes.
function connect(pb) {
    client = client || new Riak.Client({ connectionString: pb.join(',') });
    return client;
}

// text is the values of an answer, in order.
const text = (got) => got.content.map((c) => String(c.value)).sort();

// open is what others.js needs to go on while a node is gone.
function open(pb) {
    const c = connect(pb);
    return {
        store: (key, value) => c.put({ bucket: 'no-riak', key, content: { value } }),
        fetch: async (key) => text(await c.get({ bucket: 'no-riak', key })).join(),
    };
}

const features = {
    'ping and server info': async ({ pb }) => {
        const c = connect(pb);
        assert.strictEqual(await c.ping(), null);
        const info = await c.getServerInfo();
        assert.strictEqual(String(info.server_version), '3.2.0');
        await c.init(); // its id
    },
    'store, fetch and delete': async ({ pb, run }) => {
        const c = connect(pb), bucket = 'no-riak-kv-' + run;
        const { key } = await c.put({ bucket, content: { value: { n: 1 } } });
        assert.deepStrictEqual((await c.get({ bucket, key })).content[0].value, { n: 1 });
        const meta = [{ key: 'm', value: 'x' }], indexes = [{ key: 'i_int', value: '7' }];
        const stored = await c.put({ bucket, key, content: { value: 'v', content_type: 'text/plain', usermeta: meta, indexes }, return_body: true });
        assert.deepStrictEqual(text(stored), ['v']);
        const got = (await c.get({ bucket, key })).content[0];
        assert.strictEqual(got.content_type, 'text/plain');
        assert.strictEqual(String(got.usermeta[0].value), 'x');
        assert.strictEqual(String(got.indexes[0].value), '7');
        assert.ok(got.vtag && got.last_mod > 0);
        const head = await c.get({ bucket, key, head: true });
        assert.ok(!head.content[0].value || head.content[0].value.length === 0);
        await c.del({ bucket, key });
        assert.strictEqual(await c.get({ bucket, key }), null);
    },
    'siblings and their resolution': async ({ pb, run }) => {
        const c = connect(pb), at = { bucket: 'no-riak-siblings-' + run, key: 'k' };
        await c.setBucket({ bucket: at.bucket, props: { allow_mult: true } });
        await c.put({ ...at, content: { value: 'a' } });
        await c.put({ ...at, content: { value: 'b' } });
        const got = await c.get(at);
        assert.deepStrictEqual(text(got), ['a', 'b']);
        await c.put({ ...at, vclock: got.vclock, content: { value: 'c' } });
        assert.deepStrictEqual(text(await c.get(at)), ['c']);
        await c.update({ ...at, content: { value: 'd' } });
        assert.deepStrictEqual(text(await c.get(at)), ['d']);
    },
    'conditional writes': async ({ pb, run }) => {
        const c = connect(pb), at = { bucket: 'no-riak-conditions-' + run, key: 'k' }, content = { value: 'v' };
        await c.put({ ...at, content, if_none_match: true });
        assert.match(await fails(c.put({ ...at, content, if_none_match: true })), /^match_found/);
        const { vclock } = await c.get(at);
        await c.put({ ...at, vclock, content, if_not_modified: true });
        assert.match(await fails(c.put({ ...at, vclock, content, if_not_modified: true })), /^modified/);
    },
    'list keys and buckets': async ({ pb, run }) => {
        const c = connect(pb), bucket = 'no-riak-list-' + run;
        const keys = Array.from({ length: 50 }, (_, i) => 'k' + i).sort();
        await Promise.all(keys.map((key) => c.put({ bucket, key, content: { value: key } })));
        assert.deepStrictEqual((await c.listKeys({ bucket })).map(String).sort(), keys);
        assert.ok((await c.listBuckets()).map(String).includes(bucket));
        const all = await Promise.all(keys.map((key) => c.get({ bucket, key })));
        assert.deepStrictEqual(all.map((got) => text(got)[0]), keys);
    },
    'properties of buckets and types': async ({ pb, run }) => {
        const c = connect(pb), bucket = 'no-riak-props-' + run;
        await c.setBucket({ bucket, props: { n_val: 2, r: 'one' } });
        let { props } = await c.getBucket({ bucket });
        assert.deepStrictEqual([props.n_val, props.r], [2, 'one']);
        await c.resetBucket({ bucket });
        ({ props } = await c.getBucket({ bucket }));
        assert.deepStrictEqual([props.n_val, props.r], [3, 'quorum']);
        assert.strictEqual(String((await c.getBucketType({ type: 'sets' })).props.datatype), 'set');
        await c.setBucketType({ type: 'plain', props: { basic_quorum: true } });
        assert.strictEqual((await c.getBucketType({ type: 'plain' })).props.basic_quorum, true);
        assert.match(await fails(c.setBucketType({ type: 'nowhere', props: { n_val: 2 } })), /^Invalid bucket properties: not_active/);
    },
    'secondary indexes': async ({ pb, run }) => {
        const c = connect(pb), bucket = 'no-riak-index-' + run;
        await Promise.all([0, 1, 2, 3].map((i) => c.put({ bucket, key: 'k' + i, content: { value: 'v', indexes: [{ key: 'w_bin', value: 'w' }, { key: 'n_int', value: String(i) }] } })));
        const first = await c.index({ bucket, index: 'w_bin', qtype: 0, key: 'w', max_results: 3 });
        const rest = await c.index({ bucket, index: 'w_bin', qtype: 0, key: 'w', continuation: first.continuation });
        assert.deepStrictEqual([first, rest].map((page) => page.results.map(String)), [['k0', 'k1', 'k2'], ['k3']]);
        const { results } = await c.index({ bucket, index: 'n_int', qtype: 1, range_min: '1', range_max: '2', return_terms: true });
        assert.deepStrictEqual(results.map((r) => r.key + ' ' + r.value).sort(), ['1 k1', '2 k2']);
    },
    'counters of Riak 1.4': async ({ pb, run }) => {
        const c = connect(pb), at = { bucket: 'no-riak-counters-' + run, key: 'k' };
        await c.setBucket({ bucket: at.bucket, props: { allow_mult: true } });
        assert.strictEqual(Number(await c.updateCounter({ ...at, amount: 5, returnvalue: true })), 5);
        await c.updateCounter({ ...at, amount: -2 });
        assert.strictEqual(Number(await c.getCounter(at)), 3);
    },
    'data types': async ({ pb, run }) => {
        const c = connect(pb), at = (type) => ({ bucket: 'no-riak-' + run, type });
        const counter = new Riak.CRDT.Counter(c, at('counters'));
        await counter.increment(3).increment(-5).save();
        assert.strictEqual(Number((await new Riak.CRDT.Counter(c, { ...at('counters'), key: counter.key() }).load()).value()), -2);
        const set = new Riak.CRDT.Set(c, at('sets'));
        await set.add('a', 'b', 'c').remove('b').save(); // at once, without a context
        assert.deepStrictEqual((await set.load()).value(), ['a', 'c']);
        await set.remove('a').save();
        assert.deepStrictEqual((await set.load()).value(), ['c']);
        const { Map } = Riak.CRDT;
        const map = new Map(c, at('maps'));
        await map.update('n', new Riak.CRDT.Counter().increment(2)).update('s', new Riak.CRDT.Set().add('a', 'b').remove('a'))
            .update('r', new Map.Register().set('v')).update('f', new Map.Flag().enable()).save();
        await map.remove('f', Map.Flag).save();
        const { n, ...others } = (await map.load()).value();
        assert.strictEqual(Number(n), 2);
        assert.deepStrictEqual(others, { s: ['b'], r: 'v' });
        const fetched = await c.dtFetch({ ...at('sets'), key: set.key() });
        assert.deepStrictEqual(fetched.value.set_value.map(String), ['c']);
    },
    MapReduce: async ({ pb, run }) => {
        const c = connect(pb), bucket = 'no-riak-mapred-' + run;
        await Promise.all([1, 2, 3].map((n) => c.put({ bucket, key: 'k' + n, content: { value: String(n) } })));
        const module = 'riak_kv_mapreduce', language = 'erlang';
        const query = [
            { map: { language, module, function: 'map_object_value', keep: true } },
            { reduce: { language, module, function: 'reduce_string_to_integer' } },
            { reduce: { language, module, function: 'reduce_sum', keep: true } },
        ];
        const [values, , sum] = await c.mapReduce({ request: { inputs: bucket, query } });
        assert.deepStrictEqual([values.sort(), sum], [['1', '2', '3'], [6]]);
        const source = { map: { language: 'javascript', source: 'function(v) { return [v]; }' } };
        assert.match(await fails(c.mapReduce({ request: { inputs: bucket, query: [source] } })), /no engine runs functions that come as source/);
    },
};

// shop may get and put, and nothing else.
const shop = { user: 'shop', password: 'secret' };

const secured = {
    'signs in over TLS': async ({ pb }) => {
        const c = new Riak.Client({ connectionString: pb[0], auth: shop }), at = { bucket: 'b', key: 'k' };
        await c.put({ ...at, content: { value: 'v' } });
        assert.deepStrictEqual(text(await c.get(at)), ['v']);
        assert.match(await fails(c.del(at)), /'shop' does not have 'riak_kv.delete' on default\/b/);
    },
    'is refused with a wrong password': async ({ pb }) => {
        const c = new Riak.Client({ connectionString: pb[0], auth: { ...shop, password: 'guess' } });
        assert.match(await fails(c.ping()), /^Authentication failed/);
    },
    'is refused without TLS': async ({ pb }) => {
        const c = new Riak.Client({ connectionString: pb[0] });
        assert.match(await fails(c.ping()), /^Security is enabled, please STARTTLS first/);
    },
};

module.exports = { open, features, secured };
