'use strict';
// Tries Riak's official client:
//
//     node run.js features HOST:PORT
//     node run.js survive HOST:PORT HOST:PORT HOST:PORT
//
// The first tries each feature and writes a line of JSON for it. The second stores and
// fetches through all nodes for as long as its input is open, writes a line each time it
// has gone through all keys, and at the end what came of it.

const Riak = require('basho-riak-client');
const { call, features } = require('./features.js');

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
    const counts = { stored: 0, fetched: 0, lost: 0, errors: [] };
    const acknowledged = new Map();
    for (let i = 0; open; i++) {
        const key = 'k' + (i % 100);
        try {
            await call(client, 'storeValue', { bucket: 'survive', key, value: 'v' + i });
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
        if (i % 100 === 99) {
            tell({ round: true }); // of all keys
        }
    }
    for (const key of acknowledged.keys()) {
        check(counts, acknowledged, key, await call(client, 'fetchValue', { bucket: 'survive', key }));
    }
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
        counts.lost++;
    }
}

const [task, ...addresses] = process.argv.slice(2);
(task === 'survive' ? survive(addresses) : tryFeatures(addresses[0])).catch((err) => {
    console.error(err);
    process.exit(1);
});
