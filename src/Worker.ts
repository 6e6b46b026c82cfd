/**
 * Claims jobs, runs their handlers, settles them; supervises its loops; drains on shutdown.
 *
 * ```ts
 * const Jobs = Worker.layer([SendEmail, Digest], { concurrency: { mail: 5, default: 20 } }).pipe(
 *   Layer.provide([SendEmailLive, DigestLive])
 * )
 * ```
 *
 * A worker claims only the job types it was given, so an older version leaves newer jobs alone. Every worker also does
 * the maintenance of the whole queue.
 */
import * as Clock from "effect/Clock"
import * as Context from "effect/Context"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import * as Layer from "effect/Layer"
import { hostname } from "node:os"
import { pid } from "node:process"
import { Broker } from "./Broker.ts"
import type { Capabilities } from "./broker/BrokerDriver.ts"
import * as DraftCheck from "./client/DraftCheck.ts"
import * as Ids from "./client/Ids.ts"
import type { Any, Handler, HandlerService } from "./Job.ts"
import { type BrokerError, type StoreError, WorkerError } from "./JobError.ts"
import { JobDefaults } from "./JobPolicy.ts"
import { JobStore } from "./JobStore.ts"
import * as Maintenance from "./Maintenance.ts"
import { Metrics } from "./Metrics.ts"
import { Polyqueue, type Ports } from "./Polyqueue.ts"
import type { Retention } from "./store/JobStoreDriver.ts"
import { WorkerRegistry } from "./WorkerRegistry.ts"
import * as Claims from "./worker/Claims.ts"
import * as Gauges from "./worker/Gauges.ts"
import * as Heartbeat from "./worker/Heartbeat.ts"
import * as HintedClaims from "./worker/HintedClaims.ts"
import * as LeaseKeeper from "./worker/LeaseKeeper.ts"
import * as Orders from "./worker/Orders.ts"
import * as Pool from "./worker/Pool.ts"
import * as Probe from "./worker/Probe.ts"
import * as ProgressLoop from "./worker/ProgressLoop.ts"
import * as Settler from "./worker/Settler.ts"
import * as Slots from "./worker/Slots.ts"
import * as Supervisor from "./worker/Supervisor.ts"
import type { WorkerContext } from "./worker/WorkerContext.ts"

/** The handler services of some jobs: what `Worker.layer` requires. */
export type HandlersOf<Jobs extends Any> = Jobs extends { readonly _tag: infer Tag extends string }
  ? Handler<Tag>
  : never

export interface Options {
  /**
   * For people, and what a concurrency set by `Admin.setConcurrency` belongs to: name workers whose setting should survive a
   * restart, all replicas alike. At most 200 characters, none of them a control character. Default: host and process id.
   */
  readonly name?: string
  /**
   * Jobs run at once: a number for all queues together, or one per queue. A queue without a number of its own gets 10; a
   * queue named here is worked on even if no job has it as its default. Default 10.
   */
  readonly concurrency?: number | Readonly<Record<string, number>>
  /** How long a job stays ours without a sign of life: the longest pause after a crash. Renewed every third of it. Default 30 s. */
  readonly lease?: Duration.Input
  /** How often the lease is renewed; shorter than `lease`. Default: a third of it. */
  readonly renewEvery?: Duration.Input
  /** On shutdown: how long running jobs may take before they are interrupted and given back. Default 25 s. */
  readonly shutdownGrace?: Duration.Input
  /**
   * How long an interrupted handler may take before its job goes on without it. Give all workers of a database the same: an
   * attempt far past its timeout is ended by any of them, which goes by its own. Default 5 s.
   */
  readonly interruptGrace?: Duration.Input
  /** How often this worker reports that it is alive. Default 15 s. */
  readonly heartbeatEvery?: Duration.Input
  /** Workers silent for longer are marked dead. Default 60 s. */
  readonly staleAfter?: Duration.Input
  /**
   * Brokers that carry hints: how long a delivery is ours before the broker gives it to another; extended every third of it
   * while the job runs. It is only transport (the lease in Postgres decides), so it may be long. Default 5 minutes; Service
   * Bus goes by its queue's LockDuration where that is shorter. Longer than the broker can do is refused.
   */
  readonly brokerLease?: Duration.Input
  /**
   * When a hint is acked: once its job is `settled` (default), or as soon as it is `claimed`, for jobs that outlive what the
   * broker allows. Safe either way.
   */
  readonly hintAck?: "settled" | "claimed"
  /** How often maintenance looks for abandoned and overdue attempts. Default 5 s. */
  readonly sweepEvery?: Duration.Input
  /**
   * How often metrics hear of this worker's state and of the counts of the queues, which the fleet makes once per this
   * interval. Default 15 s.
   */
  readonly observeEvery?: Duration.Input
  /** A running job that has reported progress, but not for so long, is counted as stale. Default 2 minutes. */
  readonly staleProgressAfter?: Duration.Input
  /**
   * How long ended jobs are kept; `null` keeps them for ever. Default: succeeded and cancelled 7 days, failed 30 days,
   * attempts 30 days.
   */
  readonly retention?: {
    readonly succeeded?: Duration.Input | null
    readonly failed?: Duration.Input | null
    readonly cancelled?: Duration.Input | null
    readonly attempts?: Duration.Input | null
  }
}

