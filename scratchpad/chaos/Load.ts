/** Clients of a stage, and the load they make; the ledger remembers what they were told. */
import * as PgClient from "@effect/sql-pg/PgClient"
import type * as Context from "effect/Context"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Redacted from "effect/Redacted"
import type * as Scope from "effect/Scope"
import type { SqlClient } from "effect/sql/SqlClient"
import { Broker, type Job, JobDefaults, Polyqueue } from "../../src/index.ts"
import type { BrokerDriver } from "../../src/broker/BrokerDriver.ts"
import type { Expected } from "./Checker.ts"
import { type Mode, Newer, Work } from "./Jobs.ts"
import { seeded } from "./Random.ts"
import { layerOf } from "./Spec.ts"
import type { Stage } from "./Stage.ts"
import * as Troubles from "./Troubles.ts"

export interface ClientOptions {
  /** Speaks to PostgreSQL through the proxy. */
  readonly proxied?: boolean
  readonly troubles?: Troubles.Troubles
  /** Default 20: cells that kill workers kill some jobs more than three times. */
  readonly maxCrashes?: number
  /** Has no broker: whatever it enqueues is found by looking or by the relay. */
  readonly brokerless?: boolean
  /** Is told the ids of all hints that are published. */
  readonly spy?: Set<string>
}

/** A client of the memory broker that lives in the processes of the workers. */
const ringing = (stage: Stage, broker: BrokerDriver): BrokerDriver => ({
  ...broker,
  publish: (hints) => Effect.tap(broker.publish(hints), () => Effect.sync(stage.ring))
})

const spying = (broker: BrokerDriver, spy: Set<string>): BrokerDriver => ({
  ...broker,
  publish: (hints) =>
    Effect.suspend(() => {
      for (const { jobId } of hints) spy.add(jobId)
      return broker.publish(hints)
    })
})

/** What a client needs to be provided with. */
export type ClientContext = Context.Context<Polyqueue | Broker | SqlClient>

/** A client of the queue in this process. */
export const client = Effect.fnUntraced(function* (
  stage: Stage,
  options: ClientOptions = {}
): Effect.fn.Return<ClientContext, never, Scope.Scope> {
  const Database = PgClient.layer({
    url: Redacted.make(options.proxied === true ? stage.proxy.url(stage.url) : stage.url),
    applicationName: "chaos client",
    maxConnections: 8
  })
  const Carrier = Layer.effect(
    Broker,
    Effect.map(Broker, (broker) => {
      const told = broker.capabilities.name === "memory" ? ringing(stage, broker) : broker
      const spied = options.spy === undefined ? told : spying(told, options.spy)
      return Troubles.around(spied, options.troubles ?? {}, seeded(stage.seed))
    })
  ).pipe(Layer.provide(layerOf(stage.broker.spec)))
  const Defaults = Layer.succeed(JobDefaults, {
    ...JobDefaults.defaultValue(),
    maxCrashes: options.maxCrashes ?? 20
  })
  const Live = (options.brokerless === true ? Polyqueue.layerProducer : Polyqueue.layerPostgres).pipe(
    Layer.provideMerge(Carrier),
    Layer.provide(Defaults),
    Layer.provideMerge(Database)
  )
  return yield* Effect.orDie(Layer.build(Layer.fresh(Live)))
})

export interface Task {
  readonly mode: Mode
  readonly ms: number
  readonly expected: Expected
  readonly options?: Job.EnqueueOptions
  readonly newer?: boolean
}

/** Enqueues one job. `again`: tries the same id until it is answered. Answers its id. */
export const enqueue = Effect.fnUntraced(function* (
  stage: Stage,
  context: ClientContext,
  task: Task,
  again = false
): Effect.fn.Return<string> {
  const { client, failed } = stage.ledger
  const n = client.size
  const make = (options: Job.EnqueueOptions) =>
    (task.newer === true
      ? Effect.map(Newer.enqueue({ n }, options), ({ id }) => id)
      : Effect.map(Work.enqueue({ n, ms: task.ms, mode: task.mode }, options), ({ id }) => id)
    ).pipe(
      Effect.provideContext(context),
      Effect.map((id) => ({ id, ok: true })),
      Effect.catch((error) => Effect.sync(() => (failed(), { id: error.id, ok: false })))
    )
  const note = ({ id, ok }: { readonly id: string; readonly ok: boolean }) =>
    client.set(id, { job: id, ok, expected: task.expected })
  let made = yield* make(task.options ?? {})
  note(made)
  while (again && !made.ok) {
    yield* Effect.sleep(100)
    made = yield* make({ ...task.options, id: Work.handle(made.id as never).id })
    note(made)
  }
  return made.id
})

/** 10 % fail once, 2 % always, the others succeed; `from` to `to` ms each. */
export const tasks = (stage: Stage, count: number, from: number, to: number): ReadonlyArray<Task> =>
  Array.from({ length: count }, (_, n): Task => {
    const ms = Math.round(from + stage.random() * (to - from))
    if (n % 50 === 49) return { mode: "always", ms, expected: "failed", options: { maxAttempts: 2 } }
    return { mode: n % 10 === 5 ? "once" : "ok", ms, expected: "succeeded" }
  })

/** The common load, enqueued evenly over `over` ms; ends when the last enqueue was answered. */
export const load = Effect.fnUntraced(function* (
  stage: Stage,
  context: ClientContext,
  options: {
    readonly jobs?: number
    readonly over?: number
    readonly from?: number
    readonly to?: number
    readonly again?: boolean
  } = {}
) {
  const { again, from = 20, jobs = stage.size, over = 4_000, to = 150 } = options
  const all = tasks(stage, jobs, from, to)
  yield* Effect.forEach(
    all,
    (task, n) => Effect.delay(enqueue(stage, context, task, again), Duration.millis((over * n) / all.length)),
    { concurrency: "unbounded", discard: true }
  )
})
