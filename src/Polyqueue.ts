/**
 * The client: enqueue, wait, cancel, requeue, inspect. `Job` is the typed face of it; this service moves encoded data.
 *
 * Compose it at the edge: `Polyqueue.layer` on the four ports, `layerPostgres` on a database and a broker of your choice,
 * `layerEmbedded()` with nothing installed, `layerMemory` for tests, `layerProducer` for processes that only enqueue.
 */
import * as Context from "effect/Context"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Option from "effect/Option"
import * as Result from "effect/Result"
import type * as Scope from "effect/Scope"
import type { SqlClient } from "effect/sql/SqlClient"
import * as Stream from "effect/Stream"
import { Broker } from "./Broker.ts"
import * as DraftCheck from "./client/DraftCheck.ts"
import type { Hint } from "./broker/BrokerDriver.ts"
import * as HintPublisher from "./client/HintPublisher.ts"
import * as Ids from "./client/Ids.ts"
import * as TraceContext from "./client/TraceContext.ts"
import * as Waiters from "./client/Waiters.ts"
import { EnqueueError, JobNotFound, StoreError } from "./JobError.ts"
import type { JobId } from "./JobId.ts"
import { JobDefaults } from "./JobPolicy.ts"
import {
  type AttemptRecord,
  type EnqueueOutcome,
  type JobRecord,
  JobStore,
  type ListFilter,
  type NewJob,
  type QueueStats,
  type RequeueOutcome
} from "./JobStore.ts"
import { Metrics } from "./Metrics.ts"
import * as Migrations from "./Migrations.ts"
import type { Publication } from "./store/Announcer.ts"
import * as Pglite from "./store/Pglite.ts"
import { WorkerRegistry } from "./WorkerRegistry.ts"

export type { Draft } from "./client/DraftCheck.ts"

/** What became of an enqueue. `deduplicated`: the id is that of a job which existed already. */
export interface Made {
  readonly id: JobId
  readonly deduplicated: boolean
}

export interface PolyqueueService {
  /** A fresh job id (UUIDv7). */
  readonly makeId: Effect.Effect<JobId>
  /** As many as are asked for, in ascending order. */
  readonly makeIds: (count: number) => Effect.Effect<ReadonlyArray<JobId>>
  readonly enqueue: (draft: DraftCheck.Draft) => Effect.Effect<Made, EnqueueError>
  /** One statement: all or none. */
  readonly enqueueAll: (drafts: ReadonlyArray<DraftCheck.Draft>) => Effect.Effect<ReadonlyArray<Made>, EnqueueError>
  /** The job as it stands; raw payload and result. */
  readonly get: (id: string) => Effect.Effect<JobRecord, JobNotFound | StoreError>
  /** Waits until the job has ended. Fails at once inside an open transaction. */
  readonly ended: (id: string) => Effect.Effect<JobRecord, JobNotFound | StoreError>
  /** The job now and after each change that was seen, until it has ended. Looks again every 50 ms, growing to 1 s. */
  readonly changes: (id: string) => Stream.Stream<JobRecord, JobNotFound | StoreError>
  /** Ended attempts, oldest first. They outlive the job. */
  readonly attempts: (id: string) => Effect.Effect<ReadonlyArray<AttemptRecord>, StoreError>
  readonly list: (filter: ListFilter) => Effect.Effect<ReadonlyArray<JobRecord>, StoreError>
  readonly stats: Effect.Effect<ReadonlyArray<QueueStats>, StoreError>
  /** See `Job.Handle.cancel`. */
  readonly cancel: (id: string) => Effect.Effect<boolean, StoreError>
  /** Runs an ended job again: counters stay, its attempt budget starts again. Publishes it too. Not inside a transaction. */
  readonly requeue: (id: string) => Effect.Effect<RequeueOutcome, StoreError>
  /** Fails with reason `InsideTransaction` when the calling fiber is inside an open transaction of the store's database. */
  readonly refuseInTransaction: (operation: string) => Effect.Effect<void, StoreError>
}