/**
 * What holds for workers that do not say otherwise, under the explicit options of `Worker.layer`. Default: none, so that the
 * defaults of `Options` hold. `PolyqueueConfig.layer` fills it from the environment; override it with
 * `Layer.succeed(Worker.Defaults, { lease: "10 seconds" })`.
 */
export const Defaults: Context.Reference<Options> = Context.Reference<Options>("polyqueue/Worker/Defaults", {
  defaultValue: () => ({})
})

/**
 * Run once when a worker has stopped because somebody told it to (`Admin.stopWorker`), not when its layer is released.
 * Default: nothing, the process goes on. A process that is nothing but a worker can end itself here.
 */
export const OnStopped: Context.Reference<Effect.Effect<void>> = Context.Reference<Effect.Effect<void>>(
  "polyqueue/Worker/OnStopped",
  { defaultValue: () => Effect.void }
)

const defaultConcurrency = 10
const maxWorkerName = 200
const defaultBrokerLease = 300_000
const day = 86_400_000

const kept = (value: Duration.Input | null | undefined, otherwise: number): number | undefined =>
  value === null ? undefined : value === undefined ? otherwise : Duration.toMillis(value)

/** All options as milliseconds, or what is wrong with them. */
const readOptions = (options: Options, broker: Capabilities) => {
  const lease = Duration.toMillis(options.lease ?? "30 seconds")
  const sweepEvery = Duration.toMillis(options.sweepEvery ?? "5 seconds")
  const timings = {
    lease,
    renewEvery: options.renewEvery === undefined ? lease / 3 : Duration.toMillis(options.renewEvery),
    heartbeatEvery: Duration.toMillis(options.heartbeatEvery ?? "15 seconds"),
    interruptGrace: Duration.toMillis(options.interruptGrace ?? "5 seconds"),
    shutdownGrace: Duration.toMillis(options.shutdownGrace ?? "25 seconds"),
    sweepEvery,
    staleAfter: Duration.toMillis(options.staleAfter ?? "1 minute"),
    brokerLease:
      options.brokerLease === undefined
        ? Math.min(defaultBrokerLease, broker.maxLease ?? Infinity, broker.maxHold ?? Infinity)
        : Duration.toMillis(options.brokerLease),
    hintAck: options.hintAck ?? "settled",
    observeEvery: Duration.toMillis(options.observeEvery ?? "15 seconds"),
    staleProgressAfter: Duration.toMillis(options.staleProgressAfter ?? "2 minutes")
  }
  const retention: Retention = {
    succeeded: kept(options.retention?.succeeded, 7 * day),
    failed: kept(options.retention?.failed, 30 * day),
    cancelled: kept(options.retention?.cancelled, 7 * day),
    attempts: kept(options.retention?.attempts, 30 * day)
  }
  return { timings, retention }
}

