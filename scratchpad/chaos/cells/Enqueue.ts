/** Q1 to Q5: clients that die, roll back, race and repeat themselves. */
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import { SqlClient } from "effect/sql/SqlClient"
import { EnqueueError, StoreError } from "../../../src/index.ts"
import { bothKinds, type Cell } from "../Cell.ts"
import type { ClientSettings } from "../client.ts"
import { Keyed, Work } from "../Jobs.ts"
import * as Load from "../Load.ts"
import { start } from "../WorkerProcess.ts"

class Rollback extends Error {}

export const cells: ReadonlyArray<Cell> = [
  {
    name: "Q1",
    what: "clients are killed before their COMMIT, and between it and publishing",
    brokers: bothKinds,
    run: Effect.fnUntraced(function* (stage) {
      yield* stage.fleet(2)
      const kill = Effect.fnUntraced(function* (dies: ClientSettings["dies"]) {
        const known = new Set(stage.ledger.client.keys())
        const settings: ClientSettings = { url: stage.url, broker: stage.broker.spec, dies, jobs: 10 }
        const started = start("client.ts", { CHAOS_CLIENT: JSON.stringify(settings) }, stage.ledger.heard)
        const { signal } = yield* Effect.promise(() => started.exited)
        if (signal !== "SIGKILL") stage.violations.push(`the client ended otherwise: ${started.log().slice(-500)}`)
        return Array.from(stage.ledger.client.keys()).filter((id) => !known.has(id))
      })
      const before: Array<string> = []
      const after: Array<string> = []
      for (let i = 0; i < 3; i++) {
        before.push(...(yield* kill("before the commit")))
        after.push(...(yield* kill("before it publishes")))
      }
      yield* Effect.sleep(500)
      yield* stage.drained()
      const count = (ids: ReadonlyArray<string>) =>
        Effect.map(
          stage.sql<{ n: number; lag: number | null }>`
            select count(*)::int as n, (max(date_part('epoch', started_at - enqueued_at)) * 1000)::float8 as lag
            from polyqueue.polyqueue_jobs where id = any(${`{${ids.join(",")}}`}::uuid[])`,
          ([row]) => row ?? { n: -1, lag: null }
        )
      const [committed, rolled] = [yield* count(after), yield* count(before)]
      stage.extra["start_lag_ms_max"] = Math.round(committed.lag ?? -1)
      if (rolled.n !== 0) stage.violations.push(`${rolled.n} jobs exist whose transaction never committed`)
      if (committed.n !== 30 || after.length !== 30)
        stage.violations.push(`${committed.n} of ${after.length} jobs exist whose transaction committed`)
    })
  },
  {
    name: "Q2",
    what: "transactions roll back, as a whole and to savepoints",
    brokers: bothKinds,
    run: Effect.fnUntraced(function* (stage) {
      const published = new Set<string>()
      const client = yield* Load.client(stage, { spy: published })
      yield* stage.fleet(2)
      const rolledBack = new Set<string>()
      const transaction = (n: number) =>
        Effect.gen(function* () {
          const sql = yield* SqlClient
          const own: Array<string> = []
          const inner: Array<string> = []
          const enqueue = Effect.map(Work.enqueue({ n, ms: 5, mode: "ok" }), ({ id }) => id)
          const fails = stage.random() < 0.4
          const innerFails = stage.random() < 0.5
          const exit = yield* Effect.exit(
            sql.withTransaction(
              Effect.gen(function* () {
                own.push(yield* enqueue)
                yield* Effect.ignore(
                  sql.withTransaction(
                    Effect.gen(function* () {
                      inner.push(yield* enqueue)
                      if (innerFails) yield* Effect.fail(new Rollback())
                    })
                  )
                )
                own.push(yield* enqueue)
                if (fails) yield* Effect.fail(new Rollback())
              })
            )
          )
          const committed = Exit.isSuccess(exit)
          for (const [ids, keeps] of [
            [own, committed],
            [inner, committed && !innerFails]
          ] as const) {
            for (const job of ids) {
              if (keeps) stage.ledger.client.set(job, { job, ok: true, expected: "succeeded" })
              else rolledBack.add(job)
            }
          }
        }).pipe(Effect.provideContext(client))
      yield* Effect.forEach(
        Array.from({ length: stage.size }, (_, n) => n),
        transaction,
        { concurrency: 6, discard: true }
      )
      yield* stage.drained()
      const leaked = Array.from(rolledBack).filter((id) => published.has(id)).length
      stage.extra["rolled_back"] = rolledBack.size
      if (leaked > 0) stage.violations.push(`hints of ${leaked} jobs were published that were rolled back`)
    })
  },
  {
    name: "Q3",
    what: "fifty clients race for one key at every isolation level, and some roll back",
    brokers: bothKinds,
    run: Effect.fnUntraced(function* (stage) {
      const client = yield* Load.client(stage)
      yield* stage.fleet(2)
      const answers: Array<string> = []
      let retryable = 0
      const levels = ["read committed", "repeatable read", "serializable"] as const
      const race = (key: string, n: number) =>
        Effect.gen(function* () {
          const sql = yield* SqlClient
          const rollsBack = stage.random() < 0.3
          const wait = Math.round(stage.random() * 20)
          const exit = yield* Effect.exit(
            sql.withTransaction(
              Effect.gen(function* () {
                yield* sql.unsafe(`set transaction isolation level ${levels[n % 3]}`)
                const job = yield* Keyed.enqueue({ key, ms: 5 })
                yield* Effect.sleep(wait)
                return rollsBack ? yield* Effect.fail(new Rollback()) : job
              })
            )
          )
          if (Exit.isSuccess(exit)) {
            const { deduplicated, id } = exit.value
            if (deduplicated) answers.push(id)
            else stage.ledger.client.set(id, { job: id, ok: true, expected: "succeeded" })
            return
          }
          const reason = exit.cause.reasons[0]
          const error = reason?._tag === "Fail" ? reason.error : reason
          if (error instanceof Rollback) return
          if (error instanceof EnqueueError && error.cause instanceof StoreError && error.cause.isTransient) retryable++
          else if (n % 3 === 0) stage.violations.push(`a race at ${levels[n % 3]} failed with ${String(error)}`)
          else retryable++
        }).pipe(Effect.provideContext(client))
      for (let round = 0; round < Math.max(6, stage.size / 30); round++) {
        yield* Effect.forEach(
          Array.from({ length: 50 }, (_, n) => n),
          (n) => race(`key ${round % 5}`, n),
          { concurrency: 50, discard: true }
        )
        const [row] = yield* stage.sql<{ n: number }>`select coalesce(max(n), 0)::int as n from (
          select count(*) as n from polyqueue.polyqueue_jobs where status in ('queued', 'processing') group by unique_key) k`
        if ((row?.n ?? 0) > 1) stage.violations.push(`${row?.n} live jobs share a key`)
      }
      yield* stage.drained()
      const [row] = yield* stage.sql<{ n: number }>`select count(distinct id)::int as n from polyqueue.polyqueue_jobs
        where id = any(${`{${answers.join(",")}}`}::uuid[])`
      stage.extra["duplicates"] = answers.length
      stage.extra["retryable"] = retryable
      if (row?.n !== new Set(answers).size)
        stage.violations.push("a duplicate was said to be of a job that does not exist")
    })
  },
  {
    name: "Q4",
    what: "thousands of jobs in one transaction, one of them bad",
    brokers: bothKinds,
    run: Effect.fnUntraced(function* (stage) {
      const client = yield* Load.client(stage)
      yield* stage.fleet(2, () => ({ slots: 50 }))
      const many = stage.size >= 2_000 ? 10_000 : 2_000
      const payloads = (bad: number) =>
        Array.from({ length: many }, (_, n) => ({ n: n === bad ? 0.5 : n, ms: 0, mode: "ok" }) as const)
      const bulk = (bad: number) =>
        Effect.provideContext(
          SqlClient.use((sql) => sql.withTransaction(Work.enqueueAll(payloads(bad)))),
          client
        )
      const refused = yield* Effect.flip(bulk(many - 7))
      if (!(refused instanceof EnqueueError) || refused.reason !== "InvalidPayload")
        stage.violations.push(`a bad job among ${many} failed with ${String(refused)}`)
      const handles = yield* bulk(-1)
      for (const { id } of handles) stage.ledger.client.set(id, { job: id, ok: true, expected: "succeeded" })
      yield* stage.drained()
    })
  },
  {
    name: "Q5",
    what: "the same id with the same payload, and with another one",
    brokers: bothKinds,
    run: Effect.fnUntraced(function* (stage) {
      const client = yield* Load.client(stage)
      yield* stage.fleet(2)
      for (let n = 0; n < 20; n++) {
        const id = Work.handle(
          (yield* Load.enqueue(stage, client, { mode: "ok", ms: 20, expected: "succeeded" })) as never
        ).id
        const made = stage.ledger.client.size - 1
        const again = yield* Effect.provideContext(Work.enqueue({ n: made, ms: 20, mode: "ok" }, { id }), client)
        if (!again.deduplicated || again.id !== id) stage.violations.push(`the same job again was made anew: ${id}`)
        const error = yield* Effect.flip(
          Effect.provideContext(Work.enqueue({ n: made, ms: 21, mode: "ok" }, { id }), client)
        )
        if (error.reason !== "IdConflict") stage.violations.push(`another payload under ${id}: ${error.reason}`)
      }
      yield* stage.drained()
    })
  }
]
