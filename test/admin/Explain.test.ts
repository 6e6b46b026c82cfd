/** Why a job does not run, and when it could: every reason, from the state that is its cause. */
import { assert } from "@effect/vitest"
import { Effect } from "effect"
import * as Explain from "../../src/admin/Explain.ts"
import { Admin, JobStore, Polyqueue, WorkerRegistry } from "../../src/index.ts"
import type { WorkerInfo, WorkerRecord } from "../../src/WorkerRegistry.ts"
import { onStores } from "./OnStores.ts"
import { by, Endless, Fragile, Orphan, Stage, startWorker, until } from "./Stage.ts"

const explain = (id: string) => Admin.use((admin) => admin.explain(id))
const tags = (id: string) => Effect.map(explain(id), ({ reasons }) => reasons.map(({ _tag }) => _tag))

/** Claims as a worker that is never heard of. */
const claimAs = (worker: string, id: string, type: string, lease: number) =>
  Effect.gen(function* () {
    const store = yield* JobStore
    const claim = yield* Polyqueue.use((queue) => queue.makeId)
    const { claimed } = yield* store.claimHinted({ claim, worker, lease, ids: [id], types: [type], suspects: 1 })
    assert.lengthOf(claimed, 1)
    return claimed[0]!
  })

/** A worker that was killed, with nobody left to mark it dead. */
const longAgo = (worker: WorkerRecord): WorkerRecord => ({ ...worker, heartbeatAt: worker.heartbeatAt - 120_000 })

