/**
 * Which jobs: the flags that `inspect jobs` and the bulk actions share. All that is said must hold. Lengths of time are
 * written as 30s, 5m, 1h, 7d.
 */
import * as Flag from "effect/cli/Flag"
import * as Effect from "effect/Effect"
import * as CliError from "effect/cli/CliError"
import * as Option from "effect/Option"
import type { Where } from "../admin/AdminService.ts"
import type { Status } from "../store/JobStoreDriver.ts"
import * as Arguments from "./Arguments.ts"
import * as Spans from "./Spans.ts"

const statuses: ReadonlyArray<Status> = ["queued", "processing", "succeeded", "failed", "cancelled"]
const isStatus = (text: string): text is Status => statuses.some((status) => status === text)

const status = Flag.String("status").pipe(
  Flag.withAlias("s"),
  Flag.withMetavar("STATUS[,…]"),
  Flag.withDescription(`One or more of ${statuses.join(", ")}`),
  Flag.mapEffect((text) =>
    Effect.forEach(text.split(","), (part) =>
      isStatus(part.trim())
        ? Effect.succeed(part.trim() as Status)
        : Effect.fail(
            new CliError.InvalidValue({ option: "status", value: text, expected: statuses.join(", "), kind: "flag" })
          )
    )
  ),
  Flag.optional
)

const text = (name: string, description: string) =>
  Flag.String(name).pipe(Flag.withDescription(description), Flag.optional)

const span = (name: string, description: string) =>
  Flag.String(name).pipe(
    Flag.withMetavar("SPAN"),
    Flag.withDescription(description),
    Flag.mapEffect((value) => Arguments.span(`--${name}`, value)),
    Flag.optional
  )

/** The flags, to be spread into a command's configuration. */
export const flags = {
  status,
  type: text("type", "Job type").pipe(Flag.withAlias("t")),
  queue: text("queue", "Queue").pipe(Flag.withAlias("q")),
  tag: text("tag", "Has this tag"),
  worker: text("worker", "Is being run by the worker of this id"),
  error: text("error", "Code of its last error: error, timedOut, poison, defect, …"),
  olderThan: span("older-than", "Enqueued at least this long ago"),
  newerThan: span("newer-than", "Enqueued less than this long ago"),
  endedFor: span("ended-for", "Ended at least this long ago"),
  staleProgress: span("stale-progress", "Running, without a sign of progress for this long"),
  timedOut: Flag.Boolean("timed-out").pipe(
    Flag.withDescription("Running, and past its timeout"),
    Flag.withoutNegation,
    Flag.withDefault(false)
  )
}

/** What the flags parse to. */
export interface Parsed {
  readonly status: Option.Option<ReadonlyArray<Status>>
  readonly type: Option.Option<string>
  readonly queue: Option.Option<string>
  readonly tag: Option.Option<string>
  readonly worker: Option.Option<string>
  readonly error: Option.Option<string>
  readonly olderThan: Option.Option<number>
  readonly newerThan: Option.Option<number>
  readonly endedFor: Option.Option<number>
  readonly staleProgress: Option.Option<number>
  readonly timedOut: boolean
}

/** The filter they say. */
export const toWhere = (parsed: Parsed): Where => ({
  status: Option.getOrUndefined(parsed.status),
  type: Option.getOrUndefined(parsed.type),
  queue: Option.getOrUndefined(parsed.queue),
  tag: Option.getOrUndefined(parsed.tag),
  worker: Option.getOrUndefined(parsed.worker),
  errorCode: Option.getOrUndefined(parsed.error),
  olderThan: Option.getOrUndefined(parsed.olderThan),
  newerThan: Option.getOrUndefined(parsed.newerThan),
  endedFor: Option.getOrUndefined(parsed.endedFor),
  staleProgress: Option.getOrUndefined(parsed.staleProgress),
  timedOut: parsed.timedOut ? true : undefined
})

/** Whether anything was said at all. */
export const isEmpty = (parsed: Parsed): boolean => Object.values(toWhere(parsed)).every((value) => value === undefined)

const flagOf = (name: string): string => `--${name.replace(/[A-Z]/g, (letter) => `-${letter.toLowerCase()}`)}`

/** The filter as it was said, for questions and empty answers. */
export const describe = (parsed: Parsed): string => {
  const said = Object.entries(parsed).flatMap(([name, value]) => {
    if (value === true) return [flagOf(name)]
    if (!Option.isOption(value) || Option.isNone(value)) return []
    const text = typeof value.value === "number" ? Spans.show(value.value).replaceAll(" ", "") : String(value.value)
    return [`${flagOf(name)} ${text}`]
  })
  return said.length === 0 ? "no filter" : said.join(" ")
}
