/**
 * One run of one job: decode the payload, run the handler, encode the result; and, when that did not succeed, what it
 * means for the job. Every exit ends in exactly one settlement.
 */
import * as Cause from "effect/Cause"
import * as Data from "effect/Data"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Result from "effect/Result"
import type * as Schema from "effect/Schema"
import { guarded } from "../client/Guarded.ts"
import * as TraceContext from "../client/TraceContext.ts"
import { RetryAfter, Snooze, type StopReason, TerminalError } from "../JobError.ts"
import * as JobPolicy from "../JobPolicy.ts"
import type { Settlement, StoredError } from "../store/JobStoreDriver.ts"
import { messageOf, stackOf } from "../store/ErrorText.ts"
import * as JsonText from "../store/JsonText.ts"
import { type Held, leaseOf } from "./Held.ts"

/** The payload or the result does not fit: nothing another attempt could change. */
class Misfit extends Data.TaggedError("Misfit")<{
  readonly reason: "undecodable" | "resultInvalid"
  readonly message: string
}> {}

const minSnooze = 1_000
const maxDelay = 10 * 366 * 86_400_000
const maxMessage = 2_000
const maxStack = 16_000

/**
 * Runs the attempt. Succeeds with the result as JSON text. What need not wait (decoding and encoding by schemas that ask
 * nobody) is done on the spot, inside the attempt's fiber.
 */
export const run = (held: Held, maxResultBytes: number): Effect.Effect<string, unknown> => {
  const { definition, handler, job } = held
  const { encodeSuccess } = definition
  const encode =
    encodeSuccess === undefined
      ? () => noResult
      : (value: unknown) =>
          encodeResult(
            guarded(() => encodeSuccess(value)),
            maxResultBytes
          )
  const make = () => {
    const decoded = Effect.mapErrorEager(
      definition.decodePayload(job.payload),
      (error) => new Misfit({ reason: "undecodable", message: `the payload does not decode: ${error.message}` })
    )
    return Effect.flatMapEager(Effect.flatMapEager(decoded, handler.run), encode)
  }
  return TraceContext.consumer(job, make, (traceparent) => {
    held.trace = traceparent
  })
}

const noResult = Effect.succeed("null")

const encodeResult = (
  encoded: Effect.Effect<unknown, Schema.SchemaError | string>,
  maxBytes: number
): Effect.Effect<string, Misfit> => {
  const invalid = (message: string) =>
    new Misfit({ reason: "resultInvalid", message: `the result cannot be stored: ${message}` })
  return Effect.flatMapEager(
    Effect.mapErrorEager(encoded, (error) => invalid(typeof error === "string" ? error : error.message)),
    (json) => {
      const text = JsonText.encode(json, maxBytes)
      return Result.isSuccess(text) ? Effect.succeed(text.success) : Effect.fail(invalid(text.failure.message))
    }
  )
}

/**
 * The settlement of an attempt that did not succeed. Whatever it failed with and whatever its policy does, it counts: an
 * attempt that could not be judged and was given back would come again, and again, without end.
 */
export const settlementOf = (
  held: Held,
  cause: Cause.Cause<unknown>,
  defaults: JobPolicy.Defaults
): Effect.Effect<Settlement> =>
  Effect.catchDefect(judge(held, cause, defaults), (defect) =>
    Effect.map(JobPolicy.delayFromList(defaults.retryDelays, held.job.failures + 1), (delay): Settlement => ({
      ...leaseOf(held),
      _tag: "Failed",
      error: {
        code: "defect",
        message: JsonText.sanitize(`what it failed with cannot be judged: ${messageOf(defect)}`, maxMessage),
        stack: JsonText.sanitize(stackOf(cause), maxStack)
      },
      retryIn: held.job.failures + 1 < held.job.maxAttempts ? delay : undefined
    }))
  )

