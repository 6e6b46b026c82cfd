/**
 * A job is defined once (`Job.make`), handled elsewhere (`toLayer`), and enqueued anywhere without importing handler code.
 *
 * ```ts
 * class SendEmail extends Job.make("SendEmail", {
 *   payload: { to: Schema.String },
 *   success: Schema.Struct({ messageId: Schema.String }),
 *   error: MailboxFull
 * }) {}
 *
 * const job = yield* SendEmail.enqueue({ to: "ada@example.com" })
 * const { messageId } = yield* job.await // fails with MailboxFull, or JobStopped
 * ```
 *
 * Payload, result and error are stored in encoded form (JSON) and decoded where they are read.
 */
import * as Context from "effect/Context"
import * as DateTime from "effect/DateTime"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Layer from "effect/Layer"
import * as Option from "effect/Option"
import * as Predicate from "effect/Predicate"
import * as Schema from "effect/Schema"
import type * as Scope from "effect/Scope"
import * as Stream from "effect/Stream"
import { guarded } from "./client/Guarded.ts"
import type { CurrentJob } from "./CurrentJob.ts"
import { EnqueueError, type JobNotFound, JobStopped, StoreError, type Verdict } from "./JobError.ts"
import { JobId } from "./JobId.ts"
import * as JobPolicy from "./JobPolicy.ts"
import { type Draft, Polyqueue } from "./Polyqueue.ts"
import { messageOf } from "./store/ErrorText.ts"
import type { JobRecord, Status } from "./store/JobStoreDriver.ts"

/** UUID of a job, made by the client. `Job.id("…")` reads one from a string. */
export type Id = JobId

/** What the worker must find for a job type: forgetting `toLayer` is a compile error at `Worker.layer`. */
export interface Handler<Tag extends string> {
  readonly "~polyqueue/Handler": Tag
}

/** A handler as it is stored in the context, with the services it was built with. */
export interface HandlerService {
  readonly run: (payload: unknown) => Effect.Effect<unknown, unknown, never>
  readonly context: Context.Context<never>
}

/** Options of one enqueue, also for many jobs at once. Each overrides the job's own. */
export interface SharedOptions {
  /** Not before this long from now, by the store's clock. Default: at once. */
  readonly delay?: Duration.Input
  /** Not before this instant. Wins over `delay`. */
  readonly runAt?: DateTime.Utc
  /** 0 runs first … 9 last. Default 5. */
  readonly priority?: number
  /** Default: the job's queue, else `default`. */
  readonly queue?: string
  /** For people and filters; at most 16. */
  readonly tags?: ReadonlyArray<string>
  readonly timeout?: JobPolicy.Timeout
  readonly maxAttempts?: number
}

export interface EnqueueOptions extends SharedOptions {
  /** Makes the enqueue idempotent: the same id again answers with the same job. Default: a new UUIDv7. */
  readonly id?: Id
  /** Overrides the job's `idempotencyKey`. */
  readonly idempotencyKey?: string
}

/** A job as it stands, typed. `exit` is there once it has ended. */
export interface State<A, E> {
  readonly status: Status
  readonly attempt: number
  readonly runAt: DateTime.Utc
  readonly progress: Option.Option<unknown>
  readonly exit: Option.Option<Exit.Exit<A, E | JobStopped>>
}

/** One enqueued job. Not serialisable: keep `id` and use `MyJob.handle(id)` elsewhere. */
export interface Handle<A, E, R = never> {
  readonly id: Id
  /** True when the enqueue was answered with a job that existed already (same id, or same key). */
  readonly deduplicated: boolean
  /**
   * Waits for the end: the typed result, the job's own typed error, or `JobStopped`. Works in any process. Fails at once
   * inside an open transaction (it would wait for a commit that waits for it), and with `JobNotFound` for unknown ids.
   */
  readonly await: Effect.Effect<A, E | JobStopped | JobNotFound | StoreError, Polyqueue | R>
  /** The state now. */
  readonly poll: Effect.Effect<State<A, E>, JobNotFound | StoreError, Polyqueue | R>
  /** The state now and after every change that was seen; ends with the job. Changes in between may be skipped. */
  readonly changes: Stream.Stream<State<A, E>, JobNotFound | StoreError, Polyqueue | R>
  /**
   * A queued job is cancelled at once. For a running one it is a request: its handler is interrupted at its owner's next
   * lease renewal (a third of the lease). True unless the job has ended already or does not exist. Not inside a transaction.
   */
  readonly cancel: Effect.Effect<boolean, StoreError, Polyqueue>
}

