/**
 * Nothing that comes from outside is ever part of a statement's text. Two ways to see it: by listening to what is sent while
 * every operation is fed with hostile words, and by the list of the places that send text at all. And the words do no harm:
 * they are stored, found and compared as they are.
 */
import { assert, describe, it } from "@effect/vitest"
import { Effect } from "effect"
import { readdir, readFile } from "node:fs/promises"
import { join } from "node:path"
import * as PgmqBroker from "../../src/broker/PgmqBroker.ts"
import { Broker, Migrations } from "../../src/index.ts"
import * as PostgresWorkerRegistry from "../../src/registry/PostgresWorkerRegistry.ts"
import type { JobAction, NewJob } from "../../src/store/JobStoreDriver.ts"
import * as PostgresJobStore from "../../src/store/PostgresJobStore.ts"
import { installPgmq } from "../support/Pgmq.ts"
import { describePostgres, freshDatabase, layerUrl } from "../support/Postgres.ts"
import * as SqlListener from "../support/SqlListener.ts"

const canary = "c4n4ry"

/** What breaks out of strings, identifiers, comments, arrays, JSON, dollar quotes and patterns. */
const corpus = [
  `${canary}'; drop table polyqueue.polyqueue_jobs; --`,
  `${canary}" or ""="`,
  `${canary}' or 1=1 or '`,
  `${canary}$$; select pg_sleep(60); $$`,
  `${canary}\\'; delete from polyqueue.polyqueue_jobs; /*`,
  `${canary}","x"}',null) --`,
  `${canary}$1 $2 %s ? :name {0}`,
  `${canary}%_\\%`,
  `{"$ne":"${canary}"}`,
  `${canary}\u02bc or \uff07`
]

const root = join(import.meta.dirname, "../..")
const uuid = () => globalThis.crypto.randomUUID()

const jobOf = (word: string): NewJob => ({
  id: uuid(),
  freshId: false,
  type: word,
  queue: word,
  priority: 5,
  delay: 0,
  runAt: undefined,
  payload: JSON.stringify({ [word]: word }),
  maxAttempts: 3,
  maxCrashes: 3,
  maxSnoozes: 3,
  retryDelays: [1],
  timeout: undefined,
  timeoutThen: "retry",
  key: word,
  keyScope: "live",
  tags: [word, `{${word}}`],
  metadata: JSON.stringify({ traceparent: word }),
  hinted: true,
  publishIn: 0
})

/** Every operation of the store, each argument that is text being the word. Answers the jobs it is about. */
const useStore = Effect.fnUntraced(function* (word: string) {
  const store = yield* PostgresJobStore.make()
  const by = { who: word, reason: word }
  const [first, second, third] = [jobOf(word), { ...jobOf(word), key: `${word}2` }, { ...jobOf(word), key: undefined }]
  const claim = (suspects: 0 | 1) => ({ claim: uuid(), worker: word, lease: 60_000, suspects })
  assert.deepStrictEqual(
    (yield* store.enqueue([first, second, third])).map(({ _tag }) => _tag),
    ["Inserted", "Inserted", "Inserted"]
  )
  assert.deepStrictEqual(yield* store.enqueue([{ ...jobOf(word), key: word }]), [{ _tag: "Duplicate", id: first.id }])
  yield* store.nextDue([{ queue: word, type: word }])
  yield* store.takeHints({ limit: 10, again: true })
  yield* store.pause({ queue: word, type: word, by, operation: uuid() })
  const view = yield* store.view(first.id)
  assert.strictEqual(view?.pauses[0]?.reason, word)
  assert.deepStrictEqual(
    yield* store.claim({ ...claim(0), pools: [{ ranges: [{ queue: word, type: word }], limit: 9 }] }),
    []
  )
  yield* store.resume({ queue: word, type: word, by, operation: uuid() })
  const [taken] = yield* store.claim({ ...claim(0), pools: [{ ranges: [{ queue: word, type: word }], limit: 1 }] })
  assert.strictEqual(taken?.queue, word)
  const held = (yield* store.claimHinted({ ...claim(0), ids: [second.id, third.id], types: [word] })).claimed
  const leases = [taken!, ...held]
  const lease = { attempt: taken!.attempt, claim: taken!.claim, id: taken!.id }
  yield* store.renew(leases, 60_000)
  yield* store.progress([{ ...lease, progress: JSON.stringify({ note: word }) }])
  const filter = { type: word, queue: word, tag: word, worker: word }
  assert.strictEqual(yield* store.count(filter), leases.length)
  assert.strictEqual((yield* store.find({ ...filter, limit: 9 })).length, leases.length)
  const [outcome] = yield* store.settle(word, [
    {
      ...lease,
      _tag: "Failed",
      error: { code: "error", message: word, value: JSON.stringify(word), stack: word },
      retryIn: undefined
    }
  ])
  assert.strictEqual(outcome?._tag, "Settled")
  assert.strictEqual((yield* store.attempts(lease.id))[0]?.error?.message, word)
  assert.strictEqual((yield* store.list({ type: word, queue: word, limit: 9 })).length, 3)
  yield* store.find({ errorCode: word, limit: 1 })
  yield* store.reap({ limit: 10, exceptWorkers: [word] })
  for (const action of ["fail", "requeue", "runNow", "cancel", "purge"] satisfies ReadonlyArray<JobAction>) {
    const results = yield* store.act({
      action,
      ids: [lease.id],
      filter: { type: word, queue: word, tag: word },
      by,
      operation: uuid(),
      publishIn: 0
    })
    assert.strictEqual(results.length, 1)
  }
  for (const asked of [{ who: word }, { target: word }]) {
    for (const { who } of yield* store.audit({ ...asked, limit: 9 })) assert.strictEqual(who, word)
  }
  return [first.id, second.id, third.id]
}, Effect.scoped)

