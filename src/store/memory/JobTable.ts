/**
 * The in-memory jobs table with its indexes and the log of ended attempts. Rows change only through `change`, which
 * takes them out of every index and puts them back, so that no index can disagree with its row. Promises that adding,
 * changing and finding the next row of a lane cost O(log n) at most.
 */
import type { AttemptOutcome, AttemptRecord, Status, StoredError } from "../JobStoreDriver.ts"
import { AuditLog } from "./AuditLog.ts"
import { byRunAt, isLive, isSuspect, type JobRow } from "./JobRow.ts"
import { OrderedSet } from "./OrderedSet.ts"
import { Pauses } from "./Pauses.ts"

/** The queued jobs of one type in one queue. */
export interface Lane {
  /** Index: the priority. Jobs that never crashed a worker, in claim order. */
  readonly byPriority: ReadonlyArray<OrderedSet<JobRow>>
  /** The same, of jobs that crashed a worker since the last requeue. */
  readonly suspects: ReadonlyArray<OrderedSet<JobRow>>
}

const PRIORITIES = 10

const byPublishAt = (a: JobRow, b: JobRow): number => a.publishAt! - b.publishAt! || byRunAt(a, b)

/** The order in which due hints are published. */
export const byHint = (a: JobRow, b: JobRow): number => a.job.priority - b.job.priority || byPublishAt(a, b)

/** Types, queues and keys hold no NUL, so this joins two of them without ambiguity. */
const joined = (a: string, b: string): string => `${a}\u0000${b}`

export class JobTable {
  readonly #rows = new Map<string, JobRow>()
  readonly #lanes = new Map<string, Lane>()
  readonly #keys = new Map<string, JobRow>()
  readonly #ended = {
    succeeded: new Set<JobRow>(),
    failed: new Set<JobRow>(),
    cancelled: new Set<JobRow>()
  }
  readonly #log = new Map<string, Array<AttemptRecord>>()
  readonly #logByAge = new Set<AttemptRecord>()

  /** What no claim takes. */
  readonly pauses = new Pauses()
  /** What people did. */
  readonly audit = new AuditLog()
  /** Rows being worked on: as many as the fleet has slots. */
  readonly processing = new Set<JobRow>()
  /** Queued rows whose hint is not due yet, by when it will be. */
  readonly hintsAhead = new OrderedSet<JobRow>(byPublishAt)
  /** Queued rows whose first hint is due, in the order of publishing. Filled from `hintsAhead` when hints are taken. */
  readonly hintsFirst = new OrderedSet<JobRow>(byHint)
  /** Queued rows whose hint is due once more, in the order of publishing. */
  readonly hintsAgain = new OrderedSet<JobRow>(byHint)

  /** As a `uuid` column would: letters of either case are the same. */
  get(id: string): JobRow | undefined {
    return this.#rows.get(id.toLowerCase())
  }

  /** Every row, oldest insert first. */
  all(): Iterable<JobRow> {
    return this.#rows.values()
  }

  lane(queue: string, type: string): Lane | undefined {
    return this.#lanes.get(joined(queue, type))
  }

  /** The row that holds a unique key of a type now: not ended, or its key is retained. */
  holder(type: string, key: string): JobRow | undefined {
    return this.#keys.get(joined(type, key))
  }

  /** Ended rows of one outcome, the longest ended first. */
  ended(status: "succeeded" | "failed" | "cancelled"): Iterable<JobRow> {
    return this.#ended[status]
  }

  insert(row: JobRow): void {
    this.#rows.set(row.job.id, row)
    this.#index(row)
  }

  /** The only way a row changes. `mutate` is synchronous and must not throw. */
  change(row: JobRow, mutate: (row: JobRow) => void): void {
    this.#unindex(row)
    mutate(row)
    this.#index(row)
  }

  delete(row: JobRow): void {
    this.#unindex(row)
    this.#rows.delete(row.job.id)
  }

  /** Logged attempts of a job, oldest first. */
  attempts(id: string): ReadonlyArray<AttemptRecord> {
    return this.#log.get(id.toLowerCase()) ?? []
  }

  /** Logged attempts of all jobs, the longest ended first. */
  attemptsByAge(): Iterable<AttemptRecord> {
    return this.#logByAge
  }

  /** Logs the end of the attempt whose owner the row still has. Called before the owner is cleared. */
  log(
    row: JobRow,
    outcome: AttemptOutcome,
    finalizedBy: AttemptRecord["finalizedBy"],
    endedAt: number,
    error: StoredError | undefined
  ): void {
    const { claim, claimedAt, worker } = row.owner!
    const record: AttemptRecord = {
      jobId: row.job.id,
      attempt: row.attempt,
      claim,
      worker,
      outcome,
      finalizedBy,
      claimedAt,
      endedAt,
      error
    }
    const log = this.#log.get(row.job.id)
    if (log === undefined) this.#log.set(row.job.id, [record])
    else log.push(record)
    this.#logByAge.add(record)
  }

  deleteAttempt(record: AttemptRecord): void {
    this.#logByAge.delete(record)
    const rest = this.attempts(record.jobId).filter((other) => other !== record)
    if (rest.length === 0) this.#log.delete(record.jobId)
    else this.#log.set(record.jobId, rest)
  }

  #index(row: JobRow): void {
    if (this.#holdsKey(row)) this.#keys.set(joined(row.job.type, row.job.key!), row)
    switch (row.status) {
      case "queued": {
        const lane = this.#laneOf(row)
        const lanes = isSuspect(row) ? lane.suspects : lane.byPriority
        lanes[row.job.priority]!.add(row)
        if (row.publishAt !== undefined) this.hintsAhead.add(row)
        return
      }
      case "processing":
        this.processing.add(row)
        return
      default:
        this.#ended[row.status].add(row)
    }
  }

  #unindex(row: JobRow): void {
    if (this.#holdsKey(row)) this.#keys.delete(joined(row.job.type, row.job.key!))
    switch (row.status) {
      case "queued": {
        const lane = this.#laneOf(row)
        lane.suspects[row.job.priority]!.delete(row)
        lane.byPriority[row.job.priority]!.delete(row)
        this.hintsAhead.delete(row)
        this.hintsFirst.delete(row)
        this.hintsAgain.delete(row)
        return
      }
      case "processing":
        this.processing.delete(row)
        return
      default:
        this.#ended[row.status].delete(row)
    }
  }

  #holdsKey(row: JobRow): boolean {
    return row.job.key !== undefined && (row.job.keyScope === "retained" || isLive(row))
  }

  #laneOf(row: JobRow): Lane {
    const name = joined(row.job.queue, row.job.type)
    let lane = this.#lanes.get(name)
    if (lane === undefined) {
      const sets = () => Array.from({ length: PRIORITIES }, () => new OrderedSet<JobRow>(byRunAt))
      lane = { byPriority: sets(), suspects: sets() }
      this.#lanes.set(name, lane)
    }
    return lane
  }
}

/** The outcomes of ended jobs. */
export const endings = ["succeeded", "failed", "cancelled"] as const satisfies ReadonlyArray<Status>
