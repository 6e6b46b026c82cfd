/**
 * A job on its way in, as the typed side hands it over, and the check that makes it storable: every option in range, the
 * payload as JSON text that Postgres accepts. What is wrong is said before any statement, with the name of the option.
 */
import * as Result from "effect/Result"
import { EnqueueError } from "../JobError.ts"
import type { Defaults } from "../JobPolicy.ts"
import type { NewJob, TimeoutThen } from "../store/JobStoreDriver.ts"
import * as JsonText from "../store/JsonText.ts"

/** A job with its payload encoded as a JSON value. `undefined` options take the defaults in force. */
export interface Draft {
  readonly id: string
  readonly freshId: boolean
  readonly type: string
  readonly queue: string
  readonly priority: number
  readonly delay: number
  readonly runAt: number | undefined
  readonly payload: unknown
  readonly maxAttempts: number | undefined
  readonly retryDelays: ReadonlyArray<number> | undefined
  readonly timeout: number | undefined
  readonly timeoutThen: TimeoutThen | undefined
  readonly key: string | undefined
  readonly keyScope: "retained" | "live"
  readonly tags: ReadonlyArray<string>
}

const uuid = /^[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}$/
/** The most characters that the name of a job type, queue or tag may have. */
export const maxName = 100
const maxKey = 500
const maxTags = 16
/** Ten years: a larger delay is a mistake in units. */
const maxDelay = 10 * 366 * 86_400_000

const isText = (text: string, max: number) =>
  text.length > 0 && text.length <= max && text.isWellFormed() && !text.includes("\u0000")

/** Control characters and line separators: a name is put into log lines, metrics and terminals. */
const control = /[\p{Cc}\p{Zl}\p{Zp}]/u
/** Whether this may be the name of something: 1 to `max` characters that forge no line and no sequence of a terminal. */
export const isName = (text: string, max: number): boolean => isText(text, max) && !control.test(text)

const problemOf = (draft: Draft): string | undefined => {
  if (!draft.freshId && !uuid.test(draft.id)) return `id must be a UUID in lower case, not ${JSON.stringify(draft.id)}`
  if (!isName(draft.type, maxName))
    return `the job's tag must be 1 to ${maxName} characters, none of them a control character`
  if (!isName(draft.queue, maxName)) return `queue must be 1 to ${maxName} characters, none of them a control character`
  if (!Number.isInteger(draft.priority) || draft.priority < 0 || draft.priority > 9) {
    return `priority must be a whole number from 0 (runs first) to 9, not ${draft.priority}`
  }
  if (!(draft.delay >= 0 && draft.delay <= maxDelay))
    return `delay must be between 0 and 10 years, not ${draft.delay} ms`
  if (draft.runAt !== undefined && !Number.isFinite(draft.runAt)) return "runAt must be a valid instant"
  if (draft.maxAttempts !== undefined && !(Number.isInteger(draft.maxAttempts) && draft.maxAttempts >= 1)) {
    return `maxAttempts must be a whole number of at least 1, not ${draft.maxAttempts}`
  }
  if (draft.timeout !== undefined && !(draft.timeout > 0 && draft.timeout <= maxDelay)) {
    return `timeout.after must be positive and finite, not ${draft.timeout} ms`
  }
  if (draft.key !== undefined && !isText(draft.key, maxKey))
    return `the idempotency key must be 1 to ${maxKey} characters`
  if (draft.tags.length > maxTags || !draft.tags.every((tag) => isName(tag, maxName))) {
    return `tags: at most ${maxTags}, each 1 to ${maxName} characters, none of them a control character`
  }
  return undefined
}

/** What a client adds to every job. */
export interface Route {
  /** Whether it publishes hints. */
  readonly hinted: boolean
  /** How long the relay leaves them to it. */
  readonly publishIn: number
}

/**
 * The job as it will be stored, or the error to answer with. Written out, not copied and completed: a spread of an object
 * this wide is slow to make and slow to read ever after.
 */
export const check = (
  draft: Draft,
  defaults: Defaults,
  route: Route,
  metadata: string | undefined
): Result.Result<NewJob, EnqueueError> => {
  const problem = problemOf(draft)
  if (problem !== undefined) {
    return Result.fail(
      new EnqueueError({ id: draft.id, reason: "InvalidOptions", message: `${draft.type}: ${problem}` })
    )
  }
  const payload = JsonText.encode(draft.payload, defaults.maxPayloadBytes)
  if (Result.isFailure(payload)) {
    return Result.fail(
      new EnqueueError({
        id: draft.id,
        reason: payload.failure._tag === "TooLarge" ? "PayloadTooLarge" : "InvalidPayload",
        message: `${draft.type}: the payload cannot be stored: ${payload.failure.message}`
      })
    )
  }
  const timeout = draft.timeout ?? defaults.timeout
  const delay = Math.round(draft.delay)
  return Result.succeed({
    id: draft.id,
    freshId: draft.freshId,
    type: draft.type,
    queue: draft.queue,
    priority: draft.priority,
    delay,
    runAt: draft.runAt,
    payload: payload.success,
    maxAttempts: draft.maxAttempts ?? defaults.maxAttempts,
    maxCrashes: defaults.maxCrashes,
    maxSnoozes: defaults.maxSnoozes,
    retryDelays: draft.retryDelays ?? defaults.retryDelays,
    timeout: timeout === undefined ? undefined : Math.max(1, Math.round(timeout)),
    timeoutThen: draft.timeoutThen ?? defaults.timeoutThen,
    key: draft.key,
    keyScope: draft.keyScope,
    tags: draft.tags,
    metadata,
    hinted: route.hinted,
    publishIn: delay <= 0 && draft.runAt === undefined ? route.publishIn : 0
  })
}