const judge = Effect.fnUntraced(function* (
  held: Held,
  cause: Cause.Cause<unknown>,
  defaults: JobPolicy.Defaults
): Effect.fn.Return<Settlement> {
  const { definition, job } = held
  const lease = leaseOf(held)
  const failures = job.failures + 1
  const hasBudget = failures < job.maxAttempts
  const stack = () => JsonText.sanitize(stackOf(cause), maxStack)

  const policyDelay =
    definition.schedule === undefined
      ? JobPolicy.delayFromList(definition.retryDelays ?? defaults.retryDelays, failures)
      : JobPolicy.delayAfter(definition.schedule, failures)
  const failed = (
    code: StoredError["code"],
    message: string,
    retryIn: number | undefined,
    value?: string
  ): Settlement => ({
    ...lease,
    _tag: "Failed",
    error: { code, message: JsonText.sanitize(message, maxMessage), value, stack: stack(), trace: held.trace },
    retryIn: retryIn === undefined ? undefined : Math.min(maxDelay, Math.max(0, Math.round(retryIn)))
  })
  const giveUp = (code: StopReason, message: string) => failed(code, message, undefined)
  const retry = Effect.fnUntraced(function* (code: "error" | "defect" | "timedOut", message: string, value?: string) {
    return failed(code, message, hasBudget ? yield* policyDelay : undefined, value)
  })

  const failure = cause.reasons.find(Cause.isFailReason)
  const defect = cause.reasons.find(Cause.isDieReason)
  switch (held.interruption) {
    case "cancelled":
      return { ...lease, _tag: "Cancelled" }
    case "timedOut": {
      const message = `timed out after ${Duration.format(Duration.millis(job.timeout ?? 0))}`
      return job.timeoutThen === "fail" ? giveUp("timedOut", message) : yield* retry("timedOut", message)
    }
    case "shutdown":
    case "leaseLost":
      // A failure of its own still counts; only being stopped is free
      if (failure === undefined && defect === undefined) return { ...lease, _tag: "Released" }
      break
  }
  if (failure !== undefined) {
    const error = failure.error
    if (error instanceof TerminalError) return giveUp("terminal", messageOf(error))
    if (error instanceof Misfit) return giveUp(error.reason, error.message)
    if (error instanceof RetryAfter) {
      return failed("retryAfter", error.message, hasBudget ? millis(error.delay) : undefined)
    }
    if (error instanceof Snooze) {
      return job.snoozes < job.maxSnoozes
        ? { ...lease, _tag: "Snoozed", delay: Math.min(maxDelay, Math.max(minSnooze, Math.round(millis(error.delay)))) }
        : giveUp("snoozedTooOften", `snoozed ${job.snoozes} times`)
    }
    return yield* typedFailure(held, error, defaults.maxResultBytes).pipe(
      Effect.flatMap(({ final, message, value }) =>
        final ? Effect.succeed(failed("error", message, undefined, value)) : retry("error", message, value)
      ),
      Effect.catch((problem) => retry("defect", problem))
    )
  }
  if (defect !== undefined) return yield* retry("defect", messageOf(defect.defect))
  return yield* retry("defect", "the handler was interrupted, and not by its worker")
})

/** One of the job's own errors, encoded. Fails with a sentence when it is none, or does not encode. */
const typedFailure = Effect.fnUntraced(function* (
  held: Held,
  error: unknown,
  maxBytes: number
): Effect.fn.Return<{ readonly final: boolean; readonly message: string; readonly value: string }, string> {
  const { definition } = held
  if (!definition.isError(error)) {
    return yield* Effect.fail(`failed with something that is not an error of this job: ${messageOf(error)}`)
  }
  const json = yield* definition.encodeError(error).pipe(
    Effect.mapError((problem) => `its error does not encode: ${problem.message}`),
    Effect.catchDefect((defect) => Effect.fail(`its error does not encode: ${messageOf(defect)}`))
  )
  const text = JsonText.encode(json, maxBytes)
  if (Result.isFailure(text)) return yield* Effect.fail(`its error cannot be stored: ${text.failure.message}`)
  const final = yield* Effect.try({
    try: () => definition.retryWhile !== undefined && !definition.retryWhile(error),
    catch: (thrown) => `retry.while threw: ${messageOf(thrown)}`
  })
  return { final, message: messageOf(error), value: text.success }
})

const millis = (delay: Duration.Input): number => Math.max(0, Duration.toMillis(delay))
