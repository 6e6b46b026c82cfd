/**
 * What must hold when a run is over: nothing lost, nothing unexpected, rows and log tell the story that was recorded, and
 * whatever happened more than once, or did not end as it should, is explained by a fault that was injected.
 */
import type { AttemptOutcome, AttemptRecord, JobRecord } from "../../store/JobStoreDriver.ts"
import { type Attempt, type History, isEnd, type JobHistory, name } from "./History.ts"

/** The store at the end. */
export interface Rows {
  readonly row: (id: string) => JobRecord | undefined
  readonly log: (id: string) => ReadonlyArray<AttemptRecord>
}

/** Adds what is wrong to the history. `mustEnd`: every job had the time to end. */
export const check = (history: History, { log, row }: Rows, mustEnd: boolean): void => {
  for (const job of history.jobs.values()) {
    const record = row(job.job.id)
    const attempts = log(job.job.id)
    checkLog(history, job, attempts)
    if (record !== undefined) {
      checkRow(history, job, record, attempts)
      checkBudgets(history, job, record)
    } else if (!job.isGone) history.violate("nothing is lost", `${name(job.job)} is gone`)
    for (const attempt of job.attempts) checkExplained(history, job, attempt)
    if (mustEnd && !isEnd(job.status)) {
      history.violate("everything ends", `${name(job.job)} is ${job.status} after attempt ${job.attempts.length}`)
    }
  }
}

/** The log has every attempt that ended, and nothing else. */
const checkLog = (history: History, job: JobHistory, log: ReadonlyArray<AttemptRecord>): void => {
  const ended = job.attempts.filter(({ outcome }) => outcome !== undefined)
  const told = (attempts: ReadonlyArray<{ attempt: number; outcome: AttemptOutcome | undefined; claim: string }>) =>
    attempts.map(({ attempt, claim, outcome }) => `${attempt} ${outcome} ${claim}`).join(", ")
  if (told(log) !== told(ended)) {
    history.violate("rows tell what happened", `the log of ${name(job.job)}: ${told(log)}, not ${told(ended)}`)
  }
}

/** Row, log and history agree; the counters are what the log says. */
const checkRow = (history: History, job: JobHistory, row: JobRecord, all: ReadonlyArray<AttemptRecord>): void => {
  const differs = (what: string, actual: unknown, expected: unknown) => {
    if (actual !== expected) {
      history.violate(
        "rows tell what happened",
        `${what} of ${name(job.job)}: ${String(actual)}, not ${String(expected)}`
      )
    }
  }
  const log = all.filter(({ attempt }) => attempt > job.earlier)
  const count = (...outcomes: ReadonlyArray<AttemptOutcome>) =>
    log.filter(({ outcome }) => outcomes.includes(outcome)).length
  differs("status", row.status, job.status)
  differs("attempt", row.attempt, job.attempts.length)
  differs("failures", row.failures, count("failed", "timedOut"))
  differs("crashes", row.crashes, count("crashed"))
  differs("interruptions", row.interruptions, count("released"))
  differs("snoozes", row.snoozes, count("snoozed"))
  // Every exit raises exactly one counter or ends the job
  const exits = row.failures + row.crashes + row.interruptions + row.snoozes + count("succeeded", "cancelled")
  differs("exits", exits + (row.status === "processing" ? 1 : 0), row.attempt - job.earlier)
}

const checkBudgets = (history: History, job: JobHistory, row: JobRecord): void => {
  if (row.failures > job.job.maxAttempts && !job.wasRequeued) {
    history.violate("no more failures than attempts", `${name(job.job)}: ${row.failures} of ${job.job.maxAttempts}`)
  }
  if (job.crashes > job.job.maxCrashes) {
    history.violate("poison is quarantined", `${name(job.job)} crashed ${job.crashes} workers of ${job.job.maxCrashes}`)
  }
}

/** Longest time after a fault in which its loop may still be pausing: what it should have done, it does then. */
const aftermath = 10_000

const wasInjured = ({ claimedAt, endedAt, process }: Attempt, kinds: ReadonlyArray<string>): boolean =>
  process.injuries.some(
    ({ from, kind, until }) => kinds.includes(kind) && from <= (endedAt ?? Infinity) && until + aftermath >= claimedAt
  )

/** Only these keep an owner from saying how its attempt ended. */
const silencing = ["killed", "paused", "renew", "settle", "abandon", "slow"]
const disturbing = [...silencing, "stopped", "claim"]
/** Only these keep a worker from giving back what it never heard of. */
const deafening = ["killed", "paused", "abandon", "slow"]

/** An attempt that ended without its owner's word, or for nothing, has a fault to blame. */
const checkExplained = (history: History, job: JobHistory, attempt: Attempt): void => {
  const { by, outcome } = attempt
  const unexplained = () =>
    history.violate(
      "every duplicate is explained",
      `attempt ${attempt.attempt} of ${name(job.job)} was ${outcome} by its ${by}, and nothing was done to ${attempt.process.name}`
    )
  if (by === "reaper") {
    // A worker that stops cannot give back what it never heard of
    const wasSilenced =
      wasInjured(attempt, attempt.isHeard ? silencing : deafening) ||
      (wasInjured(attempt, ["stopped"]) && wasInjured(attempt, ["claim"]))
    if (!wasSilenced) unexplained()
  } else if (outcome === "released" && attempt.startedAt !== undefined && !wasInjured(attempt, disturbing)) {
    unexplained()
  }
}
