/** P1 to P5: PostgreSQL goes away, and comes back. */
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import { type Cell, everywhere } from "../Cell.ts"
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

export const cells: ReadonlyArray<Cell> = [
  {
    name: "P2",
    what: "PostgreSQL crashes (stop -m immediate) and comes back, again and again",
    brokers: everywhere,
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
      const slowest = Math.max(...stage.recoveries)
      if (slowest > 5_000) stage.violations.push(`the first claim came ${Math.round(slowest)} ms after PostgreSQL`)
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