const useRegistry = Effect.fnUntraced(function* (word: string) {
  const registry = yield* PostgresWorkerRegistry.make()
  const by = { who: word, reason: word }
  yield* registry.heartbeat({
    id: word,
    host: word,
    pid: 1,
    name: word,
    version: word,
    queues: [word, `{${word}}`],
    jobTypes: [word],
    slots: 1,
    running: [word],
    runningCount: 1,
    status: "running",
    memory: 1,
    eventLoopDelay: 0
  })
  yield* registry.tell({ id: word, order: "drain", by, operation: uuid() })
  yield* registry.setConcurrency({ name: word, queue: word, concurrency: 3, by, operation: uuid() })
  const [row] = (yield* registry.list).filter(({ id }) => id === word)
  assert.deepStrictEqual([row?.name, row?.queues, row?.told], [word, [word, `{${word}}`], "drain"])
  assert.include(
    (yield* registry.concurrency).map(({ name }) => name),
    word
  )
  yield* registry.audit({ who: word, target: word, limit: 9 })
  yield* registry.setConcurrency({ name: word, queue: word, concurrency: undefined, by, operation: uuid() })
  yield* registry.stop(word)
}, Effect.scoped)

const usePgmq = Effect.fnUntraced(function* (word: string) {
  const broker = yield* Broker
  const hint = { jobId: uuid(), queue: word, priority: 0, attempt: 0, publication: 1 }
  assert.deepStrictEqual(yield* broker.publish([hint]), [{ _tag: "Ok" }])
  assert.strictEqual(yield* broker.depth(word), 1)
  const consumer = yield* broker.consumer({ queues: [word], lease: 60_000 })
  const received = yield* consumer.receive({ max: 5, wait: 1_000 })
  assert.deepStrictEqual(
    received.map((delivery) => delivery.hint),
    [hint]
  )
  const forged = received.map((delivery) => ({ ...delivery, receipt: word }))
  yield* consumer.extend([...received, ...forged], 60_000)
  yield* consumer.release(forged, 0)
  yield* consumer.ack([...forged, ...received])
  yield* broker.purge(word)
}, Effect.scoped)

