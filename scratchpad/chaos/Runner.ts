/** Runs one cell on one broker: plays it, reads what became of everything, checks it, and answers one line. */
import * as Cause from "effect/Cause"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import type { PostgresServer } from "../../test/support/PostgresServer.ts"
import type { BrokerName } from "./Brokers.ts"
import type { Cell } from "./Cell.ts"
import { check } from "./Checker.ts"
import * as HistoryOf from "./History.ts"
import { now } from "./Report.ts"
import * as Stage from "./Stage.ts"

/** One line of the results. Milliseconds, but for `wall_s`. */
export interface Result {
  readonly cell: string
  readonly broker: BrokerName
  readonly seed: number
  readonly enq_ok: number
  readonly enq_err: number
  readonly lost: number
  readonly unexpected: number
  readonly recovered: number
  readonly exec: number
  readonly dup_exec: number
  readonly dup_tx_effects: number
  readonly stale_settle_rejected: number
  readonly stale_settle_accepted: number
  readonly abandoned: number
  readonly poison: number
  readonly recovery_ms_p50: number | null
  readonly recovery_ms_p99: number | null
  readonly republished: number
  readonly broker_msgs: number
  readonly db_errors_seen: number
  readonly loops_restarted: number
  readonly wall_s: number
  readonly unexplained: number
  readonly overlaps: number
  readonly faults: Readonly<Record<string, number>>
  readonly extra: Readonly<Record<string, number | string>>
  readonly violations: ReadonlyArray<string>
}

export const percentile = (values: ReadonlyArray<number>, share: number): number | null => {
  if (values.length === 0) return null
  const sorted = values.toSorted((a, b) => a - b)
  return Math.round(sorted[Math.min(sorted.length - 1, Math.ceil(sorted.length * share) - 1)] ?? 0)
}

/** The longest a cell may take. */
const patience = "5 minutes"

export const run = (
  cell: Cell,
  options: {
    readonly server: PostgresServer
    readonly broker: BrokerName
    readonly seed: number
    readonly size: number
  }
): Effect.Effect<Result> =>
  Effect.scoped(
    Effect.gen(function* () {
      const startedAt = now()
      // A cell may have left it down
      yield* Effect.promise(() => options.server.start())
      const stage = yield* Stage.make(options)
      const { ledger, violations } = stage
      const exit = yield* Effect.exit(
        Effect.scoped(
          Effect.gen(function* () {
            yield* Effect.timeoutOrElse(cell.run(stage), {
              duration: patience,
              orElse: () => Effect.sync(() => violations.push(`it took more than ${patience}`))
            })
          })
        )
      )
      yield* Effect.promise(() => options.server.start())
      if (Exit.isFailure(exit)) {
        violations.push(`the cell failed: ${Cause.pretty(exit.cause).slice(0, 1_500)}`)
        yield* stage.drained()
      }
      const rows = yield* Effect.orDie(Effect.retry(HistoryOf.read(stage.sql, stage.clock), { times: 5 }))
      const verdict = check({
        ...rows,
        client: Array.from(ledger.client.values()),
        runs: ledger.runs,
        settles: ledger.settles,
        faults: ledger.faults
      })
      const counts = Array.from(ledger.counts.values())
      const total = (pick: (count: (typeof counts)[number]) => number) => counts.reduce((n, one) => n + pick(one), 0)
      const faults: Record<string, number> = {}
      for (const { kind } of ledger.faults) faults[kind] = (faults[kind] ?? 0) + 1
      const recoveries = stage.recoveries.length > 0 ? stage.recoveries : verdict.recoveries
      const reaped = percentile(verdict.reaps, 0.99)
      const recovery = percentile(recoveries, 0.99)
      if (recovery !== null && recovery > (cell.recoversWithin ?? Infinity))
        violations.push(`recovery took ${recovery} ms (p99), more than ${cell.recoversWithin}`)
      const clients = Array.from(ledger.client.values())
      const result: Result = {
        cell: cell.name,
        broker: options.broker,
        seed: options.seed,
        enq_ok: clients.filter(({ ok }) => ok).length,
        enq_err: ledger.errors(),
        lost: verdict.lost,
        unexpected: verdict.unexpected,
        recovered: verdict.recovered,
        exec: verdict.exec,
        dup_exec: verdict.dup_exec,
        dup_tx_effects: verdict.dup_tx_effects,
        stale_settle_rejected: verdict.stale_settle_rejected,
        stale_settle_accepted: verdict.stale_settle_accepted,
        abandoned: verdict.abandoned,
        poison: verdict.poison,
        recovery_ms_p50: percentile(recoveries, 0.5),
        recovery_ms_p99: recovery,
        republished: total(({ republished }) => republished),
        broker_msgs: total(({ received }) => received),
        db_errors_seen: total(({ dbErrors }) => dbErrors),
        loops_restarted: total(({ loopsRestarted }) => loopsRestarted),
        wall_s: Math.round((now() - startedAt) / 100) / 10,
        unexplained: verdict.unexplained,
        overlaps: verdict.overlaps,
        faults,
        extra: { ...stage.extra, ...(reaped === null ? {} : { reaped_ms_p99: reaped }) },
        violations: [...violations, ...verdict.violations]
      }
      return result
    })
  )