/** A definition of any kind: what lists of jobs are made of. */
export interface Any {
  readonly _tag: string
  readonly definition: Definition
}

/** What the rest of Polyqueue knows of a definition: schemas as codecs, policy as data. */
export interface Definition {
  readonly tag: string
  readonly queue: string
  readonly priority: number
  /** `undefined`: the defaults in force where it is enqueued. */
  readonly retryDelays: ReadonlyArray<number> | undefined
  readonly maxAttempts: number | undefined
  readonly schedule: JobPolicy.RetrySchedule | undefined
  readonly retryWhile: ((error: unknown) => boolean) | undefined
  readonly timeout: JobPolicy.Timeout | undefined
  readonly idempotencyKey: ((payload: unknown) => string) | undefined
  readonly keyScope: "retained" | "live"
  readonly handler: Context.Key<Handler<string>, HandlerService>
  readonly decodePayload: (json: unknown) => Effect.Effect<unknown, Schema.SchemaError>
  /** Undefined for a job without a result: there is nothing to encode. */
  readonly encodeSuccess: ((value: unknown) => Effect.Effect<unknown, Schema.SchemaError>) | undefined
  readonly encodeError: (error: unknown) => Effect.Effect<unknown, Schema.SchemaError>
  readonly isError: (error: unknown) => boolean
}

type DecodingOf<A extends Schema.Top, E extends Schema.Top> = A["DecodingServices"] | E["DecodingServices"]

/** A typed job. Made by `Job.make`; extend it with a class to give it a name. */
export interface Job<Tag extends string, P extends Schema.Top, A extends Schema.Top, E extends Schema.Top> extends Any {
  new (_: never): {}
  readonly _tag: Tag
  readonly payloadSchema: P
  readonly successSchema: A
  readonly errorSchema: E
  /**
   * Enqueues one job. Joins the caller's SQL transaction if there is one: it commits or rolls back with it. Fails with
   * `EnqueueError`, which carries the id for an idempotent retry.
   */
  enqueue(
    payload: P["~type.make.in"],
    options?: EnqueueOptions
  ): Effect.Effect<Handle<A["Type"], E["Type"], DecodingOf<A, E>>, EnqueueError, Polyqueue | P["EncodingServices"]>
  /** Enqueues many in one statement: all or none. Handles come in the order of the payloads. */
  enqueueAll(
    payloads: Iterable<P["~type.make.in"]>,
    options?: SharedOptions
  ): Effect.Effect<
    ReadonlyArray<Handle<A["Type"], E["Type"], DecodingOf<A, E>>>,
    EnqueueError,
    Polyqueue | P["EncodingServices"]
  >
  /** Enqueues and waits: a typed call that survives the caller's process. Not inside a transaction. */
  execute(
    payload: P["~type.make.in"],
    options?: EnqueueOptions
  ): Effect.Effect<
    A["Type"],
    E["Type"] | JobStopped | EnqueueError | JobNotFound | StoreError,
    Polyqueue | P["EncodingServices"] | DecodingOf<A, E>
  >
  /** The handle of a job enqueued elsewhere. Asks nothing; a wrong id shows when it is used. */
  handle(id: Id): Handle<A["Type"], E["Type"], DecodingOf<A, E>>
  /**
   * Gives the job its handler: a function, or an effect that builds one once (its services and its scope are the layer's).
   * The handler may fail with the job's own errors or with a verdict (`TerminalError`, `RetryAfter`, `Snooze`); a defect
   * counts as a failure and is retried.
   */
  toLayer<R, RX = never, EX = never>(
    build:
      | ((payload: P["Type"]) => Effect.Effect<A["Type"], E["Type"] | Verdict, R>)
      | Effect.Effect<(payload: P["Type"]) => Effect.Effect<A["Type"], E["Type"] | Verdict, R>, EX, RX>
  ): Layer.Layer<
    Handler<Tag>,
    EX,
    | Exclude<R, CurrentJob>
    | Exclude<RX, Scope.Scope>
    | P["DecodingServices"]
    | A["EncodingServices"]
    | E["EncodingServices"]
  >
}