onStores("explain", (it) => {
  it.effect("not due, paused and without a worker, all at once, and when it could start", () =>
    Effect.gen(function* () {
      const admin = yield* Admin
      const job = yield* Orphan.enqueue({ n: 1 }, { delay: "10 minutes", queue: "explained" })
      const first = yield* explain(job.id)
      const [notDue, noWorker] = first.reasons
      assert.deepStrictEqual([notDue?._tag, noWorker?._tag], ["NotDue", "NoWorker"])
      assert.strictEqual(notDue?._tag === "NotDue" && notDue.because, "delay")
      const { runAt } = yield* admin.job(job.id)
      assert.strictEqual(notDue?.until, runAt)
      assert.isUndefined(first.earliest, "nobody is there to run it")
      assert.include(noWorker!.message, "no live worker has a handler for Orphan")
      const pause = yield* admin.pauseQueue("explained", { ...by, duration: "1 hour", reason: "moving house" })
      const second = yield* explain(job.id)
      const paused = second.reasons[1]
      assert.strictEqual(paused?._tag === "Paused" && paused.reason, "moving house")
      assert.strictEqual(paused?.until, pause.until)
      assert.include(paused!.message, "queue explained is paused until 2")
      yield* admin.resumeQueue("explained", by)
      const missing = yield* Effect.flip(explain(globalThis.crypto.randomUUID()))
      assert.strictEqual(missing._tag, "JobNotFound")
    })
  )

  it.effect("the earliest start is when the last known reason ends; without one, now", () =>
    Effect.gen(function* () {
      const admin = yield* Admin
      yield* startWorker("early")
      const job = yield* Fragile.enqueue({ n: 1 }, { delay: "10 minutes" })
      const { runAt } = yield* admin.job(job.id)
      assert.strictEqual((yield* explain(job.id)).earliest, runAt)
      yield* admin.pauseType("Fragile", { ...by, duration: "1 minute" })
      assert.strictEqual((yield* explain(job.id)).earliest, runAt, "the pause ends before")
      const { until } = yield* admin.pauseType("Fragile", { ...by, duration: "1 hour" })
      assert.strictEqual((yield* explain(job.id)).earliest, until)
      yield* admin.pauseType("Fragile", by)
      assert.isUndefined((yield* explain(job.id)).earliest)
      yield* admin.runNow({ ids: [job.id] }, by)
      const held = yield* explain(job.id)
      assert.deepStrictEqual(
        held.reasons.map(({ _tag }) => _tag),
        ["Paused"]
      )
      assert.include(held.reasons[0]!.message, "type Fragile is paused until somebody resumes it: a test")
      yield* admin.cancel({ ids: [job.id] }, by)
      yield* admin.resumeType("Fragile", by)
    })
  )

  it.effect("why it waits for its time: a retry, a crash, a snooze", () =>
    Effect.gen(function* () {
      const store = yield* JobStore
      const settlements = [
        ["retry", { _tag: "Failed", error: { code: "error", message: "no" }, retryIn: 600_000 }],
        ["snooze", { _tag: "Snoozed", delay: 600_000 }]
      ] as const
      for (const [because, settlement] of settlements) {
        const job = yield* Orphan.enqueue({ n: 1 })
        const { attempt, claim, id } = yield* claimAs("w", job.id, "Orphan", 60_000)
        yield* store.settle("w", [{ id, attempt, claim, ...settlement }])
        const [reason] = (yield* explain(job.id)).reasons
        assert.strictEqual(reason?._tag === "NotDue" && reason.because, because)
      }
    })
  )

  it.effect("being run, abandoned, a suspect, and ended", () =>
    Effect.gen(function* () {
      const store = yield* JobStore
      const admin = yield* Admin
      const job = yield* Orphan.enqueue({ n: 1 }, { queue: "suspects" })
      yield* claimAs("worker-1", job.id, "Orphan", 200)
      const running = (yield* explain(job.id)).reasons[0]
      assert.strictEqual(running?._tag === "Running" && running.worker, "worker-1")
      yield* until(Effect.map(tags(job.id), ([tag]) => tag === "Abandoned"))
      const registry = yield* WorkerRegistry
      const nobody = { ...registry, list: Effect.succeed([]) }
      const abandoned = (yield* Explain.make(store, nobody)(job.id)).reasons[0]
      assert.include(abandoned!.message, "once a worker runs: none is heard of now")
      yield* store.reap({ limit: 10, exceptWorkers: [], ids: [job.id] })
      assert.deepStrictEqual(yield* tags(job.id), ["NoWorker"])
      const healthy = yield* Fragile.enqueue({ n: 1 }, { queue: "suspects", delay: "1 hour" })
      yield* admin.fail({ ids: [job.id, healthy.id] }, by)
      const ended = yield* explain(job.id)
      const [reason] = ended.reasons
      assert.deepStrictEqual(
        [reason?._tag, reason?._tag === "Ended" && reason.code, ended.earliest],
        ["Ended", "failedByAdmin", undefined]
      )
    })
  )

  it.effect("all slots busy; ready as soon as one is free; a cancel that is on its way", () =>
    Effect.gen(function* () {
      const stage = yield* Stage
      stage.broken = false
      const admin = yield* Admin
      yield* startWorker("busy", { concurrency: { busy: 1 }, lease: "30 seconds" })
      yield* admin.setConcurrency("busy", 1, by)
      const running = yield* Endless.enqueue(undefined, { queue: "busy" })
      yield* until(Effect.sync(() => stage.running.has(running.id)))
      const waiting = yield* Fragile.enqueue({ n: 1 }, { queue: "busy" })
      yield* admin.setConcurrency("busy", 0, { ...by, queue: "default" })
      yield* until(Effect.map(tags(waiting.id), ([tag]) => tag === "SlotsBusy"))
      const { earliest, now } = yield* explain(waiting.id)
      assert.strictEqual(earliest, now)
      yield* admin.cancel({ ids: [running.id] }, by)
      const [reason] = (yield* explain(running.id)).reasons
      assert.isTrue(reason?._tag === "Ended" || (reason?._tag === "Running" && reason.cancelRequested))
      yield* admin.fail({ ids: [running.id, waiting.id] }, by)
    })
  )

  it.effect("ready, busy, a suspect, draining or gone: as the workers' last heartbeats tell", () =>
    Effect.gen(function* () {
      const store = yield* JobStore
      const registry = yield* WorkerRegistry
      const admin = yield* Admin
      const id = `fake ${globalThis.crypto.randomUUID()}`
      const beat = (said: Partial<WorkerInfo>) =>
        registry.heartbeat({
          id,
          host: "host",
          pid: 1,
          name: "fake",
          version: "1",
          queues: ["fake"],
          jobTypes: ["Orphan"],
          slots: 2,
          running: [],
          runningCount: 1,
          status: "running",
          memory: 1,
          eventLoopDelay: 0,
          ...said
        })
      const job = yield* Orphan.enqueue({ n: 1 }, { queue: "fake" })
      const reasonsAfter = (said: Partial<WorkerInfo>) => Effect.andThen(beat(said), tags(job.id))
      assert.deepStrictEqual(yield* reasonsAfter({}), ["Ready"])
      const ready = yield* explain(job.id)
      assert.strictEqual(ready.earliest, ready.now)
      assert.deepStrictEqual(yield* reasonsAfter({ runningCount: 2 }), ["SlotsBusy"])
      assert.deepStrictEqual(yield* reasonsAfter({ jobTypes: ["Other"] }), ["NoWorker"])
      assert.deepStrictEqual(yield* reasonsAfter({ queues: ["other"] }), ["NoWorker"])
      assert.deepStrictEqual(yield* reasonsAfter({ status: "draining" }), ["NoWorker"])
      const [draining] = (yield* explain(job.id)).reasons
      assert.strictEqual(draining?._tag === "NoWorker" && draining.draining, 1)
      yield* claimAs("gone", job.id, "Orphan", 1)
      yield* until(Effect.map(tags(job.id), ([tag]) => tag === "Abandoned"))
      yield* store.reap({ limit: 10, exceptWorkers: [], ids: [job.id] })
      assert.deepStrictEqual(yield* reasonsAfter({ runningCount: 2 }), ["SlotsBusy", "Suspect"])
      const suspect = (yield* explain(job.id)).reasons[1]
      assert.deepStrictEqual(suspect?._tag === "Suspect" && [suspect.crashes, suspect.maxCrashes], [1, 3])
      const silent = { ...registry, list: Effect.map(registry.list, (all) => all.map(longAgo)) }
      yield* beat({})
      const [unheard] = (yield* Explain.make(store, silent)(job.id)).reasons
      assert.deepStrictEqual(unheard?._tag === "NoWorker" && [unheard.draining, unheard.silent], [0, 1])
      yield* registry.stop(id)
      const [nobody] = (yield* explain(job.id)).reasons
      assert.strictEqual(nobody?._tag === "NoWorker" && nobody.draining, 0)
      // Somebody looked after it: it is trusted again
      yield* admin.fail({ ids: [job.id] }, by)
      yield* admin.requeue({ ids: [job.id] }, by)
      assert.deepStrictEqual(yield* reasonsAfter({}), ["Ready"])
      yield* registry.stop(id)
      yield* admin.cancel({ ids: [job.id] }, by)
    })
  )
})
