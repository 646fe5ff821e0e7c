'use strict';
// Tries Riak's official client:
//
//     node run.js features HOST:PORT
//     node run.js survive HOST:PORT HOST:PORT HOST:PORT
//
// The first tries each feature and writes a line of JSON for it. The second stores and
// fetches values, updates data types and queries an index through all nodes for as long as
// its input is open, writes a line each time it has gone through all keys, and at the end
// what came of it.

const Riak = require('basho-riak-client');
const { call, parts, features } = require('./features.js');

// patience is how long the client waits, in ms: what has no answer by then hangs.
const patience = 20000;

function connect(addresses, attempts) {
    const nodes = addresses.map((address) => {
        const [remoteAddress, port] = address.split(':');
        return new Riak.Node({ remoteAddress, remotePort: Number(port), requestTimeout: patience, connectionTimeout: patience });
    });
    const cluster = new Riak.Cluster({ nodes, executionAttempts: attempts });
    return new Promise((resolve, reject) => {
        const client = new Riak.Client(cluster, (err) => (err ? reject(err) : resolve(client)));
    });
}

const tell = (what) => console.log(JSON.stringify(what));

async function tryFeatures(address) {
    const client = await connect([address], 1);
    for (const [feature, attempt] of Object.entries(features)) {
        const began = Date.now();
        let error = '';
        try {
            await attempt(client);
        } catch (err) {
            error = err.message || String(err);
        }
        tell({ feature, error, ms: Date.now() - began });
    }
    client.stop();
}

async function survive(addresses) {
    const client = await connect(addresses, 3);
    let open = true;
    process.stdin.on('end', () => { open = false; }).resume();
    const counts = { stored: 0, fetched: 0, updated: 0, queried: 0, lost: 0, missed: [], errors: [] };
    const acknowledged = new Map();
    const data = new Data(client, counts);
    for (let i = 0; open; i++) {
        const key = 'k' + (i % 100);
        try {
            const value = new Riak.Commands.KV.RiakObject().setContentType('text/plain').setValue('v' + i).addToIndex('n_int', i);
            await call(client, 'storeValue', { bucket: 'survive', key, value });
            acknowledged.set(key, i);
            counts.stored++;
        } catch (err) {
            counts.errors.push('store: ' + err.message);
            acknowledged.delete(key); // it may or may not be there
        }
        try {
            const got = await call(client, 'fetchValue', { bucket: 'survive', key });
            check(counts, acknowledged, key, got);
            counts.fetched++;
        } catch (err) {
            counts.errors.push('fetch: ' + err.message);
        }
        await data.update(i);
        if (i % 100 === 99) {
            await query(client, counts, acknowledged);
            await data.check();
            tell({ round: true }); // of all keys
        }
    }
    for (const key of acknowledged.keys()) {
        check(counts, acknowledged, key, await call(client, 'fetchValue', { bucket: 'survive', key }));
    }
    await data.check();
    await settle(client, counts, acknowledged);
    tell(counts);
    client.stop();
}

// check counts an acknowledged value that a fetch does not return.
function check(counts, acknowledged, key, got) {
    if (!acknowledged.has(key)) {
        return;
    }
    const want = 'v' + acknowledged.get(key);
    if (got.isNotFound || got.values.length !== 1 || got.values[0].value.toString() !== want) {
        lose(counts, 'value', key + ' is not ' + want);
    }
}

// lose counts so many acknowledged writes that were not returned, and says which of the
// first ones.
function lose(counts, where, what, n = 1) {
    const shown = 10;
    if (n > 0 && counts.missed.length < shown) {
        counts.missed.push(where + ': ' + what);
    }
    counts.lost += Math.max(0, n);
}

// query asks for all that has a number, and returns which of the acknowledged values it has
// not found, each by its number; null: it has failed.
async function query(client, counts, acknowledged) {
    try {
        const all = await parts(client, 'secondaryIndexQuery', {
            bucket: 'survive', indexName: 'n_int', rangeStart: 0, rangeEnd: 1 << 30, returnKeyAndIndex: true, stream: true,
        });
        const found = new Set([].concat(...all.map((p) => p.values)).map((v) => v.objectKey + ' ' + v.indexKey));
        counts.queried++;
        return [...acknowledged].map(([key, i]) => key + ' ' + i).filter((entry) => !found.has(entry));
    } catch (err) {
        counts.errors.push('query: ' + err.message);
        return null;
    }
}

// settle queries until all is found, and counts what is not in the end. A query asks one
// replica of each key, as Riak's does: one that was gone shows what it had until the others
// have told it what it has missed.
async function settle(client, counts, acknowledged) {
    let missing = null;
    for (const end = Date.now() + patience; Date.now() < end;) {
        missing = await query(client, counts, acknowledged);
        if (missing !== null && missing.length === 0) {
            return;
        }
    }
    lose(counts, 'query', missing, missing === null ? 1 : missing.length);
}

// Data updates data types: one of a counter, a set and a map in turn. An operation that the
// client has tried again may count twice, but none that was acknowledged may be lost.
class Data {
    constructor(client, counts) {
        this.client = client;
        this.counts = counts;
        this.counted = 0;
        this.added = [];
        this.mapped = 0;
    }

    at(bucketType) {
        return { bucketType, bucket: 'survive', key: 'k' };
    }

    async update(i) {
        try {
            switch (i % 4) {
            case 0:
                await call(this.client, 'updateCounter', { ...this.at('counters'), increment: 1 });
                this.counted++;
                break;
            case 1:
                await call(this.client, 'updateSet', { ...this.at('sets'), additions: ['e' + i] });
                this.added.push('e' + i);
                break;
            case 2: {
                const op = new Riak.Commands.CRDT.UpdateMap.MapOperation();
                await call(this.client, 'updateMap', { ...this.at('maps'), op: op.incrementCounter('n', 1).addToSet('s', 'e' + i) });
                this.mapped++;
                break;
            }
            default:
                return;
            }
            this.counts.updated++;
        } catch (err) {
            this.counts.errors.push('update: ' + err.message);
        }
    }

    // check counts the acknowledged operations that the values do not have.
    async check() {
        try {
            const counter = await call(this.client, 'fetchCounter', this.at('counters'));
            const set = await call(this.client, 'fetchSet', this.at('sets'));
            const { map } = await call(this.client, 'fetchMap', this.at('maps'));
            const elements = new Set(set.values);
            lose(this.counts, 'counter', counter.counterValue + ' of ' + this.counted, this.counted - Number(counter.counterValue));
            for (const e of this.added.filter((e) => !elements.has(e))) {
                lose(this.counts, 'set', e);
            }
            lose(this.counts, 'map', map.counters.n + ' of ' + this.mapped, this.mapped - Number(map.counters.n));
            lose(this.counts, 'map', map.sets.s.length + ' elements of ' + this.mapped, this.mapped - map.sets.s.length);
        } catch (err) {
            this.counts.errors.push('fetch of data: ' + err.message);
        }
    }
}

const [task, ...addresses] = process.argv.slice(2);
(task === 'survive' ? survive(addresses) : tryFeatures(addresses[0])).catch((err) => {
    console.error(err);
    process.exit(1);
});
