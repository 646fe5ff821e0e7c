'use strict';
// Each feature of Riak's official client, as a function that throws if the server does
// not do what Riak does. features.json has the same names, with what is expected of each.

const assert = require('assert');
const Riak = require('basho-riak-client');

const CommandBase = require('basho-riak-client/lib/commands/commandbase');

const MapOperation = Riak.Commands.CRDT.UpdateMap.MapOperation;

// call makes one request with a command of the client.
function call(client, command, options) {
    return new Promise((resolve, reject) => {
        const done = (err, answer) => (err ? reject(new Error(String(err))) : resolve(answer));
        if (options === undefined) {
            client[command](done);
        } else {
            client[command](options, done);
        }
    });
}

// parts makes one request whose answer comes in parts, and returns them all.
function parts(client, command, options) {
    return new Promise((resolve, reject) => {
        const all = [];
        client[command](options, (err, part) => {
            if (err) {
                reject(new Error(String(err)));
                return;
            }
            all.push(part);
            if (part.done) {
                resolve(all);
            }
        });
    });
}

// execute makes one request with a command that the client has no method for.
function execute(client, command) {
    return new Promise((resolve, reject) => {
        client.execute(command((err, answer) => (err ? reject(new Error(String(err))) : resolve(answer))));
    });
}

// Message is a command of the client's own messages, where it has no command for them. Of
// an answer that comes in parts it is the first.
class Message extends CommandBase {
    constructor(request, response, fields, done) {
        super(request, response, done);
        this.fields = fields;
    }

    constructPbRequest() {
        return Object.assign(this.getPbReqBuilder(), this.fields);
    }

    onSuccess(answer) {
        this._callback(null, answer);
        return true;
    }
}

const message = (client, request, response, fields) => execute(client, (done) => new Message(request, response, fields, done));

async function fails(promise, text) {
    let failed = null;
    try {
        await promise;
    } catch (err) {
        failed = err;
    }
    assert(failed, 'it has not failed, and should have with ' + text);
    assert(failed.message.includes(text), 'it failed with ' + failed.message + ', not with ' + text);
}

const text = (object) => object.value.toString('utf8');
const texts = (answer) => answer.values.map(text).sort();

// place is the options that name a key, with others.
const place = (bucket, key, others) => Object.assign({ bucket, key }, others);

// stored is an object for storeValue.
function stored(value) {
    return new Riak.Commands.KV.RiakObject().setContentType('text/plain').setValue(value);
}

exports.call = call;
exports.parts = parts;

