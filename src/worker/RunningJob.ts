/**
 * What `CurrentJob` is while a job runs. Made for every attempt, asked by few handlers: so everything but the three
 * numbers is made when it is read.
 */
import type * as Clock from "effect/Clock"
import * as DateTime from "effect/DateTime"
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import type { CurrentJob, Interruption, Progress } from "../CurrentJob.ts"
import type { JobId } from "../JobId.ts"
import type { Lease } from "../store/JobStoreDriver.ts"
import { type Held, leaseOf } from "./Held.ts"

/** Reports of progress wait here, the last one per job wins. */
export interface ProgressSink {
  readonly report: (lease: Lease, progress: Progress | undefined) => void
}

export class RunningJob implements CurrentJobService {
  readonly id: JobId
  readonly attempt: number
  readonly fence: number
  private readonly held: Held
  private readonly sink: ProgressSink
  /** Epoch ms of this process; `undefined` without a timeout. */
  private readonly deadlineAt: number | undefined

  constructor(held: Held, sink: ProgressSink, clock: Clock.Clock) {
    const { job } = held
    this.id = job.id as JobId
    this.attempt = job.attempt
    this.fence = job.fence
    this.held = held
    this.sink = sink
    this.deadlineAt = job.timeout === undefined ? undefined : clock.currentTimeMillisUnsafe() + job.timeout
  }

  get enqueuedAt(): DateTime.Utc {
    return DateTime.makeUnsafe(this.held.job.enqueuedAt)
  }

  get deadline(): Option.Option<DateTime.Utc> {
    return Option.map(Option.fromUndefinedOr(this.deadlineAt), DateTime.makeUnsafe)
  }

  get interruption(): Effect.Effect<Option.Option<Interruption>> {
    const { held } = this
    return Effect.sync(() => Option.fromUndefinedOr(held.interruption))
  }

  get heartbeat(): Effect.Effect<void> {
    const { held, sink } = this
    return Effect.sync(() => sink.report(leaseOf(held), undefined))
  }

  get progress(): (value: Progress) => Effect.Effect<void> {
    const { held, sink } = this
    return (value) => Effect.sync(() => sink.report(leaseOf(held), value))
  }
}

type CurrentJobService = CurrentJob["Service"]
