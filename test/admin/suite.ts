/**
 * What an admin action promises whatever carries the hints: run on every broker, with a live worker. The names begin with
 * the defect of the original that must not be here.
 */
import { assert, layer } from "@effect/vitest"
import { Effect, Layer } from "effect"
import { Admin, type Job, type Polyqueue, type Ports } from "../../src/index.ts"
import { by, Endless, Fragile, Stage, startWorker, until, workerOf } from "./Stage.ts"

const audited = (target: string) =>
  Effect.map(
    Admin.use((admin) => admin.audit({ target })),
    ({ records }) => records.map(({ action, who }) => `${who}: ${action}`)
  )

const statusIs = (job: Job.Handle<unknown, unknown>, status: string) =>
  until(Effect.map(job.poll, (state) => state.status === status))

export const suite = <E>(name: string, live: Layer.Layer<Polyqueue | Ports, E>): void => {
  const All = Layer.mergeAll(Admin.layer, Stage.layer).pipe(Layer.provideMerge(live))
  layer(All, { timeout: "60 seconds", excludeTestServices: true })(`the control plane on ${name}`, (it) => {
    it.effect("row 16: enqueueing an id again with another payload is refused, never silently the old one", () =>
      Effect.gen(function* () {
        const job = yield* Fragile.enqueue({ n: 1 }, { delay: "1 hour" })
        const error = yield* Effect.flip(Fragile.enqueue({ n: 2 }, { id: job.id }))
        assert.strictEqual(error.reason, "IdConflict")
        const stored = Effect.map(
          Admin.use((admin) => admin.job(job.id)),
          ({ payload }) => payload
        )
        assert.deepStrictEqual(yield* stored, { n: 1 })
        // Nor when the first one ended: somebody purges it, and then the id is free for the new payload
        yield* Admin.use((admin) => admin.cancel({ ids: [job.id] }, by))
        assert.strictEqual((yield* Effect.flip(Fragile.enqueue({ n: 2 }, { id: job.id }))).reason, "IdConflict")
        yield* Admin.use((admin) => admin.purge({ ids: [job.id] }, by))
        yield* Fragile.enqueue({ n: 2 }, { id: job.id, delay: "1 hour" })
        assert.deepStrictEqual(yield* stored, { n: 2 })
      })
    )

    it.effect("row 17: requeue restores the budget, clears the end, publishes, and is audited: the job runs", () =>
      Effect.gen(function* () {
        const stage = yield* Stage
        stage.broken = true
        yield* startWorker("requeue")
        const jobs = yield* Fragile.enqueueAll([{ n: 1 }, { n: 2 }, { n: 3 }])
        yield* Effect.forEach(jobs, (job) => statusIs(job, "failed"))
        stage.broken = false
        const admin = yield* Admin
        const [first, ...rest] = jobs
        const one = yield* admin.requeue({ ids: [first!.id] }, by)
        assert.strictEqual(one.done, 1)
        const others = yield* admin.requeue({ where: { status: "failed", type: "Fragile" } }, by)
        assert.strictEqual(others.done, rest.length)
        assert.deepStrictEqual(yield* Effect.forEach(jobs, (job) => job.await), [1, 2, 3])
        for (const job of jobs) {
          assert.deepStrictEqual(yield* audited(job.id), ["ada: requeue"])
          const { attempt, error, failures } = yield* admin.job(job.id)
          assert.deepStrictEqual([attempt, failures, error], [2, 1, undefined])
        }
      })
    )

    it.effect("row 17: run now makes a delayed job run, and is audited", () =>
      Effect.gen(function* () {
        const stage = yield* Stage
        stage.broken = false
        yield* startWorker("run now")
        const job = yield* Fragile.enqueue({ n: 7 }, { delay: "1 hour" })
        assert.strictEqual((yield* Admin.use((admin) => admin.runNow({ ids: [job.id] }, by))).done, 1)
        assert.strictEqual(yield* job.await, 7)
        assert.deepStrictEqual(yield* audited(job.id), ["ada: runNow"])
      })
    )

    it.effect("row 18: fail ends a running job at once and reaches its handler; a queued one never starts", () =>
      Effect.gen(function* () {
        const stage = yield* Stage
        yield* startWorker("fail")
        const running = yield* Endless.enqueue()
        const queued = yield* Endless.enqueue(undefined, { delay: "1 hour" })
        yield* until(Effect.sync(() => stage.running.has(running.id)))
        const report = yield* Admin.use((admin) => admin.fail({ ids: [running.id, queued.id] }, by))
        assert.strictEqual(report.done, 2)
        for (const job of [running, queued]) {
          const error = yield* Effect.flip(job.await)
          assert.strictEqual(error._tag === "JobStopped" && error.reason, "failedByAdmin")
          assert.include(error.message, "ada failed it: a test")
          assert.deepStrictEqual(yield* audited(job.id), ["ada: fail"])
        }
        yield* until(Effect.sync(() => stage.interrupted.has(running.id)))
        assert.strictEqual(stage.interrupted.get(running.id), "leaseLost")
        const attempts = yield* Admin.use((admin) => admin.attempts(running.id))
        assert.deepStrictEqual(
          attempts.map(({ finalizedBy, outcome }) => [outcome, finalizedBy]),
          [["failed", "admin"]]
        )
        assert.isFalse(stage.interrupted.has(queued.id) || stage.running.has(queued.id))
      })
    )

    it.effect("row 18: cancel ends a queued job at once, and a running one when its handler has stopped", () =>
      Effect.gen(function* () {
        const stage = yield* Stage
        yield* startWorker("cancel")
        const running = yield* Endless.enqueue()
        const queued = yield* Endless.enqueue(undefined, { delay: "1 hour" })
        yield* until(Effect.sync(() => stage.running.has(running.id)))
        yield* Admin.use((admin) => admin.cancel({ where: { type: "Endless" } }, by))
        for (const job of [running, queued]) {
          const error = yield* Effect.flip(job.await)
          assert.strictEqual(error._tag === "JobStopped" && error.reason, "cancelled")
          assert.deepStrictEqual(yield* audited(job.id), ["ada: cancel"])
        }
        assert.strictEqual(stage.interrupted.get(running.id), "cancelled")
      })
    )

    it.effect("a drained worker takes nothing new, and goes on when it is told to", () =>
      Effect.gen(function* () {
        const stage = yield* Stage
        stage.broken = false
        const admin = yield* Admin
        const { id } = yield* startWorker("drain")
        const statusIs = (status: string) =>
          until(Effect.map(admin.workers, (all) => all.some((worker) => worker.id === id && worker.status === status)))
        yield* admin.drainWorker(id, by)
        yield* statusIs("draining")
        const job = yield* Fragile.enqueue({ n: 9 })
        const first = (yield* workerOf("drain")).heartbeatAt
        yield* until(Effect.map(workerOf("drain"), ({ heartbeatAt }) => heartbeatAt > first + 300))
        assert.strictEqual((yield* job.poll).status, "queued")
        yield* admin.resumeWorker(id, by)
        assert.strictEqual(yield* job.await, 9)
      })
    )

    it.effect("a paused queue and a paused type run nothing until they are resumed", () =>
      Effect.gen(function* () {
        const stage = yield* Stage
        stage.broken = false
        const admin = yield* Admin
        yield* admin.pauseQueue("default", by)
        yield* admin.pauseType("Fragile", { ...by, duration: "1 hour" })
        yield* startWorker("pause")
        const job = yield* Fragile.enqueue({ n: 5 })
        const reasons = (yield* admin.explain(job.id)).reasons
        assert.deepStrictEqual(
          reasons.map(({ _tag }) => _tag),
          ["Paused", "Paused"]
        )
        assert.isTrue(yield* admin.resumeQueue("default", by))
        assert.strictEqual((yield* job.poll).status, "queued")
        assert.isTrue(yield* admin.resumeType("Fragile", by))
        assert.isFalse(yield* admin.resumeType("Fragile", by))
        assert.strictEqual(yield* job.await, 5)
        assert.deepStrictEqual(yield* audited("*/Fragile"), ["ada: resume", "ada: pause"])
        assert.deepStrictEqual(yield* audited("default"), ["ada: resume", "ada: pause"])
      })
    )
  })
}
