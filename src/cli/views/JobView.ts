/**
 * Jobs as the CLI shows them: a row of a list, one job in detail, and both as JSON. Payload and result are shown only when
 * asked for, since they may hold what nobody at a terminal should read by accident.
 */
import type { JobRecord, JobSummary } from "../../store/JobStoreDriver.ts"
import * as Output from "../Output.ts"
import * as Spans from "../Spans.ts"
import { ofStatus, type Style } from "../Style.ts"
import type { Column } from "../Table.ts"

/** What a job is waiting for or how long it took, in a few words. */
export const timing = (job: JobSummary | JobRecord, now: number): string => {
  switch (job.status) {
    case "queued":
      return job.runAt > now ? `due in ${Spans.show(job.runAt - now)}` : `due ${Spans.ago(job.runAt, now)}`
    case "processing": {
      const started = job.startedAt ?? now
      const late = job.timeoutAt !== undefined && job.timeoutAt < now
      const asked = job.cancelRequestedAt === undefined ? "" : ", asked to stop"
      return `for ${Spans.show(Math.max(0, now - started))}${late ? ", past its timeout" : ""}${asked}`
    }
    default:
      return job.finishedAt === undefined ? "-" : Spans.ago(job.finishedAt, now)
  }
}

/** The columns of a list of jobs at the store's `now`. */
export const columns =
  (now: number) =>
  (style: Style): ReadonlyArray<Column<JobSummary>> => [
    { title: "ID", cell: (job) => job.id },
    { title: "TYPE", cell: (job) => job.type, flexible: true },
    { title: "QUEUE", cell: (job) => job.queue, flexible: true },
    { title: "STATUS", cell: (job) => job.status, paint: (job) => ofStatus(style, job.status) },
    { title: "ATTEMPT", cell: (job) => job.attempt, align: "right" },
    { title: "AGE", cell: (job) => Spans.show(Math.max(0, now - job.enqueuedAt)), align: "right" },
    { title: "WHEN", cell: (job) => timing(job, now) },
    {
      title: "ERROR",
      cell: (job) => (job.error === undefined ? undefined : `${job.error.code}: ${job.error.message}`),
      flexible: true
    }
  ]

/** A job of a list as JSON. */
export const toJson = (job: JobSummary) => ({
  id: job.id,
  type: job.type,
  queue: job.queue,
  status: job.status,
  priority: job.priority,
  attempt: job.attempt,
  failures: job.failures,
  crashes: job.crashes,
  interruptions: job.interruptions,
  snoozes: job.snoozes,
  maxAttempts: job.maxAttempts,
  maxCrashes: job.maxCrashes,
  key: job.key ?? null,
  tags: job.tags,
  timeout: job.timeout ?? null,
  timeoutThen: job.timeoutThen,
  worker: job.worker ?? null,
  enqueuedAt: Output.instant(job.enqueuedAt),
  runAt: Output.instant(job.runAt),
  startedAt: Output.instant(job.startedAt),
  progressAt: Output.instant(job.progressAt),
  leaseExpiresAt: Output.instant(job.leaseExpiresAt),
  timeoutAt: Output.instant(job.timeoutAt),
  overranAt: Output.instant(job.overranAt),
  cancelRequestedAt: Output.instant(job.cancelRequestedAt),
  finishedAt: Output.instant(job.finishedAt),
  error: job.error === undefined ? null : { code: job.error.code, message: job.error.message }
})

/** Whether payload, result and progress are shown. */
export interface DetailOptions {
  readonly now: number
  readonly withPayload: boolean
}

/** One job as JSON. */
export const detailToJson = (job: JobRecord, { withPayload }: DetailOptions) => ({
  ...toJson(job),
  error: job.error === undefined ? null : { ...job.error, value: withPayload ? (job.error.value ?? null) : undefined },
  metadata: job.metadata ?? null,
  fence: job.fence,
  publishAt: Output.instant(job.publishAt),
  ...(withPayload ? { payload: job.payload ?? null, result: job.result ?? null, progress: job.progress ?? null } : {})
})

const size = (value: unknown): string => Spans.bytes(Buffer.byteLength(JSON.stringify(value) ?? ""))

const pretty = (value: unknown): string => JSON.stringify(value, null, 2) ?? "-"

const counters = (job: JobRecord): string =>
  [
    `${job.failures} failed of ${job.maxAttempts > 1_000_000_000 ? "any number" : job.maxAttempts}`,
    `${job.crashes} crashed of ${job.maxCrashes}`,
    `${job.interruptions} interrupted`,
    `${job.snoozes} snoozed`
  ].join(", ")

/** One job as names and values. */
export const pairs =
  (job: JobRecord, { now, withPayload }: DetailOptions) =>
  (style: Style) => {
    const at = (instant: number | undefined): string | undefined =>
      instant === undefined ? undefined : `${Output.instant(instant) ?? "-"} (${Spans.ago(instant, now)})`
    const data = (value: unknown): string | undefined =>
      value === undefined ? undefined : withPayload ? pretty(value) : `${size(value)}, shown with --payload`
    return [
      ["id", job.id],
      ["type", job.type],
      ["queue", job.queue],
      ["status", `${job.status}, ${timing(job, now)}`, ofStatus(style, job.status)],
      ["priority", String(job.priority)],
      ["attempt", `${job.attempt}: ${counters(job)}`],
      ["enqueued", at(job.enqueuedAt)],
      ["due", job.status === "queued" ? at(job.runAt) : undefined],
      ["hint due", at(job.publishAt)],
      ["started", at(job.startedAt)],
      ["finished", at(job.finishedAt)],
      ["worker", job.worker],
      ["lease ends", at(job.leaseExpiresAt)],
      ["timeout", job.timeout === undefined ? undefined : `${Spans.show(job.timeout)}, then ${job.timeoutThen}`],
      ["times out", at(job.timeoutAt)],
      ["overran", at(job.overranAt)],
      ["progress at", at(job.progressAt)],
      ["progress", data(job.progress)],
      ["cancel asked", at(job.cancelRequestedAt)],
      ["key", job.key],
      ["tags", job.tags.length === 0 ? undefined : job.tags.join(", ")],
      ["payload", data(job.payload)],
      ["result", job.status === "succeeded" ? data(job.result) : undefined],
      ["error", job.error === undefined ? undefined : `${job.error.code}: ${job.error.message}`, style.bad],
      ["error value", job.error?.value === undefined || !withPayload ? undefined : job.error.value],
      ["stack", job.error?.stack, style.faint]
    ] as const
  }