exports.features = {
    async 'ping'(c) {
        assert.strictEqual(await call(c, 'ping'), true);
    },

    async 'server info'(c) {
        const info = await call(c, 'fetchServerInfo');
        assert(info.node, 'no name of a node');
        assert.match(info.server_version, /^3\./);
    },

    async 'store and fetch'(c) {
        const at = place('kv', 'ключ');
        await call(c, 'storeValue', { ...at, value: stored('wert') });
        const got = await call(c, 'fetchValue', at);
        assert.deepStrictEqual(texts(got), ['wert']);
        assert.strictEqual(got.values[0].contentType, 'text/plain');
        assert(got.values[0].lastModified > 0, 'no time of the write');
        const absent = await call(c, 'fetchValue', place('kv', 'absent'));
        assert.strictEqual(absent.isNotFound, true);
    },

    async 'JSON values'(c) {
        const at = place('json', 'k');
        await call(c, 'storeValue', { ...at, value: { a: [1, 'ü'] } });
        const got = await call(c, 'fetchValue', { ...at, convertToJs: true });
        assert.deepStrictEqual(got.values[0].value, { a: [1, 'ü'] });
        assert.strictEqual(got.values[0].contentType, 'application/json');
    },

    async 'a value of 5 MiB'(c) {
        const at = place('large', 'k');
        const value = Buffer.alloc(5 << 20, 'abcdefg');
        await call(c, 'storeValue', { ...at, value });
        const got = await call(c, 'fetchValue', at);
        assert(got.values[0].value.equals(value), 'what came back differs');
    },

    async 'generated keys'(c) {
        const made = await call(c, 'storeValue', { bucket: 'made', value: stored('1') });
        assert(made.generatedKey, 'no key');
        const got = await call(c, 'fetchValue', place('made', made.generatedKey));
        assert.deepStrictEqual(texts(got), ['1']);
    },

    async 'delete'(c) {
        const at = place('deletes', 'k');
        await call(c, 'storeValue', { ...at, value: stored('1') });
        const got = await call(c, 'fetchValue', at);
        assert.strictEqual(await call(c, 'deleteValue', { ...at, vclock: got.vclock }), true);
        assert.strictEqual((await call(c, 'fetchValue', at)).isNotFound, true);
        assert.strictEqual(await call(c, 'deleteValue', place('deletes', 'absent')), true);
    },

    async 'the vclock of what is deleted'(c) {
        const at = place('deletes', 'tombstone');
        await call(c, 'storeValue', { ...at, value: stored('1') });
        await call(c, 'deleteValue', at);
        const got = await call(c, 'fetchValue', { ...at, returnDeletedVClock: true });
        assert(got.vclock && got.vclock.length > 0, 'no vclock');
        assert.strictEqual(got.values[0].isTombstone, true);
        await call(c, 'storeValue', { ...at, vclock: got.vclock, value: stored('2') });
        assert.deepStrictEqual(texts(await call(c, 'fetchValue', at)), ['2']);
    },

    async 'head'(c) {
        const at = place('heads', 'k');
        await call(c, 'storeValue', { ...at, value: stored('body').setUserMeta([{ key: 'm', value: '1' }]) });
        const got = await call(c, 'fetchValue', { ...at, headOnly: true });
        assert.strictEqual(got.values.length, 1);
        assert.strictEqual(got.values[0].value.length, 0);
        assert.deepStrictEqual(got.values[0].userMeta, [{ key: 'm', value: '1' }]);
    },

    async 'return body'(c) {
        const at = place('bodies', 'k');
        const put = await call(c, 'storeValue', { ...at, value: stored('1'), returnBody: true });
        assert.deepStrictEqual(texts(put), ['1']);
        assert(put.vclock.length > 0, 'no vclock');
        const head = await call(c, 'storeValue', { ...at, vclock: put.vclock, value: stored('2'), returnHead: true });
        assert.strictEqual(head.values.length, 1);
        assert.strictEqual(head.values[0].value.length, 0);
    },

    async 'siblings and their resolution'(c) {
        const at = place('siblings', 'k');
        await call(c, 'storeBucketProps', { bucket: 'siblings', allowMult: true });
        await call(c, 'storeValue', { ...at, value: stored('a') });
        await call(c, 'storeValue', { ...at, value: stored('b') });
        const both = await call(c, 'fetchValue', at);
        assert.deepStrictEqual(texts(both), ['a', 'b']);
        const conflictResolver = (objects) => {
            const one = objects[0];
            one.setValue(Buffer.from(objects.map(text).sort().join('+')));
            return one;
        };
        const resolved = await call(c, 'fetchValue', { ...at, conflictResolver });
        await call(c, 'storeValue', { ...at, value: resolved.values[0] });
        assert.deepStrictEqual(texts(await call(c, 'fetchValue', at)), ['a+b']);
    },

    async 'the last write of a bucket without siblings'(c) {
        const at = place('last', 'k');
        await call(c, 'storeValue', { ...at, value: stored('a') });
        await call(c, 'storeValue', { ...at, value: stored('b') });
        assert.deepStrictEqual(texts(await call(c, 'fetchValue', at)), ['b']);
    },

    async 'if_none_match'(c) {
        const at = place('conditions', 'new');
        await call(c, 'storeValue', { ...at, value: stored('1'), ifNoneMatch: true });
        await fails(call(c, 'storeValue', { ...at, value: stored('2'), ifNoneMatch: true }), 'match_found');
        assert.deepStrictEqual(texts(await call(c, 'fetchValue', at)), ['1']);
    },

    async 'if_not_modified'(c) {
        const at = place('conditions', 'old');
        const put = await call(c, 'storeValue', { ...at, value: stored('1'), returnBody: true });
        const over = { ...at, vclock: put.vclock, ifNotModified: true };
        await call(c, 'storeValue', { ...over, value: stored('2') });
        await fails(call(c, 'storeValue', { ...over, value: stored('3') }), 'modified');
        await fails(call(c, 'storeValue', { ...place('conditions', 'absent'), ifNotModified: true, value: stored('3') }), 'notfound');
        assert.deepStrictEqual(texts(await call(c, 'fetchValue', at)), ['2']);
    },

    async 'if_modified'(c) {
        const at = place('conditions', 'read');
        await call(c, 'storeValue', { ...at, value: stored('1') });
        const old = await call(c, 'fetchValue', at);
        await call(c, 'storeValue', { ...at, vclock: old.vclock, value: stored('2') });
        const got = await call(c, 'fetchValue', { ...at, ifModified: old.vclock });
        assert.deepStrictEqual(texts(got), ['2']);
        const again = await call(c, 'fetchValue', { ...at, ifModified: got.vclock });
        assert.strictEqual(again.isUnchanged, true);
    },

    async 'quorums'(c) {
        const at = place('quorums', 'k');
        await call(c, 'storeValue', { ...at, value: stored('1'), w: 3, dw: 2, pw: 2 });
        assert.deepStrictEqual(texts(await call(c, 'fetchValue', { ...at, r: 3, pr: 2, notFoundOk: false, useBasicQuorum: true })), ['1']);
        await fails(call(c, 'storeValue', { ...at, value: stored('2'), w: 4 }), '{n_val_violation,3}');
    },

    async 'user metadata'(c) {
        const at = place('meta', 'k');
        const meta = [{ key: 'One', value: '1' }, { key: 'zwei', value: 'ß' }];
        await call(c, 'storeValue', { ...at, value: stored('1').setUserMeta(meta) });
        const got = await call(c, 'fetchValue', at);
        assert.deepStrictEqual(got.values[0].userMeta, meta);
    },

    async 'links'(c) {
        const at = place('links', 'k');
        const links = [{ bucket: 'people', key: 'anna', tag: 'friend' }, { bucket: 'people', key: 'ben/1', tag: 'boss' }];
        await call(c, 'storeValue', { ...at, value: stored('1').setLinks(links) });
        const got = await call(c, 'fetchValue', at);
        assert.deepStrictEqual(got.values[0].links, links);
    },

    async 'index entries of values'(c) {
        const at = place('entries', 'k');
        const value = stored('1').addToIndex('mail_bin', 'a@b', 'c@d').addToIndex('age_int', 7);
        await call(c, 'storeValue', { ...at, value });
        const got = await call(c, 'fetchValue', at);
        assert.deepStrictEqual(got.values[0].indexes.mail_bin.sort(), ['a@b', 'c@d']);
        assert.deepStrictEqual(got.values[0].indexes.age_int, [7]);
    },

    async 'list keys'(c) {
        const want = [];
        for (let i = 0; i < 20; i++) {
            want.push('k' + i);
            await call(c, 'storeValue', { ...place('listed', 'k' + i), value: stored('1') });
        }
        const all = await parts(c, 'listKeys', { bucket: 'listed', stream: true });
        assert.deepStrictEqual([].concat(...all.map((p) => p.keys)).sort(), want.sort());
        const whole = await call(c, 'listKeys', { bucket: 'listed', stream: false });
        assert.deepStrictEqual(whole.keys.sort(), want);
    },

    async 'list buckets'(c) {
        await call(c, 'storeValue', { ...place('one of all', 'k'), value: stored('1') });
        const all = await parts(c, 'listBuckets', { stream: true });
        assert([].concat(...all.map((p) => p.buckets)).includes('one of all'), 'the bucket is missing');
    },

    async 'bucket properties'(c) {
        const before = await call(c, 'fetchBucketProps', { bucket: 'props' });
        assert.strictEqual(before.nVal, 3);
        assert.strictEqual(before.allowMult, false);
        await call(c, 'storeBucketProps', { bucket: 'props', nVal: 2, allowMult: true, notFoundOk: false });
        const set = await call(c, 'fetchBucketProps', { bucket: 'props' });
        assert.deepStrictEqual([set.nVal, set.allowMult, set.notFoundOk], [2, true, false]);
        await call(c, 'resetBucketProps', { bucket: 'props' });
        const reset = await call(c, 'fetchBucketProps', { bucket: 'props' });
        assert.deepStrictEqual([reset.nVal, reset.allowMult, reset.notFoundOk], [3, false, true]);
    },

    async 'bucket type properties'(c) {
        const before = await call(c, 'fetchBucketTypeProps', { bucketType: 'plain' });
        assert.strictEqual(before.allowMult, true);
        await call(c, 'storeBucketTypeProps', { bucketType: 'plain', basicQuorum: true });
        const set = await call(c, 'fetchBucketTypeProps', { bucketType: 'plain' });
        assert.deepStrictEqual([set.basicQuorum, set.allowMult], [true, true]);
    },

    async 'buckets of a type'(c) {
        const at = place('typed', 'k', { bucketType: 'plain' });
        await call(c, 'storeValue', { ...at, value: stored('typed') });
        await call(c, 'storeValue', { ...place('typed', 'k'), value: stored('untyped') });
        assert.deepStrictEqual(texts(await call(c, 'fetchValue', at)), ['typed']);
        assert.deepStrictEqual(texts(await call(c, 'fetchValue', place('typed', 'k'))), ['untyped']);
        await call(c, 'storeValue', { ...at, value: stored('second') });
        assert.deepStrictEqual(texts(await call(c, 'fetchValue', at)), ['second', 'typed']);
        await fails(call(c, 'fetchValue', { ...at, bucketType: 'unknown' }), "No bucket-type named 'unknown'");
    },

    async 'preference lists'(c) {
        const got = await call(c, 'fetchPreflist', place('preflist', 'k'));
        assert.strictEqual(got.preflist.length, 3);
        for (const item of got.preflist) {
            assert(item.node, 'an item without a node');
            assert.strictEqual(typeof item.primary, 'boolean');
        }
    },

    async 'secondary index: equality'(c) {
        for (const [key, age] of [['a', 1], ['b', 2], ['c', 2]]) {
            await call(c, 'storeValue', { ...place('indexed', key), value: stored('1').addToIndex('age_int', age) });
        }
        const all = await parts(c, 'secondaryIndexQuery', { bucket: 'indexed', indexName: 'age_int', indexKey: 2, stream: true });
        const keys = [].concat(...all.map((p) => p.values)).map((v) => v.objectKey);
        assert.deepStrictEqual(keys.sort(), ['b', 'c']);
        const none = await call(c, 'secondaryIndexQuery', { bucket: 'indexed', indexName: 'age_int', indexKey: 9, stream: false });
        assert.deepStrictEqual([none.values, none.continuation], [[], null]);
        await fails(call(c, 'secondaryIndexQuery', { bucket: 'indexed', indexName: 'age', indexKey: 'x' }), "Unknown field type for field: 'age'.");
    },

    async 'secondary index: ranges and pages'(c) {
        for (let i = 0; i < 10; i++) {
            await call(c, 'storeValue', { ...place('ranges', 'k' + i), value: stored('1').addToIndex('name_bin', 'n' + i) });
        }
        const query = {
            bucket: 'ranges', indexName: 'name_bin', rangeStart: 'n2', rangeEnd: 'n8',
            returnKeyAndIndex: true, maxResults: 4, stream: false,
        };
        const first = await call(c, 'secondaryIndexQuery', query);
        assert.deepStrictEqual(first.values.map((v) => v.objectKey), ['k2', 'k3', 'k4', 'k5']);
        assert.deepStrictEqual(first.values.map((v) => v.indexKey), ['n2', 'n3', 'n4', 'n5']);
        assert(first.continuation, 'no continuation');
        const second = await call(c, 'secondaryIndexQuery', { ...query, continuation: first.continuation });
        assert.deepStrictEqual(second.values.map((v) => v.objectKey), ['k6', 'k7', 'k8']);
        assert.strictEqual(second.continuation, null);
    },

    async 'secondary index: streams'(c) {
        const many = 2500;
        for (let i = 0; i < many; i += 100) {
            await Promise.all(Array.from({ length: 100 }, (_, j) => call(c, 'storeValue', {
                ...place('streams', 'k' + (i + j)), value: stored('1').addToIndex('n_int', i + j),
            })));
        }
        const query = { bucket: 'streams', indexName: 'n_int', rangeStart: 0, rangeEnd: many, returnKeyAndIndex: true };
        const all = await parts(c, 'secondaryIndexQuery', { ...query, stream: true });
        assert(all.length > 2, 'they came in ' + all.length + ' parts');
        const found = [].concat(...all.map((p) => p.values));
        assert.strictEqual(new Set(found.map((v) => v.objectKey)).size, many);
        assert.strictEqual(found.length, many);
        assert(found.every((v) => v.objectKey === 'k' + v.indexKey), 'a key with the term of another');
        const some = await parts(c, 'secondaryIndexQuery', { ...query, stream: true, maxResults: 1500 });
        const first = [].concat(...some.map((p) => p.values)).map((v) => v.indexKey);
        assert.deepStrictEqual(first, Array.from({ length: 1500 }, (_, i) => i));
        assert(some[some.length - 1].continuation, 'no continuation');
    },

    async 'secondary index: expressions, $key and $bucket'(c) {
        for (const key of ['aa', 'ab', 'bb']) {
            await call(c, 'storeValue', { ...place('terms', key, { bucketType: 'plain' }), value: stored('1').addToIndex('w_bin', 'w' + key) });
        }
        const keys = async (options) => {
            const got = await call(c, 'secondaryIndexQuery', { bucketType: 'plain', bucket: 'terms', stream: false, ...options });
            return got.values.map((v) => v.objectKey).sort();
        };
        const matching = (index, first, last, regex) => message(c, 'RpbIndexReq', 'RpbIndexResp', {
            type: Buffer.from('plain'), bucket: Buffer.from('terms'), index: Buffer.from(index), qtype: 1,
            range_min: Buffer.from(first), range_max: Buffer.from(last), term_regex: Buffer.from(regex), stream: true,
        });
        assert.deepStrictEqual((await matching('w_bin', 'w', 'x', 'b$')).keys.map((k) => k.toString('utf8')).sort(), ['ab', 'bb']);
        assert.deepStrictEqual(await keys({ indexName: '$key', rangeStart: 'ab', rangeEnd: 'z', paginationSort: true }), ['ab', 'bb']);
        assert.deepStrictEqual(await keys({ indexName: '$bucket', indexKey: 'terms' }), ['aa', 'ab', 'bb']);
        await fails(matching('n_int', '1', '2', 'x'), 'Can not use term regular expression in integer query');
    },

    async 'data type: counter'(c) {
        const at = place('data', 'k', { bucketType: 'counters' });
        assert.strictEqual((await call(c, 'fetchCounter', at)).isNotFound, true);
        await call(c, 'updateCounter', { ...at, increment: 5 });
        const put = await call(c, 'updateCounter', { ...at, increment: -2, returnBody: true });
        assert.strictEqual(Number(put.counterValue), 3);
        assert.strictEqual(Number((await call(c, 'fetchCounter', at)).counterValue), 3);
        const made = await call(c, 'updateCounter', { bucketType: 'counters', bucket: 'data', increment: 1, returnBody: true });
        assert(made.generatedKey, 'no key');
        await fails(call(c, 'updateCounter', { ...at, bucketType: 'sets', increment: 1 }), 'Operation type is `counter` but  bucket type is `set`.');
        await fails(call(c, 'fetchCounter', { ...at, bucketType: 'unknown' }), 'Error no bucket type `<<"unknown">>`');
    },

    async 'data type: set'(c) {
        const at = place('data', 'k', { bucketType: 'sets' });
        assert.strictEqual((await call(c, 'fetchSet', at)).isNotFound, true);
        await call(c, 'updateSet', { ...at, additions: ['a', 'b'] });
        const got = await call(c, 'fetchSet', at);
        assert.deepStrictEqual(got.values.sort(), ['a', 'b']);
        const put = await call(c, 'updateSet', { ...at, removals: ['a'], context: got.context, returnBody: true });
        assert.deepStrictEqual(put.values, ['b']);
        assert(put.context.length > 0, 'no context');
        await fails(call(c, 'updateSet', { ...at, removals: ['x'] }), '{precondition,{not_present,<<"x">>}}');
        await call(c, 'updateSet', { ...at, removals: ['b'] });
        const empty = await call(c, 'fetchSet', at);
        assert.deepStrictEqual([empty.values, empty.isNotFound], [[], false]);
    },

    async 'data type: set that only grows'(c) {
        const at = { type: Buffer.from('gsets'), bucket: Buffer.from('data'), key: Buffer.from('k') };
        const add = (adds, others) => message(c, 'DtUpdateReq', 'DtUpdateResp', { ...at, op: { gset_op: { adds: adds.map((a) => Buffer.from(a)) } }, ...others });
        const elements = (values) => values.map((v) => v.toString('utf8')).sort();
        await add(['b', 'a']);
        const put = await add(['c', 'a'], { return_body: true });
        assert.deepStrictEqual(elements(put.gset_value), ['a', 'b', 'c']);
        const got = await message(c, 'DtFetchReq', 'DtFetchResp', at);
        assert.deepStrictEqual([got.type, elements(got.value.gset_value)], [5, ['a', 'b', 'c']]);
        assert.deepStrictEqual([put.context, got.context], [null, null]);
    },

    async 'counters of Riak 1.4'(c) {
        const at = { bucket: Buffer.from('old counters'), key: Buffer.from('k') };
        await fails(message(c, 'RpbCounterUpdateReq', 'RpbCounterUpdateResp', { ...at, amount: 1 }), "Counters require bucket property 'allow_mult=true'");
        await call(c, 'storeBucketProps', { bucket: 'old counters', allowMult: true });
        const absent = await message(c, 'RpbCounterGetReq', 'RpbCounterGetResp', at);
        assert(!absent || absent.value === null, 'there is a value before any was written');
        await message(c, 'RpbCounterUpdateReq', 'RpbCounterUpdateResp', { ...at, amount: 7 });
        const put = await message(c, 'RpbCounterUpdateReq', 'RpbCounterUpdateResp', { ...at, amount: -2, returnvalue: true });
        const got = await message(c, 'RpbCounterGetReq', 'RpbCounterGetResp', at);
        assert.deepStrictEqual([Number(put.value), Number(got.value)], [5, 5]);
    },

    async 'data type: map'(c) {
        const at = place('data', 'k', { bucketType: 'maps' });
        const op = new MapOperation();
        op.incrementCounter('visits', 2);
        op.addToSet('tags', 'x');
        op.setRegister('name', Buffer.from('anna'));
        op.setFlag('active', true);
        op.map('inner').setRegister('deep', Buffer.from('1'));
        await call(c, 'updateMap', { ...at, op });
        const got = await call(c, 'fetchMap', at);
        assert.strictEqual(Number(got.map.counters.visits), 2);
        assert.deepStrictEqual(got.map.sets.tags, ['x']);
        assert.strictEqual(got.map.registers.name.toString(), 'anna');
        assert.strictEqual(got.map.flags.active, true);
        assert.strictEqual(got.map.maps.inner.registers.deep.toString(), '1');
        const without = new MapOperation().removeCounter('visits').removeMap('inner').removeFromSet('tags', 'x').addToSet('tags', 'y').setFlag('active', false);
        const put = await call(c, 'updateMap', { ...at, op: without, context: got.context, returnBody: true });
        assert.deepStrictEqual([put.map.counters.visits, put.map.maps.inner], [undefined, undefined]);
        assert.deepStrictEqual([put.map.sets.tags, put.map.flags.active], [['y'], false]);
        const gone = new MapOperation().removeCounter('visits');
        await call(c, 'updateMap', { ...at, op: gone, context: put.context }); // known to be gone
        assert.strictEqual((await call(c, 'fetchMap', at)).map.registers.name.toString(), 'anna');
    },

    async 'data type: HyperLogLog'(c) {
        const at = place('data', 'k', { bucketType: 'hlls' });
        const { UpdateHll, FetchHll } = Riak.Commands.CRDT;
        await execute(c, (done) => new UpdateHll({ ...at, additions: ['a', 'b', 'a'] }, done));
        const got = await execute(c, (done) => new FetchHll(at, done));
        assert.strictEqual(Number(got.cardinality), 2);
        const put = await execute(c, (done) => new UpdateHll({ ...at, additions: ['c'], returnBody: true }, done));
        assert.strictEqual(Number(put.cardinality), 3);
    },

    async 'MapReduce'(c) {
        for (const n of ['3', '1', '2']) {
            const value = stored(n);
            value.addToIndex('n_int', Number(n));
            await call(c, 'storeValue', { ...place('mapred', 'k' + n), value });
        }
        const erlang = (name, more) => ({ language: 'erlang', module: 'riak_kv_mapreduce', function: name, ...more });
        const javascript = (name, more) => ({ language: 'javascript', name: 'Riak.' + name, ...more });
        // What each phase has answered.
        const run = (inputs, ...query) => new Promise((resolve, reject) => {
            const all = {};
            c.mapReduce(JSON.stringify({ inputs, query }), (err, part) => {
                if (err) {
                    reject(new Error(String(err)));
                    return;
                }
                if (part.response) {
                    all[part.phase] = (all[part.phase] || []).concat(part.response);
                }
                if (part.done) {
                    resolve(all);
                }
            }, true);
        });
        const values = { map: erlang('map_object_value') };
        assert.deepStrictEqual(await run('mapred', values, { reduce: erlang('reduce_sort', { keep: true }) }), { 1: ['1', '2', '3'] });
        assert.deepStrictEqual(await run('mapred', { map: javascript('mapValuesJson') }, { reduce: javascript('reduceSum') }), { 1: [6] });
        assert.deepStrictEqual(
            await run([['mapred', 'k2'], ['mapred', 'none']], { map: erlang('map_object_value', { keep: true }) }, { reduce: erlang('reduce_count_inputs') }),
            { 0: ['2'], 1: [1] });
        assert.deepStrictEqual(
            await run({ bucket: 'mapred', index: 'n_int', start: 2, end: 3 }, values, { reduce: erlang('reduce_string_to_integer') }, { reduce: erlang('reduce_sort') }),
            { 2: [2, 3] });
        assert.deepStrictEqual(await run({ bucket: 'mapred', key_filters: [['ends_with', '3']] }, values), { 0: ['3'] });
        await assert.rejects(run('mapred', { map: { language: 'javascript', source: 'function(v) { return [v]; }' } }), /source is not supported/);
        await assert.rejects(run('mapred', { map: erlang('map_object_value') }, { reduce: erlang('reduce_sum') }), /"phase":1/);
    },

    async 'search'(c) {
        await call(c, 'search', { indexName: 'index', q: 'a:b' });
    },

    async 'time series'(c) {
        await call(c, 'tsQuery', { query: 'select * from t' });
    },
};