const make = Effect.fnUntraced(function* (
  broker: Broker["Service"] | undefined,
  metrics: Metrics["Service"]
): Effect.fn.Return<PolyqueueService, never, JobStore | Scope.Scope> {
  const store = yield* JobStore
  const defaults = yield* JobDefaults
  const makeId = (yield* Ids.make) as Effect.Effect<JobId>
  const waitEnded = yield* Waiters.make(store)
  const publisher = broker === undefined ? undefined : yield* HintPublisher.make(broker, metrics)
  const route: DraftCheck.Route = {
    hinted: broker === undefined || broker.capabilities.carriesHints,
    publishIn: broker === undefined ? 0 : HintPublisher.publishGrace
  }

  const refuseInTransaction = (operation: string) =>
    Effect.flatMap(store.inTransaction, (inside) =>
      inside
        ? Effect.fail(
            new StoreError({
              reason: "InsideTransaction",
              operation,
              message: `${operation} inside an open transaction would wait for a commit that waits for it: call it after the transaction`
            })
          )
        : Effect.void
    )

  /** Rings or publishes after the commit, or inside the transaction where the broker is part of it. */
  const publish = (jobs: ReadonlyArray<NewJob>): Effect.Effect<void> => {
    if (broker === undefined || publisher === undefined) return Effect.void
    const { carriesHints, transactionalPublish } = broker.capabilities
    const due = carriesHints ? jobs.filter((job) => job.delay <= 0 && job.runAt === undefined) : oneOfEachQueue(jobs)
    if (due.length === 0) return Effect.void
    const hints = due.map((job): Hint => ({
      jobId: job.id,
      queue: job.queue,
      priority: job.priority,
      attempt: 0,
      publication: 1
    }))
    if (!carriesHints) return store.afterCommit(publisher.direct(hints))
    if (!transactionalPublish) return store.afterCommit(publisher.later(hints))
    return Effect.flatMap(store.inTransaction, (inside) => (inside ? publisher.direct(hints) : publisher.later(hints)))
  }

  const publication: Publication = { announcer: broker?.announcer, publish }

  const answer = (job: NewJob, outcome: EnqueueOutcome): Result.Result<Made, EnqueueError> => {
    switch (outcome._tag) {
      case "Inserted":
        return Result.succeed({ id: job.id as JobId, deduplicated: false })
      case "Duplicate":
        return Result.succeed({ id: outcome.id as JobId, deduplicated: true })
      case "IdConflict":
        return Result.fail(
          new EnqueueError({
            id: job.id,
            reason: "IdConflict",
            message: `${job.type}: id ${job.id} belongs to a job of another type or with another payload`
          })
        )
      case "Refused":
        return Result.fail(refused(job, outcome.error))
    }
  }
  const refused = (job: NewJob, error: StoreError) =>
    new EnqueueError({
      id: job.id,
      reason: error.reason === "Refused" ? "InvalidPayload" : "StoreUnavailable",
      message: `${job.type}: ${error.message}`,
      cause: error
    })
  const count = (job: NewJob, inserted: number, duplicates: number) => {
    if (metrics.enabled)
      metrics.record({ _tag: "Enqueued", queue: job.queue, type: job.type, count: inserted, duplicates })
  }

  const enqueue = (draft: DraftCheck.Draft, metadata: string | undefined): Effect.Effect<Made, EnqueueError> => {
    const checked = DraftCheck.check(draft, defaults, route, metadata)
    if (Result.isFailure(checked)) return Effect.fail(checked.failure)
    const job = checked.success
    return Effect.matchEffect(store.enqueueOne(job, publication), {
      onFailure: (error) => Effect.fail(refused(job, error)),
      onSuccess: (outcome) => {
        const made = Effect.fromResult(answer(job, outcome))
        if (outcome._tag === "Duplicate") count(job, 0, 1)
        if (outcome._tag === "Inserted") count(job, 1, 0)
        if (outcome._tag === "Inserted" && outcome.announced === true) publisher?.announced()
        return made
      }
    })
  }

  const enqueueAll = Effect.fnUntraced(function* (
    drafts: ReadonlyArray<DraftCheck.Draft>,
    metadata: string | undefined
  ) {
    if (drafts.length === 0) return []
    const jobs: Array<NewJob> = []
    for (const draft of drafts) {
      const job = DraftCheck.check(draft, defaults, route, metadata)
      if (Result.isFailure(job)) return yield* job.failure
      jobs.push(job.success)
    }
    const outcomes = yield* Effect.mapError(store.enqueue(jobs), (error) => refused(jobs[0]!, error))
    const made: Array<Made> = []
    const inserted: Array<NewJob> = []
    for (let i = 0; i < jobs.length; i++) {
      const [job, outcome] = [jobs[i]!, outcomes[i]!]
      const one = answer(job, outcome)
      if (Result.isFailure(one)) return yield* one.failure
      made.push(one.success)
      if (outcome._tag === "Inserted") inserted.push(job)
    }
    count(jobs[0]!, inserted.length, jobs.length - inserted.length)
    if (inserted.length > 0) yield* publish(inserted)
    return made
  })

  const get = (id: string) =>
    Effect.flatMap(store.get([id]), ([record]) =>
      record === undefined ? Effect.fail(new JobNotFound({ id })) : Effect.succeed(record)
    )
  return {
    makeId,
    makeIds: (count) => Ids.many(makeId, count),
    enqueue: (draft) => TraceContext.producer(draft.type, (metadata) => enqueue(draft, metadata)),
    enqueueAll: (drafts) => TraceContext.producer(drafts[0]?.type ?? "", (metadata) => enqueueAll(drafts, metadata)),
    get,
    ended: (id) => Effect.andThen(refuseInTransaction("await"), Effect.andThen(waitEnded(id), get(id))),
    changes: (id) => Stream.unwrap(Effect.as(refuseInTransaction("changes"), changesOf(id, get))),
    attempts: store.attempts,
    list: store.list,
    stats: store.stats,
    cancel: (id) =>
      Effect.andThen(
        refuseInTransaction("cancel"),
        Effect.map(store.cancel([id]), ([outcome]) => outcome === "cancelled" || outcome === "requested")
      ),
    requeue: (id) =>
      Effect.andThen(
        refuseInTransaction("requeue"),
        Effect.tap(store.requeue(id), (outcome) =>
          outcome === "requeued" && broker !== undefined
            ? Effect.flatMap(store.get([id]), ([record]) =>
                record === undefined
                  ? Effect.void
                  : Effect.ignore(
                      broker.publish([
                        {
                          jobId: id,
                          queue: record.queue,
                          priority: record.priority,
                          attempt: record.attempt,
                          publication: 1
                        }
                      ]),
                      { log: "Warn" }
                    )
              )
            : Effect.void
        )
      ),
    refuseInTransaction
  }
})

