/** Workers from outside: what they report, and what they do when they are told. */
import { assert } from "@effect/vitest"
import { Deferred, Effect, Layer } from "effect"
import { hostname } from "node:os"
import { pid } from "node:process"
import { Admin, Worker, WorkerRegistry } from "../../src/index.ts"
import { version } from "../../src/version.ts"
import { onStores } from "./OnStores.ts"
import { by, Endless, Fragile, Handlers, quick, Stage, startWorker, until, workerOf } from "./Stage.ts"

const record = (id: string) =>
  Effect.map(
    Admin.use((admin) => admin.workers),
    (workers) => workers.find((worker) => worker.id === id)
  )
const statusIs = (id: string, status: string) => until(Effect.map(record(id), (worker) => worker?.status === status))

onStores("workers", (it) => {
  it.effect("report host, pid, name, version, queues, types, slots, running jobs, loop delay and memory", () =>
    Effect.gen(function* () {
      const stage = yield* Stage
      const { id } = yield* startWorker("reporter", { concurrency: { reports: 2, default: 3 } })
      const job = yield* Endless.enqueue(undefined, { queue: "reports" })
      yield* until(Effect.sync(() => stage.running.has(job.id)))
      yield* until(Effect.map(record(id), (worker) => worker?.runningCount === 1))
      const worker = (yield* record(id))!
      assert.deepStrictEqual(
        [worker.host, worker.pid, worker.name, worker.version, worker.slots, worker.running, worker.status],
        [hostname(), pid, "reporter", version, 5, [job.id], "running"]
      )
      assert.sameMembers([...worker.queues], ["reports", "default"])
      assert.sameMembers([...worker.jobTypes], ["Fragile", "Endless"])
      assert.isAbove(worker.memory, 1_000_000)
      assert.isAtLeast(worker.eventLoopDelay, 0)
      yield* Admin.use((admin) => admin.fail({ ids: [job.id] }, by))
    })
  )

  it.effect("a blocked event loop shows", () =>
    Effect.gen(function* () {
      const { id } = yield* startWorker("blocked")
      const block = Effect.sync(() => {
        const end = performance.now() + 150
        while (performance.now() < end);
      })
      yield* until(
        Effect.andThen(
          block,
          Effect.map(record(id), (worker) => (worker?.eventLoopDelay ?? 0) > 100)
        )
      )
      yield* until(Effect.map(record(id), (worker) => (worker?.eventLoopDelay ?? 0) < 100))
    })
  )

  it.effect("row 22: a worker that was taken for dead and beats again is alive, and can be told things again", () =>
    Effect.gen(function* () {
      const { id } = yield* startWorker("lazarus")
      const dead = yield* WorkerRegistry.use((registry) => registry.reapStale(-60_000))
      assert.include(dead, id)
      yield* statusIs(id, "running")
      const drained = yield* Admin.use((admin) => admin.drainWorker(id, by))
      assert.strictEqual(drained.told, "drain")
      yield* statusIs(id, "draining")
    })
  )

  it.effect("drain: claims nothing new, lets running jobs finish, and can be taken back", () =>
    Effect.gen(function* () {
      const stage = yield* Stage
      stage.broken = false
      const admin = yield* Admin
      const { id } = yield* startWorker("drained", { concurrency: { drains: 2 } })
      const running = yield* Endless.enqueue(undefined, { queue: "drains" })
      yield* until(Effect.sync(() => stage.running.has(running.id)))
      yield* admin.drainWorker(id, by)
      yield* statusIs(id, "draining")
      const waiting = yield* Fragile.enqueue({ n: 3 }, { queue: "drains" })
      yield* until(
        Effect.map(admin.explain(waiting.id), ({ reasons }) => reasons.some(({ _tag }) => _tag === "NoWorker"))
      )
      // Some beats later it still runs, and nothing else does
      const beats = (yield* record(id))!.heartbeatAt
      yield* until(Effect.map(record(id), (worker) => worker!.heartbeatAt > beats + 200))
      assert.isTrue(stage.running.has(running.id))
      assert.strictEqual((yield* waiting.poll).status, "queued")
      yield* admin.resumeWorker(id, by)
      assert.strictEqual(yield* waiting.await, 3)
      yield* statusIs(id, "running")
      yield* admin.fail({ ids: [running.id] }, by)
      const { records } = yield* admin.audit({ target: id })
      assert.deepStrictEqual(
        records.map(({ action, after, before, reason, who }) => [action, who, reason, before, after]),
        [
          [
            "resumeWorker",
            "ada",
            "a test",
            { name: "drained", status: "draining", told: "drain" },
            { name: "drained", status: "draining" }
          ],
          [
            "drainWorker",
            "ada",
            "a test",
            { name: "drained", status: "running" },
            { name: "drained", status: "running", told: "drain" }
          ]
        ]
      )
    })
  )

  it.effect("stop: interrupts what does not end in its grace, gives it back at no cost, says goodbye, and tells", () =>
    Effect.gen(function* () {
      const stage = yield* Stage
      const admin = yield* Admin
      const stopped = yield* Deferred.make<void>()
      yield* Layer.build(
        Worker.layer([Fragile, Endless], { ...quick, name: "stopped", concurrency: { stops: 2 } }).pipe(
          Layer.provide(Handlers),
          Layer.provide(Layer.succeed(Worker.OnStopped, Effect.asVoid(Deferred.succeed(stopped, undefined))))
        )
      )
      const { id } = yield* workerOf("stopped")
      const running = yield* Endless.enqueue(undefined, { queue: "stops" })
      yield* until(Effect.sync(() => stage.running.has(running.id)))
      yield* admin.stopWorker(id, by)
      assert.strictEqual((yield* Effect.flip(admin.resumeWorker(id, by))).message.includes("told to stop"), true)
      yield* Deferred.await(stopped)
      assert.strictEqual((yield* record(id))?.status, "stopped")
      // Nor does it come back: others have beaten for a while since
      const other = yield* startWorker("beats on")
      yield* until(Effect.map(record(other.id), (worker) => worker!.heartbeatAt > other.heartbeatAt + 200))
      assert.strictEqual((yield* record(id))?.status, "stopped")
      assert.strictEqual(stage.interrupted.get(running.id), "shutdown")
      const job = yield* admin.job(running.id)
      assert.deepStrictEqual([job.status, job.failures, job.interruptions], ["queued", 0, 1])
      const error = yield* Effect.flip(admin.stopWorker(id, by))
      assert.strictEqual(error._tag === "AdminError" && error.reason, "NotRunning")
      const nobody = yield* Effect.flip(admin.drainWorker("nobody", by))
      assert.strictEqual(nobody._tag === "AdminError" && nobody.reason, "NotFound")
      yield* admin.cancel({ ids: [running.id] }, by)
    })
  )

  it.effect("a concurrency applies live, to every worker of the name, survives a restart, and can be taken back", () =>
    Effect.gen(function* () {
      const stage = yield* Stage
      const admin = yield* Admin
      const options: Worker.Options = { concurrency: { scaled: 2 } }
      const slotsAre = (id: string, slots: number) => until(Effect.map(record(id), (worker) => worker?.slots === slots))
      const ids = yield* Effect.scoped(
        Effect.gen(function* () {
          const { id } = yield* startWorker("scaled", options)
          const jobs = yield* Endless.enqueueAll(
            Array.from({ length: 6 }, () => undefined),
            { queue: "scaled" }
          )
          const running = Effect.sync(() => jobs.filter((job) => stage.running.has(job.id)).length)
          const runs = (n: number) => until(Effect.map(running, (count) => count === n))
          yield* runs(2)
          const heard = yield* admin.setConcurrency("scaled", 5, { ...by, queue: "scaled" })
          assert.deepStrictEqual(
            heard.map((worker) => worker.id),
            [id]
          )
          yield* runs(5)
          // Fewer: what runs goes on, and nothing takes the place of what ends
          yield* admin.setConcurrency("scaled", 1, { ...by, queue: "scaled" })
          yield* slotsAre(id, 11)
          assert.strictEqual(yield* running, 5)
          const first = jobs.filter((job) => stage.running.has(job.id)).slice(0, 2)
          yield* admin.fail({ ids: first.map((job) => job.id) }, by)
          yield* runs(3)
          yield* admin.fail({ where: { queue: "scaled" } }, by)
          yield* runs(0)
          return jobs.map((job) => job.id)
        })
      )
      assert.lengthOf(ids, 6)
      const again = yield* startWorker("scaled", options)
      // Before its first claim: its very first report says so
      assert.strictEqual(again.slots, 11)
      yield* admin.setConcurrency("scaled", 0, by)
      yield* slotsAre(again.id, 1)
      yield* admin.setConcurrency("scaled", undefined, { ...by, queue: "scaled" })
      yield* slotsAre(again.id, 0)
      const waiting = yield* Fragile.enqueue({ n: 1 }, { queue: "scaled", delay: "0 seconds" })
      yield* admin.setConcurrency("scaled", undefined, by)
      yield* slotsAre(again.id, 12)
      stage.broken = false
      yield* until(Effect.map(waiting.poll, ({ status }) => status === "succeeded" || status === "failed"))
      const { records } = yield* admin.audit({ target: "scaled", action: "setConcurrency" })
      assert.lengthOf(records, 5)
    })
  )
})
