/** P1 to P5: PostgreSQL goes away, and comes back. */
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import * as Layer from "effect/Layer"
import * as PgClient from "@effect/sql-pg/PgClient"
import * as Redacted from "effect/Redacted"
import { Migrations } from "../../../src/index.ts"
import { bothKinds, type Cell, everywhere } from "../Cell.ts"
import * as Load from "../Load.ts"
import { now } from "../Report.ts"
import type { Stage } from "../Stage.ts"

/** Ms until the first claim after each of these instants. */
const firstClaimAfter = Effect.fnUntraced(function* (stage: Stage, instants: ReadonlyArray<number>) {
  const rows = yield* stage.sql<{ at: number }>`
    select (date_part('epoch', at) * 1000)::float8 as at from public.transitions where after = 'processing' order by at`
  const claims = rows.map(({ at }) => at + stage.clock)
  for (const instant of instants) {
    const first = claims.find((at) => at >= instant)
    if (first !== undefined) stage.recoveries.push(first - instant)
  }
})

/** Ends every session of the database but our own. */
const terminateAll = (stage: Stage) =>
  stage.sql`select pg_terminate_backend(pid) from pg_stat_activity
    where datname = current_database() and pid <> pg_backend_pid() and application_name <> 'chaos runner'`.pipe(
    Effect.ignore
  )

/** Claims per second between two instants, from the log of changes. */
const claimsPerSecond = Effect.fnUntraced(function* (stage: Stage, from: number, to: number) {
  const [row] = yield* stage.sql<{ n: number }>`select count(*)::int as n from public.transitions
    where after = 'processing' and date_part('epoch', at) * 1000 between ${from - stage.clock}::float8 and ${to - stage.clock}::float8`
  return Math.round(((row?.n ?? 0) / (to - from)) * 10_000) / 10
})