/** All that a bell needs to know. */
const oneOfEachQueue = (jobs: ReadonlyArray<NewJob>): ReadonlyArray<NewJob> => {
  const first = new Map<string, NewJob>()
  for (const job of jobs) if (!first.has(job.queue)) first.set(job.queue, job)
  return [...first.values()]
}

/** Looks again in growing intervals and emits what differs from the last look. */
const changesOf = (id: string, get: (id: string) => Effect.Effect<JobRecord, JobNotFound | StoreError>) => {
  const same = (a: JobRecord | undefined, b: JobRecord) =>
    a !== undefined &&
    a.status === b.status &&
    a.attempt === b.attempt &&
    a.runAt === b.runAt &&
    a.progressAt === b.progressAt
  type Look = { readonly last: JobRecord | undefined; readonly interval: number }
  const look = ({
    interval,
    last
  }: Look): Effect.Effect<readonly [JobRecord, Option.Option<Look>], JobNotFound | StoreError> =>
    Effect.flatMap(last === undefined ? get(id) : Effect.delay(get(id), Duration.millis(interval)), (record) => {
      if (same(last, record)) return look({ last, interval: Math.min(1_000, interval * 2) })
      const hasEnded = record.status !== "queued" && record.status !== "processing"
      return Effect.succeed([record, hasEnded ? Option.none() : Option.some({ last: record, interval: 50 })] as const)
    })
  return Stream.paginate({ last: undefined, interval: 50 } as Look, (state) =>
    Effect.map(look(state), ([record, next]) => [[record], next] as const)
  )
}

