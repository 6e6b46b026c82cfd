/** Real workers with one promise less, on a real database: the checker of the chaos runs must notice. */
import { assert, describe, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import { check, type History } from "../../scratchpad/chaos/Checker.ts"
import * as HistoryOf from "../../scratchpad/chaos/History.ts"
import * as Load from "../../scratchpad/chaos/Load.ts"
import * as Stage from "../../scratchpad/chaos/Stage.ts"
import type { PostgresServer } from "../support/PostgresServer.ts"
import { describePostgres, postgresUrl } from "../support/Postgres.ts"

/** The server of this run, which no test may stop. */
const shared: PostgresServer = {
  url: postgresUrl,
  port: Number(postgresUrl === "" ? 0 : new URL(postgresUrl).port),
  pid: () => undefined,
  stop: () => Promise.reject(new Error("it belongs to all")),
  start: () => Promise.resolve(),
  destroy: () => Promise.resolve()
}

const lease = 700

/** Plays on a stage and answers its history. */
const play = <E, R>(run: (stage: Stage.Stage, client: Load.ClientContext) => Effect.Effect<void, E, R>) =>
  Effect.gen(function* () {
    const stage = yield* Stage.make({ server: shared, broker: "postgres", seed: 1, size: 0 })
    yield* run(stage, yield* Load.client(stage))
    const { client, faults, runs, settles } = stage.ledger
    const rows = yield* HistoryOf.read(stage.sql, stage.clock)
    const history: History = { ...rows, client: Array.from(client.values()), faults, runs, settles }
    return history
  }).pipe(Effect.scoped)

/** Asks until it is so; the test's timeout ends it. */
const until = (holds: () => boolean) => Effect.repeat(Effect.sleep(20), { until: holds })

/** One worker stops with a job done and not settled; another one gets the job, and still has it when the first one goes on. */
const paused = (sabotage: "fence" | undefined) =>
  play(
    Effect.fnUntraced(function* (stage, client) {
      const told = { lease, sweep: 100, ...(sabotage === undefined ? {} : { sabotage }) }
      const stale = yield* stage.spawn({ ...told, strikes: [{ point: "ended", nth: 1, act: "stop" }] })
      yield* Load.enqueue(stage, client, { mode: "ok", ms: 800, expected: "succeeded" })
      yield* stage.reached("ended")
      yield* stage.spawn(told)
      yield* until(() => stage.ledger.runs.some(({ attempt }) => attempt === 2))
      stale.signal("SIGCONT")
      yield* stage.drained()
      yield* until(() => stage.ledger.settles.some(({ attempt }) => attempt === 1))
    })
  )

describePostgres("the chaos runs", () => {
  describe("notice", { concurrent: true }, () => {
    it.live("a store without a fence: a stale settle is accepted", () =>
      Effect.gen(function* () {
        const verdict = check(yield* paused("fence"))
        assert.isAtLeast(verdict.stale_settle_accepted, 1)
        assert.isTrue(verdict.violations.some((violation) => /was not the owner's/.test(violation)))
      })
    )

    it.live("nothing when the fence holds, and an unexplained duplicate once the log of faults is withheld", () =>
      Effect.gen(function* () {
        const history = yield* paused(undefined)
        const verdict = check(history)
        assert.deepStrictEqual(verdict.violations, [])
        assert.deepStrictEqual(
          [verdict.stale_settle_accepted, verdict.stale_settle_rejected, verdict.dup_exec],
          [0, 1, 1]
        )
        assert.isAtLeast(check({ ...history, faults: [] }).unexplained, 2)
      })
    )

    it.live("a fleet that ends no abandoned attempt: the job of a dead worker is lost", () =>
      Effect.gen(function* () {
        const history = yield* play(
          Effect.fnUntraced(function* (stage, client) {
            const told = { lease, sweep: 100, sabotage: "reaper" } as const
            const worker = yield* stage.spawn(told)
            yield* Load.enqueue(stage, client, { mode: "ok", ms: 60_000, expected: "succeeded" })
            yield* until(() => stage.ledger.runs.length > 0)
            worker.signal("SIGKILL")
            yield* stage.spawn(told)
            yield* stage.drained(lease * 3)
            assert.strictEqual(stage.violations.length, 1)
          })
        )
        assert.strictEqual(check(history).lost, 1)
      })
    )

    it.live("leases that are not renewed: attempts are abandoned, and nobody was hurt", () =>
      Effect.gen(function* () {
        const history = yield* play(
          Effect.fnUntraced(function* (stage, client) {
            yield* stage.spawn({ lease, sweep: 100, sabotage: "renewal" })
            yield* Load.enqueue(stage, client, { mode: "ok", ms: 3_000, expected: "succeeded" })
            yield* until(() => stage.ledger.runs.length > 0)
            yield* stage.spawn({ lease, sweep: 100 })
            yield* stage.drained()
          })
        )
        // A machine that starves the workers is a fault too; it is not what this is about
        const verdict = check({ ...history, faults: [] })
        assert.isAtLeast(verdict.unexplained, 1)
      })
    )
  })
})
