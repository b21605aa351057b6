// Shards Yika's database on a cluster, and keeps every province's people on the shards of its zone. Run once, after
// `python -m service migrate` and before the first import, against a mongos of MongoDB 7.0 or later:
//
//   mongosh "mongodb://…/?authSource=admin" --eval 'const database = "yika", provinces = {"44": "guangdong", "11": "beijing"}' \
//     --file deploy/mongodb/sharding.js
//
// `provinces` names a zone for the first two digits of region codes; who is not named lies anywhere. Shards are given to
// zones with sh.addShardToZone("shard07", "guangdong"), before or after. docs/scale.md says why each key is what it is.
/* global sh, db, database, provinces */

const cluster = db.getSiblingDB(database);
const named = (collection) => `${database}.${collection}`;

// As service/ids.py has it: a region's code in base32, in the order in which its signs sort.
const SIGNS = "234567abcdefghijklmnopqrstuvwxyz";
const placeOf = (region) => [15, 10, 5, 0].map((shift) => SIGNS[(region >> shift) & 31]).join("");

sh.enableSharding(database);

// A unique index must begin with the shard key, and these cannot. docs/scale.md says what takes their place.
for (const [name, keys] of [
    ["number", { numberIndex: 1, regionCode: 1 }],
    ["activation", { "activation.id": 1 }],
]) {
    cluster.cards.dropIndex(name);
    const only = name === "activation" ? { partialFilterExpression: { "activation.id": { $exists: true } } } : {};
    cluster.cards.createIndex(keys, { name, ...only });
}

// A person's cards and the log of who looked at them lie together.
// Cards have the index that this needs.
cluster.accesses.createIndex({ holderId: 1, _id: 1 }, { name: "shard" });
sh.shardCollection(named("cards"), { holderId: 1, _id: 1 });
sh.shardCollection(named("accesses"), { holderId: 1, _id: 1 });

// A lane of the ledger lies on one shard, because places, followers and entries are unique there; the eight may lie on eight.
// `_id` of a link is drawn from one entry of one person, who is always in one lane.
sh.shardCollection(named("ledger"), { lane: 1 });

// A registration's id follows from the person, so that it is unique where the person's lie together.
cluster.insurance.createIndex({ holderId: 1, _id: 1 }, { name: "shard" });
sh.shardCollection(named("insurance"), { holderId: 1, _id: 1 });

// What somebody agreed to, and what a city said last of them. The indexes that this needs are there.
sh.shardCollection(named("consents"), { holderId: 1, _id: 1 });
sh.shardCollection(named("last_known"), { holderId: 1, _id: 1 });

// Found by ID number when somebody signs in; the index is a keyed code, spread evenly, and stays unique.
sh.shardCollection(named("holders"), { idNumberIndex: 1 }, true);

// A dependant's links lie together, because their seats are unique there; that index cannot be the shard key's, being partial,
// but another is there.
sh.shardCollection(named("dependants"), { holderId: 1 });

// Always asked for by their id, which is random.
for (const collection of ["ledger_subjects", "sessions", "idempotency", "limits", "lockouts", "verifications", "hotline_codes", "visits", "ecards",
    "ecard_codes", "contacts", "familiar_devices"]) {
    sh.shardCollection(named(collection), { _id: "hashed" });
}

// Messages are a queue of days: they, and the few documents of operators, migrations, imports and keyring, stay on one shard.

for (const [digits, zone] of Object.entries(provinces)) {
    const first = `hld_${placeOf(Number(digits) * 10000)}`;
    const next = `hld_${placeOf((Number(digits) + 1) * 10000)}`;
    for (const collection of ["cards", "accesses", "insurance", "consents", "last_known"]) {
        sh.updateZoneKeyRange(named(collection), { holderId: first, _id: MinKey() }, { holderId: next, _id: MinKey() }, zone);
    }
}

sh.status();