/** What `layerPostgres` and `layerEmbedded` bring besides `Polyqueue`. */
export type Ports = JobStore | Broker | WorkerRegistry | Metrics

/** The client as a service. */
export class Polyqueue extends Context.Service<Polyqueue, PolyqueueService>()("polyqueue/Polyqueue") {
  /** On the four ports, each named at the edge. */
  static readonly layer: Layer.Layer<Polyqueue, never, Ports> = Layer.effect(
    Polyqueue,
    Effect.gen(function* () {
      return yield* make(yield* Broker, yield* Metrics)
    })
  )

  /** Postgres store and registry, Effect metrics, schema brought up to date (needs DDL rights only when behind); bring a broker. */
  static readonly layerPostgres: Layer.Layer<Polyqueue | Ports, StoreError, Broker | SqlClient> = Polyqueue.layer.pipe(
    Layer.provideMerge(
      Layer.mergeAll(JobStore.layerPostgres, WorkerRegistry.layerPostgres, Metrics.layerEffect, passBroker())
    ),
    Layer.provide(Migrations.layer())
  )

  /**
   * The same with the tables in another schema or under another prefix, or with other metrics (default `Metrics.layerEffect`).
   * Bind the result to a constant: two calls are two clients.
   */
  static layerPostgresWith(
    options: Migrations.NamesOptions & { readonly metrics?: Layer.Layer<Metrics> }
  ): Layer.Layer<Polyqueue | Ports, StoreError, Broker | SqlClient> {
    return Polyqueue.layer.pipe(
      Layer.provideMerge(
        Layer.mergeAll(
          JobStore.layerPostgresWith(options),
          WorkerRegistry.layerPostgresWith(options),
          options.metrics ?? Metrics.layerEffect,
          passBroker()
        )
      ),
      Layer.provide(Migrations.layer(options))
    )
  }

  /** On any store, without a broker: workers find what it enqueues by polling or relay. */
  static readonly layerWithoutBroker: Layer.Layer<Polyqueue, never, JobStore> = Layer.effect(
    Polyqueue,
    make(undefined, { enabled: false, record: () => {} })
  )

  /** Enqueue, wait and inspect only: needs no broker credentials, and no worker can stand on it. Workers find its jobs by polling or relay. */
  static readonly layerProducer: Layer.Layer<Polyqueue, StoreError, SqlClient> = Polyqueue.layerWithoutBroker.pipe(
    Layer.provide(JobStore.layerPostgres),
    Layer.provide(Migrations.layer())
  )

  /** Everything in memory, on Effect's Clock. Lost with the process. */
  static readonly layerMemory: Layer.Layer<Polyqueue | Ports> = Polyqueue.layer.pipe(
    Layer.provideMerge(
      Layer.mergeAll(JobStore.layerMemory, WorkerRegistry.layerMemory, Metrics.layerEffect, Broker.layerMemory)
    )
  )

  /**
   * Postgres inside this process (PGlite): nothing to install. Without `dataDir` it is lost with the process; with one it
   * survives a restart, and one process at a time may use the folder. `broker` defaults to the in-process one.
   */
  static layerEmbedded<E = never>(options?: {
    readonly dataDir?: string
    readonly broker?: Layer.Layer<Broker, E, SqlClient>
  }): Layer.Layer<Polyqueue | Ports | SqlClient, StoreError | E> {
    const broker: Layer.Layer<Broker, E, SqlClient> = options?.broker ?? Broker.layerMemory
    return Polyqueue.layerPostgres.pipe(
      Layer.provideMerge(broker),
      Layer.provideMerge(Pglite.layer(options?.dataDir === undefined ? {} : { dataDir: options.dataDir }))
    )
  }
}

/** Shows the broker it was given among the outputs, so that workers can stand on `layerPostgres` alone. */
function passBroker(): Layer.Layer<Broker, never, Broker> {
  return Layer.effect(
    Broker,
    Effect.map(Broker, (broker) => broker)
  )
}
