/** Worker processes killed in the middle of jobs, on every broker that carries hints: the next owner finishes all of them. */
import { assert, describe, it } from "@effect/vitest"
import { Effect, Layer } from "effect"
import { Polyqueue } from "../../src/index.ts"
import { troubled } from "../loss/Troubled.ts"
import { describePostgres, layerUrl } from "../support/Postgres.ts"
import { describeOwnRedis } from "../support/Redis.ts"
import { brokerOf } from "./brokers.ts"
import { attempts, audit, count, inDatabase, jobs, spawnWorker, until } from "./Harness.ts"
import { Steady } from "./jobs.ts"

const kill = (name: keyof typeof troubled) =>
  it.live(
    `one killed with SIGKILL in the middle of jobs, on ${name}: nothing is lost, the next owner finishes`,
    () =>
      inDatabase((url) =>
        Effect.gen(function* () {
          const { spec } = yield* troubled[name](url)
          const first = yield* spawnWorker(url, 4, { broker: spec })
          const Client = Layer.fresh(Polyqueue.layerPostgres).pipe(
            Layer.provide(brokerOf(spec)),
            Layer.provide(layerUrl(url))
          )
          yield* Effect.provide(Steady.enqueueAll(Array.from({ length: 24 }, (_, n) => ({ n, ms: 150 }))), Client)
          yield* until(Effect.map(count("effects where phase = 'end'"), (n) => n >= 6))
          first.child.kill("SIGKILL")
          yield* first.exited
          const inFlight = yield* count(`${jobs} where status = 'processing'`)
          yield* spawnWorker(url, 4, { broker: spec })
          yield* until(Effect.map(count(`${jobs} where status = 'succeeded'`), (n) => n === 24))
          yield* audit
          assert.strictEqual(yield* count(`${attempts} where outcome = 'crashed'`), inFlight)
          const twice = yield* count(
            "(select job_id from effects where phase = 'end' group by job_id having count(*) > 1) d"
          )
          assert.isAtMost(twice, inFlight)
        })
      ),
    60_000
  )

describePostgres("worker processes", () => {
  describeOwnRedis("with Redis", () => kill("redis"))
  // Side by side: they mostly wait for leases to end
  describe("with others", { concurrent: true }, () => {
    kill("sqs")
    kill("service-bus")
    kill("pgmq")
  })
})
