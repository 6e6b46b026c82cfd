/**
 * Changing the broker under a running fleet, and using two at once: nothing is lost, nothing runs twice, nobody stops
 * enqueueing. Redis and PGMQ on real servers.
 */
import { assert, it } from "@effect/vitest"
import { Effect, Exit, Layer, Redacted, Schema, Scope } from "effect"
import * as PgmqBroker from "../../src/broker/PgmqBroker.ts"
import * as RedisBroker from "../../src/broker/RedisBroker.ts"
import { Broker, Job, JobStore, Metrics, Migrations, Polyqueue, Worker, WorkerRegistry } from "../../src/index.ts"
import { installPgmq } from "../support/Pgmq.ts"
import { describePostgres, freshDatabase, layerUrl } from "../support/Postgres.ts"
import { describeOwnRedis, ownRedis } from "../support/Redis.ts"

class Count extends Job.make("Count", { payload: { n: Schema.Int } }) {}
class Mail extends Job.make("Mail", { payload: { n: Schema.Int }, queue: "mail" }) {}

const prepared = Effect.gen(function* () {
  const redis = yield* ownRedis()
  const url = yield* freshDatabase
  yield* Effect.provide(Effect.andThen(installPgmq, Migrations.migrate()), layerUrl(url))
  return {
    url,
    Redis: RedisBroker.layer({ url: Redacted.make(redis.url) }),
    Pgmq: PgmqBroker.layer()
  }
})

describePostgres("Postgres", () => {
  describeOwnRedis("and Redis", () => {
    it.live(
      "a running fleet moves from Redis to PGMQ without losing or stopping anything",
      () =>
        Effect.gen(function* () {
          const { Pgmq, Redis, url } = yield* prepared
          const runs = new Map<number, number>()
          const handler = Count.toLayer(({ n }) => Effect.sync(() => void runs.set(n, (runs.get(n) ?? 0) + 1)))
          /** One deployment: client and worker of one process. */
          const process = (broker: typeof Redis | typeof Pgmq) =>
            Worker.layer([Count], { shutdownGrace: "5 seconds" }).pipe(
              Layer.provide(handler),
              Layer.provideMerge(Polyqueue.layer),
              Layer.provideMerge(
                Layer.mergeAll(JobStore.layerPostgres, WorkerRegistry.layerPostgres, Metrics.layerNoop, broker)
              ),
              Layer.provide(layerUrl(url))
            )
          const deployments = [
            process(Redis),
            process(Broker.layerSwap({ to: Redis, from: Pgmq })),
            process(Broker.layerSwap({ to: Pgmq, from: Redis })),
            process(Pgmq)
          ]
          let made = 0
          const enqueueSome = Effect.forEach(Array.from({ length: 25 }), () => Count.enqueue({ n: made++ }), {
            concurrency: 5,
            discard: true
          })
          // A rolling deploy: the next one starts before the one before it stops, and both enqueue all the time
          let before: Scope.Closeable | undefined
          for (const deployment of deployments) {
            const scope = yield* Scope.make()
            const context = yield* Layer.buildWithScope(deployment, scope)
            yield* Effect.provideContext(enqueueSome, context)
            if (before !== undefined) yield* Scope.close(before, Exit.void)
            yield* Effect.provideContext(enqueueSome, context)
            before = scope
          }
          yield* Effect.repeat(Effect.sleep("50 millis"), { until: () => runs.size === made })
          assert.deepStrictEqual(new Set(runs.values()), new Set([1]))
          if (before !== undefined) yield* Scope.close(before, Exit.void)
        }).pipe(Effect.scoped),
      60_000
    )

    it.live("queues are routed to different brokers in one application", () =>
      Effect.gen(function* () {
        const { Pgmq, Redis, url } = yield* prepared
        const Database = layerUrl(url)
        const Routed = Broker.layerRouted({ queues: { mail: Redis }, otherwise: Pgmq })
        yield* Effect.gen(function* () {
          const broker = yield* Broker
          assert.strictEqual(broker.capabilities.name, "pgmq+redis")
          const [mails, counts] = yield* Effect.all([
            Mail.enqueueAll(Array.from({ length: 20 }, (_, n) => ({ n }))),
            Count.enqueueAll(Array.from({ length: 30 }, (_, n) => ({ n })))
          ])
          // Hints are on their way when an enqueue is done
          yield* Effect.repeat(Effect.delay(broker.depth("mail"), "20 millis"), { until: (depth) => depth === 20 })
          yield* Effect.repeat(Effect.delay(broker.depth("default"), "20 millis"), { until: (depth) => depth === 30 })
          yield* Layer.build(
            Worker.layer([Mail, Count]).pipe(
              Layer.provide([Mail.toLayer(() => Effect.void), Count.toLayer(() => Effect.void)])
            )
          )
          yield* Effect.forEach([...mails, ...counts], (job) => job.await, { concurrency: "unbounded", discard: true })
        }).pipe(
          Effect.scoped,
          Effect.provide(Polyqueue.layerPostgres.pipe(Layer.provideMerge(Routed), Layer.provideMerge(Database)))
        )
      }).pipe(Effect.scoped)
    )
  })
})