const problemOf = (jobs: ReadonlyArray<Any>, options: Options, broker: Capabilities): string | undefined => {
  const tags = new Set<string>()
  for (const job of jobs) {
    if (tags.has(job._tag)) return `two jobs are called ${JSON.stringify(job._tag)}: a tag names one job`
    tags.add(job._tag)
  }
  if (jobs.length === 0) return "give it at least one job"
  const concurrency = options.concurrency ?? defaultConcurrency
  const numbers = typeof concurrency === "number" ? { concurrency } : concurrency
  if (options.name !== undefined && !DraftCheck.isName(options.name, maxWorkerName)) {
    return `name must be 1 to ${maxWorkerName} characters, none of them a control character`
  }
  for (const [name, value] of Object.entries(numbers)) {
    if (!DraftCheck.isName(name, DraftCheck.maxName)) {
      return `concurrency: the name of a queue must be 1 to ${DraftCheck.maxName} characters, none of them a control character`
    }
    if (!Number.isInteger(value) || value < 1 || value > 10_000) {
      return `concurrency: ${name} must be a whole number from 1 to 10000, not ${value}`
    }
  }
  const { timings } = readOptions(options, broker)
  for (const [name, value] of Object.entries(timings)) {
    if (typeof value === "number" && !(value >= 0 && value <= 365 * day))
      return `${name} must be a finite, positive duration`
  }
  if (timings.lease < 100) return `lease must be at least 100 ms, not ${timings.lease} ms`
  if (timings.sweepEvery < 10 || timings.heartbeatEvery < 10 || timings.observeEvery < 10)
    return "sweepEvery, heartbeatEvery and observeEvery must be at least 10 ms"
  if (!(timings.renewEvery > 0 && timings.renewEvery < timings.lease)) {
    return `renewEvery (${timings.renewEvery} ms) must be shorter than the lease it renews (${timings.lease} ms)`
  }
  return broker.carriesHints ? brokerProblem(timings.brokerLease, broker) : undefined
}

/** What the broker cannot honour. */
const brokerProblem = (lease: number, { maxHold, maxLease, name }: Capabilities): string | undefined => {
  if (lease < 100) return `brokerLease must be at least 100 ms, not ${lease} ms`
  if (maxLease !== undefined && lease > maxLease) {
    return `brokerLease (${lease} ms) is longer than the broker ${name} can lease a delivery: set it to ${maxLease} ms or less`
  }
  if (maxHold !== undefined && lease > maxHold) {
    return `brokerLease (${lease} ms) is longer than the broker ${name} can hold a delivery: set it to ${maxHold} ms or less`
  }
  return undefined
}

/**
 * A worker for these jobs. Requires a handler for each of them (forgetting one is a compile error), `Polyqueue` and the
 * ports. Starts when the layer is built; on release it claims nothing new, waits `shutdownGrace`, interrupts the rest, gives
 * them back at no cost, and is gone. Fails to build with `WorkerError` when an option makes no sense.
 */
export const layer = <const Jobs extends ReadonlyArray<Any>>(
  jobs: Jobs,
  options: Options = {}
): Layer.Layer<never, WorkerError | StoreError | BrokerError, HandlersOf<Jobs[number]> | Polyqueue | Ports> =>
  Layer.effectDiscard(
    Effect.gen(function* () {
      const merged = { ...(yield* Defaults), ...options }
      const { capabilities } = yield* Broker
      const problem = problemOf(jobs, merged, capabilities)
      if (problem !== undefined) return yield* new WorkerError({ message: `Worker.layer: ${problem}` })
      yield* Polyqueue
      const context = yield* Effect.context<HandlersOf<Jobs[number]>>()
      const handlers = new Map<string, { readonly job: Any; readonly handler: HandlerService }>()
      for (const job of jobs) {
        // Required by the type of this layer, so it is there
        handlers.set(job._tag, { job, handler: Context.getUnsafe(context, job.definition.handler) })
      }
      yield* start(jobs, merged, handlers)
    })
  ) as Layer.Layer<never, WorkerError | StoreError | BrokerError, HandlersOf<Jobs[number]> | Polyqueue | Ports>