/** Options of a definition. Everything but the schemas can be overridden per enqueue. */
export interface MakeOptions<P extends Schema.Top | Schema.Struct.Fields, A extends Schema.Top, E extends Schema.Top> {
  /** Default: no payload. */
  readonly payload?: P
  /** Default: no result. */
  readonly success?: A
  /** The job's own errors: they come back typed to whoever waits. Default: none. */
  readonly error?: E
  /** Default `default`. At most 100 characters. */
  readonly queue?: string
  /** 0 runs first … 9 last. Default 5. */
  readonly priority?: number
  readonly retry?: {
    /** Input: failures so far. Its end means give up. Default: 10 s, 60 s, 300 s with ±20 % jitter. */
    readonly schedule?: JobPolicy.RetrySchedule
    /** Which of the job's own errors are worth another attempt. Default: all. */
    readonly while?: (error: E["Type"]) => boolean
  }
  /** Default: what the schedule allows, else 3. Wins over the schedule. */
  readonly maxAttempts?: number
  /** Per attempt. Default: none. */
  readonly timeout?: JobPolicy.Timeout
  /** Two enqueues of this job with one key are one job; the payload is not compared. */
  readonly idempotencyKey?: (
    payload: P extends Schema.Struct.Fields ? Schema.Struct.Type<P> : P extends Schema.Top ? P["Type"] : never
  ) => string
  /** How long the key holds: `retained` (default) until retention removes the job, `live` until it ends. */
  readonly uniqueWhile?: "retained" | "live"
}

type PayloadOf<P extends Schema.Top | Schema.Struct.Fields> = P extends Schema.Struct.Fields
  ? Schema.Struct<P>
  : P extends Schema.Top
    ? P
    : never

const invalid = (id: string, reason: EnqueueError["reason"], message: string, cause?: unknown) =>
  new EnqueueError({ id, reason, message, ...(cause === undefined ? {} : { cause }) })

const isSuccess = <A, E>(effect: Effect.Effect<A, E>): effect is Exit.Success<A> =>
  Exit.isExit(effect) && Exit.isSuccess(effect)

interface Encoded {
  readonly value: unknown
  readonly json: unknown
}

/** Reads a job id from text: fails with a `SchemaError` when it is not a UUID. */
export const id: (text: string) => Effect.Effect<Id, Schema.SchemaError> = Schema.decodeUnknownEffect(JobId)

/** Defines a job. The tag names it in the database: changing it makes it another job. */
export const make = <
  const Tag extends string,
  P extends Schema.Top | Schema.Struct.Fields = typeof Schema.Void,
  A extends Schema.Top = typeof Schema.Void,
  E extends Schema.Top = typeof Schema.Never
