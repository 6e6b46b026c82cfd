/** W1 to W8 and W12: workers that die or stand still. */
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import { bothKinds, carriers, type Cell, everywhere } from "../Cell.ts"
import * as Load from "../Load.ts"
import type { Point } from "../Points.ts"
import { common, type Stage } from "../Stage.ts"

/** Kills somebody every `every` ms until the effect has ended. */
const killing = <A>(
  stage: Stage,
  workers: () => ReadonlyArray<{ signal: (signal: "SIGKILL") => void }>,
  every: number,
  during: Effect.Effect<A>
) =>
  Effect.raceFirst(
    during,
    Effect.forever(
      Effect.delay(
        Effect.sync(() => {
          const all = workers()
          // Somebody must be there to take over: how long a process takes to start is not what is measured
          if (all.length >= 3) all[Math.floor(stage.random() * all.length)]?.signal("SIGKILL")
        }),
        every
      )
    )
  )

/** The common load on four workers, of which the first lives end at a point. */
const dyingAt = (point: Point, nth: number, deaths = 6) =>
  Effect.fnUntraced(function* (stage: Stage) {
    const client = yield* Load.client(stage)
    yield* stage.fleet(4, (life) => (life < deaths ? { strikes: [{ point, nth: nth + (life % 3), act: "kill" }] } : {}))
    yield* Load.load(stage, client)
    yield* stage.drained()
    const died = stage.ledger.points.filter((one) => one.point === point).length
    stage.extra["deaths"] = died
    if (died === 0) stage.violations.push(`nobody died at the point ${point}`)
  })

export const cells: ReadonlyArray<Cell> = [
  {
    name: "W1",
    what: "a worker dies in the middle of jobs (SIGKILL every second)",
    brokers: everywhere,
    recoversWithin: common.lease + common.sweep + 2_000,
    run: Effect.fnUntraced(function* (stage) {
      const client = yield* Load.client(stage)
      const workers = yield* stage.fleet(4)
      yield* killing(stage, workers, 1_000, Load.load(stage, client, { over: 6_000 }))
      yield* stage.drained()
    })
  },
  {
    name: "W2",
    what: "a worker dies between receiving a hint and claiming its job",
    brokers: carriers,
    run: dyingAt("received", 3)
  },
  {
    name: "W3",
    what: "a worker dies between the commit of a claim and the start of the handler",
    brokers: bothKinds,
    run: dyingAt("claimed", 3)
  },
  {
    name: "W4",
    what: "a worker dies between the end of a handler and its settle",
    brokers: everywhere,
    run: dyingAt("ended", 6)
  },
  {
    name: "W5",
    what: "a worker dies between a settle and the ack of its hint",
    brokers: carriers,
    run: dyingAt("settled", 6)
  },
  {
    name: "W6",
    what: "a worker is paused past its lease, with work that it has finished and not settled, and goes on",
    brokers: everywhere,
    run: Effect.fnUntraced(function* (stage) {
      const client = yield* Load.client(stage)
      const workers = yield* stage.fleet(4, (nth) =>
        nth < 2 ? { strikes: [{ point: "ended", nth: 4 + nth, act: "stop" }] } : {}
      )
      const loading = yield* Effect.forkScoped(Load.load(stage, client, { over: 5_000 }))
      const resumed = new Set<number>()
      // Those that stop themselves go on two leases later; another one is stopped from outside
      const others = workers().slice(2)
      others[0]?.signal("SIGSTOP", common.lease * 2)
      yield* Effect.sleep(common.lease * 2)
      others[0]?.signal("SIGCONT")
      for (let i = 0; i < 100 && resumed.size < 2; i++) {
        for (const { at, pid, point } of stage.ledger.points) {
          if (point !== "ended" || resumed.has(pid)) continue
          resumed.add(pid)
          yield* Effect.forkScoped(
            Effect.delay(
              Effect.sync(() => process.kill(pid, "SIGCONT")),
              Math.max(0, common.lease * 2 - (Number(process.hrtime.bigint() / 1_000n) / 1_000 - at))
            )
          )
        }
        yield* Effect.sleep(100)
      }
      yield* Fiber.join(loading)
      yield* Effect.sleep(common.lease * 2)
      yield* stage.drained()
      stage.extra["paused"] = resumed.size + 1
      if (!stage.ledger.settles.some(({ outcome }) => outcome === "LeaseLost"))
        stage.violations.push("no stale settle was even tried")
    })
  }
]