const start = Effect.fnUntraced(function* (
  jobs: ReadonlyArray<Any>,
  options: Options,
  handlers: WorkerContext["handlers"]
) {
  const broker = yield* Broker
  const { retention, timings } = readOptions(options, broker.capabilities)
  const makeId = yield* Ids.make
  const metrics = yield* Metrics
  const name = options.name ?? `${hostname()}/${pid}`
  const worker: WorkerContext = {
    id: yield* makeId,
    name,
    store: yield* JobStore,
    broker,
    registry: yield* WorkerRegistry,
    metrics,
    clock: yield* Clock.Clock,
    defaults: yield* JobDefaults,
    supervisor: yield* Supervisor.make(metrics, name),
    makeId,
    timings,
    handlers
  }
  const pools = Pool.fromConcurrency(
    options.concurrency ?? defaultConcurrency,
    Array.from(new Set(jobs.map((job) => job.definition.queue))),
    jobs.map((job) => job._tag),
    defaultConcurrency
  )
  const progress = yield* ProgressLoop.make(worker.store, worker.supervisor)
  const slots = yield* Slots.make(worker, pools, progress)
  const leases = yield* LeaseKeeper.make(worker, slots)
  yield* Settler.make(worker, slots)
  const onStopped = yield* OnStopped
  const stop: Effect.Effect<void> = yield* Effect.cached(Effect.suspend(() => drain(worker, slots, leases, heartbeat)))
  // While it registers, so that the first claim finds the store's sessions open
  yield* Effect.forkScoped(Effect.ignore(worker.store.nextDue(pools.flatMap((pool) => pool.ranges))))
  const heartbeat: Heartbeat.Heartbeat = yield* Heartbeat.make(
    worker,
    slots,
    Orders.make(slots, Effect.andThen(stop, onStopped))
  )
  yield* Gauges.make(worker, slots)
  const watched = yield* Probe.make(worker, slots)
  const hinted = broker.capabilities.carriesHints
    ? yield* Effect.forEach(pools, (pool) => HintedClaims.make(worker, watched, leases, pool))
    : []
  const reaper = yield* Maintenance.start(
    {
      store: worker.store,
      registry: worker.registry,
      broker: worker.broker,
      metrics,
      clock: worker.clock,
      ownWorkers: [worker.id],
      lease: timings.lease,
      interruptGrace: timings.interruptGrace,
      sweepEvery: timings.sweepEvery,
      staleAfter: timings.staleAfter,
      retention,
      receivesEmpty: () => hinted.every((claims) => claims.isEmpty())
    },
    worker.supervisor
  )
  // Finalisers run in reverse: the claim loops (forked below) stop first, then this drains, then the other loops stop
  yield* Effect.addFinalizer(() => stop)
  for (const claims of hinted) yield* claims.start(reaper)
  if (!broker.capabilities.carriesHints) yield* Claims.make(worker, watched, leases)
})

const drain = (
  { timings }: WorkerContext,
  slots: Slots.Slots,
  leases: LeaseKeeper.LeaseKeeper,
  heartbeat: Heartbeat.Heartbeat
) => {
  const empty = Effect.suspend(() => (slots.held.size === 0 ? Effect.void : slots.quiet.wait))
  const steps = Effect.gen(function* () {
    slots.close()
    yield* heartbeat.now
    yield* Effect.timeoutOption(empty, Duration.millis(timings.shutdownGrace))
    for (const held of slots.held) slots.interrupt(held, "shutdown")
    // An interrupted handler has its grace, its settle some round trips
    yield* Effect.timeoutOption(empty, Duration.millis(timings.interruptGrace + 1_000))
    yield* Effect.timeoutOption(leases.giveBack, "1 second")
    yield* Effect.timeoutOption(heartbeat.stop, "1 second")
  })
  // A finaliser is uninterruptible and its fiber is already interrupted: time-outs need a fiber of their own
  return Effect.flatMap(Effect.forkDetach(steps, { startImmediately: true }), Fiber.join)
}