>(
  tag: Tag,
  options?: MakeOptions<P, A, E>
): Job<Tag, PayloadOf<P>, A, E> => {
  const payloadSchema: Schema.Top =
    options?.payload === undefined
      ? Schema.Void
      : Schema.isSchema(options.payload)
        ? (options.payload as Schema.Top)
        : Schema.Struct(options.payload as Schema.Struct.Fields)
  const successSchema: Schema.Top = options?.success ?? Schema.Void
  const errorSchema: Schema.Top = options?.error ?? Schema.Never
  const schedule = options?.retry?.schedule
  const compiled = schedule === undefined ? undefined : JobPolicy.compile(schedule)
  const codec = {
    payload: Schema.toCodecJson(payloadSchema),
    success: Schema.toCodecJson(successSchema),
    error: Schema.toCodecJson(errorSchema)
  }
  // The services of the codecs are asked for in the public types (toLayer, enqueue, Handle) and provided there
  type Free = (value: unknown) => Effect.Effect<unknown, Schema.SchemaError>
  const decodePayload = Schema.decodeUnknownEffect(codec.payload) as Free
  // To gather all that is wrong takes a slower parser: only when something is
  const explainPayload = Schema.decodeUnknownEffect(codec.payload, { errors: "all" }) as Free
  const definition: Definition = {
    tag,
    queue: options?.queue ?? JobPolicy.defaultQueue,
    priority: options?.priority ?? JobPolicy.defaultPriority,
    retryDelays: compiled?.delays,
    maxAttempts:
      options?.maxAttempts ??
      (compiled === undefined ? undefined : (compiled.maxAttempts ?? JobPolicy.unlimitedAttempts)),
    schedule,
    retryWhile: options?.retry?.while as ((error: unknown) => boolean) | undefined,
    timeout: options?.timeout,
    idempotencyKey: options?.idempotencyKey as ((payload: unknown) => string) | undefined,
    keyScope: options?.uniqueWhile ?? "retained",
    handler: Context.Service<Handler<string>, HandlerService>(`polyqueue/Handler/${tag}`),
    decodePayload: (json) => Effect.catchEager(decodePayload(json), () => explainPayload(json)),
    encodeSuccess: options?.success === undefined ? undefined : (Schema.encodeUnknownEffect(codec.success) as Free),
    encodeError: Schema.encodeUnknownEffect(codec.error) as Free,
    isError: Schema.is(errorSchema)
  }
  const encodePayload = Schema.encodeUnknownEffect(codec.payload) as Free
  const decodeSuccess = Schema.decodeUnknownEffect(codec.success) as Free
  const decodeError = Schema.decodeUnknownEffect(codec.error) as Free

  const wrong = (jobId: string, what: string, error: { readonly message: string } | string) =>
    invalid(
      jobId,
      "InvalidPayload",
      `${tag}: payload${typeof error === "string" ? " cannot be read" : what}: ${messageOf(error)}`
    )

  const encodeMade = (jobId: string, value: unknown): Effect.Effect<Encoded, EnqueueError> => {
    const json = guarded(() => encodePayload(value))
    return isSuccess(json)
      ? Effect.succeed({ value, json: json.value })
      : Effect.mapBoth(json, {
          onFailure: (error) => wrong(jobId, " does not encode", error),
          onSuccess: (json) => ({ value, json })
        })
  }

  /** The payload, made and encoded: on the spot unless its schema has to ask somebody. */
  const encode = (jobId: string, input: unknown): Effect.Effect<Encoded, EnqueueError> => {
    const made = guarded(() => payloadSchema.makeEffect(input as never))
    return isSuccess(made)
      ? encodeMade(jobId, made.value)
      : Effect.flatMap(
          Effect.mapError(made, (issue) =>
            wrong(jobId, "", typeof issue === "string" ? issue : new Schema.SchemaError(issue))
          ),
          (value) => encodeMade(jobId, value)
        )
  }

  const draftOf = (jobId: string, payload: Encoded, own: EnqueueOptions | undefined): Draft => {
    const key = own?.idempotencyKey ?? definition.idempotencyKey?.(payload.value)
    const timeout = own?.timeout ?? definition.timeout
    return {
      id: jobId,
      freshId: own?.id === undefined,
      type: tag,
      queue: own?.queue ?? definition.queue,
      priority: own?.priority ?? definition.priority,
      delay: own?.delay === undefined ? 0 : Duration.toMillis(own.delay),
      runAt: own?.runAt === undefined ? undefined : DateTime.toEpochMillis(own.runAt),
      payload: payload.json,
      maxAttempts: own?.maxAttempts ?? definition.maxAttempts,
      retryDelays: definition.retryDelays,
      timeout: timeout === undefined ? undefined : Duration.toMillis(timeout.after),
      timeoutThen: timeout === undefined ? undefined : (timeout.then ?? "retry"),
      key,
      keyScope: definition.keyScope,
      tags: own?.tags ?? []
    }
  }

  const exitOf = (record: JobRecord): Effect.Effect<Exit.Exit<unknown, unknown>, StoreError> => {
    const undecodable = (what: string) => (error: Schema.SchemaError) =>
      new StoreError({
        reason: "Undecodable",
        operation: "read",
        message: `${tag} ${record.id}: the stored ${what} does not fit the job's schema: ${error.message}`
      })
    const stored = record.error
    if (record.status === "succeeded") {
      return Effect.mapBoth(decodeSuccess(record.result), { onFailure: undecodable("result"), onSuccess: Exit.succeed })
    }
    if (record.status === "failed" && stored?.code === "error" && stored.value !== undefined) {
      return Effect.mapBoth(decodeError(JSON.parse(stored.value)), {
        onFailure: undecodable("error"),
        onSuccess: Exit.fail
      })
    }
    const reason =
      record.status === "cancelled"
        ? "cancelled"
        : stored === undefined || stored.code === "error"
          ? "defect"
          : stored.code === "retryAfter"
            ? "terminal"
            : stored.code === "crashed"
              ? "poison"
              : stored.code
    return Effect.succeed(
      Exit.fail(new JobStopped({ id: record.id, reason, message: stored?.message ?? `the job was ${record.status}` }))
    )
  }

  const stateOf = (record: JobRecord): Effect.Effect<State<unknown, unknown>, StoreError> => {
    const hasEnded = record.status !== "queued" && record.status !== "processing"
    return Effect.map(
      hasEnded ? Effect.asSome(exitOf(record)) : Effect.succeedNone,
      (exit): State<unknown, unknown> => ({
        status: record.status,
        attempt: record.attempt,
        runAt: DateTime.makeUnsafe(record.runAt),
        progress: Option.fromNullishOr(record.progress),
        exit: exit as State<unknown, unknown>["exit"]
      })
    )
  }

  /** Made for every job of a batch, and mostly thrown away: what it can do is made when it is asked for. */
  class JobHandle implements Handle<unknown, unknown> {
    readonly id: Id
    readonly deduplicated: boolean

    constructor(jobId: Id, deduplicated: boolean) {
      this.id = jobId
      this.deduplicated = deduplicated
    }

    get await() {
      return Effect.flatMap(
        Polyqueue.use((queue) => queue.ended(this.id)),
        (record) => Effect.flatten(exitOf(record))
      )
    }

    get poll() {
      return Effect.flatMap(
        Polyqueue.use((queue) => queue.get(this.id)),
        stateOf
      )
    }

    get changes() {
      return Stream.unwrap(Polyqueue.useSync((queue) => Stream.mapEffect(queue.changes(this.id), stateOf)))
    }

    get cancel() {
      return Polyqueue.use((queue) => queue.cancel(this.id))
    }
  }

  const enqueue = Effect.fnUntraced(function* (input: unknown, own?: EnqueueOptions) {
    const queue = yield* Polyqueue
    const jobId = own?.id ?? (yield* queue.makeId)
    const payload = encode(jobId, input)
    const made = yield* queue.enqueue(draftOf(jobId, isSuccess(payload) ? payload.value : yield* payload, own))
    return new JobHandle(made.id, made.deduplicated)
  })

  const self = Object.assign(function () {}, {
    _tag: tag,
    definition,
    payloadSchema,
    successSchema,
    errorSchema,
    handle: (jobId: Id) => new JobHandle(jobId, false),
    enqueue,
    enqueueAll: Effect.fnUntraced(function* (inputs: Iterable<unknown>, own?: SharedOptions) {
      const queue = yield* Polyqueue
      const payloads = Array.from(inputs)
      const ids = yield* queue.makeIds(payloads.length)
      const drafts: Array<Draft> = []
      for (let i = 0; i < payloads.length; i++) {
        const payload = encode(ids[i]!, payloads[i])
        drafts.push(draftOf(ids[i]!, isSuccess(payload) ? payload.value : yield* payload, own))
      }
      const made = yield* queue.enqueueAll(drafts)
      return made.map((one) => new JobHandle(one.id, one.deduplicated))
    }),
    execute: (input: unknown, own?: EnqueueOptions) =>
      Effect.flatMap(
        Polyqueue.use((queue) => queue.refuseInTransaction(`${tag}.execute`)),
        () => Effect.flatMap(enqueue(input, own), (made) => made.await)
      ),
    toLayer: (build: unknown) =>
      Layer.effect(
        definition.handler,
        Effect.gen(function* () {
          const context = yield* Effect.context<never>()
          const run = (Effect.isEffect(build) ? yield* build as Effect.Effect<unknown> : build) as HandlerService["run"]
          return { run, context }
        })
      )
  })
  // The one place where the untyped implementation meets the typed surface
  return self as unknown as Job<Tag, PayloadOf<P>, A, E>
}

/** True for values made by `Job.make`. */
export const isJob = (value: unknown): value is Any =>
  Predicate.isFunction(value) && "definition" in value && "_tag" in value
