/**
 * How an INSERT carries a notification, so that it goes out with the commit itself and not by a round trip after it. The
 * store has the statement, whoever rings for new jobs has something to say; neither knows more of the other than this.
 */

import type * as Effect from "effect/Effect"
import type { NewJob } from "./JobStoreDriver.ts"

/**
 * What became of an announcement. `sent`: it went out with the commit. `unsent`: the jobs may be there, it is not.
 * `refused`: the database takes the jobs, but not the notification with them.
 */
export type Announced = "sent" | "unsent" | "refused"

/** A notification that a statement may carry, now. */
export interface Announcement {
  readonly channel: string
  readonly payload: string
  /** MUST be called once, when the statement is over. */
  readonly end: (announced: Announced) => void
}

/** How workers are told of jobs that were made. */
export interface Publication {
  readonly announcer: Announcer | undefined
  /** Tells of committed jobs that no INSERT announced; inside the caller's transaction, once it has committed. Never waits for a broker. */
  readonly publish: (jobs: ReadonlyArray<NewJob>) => Effect.Effect<void>
}

/** Has something to say of jobs that are made. */
export interface Announcer {
  /** The client whose statements may carry it: what goes out by another may be heard in another database. */
  readonly client: object
  /** What to say of a job in this queue. Undefined when now is not the time: then it is published after the commit. */
  readonly announce: (queue: string) => Announcement | undefined
}
