/** Cases of looking at jobs, and of data that means harm: what can be stored comes back as it went in. */
import { assert } from "@effect/vitest"
import * as Effect from "effect/Effect"
import type { StoreError } from "../../JobError.ts"
import type { EnqueueOutcome, NewJob } from "../../store/JobStoreDriver.ts"
import { contractCase, failed, ids, SLACK, succeeded, uuid } from "./StoreUnderTest.ts"

/** What became of an enqueue. A driver may answer for the job, or fail the call: the service above halves batches. */
const became = (enqueue: Effect.Effect<EnqueueOutcome, StoreError>): Effect.Effect<string> =>
  Effect.match(enqueue, {
    onFailure: (error) => error.reason,
    onSuccess: (outcome) => (outcome._tag === "Refused" ? outcome.error.reason : outcome._tag)
  })

export const inspectCases = [
  contractCase("get answers the rows that exist, as they stand", function* ({ driver, insert, queue, row, type }) {
    const id = yield* insert({
      payload: `{"n":1}`,
      key: "k",
      tags: ["a", "b"],
      metadata: `{"t":"1"}`,
      timeout: 5_000,
      timeoutThen: "fail",
      maxAttempts: 7,
      maxCrashes: 2,
      priority: 2
    })
    const other = yield* insert()
    const rows = yield* driver.get([id, uuid(), other])
    assert.deepStrictEqual([...ids(rows)].sort(), [id, other].sort())
    assert.deepStrictEqual(yield* driver.get([]), [])
    const { enqueuedAt, runAt, ...rest } = yield* row(id)
    const none = undefined
    assert.deepStrictEqual(rest, {
      id,
      type,
      queue,
      status: "queued",
      priority: 2,
      payload: { n: 1 },
      key: "k",
      tags: ["a", "b"],
      metadata: { t: "1" },
      timeout: 5_000,
      timeoutThen: "fail",
      maxAttempts: 7,
      maxCrashes: 2,
      attempt: 0,
      failures: 0,
      crashes: 0,
      interruptions: 0,
      snoozes: 0,
      fence: 0,
      result: none,
      error: none,
      timeoutAt: none,
      overranAt: none,
      worker: none,
      leaseExpiresAt: none,
      progress: none,
      progressAt: none,
      cancelRequestedAt: none,
      publishAt: none,
      startedAt: none,
      finishedAt: none
    })
    assert.strictEqual(runAt, enqueuedAt)
    assert.deepStrictEqual((yield* row(other)).tags, [])
  }),

  contractCase("what a caller does with an answer changes nothing", function* ({ driver, insert, row, take }) {
    const id = yield* insert({ payload: `{"list":[1]}`, tags: ["a"], metadata: `{"t":"1"}` })
    const before = structuredClone(yield* row(id))
    const [seen] = yield* driver.get([id])
    Object.assign(seen!.payload as object, { list: "gone" })
    Object.assign(seen!.tags, ["changed"])
    Object.assign(seen!.metadata!, { t: "changed" })
    assert.deepStrictEqual(yield* row(id), before)
    const job = yield* take(id)
    assert.deepStrictEqual(job.payload, { list: [1] })
    Object.assign(job.payload as object, { list: "gone" })
    assert.deepStrictEqual((yield* row(id)).payload, { list: [1] })
  }),

  contractCase("limits without end are as good as without end", function* ({ insert, row, take }) {
    const none = Number.POSITIVE_INFINITY
    const id = yield* insert({ maxAttempts: none, maxCrashes: none, maxSnoozes: none })
    const { maxAttempts, maxSnoozes } = yield* take(id)
    assert.isTrue(Math.min(maxAttempts, maxSnoozes, (yield* row(id)).maxCrashes) > 1_000_000_000)
  }),

  contractCase("ended answers which ids have ended or do not exist", function* ({ driver, insert, settle, take }) {
    const queued = yield* insert()
    const running = yield* take(yield* insert())
    const [won, lost, gone] = [yield* insert(), yield* insert(), yield* insert()]
    yield* settle(succeeded(yield* take(won)))
    yield* settle(failed(yield* take(lost)))
    yield* driver.cancel([gone])
    const missing = uuid()
    const ended = yield* driver.ended([queued, running.id, won, lost, gone, missing])
    assert.deepStrictEqual([...ended].sort(), [won, lost, gone, missing].sort())
    assert.deepStrictEqual(yield* driver.ended([]), [])
  }),

  contractCase(
    "list pages through jobs, newest id first, and filters",
    function* ({ driver, job, queue, settle, take, type }) {
      const jobs = Array.from({ length: 7 }, (_, n) => job({ type: n < 2 ? `${type}Other` : type }))
      yield* driver.enqueue(jobs)
      const newest = [...ids(jobs)].sort().reverse()
      const page = (after?: string) => Effect.map(driver.list({ queue, limit: 3, after }), ids)
      const first = yield* page()
      const second = yield* page(first.at(-1))
      const third = yield* page(second.at(-1))
      assert.deepStrictEqual([first, second, third], [newest.slice(0, 3), newest.slice(3, 6), newest.slice(6)])
      assert.deepStrictEqual(yield* page(third.at(-1)), [])
      const others = ids(jobs.slice(0, 2))
      assert.sameMembers([...ids(yield* driver.list({ type: `${type}Other`, limit: 10 }))], [...others])
      const done = jobs[3]!.id
      yield* settle(succeeded(yield* take(done)))
      assert.deepStrictEqual(ids(yield* driver.list({ queue, status: "succeeded", limit: 10 })), [done])
      assert.lengthOf(yield* driver.list({ queue, type, status: "queued", limit: 10 }), 4)
      assert.deepStrictEqual(yield* driver.list({ queue: `${queue}-none`, limit: 10 }), [])
    }
  ),

  contractCase(
    "stats count jobs per queue and status, with the age of the oldest due one",
    function* ({ advance, driver, insert, queue, settle, take }) {
      const mine = Effect.map(driver.stats, (stats) => stats.filter((one) => one.queue.startsWith(queue)))
      yield* insert()
      yield* advance(60_000)
      yield* insert()
      yield* insert({ delay: 600_000 })
      yield* take(yield* insert())
      yield* settle(succeeded(yield* take(yield* insert())))
      yield* settle(failed(yield* take(yield* insert())))
      yield* driver.cancel([yield* insert()])
      yield* insert({ queue: `${queue}-waiting`, delay: 600_000 })
      const [busy, idle, ...rest] = [...(yield* mine)].sort((a, b) => a.queue.length - b.queue.length)
      assert.deepStrictEqual(rest, [])
      const { oldestAge, ...counts } = busy!
      const each = { processing: 1, succeeded: 1, failed: 1, cancelled: 1 }
      assert.deepStrictEqual(counts, { queue, queued: 2, waiting: 1, ...each })
      assert.isTrue(oldestAge! >= 60_000 && oldestAge! < 60_000 + SLACK)
      const none = { processing: 0, succeeded: 0, failed: 0, cancelled: 0 }
      assert.deepStrictEqual(idle, { queue: `${queue}-waiting`, queued: 0, waiting: 1, ...none, oldestAge: undefined })
    }
  ),

  contractCase(
    "data that cannot be stored is refused, alone, and nothing of it is written",
    function* ({ driver, enqueueOne, job }) {
      const hostile: ReadonlyArray<Partial<NewJob>> = [
        { payload: `"\\u0000"` },
        { payload: `{"a\\u0000b":1}` },
        { payload: `["\\ud83d"]` },
        { payload: `["\\ude00\\ud83d"]` },
        { payload: `{"a":NaN}` },
        { payload: "undefined" },
        { payload: "" },
        { payload: `{"a":1}}` },
        { payload: `"raw \u0000"` },
        { type: "a\u0000b" },
        { key: "a\u0000b" },
        { tags: ["fine", "a\u0000b"] },
        { priority: 10 },
        { priority: -1 },
        { type: "" },
        { queue: "q".repeat(256) },
        { key: "k".repeat(1_001) },
        { timeout: 0 }
      ]
      for (const override of hostile) {
        const bad = job(override)
        assert.strictEqual(yield* became(enqueueOne(bad)), "Refused", JSON.stringify(override).slice(0, 60))
        assert.deepStrictEqual(yield* driver.get([bad.id]), [])
      }
    }
  ),

  contractCase("JSON nested 100,000 levels deep is refused", function* ({ driver, enqueueOne, job }) {
    const deep = job({ payload: "[".repeat(100_000) + "]".repeat(100_000) })
    assert.strictEqual(yield* became(enqueueOne(deep)), "Refused")
    assert.deepStrictEqual(yield* driver.get([deep.id]), [])
  }),

  contractCase(
    "hostile data that JSON allows comes back as it went in",
    function* ({ driver, insert, row, settle, take }) {
      const values: ReadonlyArray<string> = [
        `{"__proto__":{"admin":true},"constructor":1,"toString":null,"":""}`,
        `"😀 \\ud83d\\ude00 \\u2028 ' \\" \\\\ ; drop table jobs; -- \\u0001"`,
        `"\\\\u0000"`,
        `[1e21,1.5e-7,-1,0.1,9007199254740991,true,false,null]`,
        `${"[".repeat(1_000)}${"]".repeat(1_000)}`,
        JSON.stringify("x".repeat(1_000_000)),
        JSON.stringify(Object.fromEntries(Array.from({ length: 500 }, (_, n) => [`key ${n}`, n])))
      ]
      for (const text of values) {
        const id = yield* insert({ payload: text })
        const job = yield* take(id)
        assert.deepStrictEqual(job.payload, JSON.parse(text))
        yield* settle(succeeded(job, text))
        const { payload, result } = yield* row(id)
        assert.deepStrictEqual([payload, result], [JSON.parse(text), JSON.parse(text)])
        if (text.startsWith(`{"__proto__"`)) assert.isTrue(Object.hasOwn(payload as object, "__proto__"))
      }
      const tags = [`'; drop table jobs; --`, "", "{a,b}", `"quoted"`, "ü,€"]
      const id = yield* insert({ tags, key: `'"\\{}`, metadata: `{"__proto__":"x"}` })
      const after = yield* row(id)
      assert.deepStrictEqual([after.tags, after.key], [tags, `'"\\{}`])
      assert.isTrue(Object.hasOwn(after.metadata!, "__proto__"))
      assert.lengthOf(yield* driver.list({ limit: 100 }), values.length + 1)
    }
  )
]
