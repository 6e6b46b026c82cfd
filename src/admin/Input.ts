/** What people ask of the control plane, checked and in the store's units. Nothing is asked of the store before. */
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import { AdminError } from "../JobError.ts"
import type { By, JobFilter, Status } from "../store/JobStoreDriver.ts"
import type { Where } from "./AdminService.ts"

/** An error about what was asked. */
export const invalid = (message: string): AdminError => new AdminError({ reason: "InvalidInput", message })

const uuid = /^[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}$/

/** The id as it is stored: a UUID in lower case. `what` it is the id of: by default a job. */
export const idOf = (id: string, what = "a job"): Effect.Effect<string, AdminError> => {
  const lower = id.toLowerCase()
  return uuid.test(lower)
    ? Effect.succeed(lower)
    : Effect.fail(invalid(`${JSON.stringify(id)} is not the id of ${what}: it must be a UUID`))
}

/** Milliseconds of a duration that is finite and not negative. */
export const millisOf = (what: string, input: Duration.Input): Effect.Effect<number, AdminError> => {
  const millis = Option.map(Duration.fromInput(input), Duration.toMillis)
  return Option.isSome(millis) && millis.value >= 0 && Number.isFinite(millis.value)
    ? Effect.succeed(millis.value)
    : Effect.fail(invalid(`${what} must be a finite duration, such as "5 minutes"`))
}

/** A whole number in a range. */
export const wholeOf = (what: string, value: number, least: number, most: number): Effect.Effect<number, AdminError> =>
  Number.isInteger(value) && value >= least && value <= most
    ? Effect.succeed(value)
    : Effect.fail(invalid(`${what} must be a whole number from ${least} to ${most}, not ${value}`))

const maxWho = 255
const maxReason = 2_000

/** Who and why, and nothing else that came with them. */
export const byOf = ({ reason, who }: By): Effect.Effect<By, AdminError> => {
  if (who.length === 0 || who.length > maxWho) {
    return Effect.fail(invalid(`who must have 1 to ${maxWho} characters: the audit log names who did it`))
  }
  if (reason !== undefined && reason.length > maxReason) {
    return Effect.fail(invalid(`reason must have at most ${maxReason} characters, not ${reason.length}`))
  }
  return Effect.succeed({ who, reason })
}

/** A name that a job, a queue or a worker can have. */
export const nameOf = (what: string, name: string): Effect.Effect<string, AdminError> =>
  name.length > 0 && name.length <= 255
    ? Effect.succeed(name)
    : Effect.fail(invalid(`${what} must have 1 to 255 characters`))

/** The filter of a `where`. */
export const filterOf = Effect.fnUntraced(function* (where: Where): Effect.fn.Return<JobFilter, AdminError> {
  const age = (what: "olderThan" | "newerThan" | "endedFor" | "staleProgress") =>
    where[what] === undefined ? Effect.undefined : millisOf(what, where[what])
  const { cancelRequested, errorCode, queue, status, tag, timedOut, type, worker } = where
  return {
    status: status === undefined ? undefined : typeof status === "string" ? [status] : status,
    type,
    queue,
    tag,
    worker,
    errorCode,
    timedOut,
    cancelRequested,
    olderThan: yield* age("olderThan"),
    newerThan: yield* age("newerThan"),
    endedFor: yield* age("endedFor"),
    staleProgress: yield* age("staleProgress")
  }
})

/** The same filter, for these statuses only. */
export const among = (filter: JobFilter, statuses: ReadonlyArray<Status>): JobFilter => ({
  ...filter,
  status: filter.status === undefined ? statuses : statuses.filter((status) => filter.status?.includes(status))
})