export const cells: ReadonlyArray<Cell> = [
  {
    name: "P1",
    what: "all sessions are ended (pg_terminate_backend) every 500 ms",
    brokers: bothKinds,
    run: Effect.fnUntraced(function* (stage) {
      const client = yield* Load.client(stage)
      yield* stage.fleet(4)
      const at = now()
      let times = 0
      yield* Effect.raceFirst(
        Load.load(stage, client, { over: 6_000, again: true, jobs: stage.size / 2 }),
        Effect.forever(
          Effect.delay(
            Effect.andThen(
              terminateAll(stage),
              Effect.sync(() => times++)
            ),
            500
          )
        )
      )
      const healed = now()
      yield* Load.load(stage, client, { over: 3_000, jobs: stage.size / 2 })
      yield* stage.drained()
      stage.extra["terminations"] = times
      stage.extra["claims_per_s_during"] = yield* claimsPerSecond(stage, at, healed)
      stage.extra["claims_per_s_after"] = yield* claimsPerSecond(stage, healed, healed + 3_000)
    })
  },
  {
    name: "P3",
    what: "PostgreSQL crashes while it runs a sweep, a claim, a settle and a migration",
    brokers: bothKinds,
    run: Effect.fnUntraced(function* (stage) {
      const client = yield* Load.client(stage)
      const workers = yield* stage.fleet(4, () => ({ proxied: true }))
      const loading = yield* Effect.forkScoped(Load.load(stage, client, { over: 8_000, again: true }))
      const crashDuring = Effect.fnUntraced(function* (name: string, sql: RegExp) {
        let crashed: Promise<void> | undefined
        stage.proxy.cuts.push({
          sql,
          times: 1,
          met: () => {
            const at = now()
            crashed = stage.server
              .stop("immediate")
              .then(() => stage.fault(`PostgreSQL crash in a ${name}`, { at, until: now() }))
          }
        })
        for (let i = 0; i < 200 && crashed === undefined; i++) yield* Effect.sleep(20)
        if (crashed === undefined) stage.violations.push(`no ${name} was met`)
        yield* Effect.promise(() => crashed ?? Promise.resolve())
        yield* Effect.sleep(300)
        yield* Effect.promise(() => stage.server.start())
      })
      yield* Effect.sleep(700)
      yield* crashDuring("claim", /set status = 'processing'/)
      yield* crashDuring("settle", /set status = 'succeeded'/)
      // Somebody must have been abandoned for the reaper to write
      workers()[0]?.signal("SIGKILL")
      yield* crashDuring("sweep", /'crashed' as outcome/)
      const migrate = Effect.scoped(
        Layer.build(
          Layer.fresh(Migrations.layer({ schema: "other" })).pipe(
            Layer.provide(PgClient.layer({ url: Redacted.make(stage.proxy.url(stage.url)), maxConnections: 1 }))
          )
        )
      )
      const migrating = yield* Effect.forkScoped(Effect.ignore(migrate))
      yield* crashDuring("migration", /create table .*other/s)
      yield* Fiber.join(migrating)
      yield* Effect.retry(migrate, { times: 20 })
      yield* Fiber.join(loading)
      yield* stage.drained()
      const [row] = yield* stage.sql<{ n: number }>`select count(*)::int as n from other.polyqueue_jobs`
      if (row?.n !== 0) stage.violations.push("the interrupted migration did not end well")
    })
  },
  {
    name: "P4",
    what: "PostgreSQL is away for a while, longer than a lease",
    brokers: bothKinds,
    // From the moment the server accepts connections to the first claim
    recoversWithin: 5_000,
    run: Effect.fnUntraced(function* (stage) {
      const away = stage.size >= 2_000 ? 30_000 : 6_000
      const client = yield* Load.client(stage)
      yield* stage.fleet(4, () => ({ proxied: true }))
      const loading = yield* Effect.forkScoped(
        Load.load(stage, client, { over: away + 4_000, again: true, from: 50, to: 1_000, jobs: stage.size / 2 })
      )
      yield* Effect.sleep(2_000)
      const cpu = () => Array.from(stage.ledger.counts.values()).reduce((n, one) => n + one.cpu, 0)
      const at = now()
      yield* Effect.promise(() => stage.server.stop("fast"))
      const before = { accepted: stage.proxy.accepted, cpu: cpu() }
      yield* Effect.sleep(away)
      const after = { accepted: stage.proxy.accepted, cpu: cpu() }
      yield* Effect.promise(() => stage.server.start())
      const back = now()
      stage.fault("PostgreSQL away", { at, until: back })
      yield* Fiber.join(loading)
      yield* stage.drained()
      yield* firstClaimAfter(stage, [back])
      stage.extra["reconnects_per_s_per_worker"] =
        Math.round(((after.accepted - before.accepted) / 4 / (away / 1_000)) * 10) / 10
      const share = (after.cpu - before.cpu) / 4 / away
      stage.extra["cpu_share_per_worker"] = Math.round(share * 1_000) / 1_000
      if (share > 0.5) stage.violations.push(`workers span: ${Math.round(share * 100)} % of a core each`)
    })
  },
  {
    name: "P2",
    what: "PostgreSQL crashes (stop -m immediate) and comes back, again and again",
    brokers: everywhere,
    // From the moment the server accepts connections to the first claim
    recoversWithin: 5_000,
    run: Effect.fnUntraced(function* (stage) {
      const times = stage.size >= 2_000 ? 20 : 4
      const client = yield* Load.client(stage)
      yield* stage.fleet(4)
      const back: Array<number> = []
      const crash = Effect.gen(function* () {
        const at = now()
        yield* Effect.promise(() => stage.server.stop("immediate"))
        yield* Effect.promise(() => stage.server.start())
        back.push(now())
        stage.fault("PostgreSQL crash", { at, until: now() })
      })
      const loading = yield* Effect.forkScoped(Load.load(stage, client, { over: times * 1_800, again: true }))
      for (let i = 0; i < times; i++) yield* Effect.andThen(Effect.sleep(1_000), crash)
      yield* Fiber.join(loading)
      yield* stage.drained()
      yield* firstClaimAfter(stage, back)
    })
  },
  {
    name: "P5",
    what: "the reply to a COMMIT is cut, of enqueues, claims, settles and give-backs: done, and nobody knows",
    brokers: everywhere,
    run: Effect.fnUntraced(function* (stage) {
      const client = yield* Load.client(stage, { proxied: true })
      yield* stage.fleet(4, () => ({ proxied: true }))
      const statements = {
        enqueue: /insert into [^(]*jobs/,
        claim: /set status = 'processing'/,
        settle: /set status = 'succeeded'|'worker', lease_owner, error/,
        release: /'released' as outcome/
      }
      const done: Record<string, number> = {}
      const cutting = Effect.forever(
        Effect.gen(function* () {
          for (const [name, sql] of Object.entries(statements)) {
            if (!stage.proxy.cuts.some((cut) => cut.sql === sql && cut.times > 0)) {
              stage.proxy.cuts.push({
                sql,
                times: 1,
                // No fault of the log: what is cut here explains no duplicate
                met: () => {
                  done[name] = (done[name] ?? 0) + 1
                }
              })
            }
            yield* Effect.sleep(120)
          }
        })
      )
      yield* Effect.raceFirst(Load.load(stage, client, { over: 5_000, again: true }), cutting)
      stage.proxy.heal()
      yield* stage.drained()
      for (const name of Object.keys(statements)) stage.extra[`cut_${name}`] = done[name] ?? 0
      for (const name of ["enqueue", "claim", "settle"])
        if (done[name] === undefined) stage.violations.push(`no reply to a ${name} was cut`)
    })
  }
]
