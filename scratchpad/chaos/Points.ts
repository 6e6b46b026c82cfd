/**
 * Points between any two steps of a worker, where it can be told to die, to stop or to tell: the store and the broker of a
 * worker process, wrapped. Counts what passes, and reports what the store answers to every settle.
 */
import * as Effect from "effect/Effect"
import type { BrokerDriver } from "../../src/broker/BrokerDriver.ts"
import type { JobStoreService } from "../../src/JobStore.ts"
import { type Counts, now, say } from "./Report.ts"

/**
 * `received`: hints came, nothing claimed yet. `claimed`: the claim is committed, nothing started. `ended`: a handler
 * ended well, not settled yet. `settled`: settled, the delivery not acked. `taken`: hints are marked as published, and are
 * not. `published`: they are. `reaping`: the reaper's statement is on its way. `reaped`: it has ended attempts. `renewing`:
 * a renewal is about to be sent.
 */
export type Point =
  | "received"
  | "claimed"
  | "ended"
  | "settled"
  | "taken"
  | "published"
  | "reaping"
  | "reaped"
  | "renewing"

/** What happens at the `nth` visit of a point (of a process), from 1. `defect`: the step dies of a bug. */
export interface Strike {
  readonly point: Point
  readonly nth: number
  readonly act: "kill" | "stop" | "defect" | "tell"
}

export type Counting = Record<Exclude<keyof Counts, "cpu" | "rss" | "handles">, number>

export const counting = (): Counting => ({
  received: 0,
  published: 0,
  republished: 0,
  dbErrors: 0,
  loopsRestarted: 0,
  leasesLost: 0
})

/** Visits of points, and what they lead to. `jobs`: whom a death at this point hits, for the log of faults. */
export const make = (strikes: ReadonlyArray<Strike>) => {
  const visits = new Map<Point, number>()
  return (point: Point, jobs?: ReadonlyArray<string>): Effect.Effect<void> =>
    Effect.suspend(() => {
      const visit = (visits.get(point) ?? 0) + 1
      visits.set(point, visit)
      const strike = strikes.find((one) => one.point === point && one.nth === visit)
      if (strike === undefined) return Effect.void
      const at = now()
      say({ t: "point", at, point })
      switch (strike.act) {
        case "tell":
          return Effect.void
        case "defect":
          say({ t: "fault", fault: { kind: `defect at ${point}`, at, pid: process.pid, jobs } })
          return Effect.die(new Error(`a defect at ${point}`))
        case "kill":
        case "stop": {
          say({ t: "fault", fault: { kind: `${strike.act} at ${point}`, at, pid: process.pid } })
          process.kill(process.pid, strike.act === "kill" ? "SIGKILL" : "SIGSTOP")
          return strike.act === "kill" ? Effect.never : Effect.void
        }
      }
    })
}

type Visit = ReturnType<typeof make>

/** The store, with its points. */
export const aroundStore = (store: JobStoreService, visit: Visit, counts: Counting): JobStoreService => {
  const counted =
    <Args extends ReadonlyArray<unknown>, A, E>(run: (...args: Args) => Effect.Effect<A, E>) =>
    (...args: Args): Effect.Effect<A, E> =>
      Effect.tapError(run(...args), () => Effect.sync(() => counts.dbErrors++))
  const ids = (rows: ReadonlyArray<{ readonly id: string }>) => rows.map(({ id }) => id)
  return {
    ...store,
    nextDue: counted(store.nextDue),
    abandon: counted(store.abandon),
    reapTimeouts: counted(store.reapTimeouts),
    prune: counted(store.prune),
    claim: (request) =>
      Effect.tap(counted(store.claim)(request), (jobs) =>
        jobs.length === 0 ? Effect.void : visit("claimed", ids(jobs))
      ),
    claimHinted: (request) =>
      Effect.tap(counted(store.claimHinted)(request), ({ claimed }) =>
        claimed.length === 0 ? Effect.void : visit("claimed", ids(claimed))
      ),
    renew: (leases, lease) => Effect.andThen(visit("renewing"), counted(store.renew)(leases, lease)),
    settle: (worker, settlements) => {
      const ended = settlements.some(({ _tag }) => _tag === "Succeeded")
        ? visit("ended", ids(settlements))
        : Effect.void
      return Effect.andThen(ended, counted(store.settle)(worker, settlements)).pipe(
        Effect.tap((outcomes) =>
          Effect.sync(() => {
            const at = now()
            settlements.forEach(({ _tag: kind, attempt, claim, id }, i) =>
              say({ t: "settle", at, job: id, attempt, claim, kind, outcome: outcomes[i]!._tag })
            )
          })
        ),
        Effect.tap(() => visit("settled", ids(settlements)))
      )
    },
    reap: (options) => {
      // The process dies while the statement runs
      const running = counted(store.reap)(options)
      return Effect.tap(Effect.raceFirst(running, Effect.andThen(visit("reaping"), Effect.never)), (rows) =>
        rows.length === 0 ? Effect.void : visit("reaped", ids(rows))
      )
    },
    takeHints: (options) =>
      Effect.tap(counted(store.takeHints)(options), (hints) =>
        hints.length === 0 ? Effect.void : visit("taken", ids(hints))
      )
  }
}

/** The broker, with its points. */
export const aroundBroker = (broker: BrokerDriver, visit: Visit, counts: Counting): BrokerDriver => ({
  ...broker,
  publish: (hints) =>
    Effect.tap(
      Effect.suspend(() => {
        counts.published += hints.length
        for (const { publication } of hints) if (publication > 1) counts.republished++
        return broker.publish(hints)
      }),
      () => visit("published")
    ),
  consumer: (options) =>
    Effect.map(broker.consumer(options), (consumer) => ({
      ...consumer,
      receive: (asked) =>
        Effect.tap(consumer.receive(asked), (deliveries) => {
          counts.received += deliveries.length
          return deliveries.length === 0 ? Effect.void : visit("received")
        })
    }))
})
