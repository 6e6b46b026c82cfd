/** A1 and A2: people who act on jobs while workers do. */
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import { SqlClient } from "effect/sql/SqlClient"
import { Admin } from "../../../src/Admin.ts"
import { Broker, JobStore, WorkerRegistry } from "../../../src/index.ts"
import { bothKinds, type Cell } from "../Cell.ts"
import { Keyed } from "../Jobs.ts"
import * as Load from "../Load.ts"
import { now } from "../Report.ts"

const by = { who: "chaos" }

const adminOf = Effect.fnUntraced(function* (client: Load.ClientContext) {
  const shared = Layer.mergeAll(
    Layer.succeed(SqlClient, yield* Effect.provideContext(SqlClient, client)),
    Layer.succeed(Broker, yield* Effect.provideContext(Broker, client))
  )
  const context = yield* Layer.build(
    Layer.fresh(Admin.layer).pipe(
      Layer.provide([JobStore.layerPostgres, WorkerRegistry.layerPostgres]),
      Layer.provide(shared)
    )
  )
  return yield* Effect.provideContext(Admin, context)
})

export const cells: ReadonlyArray<Cell> = [
  {
    name: "A1",
    what: "cancel, fail, requeue and run-now race with workers",
    brokers: bothKinds,
    run: Effect.fnUntraced(function* (stage) {
      const client = yield* Load.client(stage)
      const admin = yield* adminOf(client)
      yield* stage.fleet(4)
      const outcomes: Record<string, number> = {}
      const acting = Effect.forever(
        Effect.gen(function* () {
          const ids = Array.from(stage.ledger.client.keys())
          const id = ids[Math.floor(stage.random() * ids.length)]
          if (id === undefined) return yield* Effect.sleep(10)
          const action = (["cancel", "fail", "requeue", "runNow"] as const)[Math.floor(stage.random() * 4)]!
          // What became of it is up to the race from here on
          stage.ledger.client.set(id, { job: id, ok: true, expected: "any" })
          const at = now()
          const report = yield* admin[action]({ ids: [id] }, by)
          for (const [outcome, n] of Object.entries(report.outcomes))
            outcomes[`${action}_${outcome}`] = (outcomes[`${action}_${outcome}`] ?? 0) + n
          // Whoever runs it runs it in vain, or it runs again because somebody wanted it
          if (report.done > 0 && (action === "fail" || action === "requeue"))
            stage.fault(action, { at, until: now(), jobs: [id] })
          yield* Effect.sleep(5)
        })
      )
      yield* Effect.raceFirst(Load.load(stage, client, { over: 5_000 }), acting)
      yield* stage.drained()
      Object.assign(stage.extra, outcomes)
      // Every action that was done is in the log, once
      const [row] = yield* stage.sql<{ n: number }>`select count(*)::int as n from polyqueue.polyqueue_audit`
      const done = Object.entries(outcomes).reduce((n, [name, count]) => (name.endsWith("_done") ? n + count : n), 0)
      if (row?.n !== done) stage.violations.push(`${done} actions were done, and ${row?.n} are in the audit log`)
    })
  },
  {
    name: "A2",
    what: "a job is requeued whose unique key another live job holds",
    brokers: bothKinds,
    run: Effect.fnUntraced(function* (stage) {
      const client = yield* Load.client(stage)
      const admin = yield* adminOf(client)
      yield* stage.fleet(2)
      const enqueue = Effect.fnUntraced(function* (key: string, delay: number) {
        const { id } = yield* Effect.provideContext(Keyed.enqueue({ key, ms: 5 }, { delay }), client)
        stage.ledger.client.set(id, { job: id, ok: true, expected: "succeeded" })
        return id
      })
      const ended: Array<string> = []
      for (let n = 0; n < 20; n++) ended.push(yield* enqueue(`key ${n}`, 0))
      yield* stage.drained()
      for (let n = 0; n < 10; n++) yield* enqueue(`key ${n}`, 3_000)
      const report = yield* admin.requeue({ ids: ended }, by)
      stage.extra["done"] = report.outcomes.done ?? 0
      stage.extra["keyTaken"] = report.outcomes.keyTaken ?? 0
      for (const id of ended.slice(10)) stage.fault("requeue", { jobs: [id], at: 0, until: now() })
      if (report.outcomes.done !== 10 || report.outcomes.keyTaken !== 10)
        stage.violations.push(`of 20 requeues, 10 with a taken key: ${JSON.stringify(report.outcomes)}`)
      yield* stage.drained()
    })
  }
]
