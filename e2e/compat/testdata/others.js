'use strict';
// Tries a client of Riak other than the official one:
//
//     node others.js CLIENT features RUN HOST:PORT,… HOST:PORT,…
//     node others.js CLIENT secured RUN HOST:PORT
//     node others.js CLIENT survive HOST:PORT,…
//
// The first tries each of its features, in buckets whose names have RUN in them, through nodes
// whose Protocol Buffers and HTTP are there, and writes a line of JSON for it. The second does so
// for those features that need a node with security. The third stores and fetches values through
// all nodes for as long as its input is open, as run.js does.

const tell = (what) => console.log(JSON.stringify(what));

// call calls a method of an object whose last argument is a callback.
function call(object, method, ...args) {
    return new Promise((resolve, reject) => {
        object[method](...args, (err, ...results) => (err ? reject(err) : resolve(results.length > 1 ? results : results[0])));
    });
}

// collect is all that an emitter emits as the event, once it has ended.
function collect(emitter, event = 'data') {
    return new Promise((resolve, reject) => {
        const all = [];
        emitter.on(event, (what) => all.push(what)).on('error', reject).on('end', () => resolve(all));
    });
}

// fails is the message of the error that a promise must end with.
async function fails(promise) {
    try {
        await promise;
    } catch (err) {
        return err.message;
    }
    throw new Error('it succeeds, and should not');
}

async function tryFeatures(features, run, pb, http) {
    for (const [feature, attempt] of Object.entries(features)) {
        const began = Date.now();
        let error = '';
        try {
            await attempt({ run, pb, http });
        } catch (err) {
            error = err.message || JSON.stringify(err);
        }
        tell({ feature, error, ms: Date.now() - began });
    }
}

async function survive(client, pb) {
    const { store, fetch } = client.open(pb);
    let open = true;
    process.stdin.on('end', () => { open = false; }).resume();
    const counts = { stored: 0, fetched: 0, lost: 0, missed: [], errors: [] };
    const keys = 100;
    for (let i = 0; open; i++) {
        const key = 'k' + (i % keys);
        try {
            await store(key, 'v' + i);
            counts.stored++;
            const got = await fetch(key);
            counts.fetched++;
            if (got !== 'v' + i) {
                counts.lost++;
                counts.missed.push(key + ' is ' + got + ', not v' + i);
            }
        } catch (err) {
            counts.errors.push(err.message);
        }
        if (i % keys === keys - 1) {
            tell({ round: true });
        }
    }
    tell(counts);
}

module.exports = { call, collect, fails };

if (require.main === module) {
    const [name, task, ...args] = process.argv.slice(2);
    const client = require('./' + name + '.js');
    const lists = args.map((arg) => arg.split(','));
    const done = task === 'survive' ? survive(client, lists[0]) : tryFeatures(client[task], args[0], lists[1], lists[2]);
    done.then(() => process.exit(0), (err) => { // their pools would keep it open
        console.error(err);
        process.exit(1);
    });
}