describePostgres("hostile words in every argument", () => {
  it.live(
    "are never part of a statement's text, are stored as they are, and destroy nothing",
    () =>
      Effect.gen(function* () {
        const listener = yield* SqlListener.listen(yield* freshDatabase)
        yield* Effect.gen(function* () {
          yield* Migrations.migrate()
          yield* installPgmq
          const all: Array<string> = []
          for (const word of corpus) {
            all.push(...(yield* useStore(word)))
            yield* useRegistry(word)
            yield* Effect.provide(usePgmq(word), PgmqBroker.layer())
          }
          const store = yield* PostgresJobStore.make()
          // One of three was purged, by its id and its own word: nobody else's
          assert.strictEqual((yield* store.get(all)).length, 2 * corpus.length)
        }).pipe(Effect.scoped, Effect.provide(layerUrl(listener.url)))
        assert.isAbove(listener.texts.length, 100)
        assert.isTrue(listener.texts.some((text) => text.includes(`insert into "polyqueue"."polyqueue_jobs"`)))
        assert.isTrue(listener.texts.some((text) => text.includes("pgmq.")))
        // A pgmq queue is a table: its name keeps the letters, digits and underscores of ours, and a hash of the rest
        const pgmqName = /polyqueue__[a-z0-9_]{1,40}-[0-9a-f]{12}/g
        assert.deepStrictEqual(
          listener.texts.filter((text) => text.replaceAll(pgmqName, "").includes(canary)),
          []
        )
      }).pipe(Effect.scoped),
    120_000
  )
})

describe("the sources", () => {
  const sources = async () => {
    const found: Array<{ readonly file: string; readonly text: string }> = []
    for (const folder of ["src", "migrations"]) {
      for (const file of await readdir(join(root, folder), { recursive: true })) {
        if (file.endsWith(".ts"))
          found.push({ file: `${folder}/${file}`, text: await readFile(join(root, folder, file), "utf8") })
      }
    }
    return found.sort((a, b) => (a.file < b.file ? -1 : 1))
  }

  it("send SQL text from these places only", async () => {
    const places = (await sources()).filter(({ text }) => /\.unsafe\(/.test(text)).map(({ file }) => file)
    assert.deepStrictEqual(places, [
      "src/Migrations.ts",
      "src/broker/pgmq/Session.ts",
      "src/cli/Sql.ts",
      "src/cli/doctor/Rows.ts",
      "src/store/postgres/Act.ts",
      "src/store/postgres/Cancel.ts",
      "src/store/postgres/Sessions.ts"
    ])
  })

  it("never ask the driver for an identifier or a literal, which would be another door", async () => {
    for (const { file, text } of await sources())
      assert.notMatch(text, /sql\.(literal|identifier|dynamic)\b|sql\(["'`]/, file)
  })

  it("evaluate no text, and import what they name themselves, or what the command line was asked to run", async () => {
    for (const { file, text } of await sources()) {
      assert.notMatch(text, /\beval\s*\(|new Function\b|node:vm|setTimeout\(\s*["'`]/, file)
      const imports = Array.from(text.matchAll(/\bimport\(([^)]*)\)/g), ([, argument]) => argument!)
      const computed = imports.filter((argument) => !/^"[^"]+"$/.test(argument))
      assert.deepStrictEqual(computed, file === "src/cli/Worker.ts" ? ["url.href"] : [], file)
    }
  })

  it("merge no JSON of others into objects", async () => {
    for (const { file, text } of await sources()) {
      assert.notMatch(text, /Object\.assign\([^)]*JSON\.parse|\.\.\.JSON\.parse|lodash|deepmerge/, file)
    }
  })

  it("make no function that runs with its owner's rights", async () => {
    for (const { file, text } of await sources()) assert.notMatch(text, /security\s+definer/i, file)
  })
})

describe("schema, prefix and roles", () => {
  const names = [
    'x"; drop table users; --',
    "a.b",
    "a b",
    "a-b",
    "A",
    "größe",
    "schеma",
    "ｓchema",
    "x".repeat(42),
    "x".repeat(100_000),
    "1st",
    "",
    " ",
    "a\u0000",
    "a\n",
    "$user",
    'pg_catalog"',
    "%s",
    "__proto__x\u200b"
  ]
  it.effect.each(names)("are not called %j", (name) =>
    Effect.gen(function* () {
      for (const result of [
        Migrations.statements({ schema: name }),
        Migrations.statements({ prefix: name }),
        Migrations.roles({ schema: name }),
        Migrations.roles({ viewer: name })
      ]) {
        const error = yield* Effect.flip(Effect.fromResult(result))
        assert.strictEqual(error.reason, "Refused")
        assert.isBelow(error.message.length, 1_000)
      }
    })
  )
})
