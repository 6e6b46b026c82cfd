/**
 * The pgmq queues behind Polyqueue's queues: that pgmq is there and new enough, which queue is which table, and making
 * those that are missing. What was seen once is remembered until somebody finds that it is gone (dropped, or rolled back by whoever made it).
 */
import * as Effect from "effect/Effect"
import type { BrokerError } from "../../JobError.ts"
import { failure, INSTALL } from "./Failure.ts"
import { pgmqQueue } from "./QueueName.ts"
import type { Row, Session } from "./Session.ts"
import * as Statements from "./Statements.ts"

/** A queue as statements need it. */
export interface PgmqQueue {
  /** Polyqueue's name. */
  readonly queue: string
  /** pgmq's name. */
  readonly name: string
  /** Its table, quoted. */
  readonly table: string
}

/** Finds queues, and makes them where that is asked for. */
export interface Queues {
  /** The queue, whether it exists or not. */
  readonly named: (queue: string) => PgmqQueue
  /** Fails with `QueueNotFound` when it is missing and may not be made. Costs nothing once it was seen. */
  readonly ensure: (queue: string) => Effect.Effect<PgmqQueue, BrokerError>
  /** Whether it exists; makes nothing. */
  readonly exists: (queue: string) => Effect.Effect<boolean, BrokerError>
  /** Looks again next time: a statement found it gone. */
  readonly forget: (queue: string) => void
}

/** What decides about queues. */
export interface Options {
  readonly base: string
  readonly createIfMissing: boolean
  readonly unlogged: boolean
}

const text = (value: unknown): string => (typeof value === "string" ? value : "")

/** What is wrong with pgmq in this database, or undefined. The row is `Statements.probe`'s. */
export const problemOf = ([schema, usable, missing]: Row): string | undefined => {
  if (schema !== true) return `pgmq is not installed in this database: ${INSTALL}.`
  if (usable !== true)
    return "this role may not use the schema pgmq: `grant usage on schema pgmq to …`, and its tables."
  if (Array.isArray(missing) && missing.length > 0) {
    return `pgmq is too old here (no ${missing.join(", ")}): \`alter extension pgmq update\`, or ${INSTALL}.`
  }
  return undefined
}

/** Makes the finder of queues. */
export const make = (session: Session, options: Options): Queues => {
  const seen = new Set<string>()

  const named = (queue: string): PgmqQueue => {
    const name = pgmqQueue(options.base, queue)
    return { queue, name, table: Statements.tableOf(name) }
  }

  const look = (run: Session["own"], { name, queue }: PgmqQueue) =>
    Effect.map(
      run({ operation: "look up", subject: `queue ${queue}` }, Statements.persistence, [`q_${name}`]),
      ([row]) => (row === undefined ? undefined : text(row[0]))
    )

  /** `unlogged` was asked for and is not so: told, not ignored. The other way round is the owner's choice. */
  const refuse = ({ name }: PgmqQueue) =>
    failure(
      "open",
      "Misconfigured",
      `the queue ${name} exists as a logged table, and \`unlogged\` was asked for: \`alter table ${Statements.tableOf(name)} ` +
        "set unlogged`, or leave the option off"
    )

  const ensure = Effect.fnUntraced(function* (queue: string) {
    const found = named(queue)
    if (seen.has(queue)) return found
    // With one session for everybody, our own connection would wait for the transaction that waits for us
    const run = session.single && (yield* session.inTransaction) ? session.joined : session.own
    const persistence = yield* look(run, found)
    if (persistence === undefined) {
      if (!options.createIfMissing) {
        return yield* failure("look up", "QueueNotFound", `queue ${queue}: \`select pgmq.create('${found.name}')\``)
      }
      yield* run({ operation: "create", subject: `queue ${queue}` }, Statements.create(found.name, options.unlogged))
    } else if (options.unlogged && persistence === "p") {
      return yield* refuse(found)
    }
    seen.add(queue)
    return found
  })

  return {
    named,
    ensure,
    exists: (queue) => Effect.map(look(session.own, named(queue)), (persistence) => persistence !== undefined),
    forget: (queue) => void seen.delete(queue)
  }
}
