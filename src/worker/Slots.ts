/**
 * The jobs this worker holds: starts them when a slot is free, watches their exit and their deadlines, stops them when
 * somebody has a reason to. No loop and no queue on the way of a job: everything here is synchronous but the handler.
 */
import * as Cause from "effect/Cause"
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import type * as Exit from "effect/Exit"
import * as References from "effect/References"
import type * as Scope from "effect/Scope"
import { CurrentJob, type Interruption } from "../CurrentJob.ts"
import type { ClaimedJob, ClaimPool, Settlement } from "../store/JobStoreDriver.ts"
import * as Attempt from "./Attempt.ts"
import * as Deadlines from "./Deadlines.ts"
import { type Ending, type Held, leaseOf } from "./Held.ts"
import type { Pool } from "./Pool.ts"
import { type ProgressSink, RunningJob } from "./RunningJob.ts"
import * as Signal from "./Signal.ts"
import { monotonic, type WorkerContext } from "./WorkerContext.ts"

export interface Slots {
  readonly pools: ReadonlyArray<Pool>
  /** Everything held, longest first. */
  readonly held: ReadonlySet<Held>
  /** Raised when more could be claimed than a moment ago. */
  readonly roomy: Signal.Signal
  /** Raised when a settlement is due. */
  readonly settleable: Signal.Signal
  /** Raised, once closed, when nothing is held any more. */
  readonly quiet: Signal.Signal
  /** Free room per pool, for one claim. Empty while there is none. */
  readonly room: (pools: ReadonlyArray<Pool>) => ReadonlyArray<ClaimPool & { readonly pool: Pool }>
  /**
   * Says to a claim how many suspects it may take: one, if none is held, no other claim of this worker may bring one, and a
   * slot is really free. `asker`: who takes turns with others. What the claim brings is accepted before it ends. A claim
   * of named jobs (`named`) that brings none has not used up the turn: there may be suspects that it did not name.
   */
  readonly withSuspects: <A, E, R>(
    asker: object,
    claim: (suspects: 0 | 1) => Effect.Effect<A, E, R>,
    named?: "named"
  ) => Effect.Effect<A, E, R>
  /** Takes jobs claimed by a call that was sent at `sentAt` (monotonic ms). */
  readonly accept: (
    jobs: ReadonlyArray<ClaimedJob>,
    sentAt: number,
    released?: (job: ClaimedJob) => (ending: Ending) => void
  ) => void
  /** Calls back whenever jobs were taken. */
  readonly onAccept: (listener: () => void) => void
  /** Settlements that are due, at most `max`, in order. */
  readonly takeDue: (max: number) => ReadonlyArray<{ readonly held: Held; readonly settlement: Settlement }>
  /** Whether a settlement is due. */
  readonly hasDue: () => boolean
  /** Puts settlements back, before all others. */
  readonly putBack: (due: ReadonlyArray<{ readonly held: Held; readonly settlement: Settlement }>) => void
  /** Lets go of a job: it is settled, or it is not ours any more. */
  readonly release: (held: Held, ending: Ending) => void
  /** Asks a held job to stop. One that has not started is settled at once. */
  readonly interrupt: (held: Held, reason: Interruption) => void
  /** Whether jobs may be claimed: neither draining nor closed. */
  readonly isOpen: () => boolean
  /** Gives back what has not started, and claims nothing until `reopen`. */
  readonly drain: () => void
  /** Takes a `drain` back. */
  readonly reopen: () => void
  /** Changes how many jobs of a pool run at once. What runs goes on; what there is no slot for is given back. */
  readonly resize: (pool: Pool, slots: number) => void
  /** As `drain`, while leases cannot be kept: others shall have the jobs. Until `wake`. */
  readonly rest: () => void
  readonly wake: () => void
  /** As `drain`, for good. */
  readonly close: () => void
  readonly runningCount: () => number
}

/** Jobs of one claim from which on the next claim is sent before they start: the database works while we do. */
const many = 50

export const make = Effect.fnUntraced(function* (
  worker: WorkerContext,
  pools: ReadonlyArray<Pool>,
  progress: ProgressSink
): Effect.fn.Return<Slots, never, Scope.Scope> {
  const { clock, defaults, metrics, timings } = worker
  const held = new Set<Held>()
  const deadlines = yield* Deadlines.make(clock, worker.supervisor)
  const roomy = Signal.make()
  const settleable = Signal.make()
  const quiet = Signal.make()
  const background = Effect.runForkWith(yield* Effect.context<never>())
  let due: Array<{ readonly held: Held; readonly settlement: Settlement }> = []
  let closed = false
  let draining = false
  let resting = false
  let accepted = () => {}
  let suspectsHeld = 0
  /** A claim is on its way that may bring one. */
  let suspectAsked = false
  /** Who had to ask without, first come first: claims that always coincide must not always go to the same. */
  let turns: Array<object> = []
  const starting = new Set<Pool>()
  /** How long a job may wait for a slot: well before any sweep takes it for overdue, and no longer than others need it. */
  const patience = Math.min(timings.sweepEvery, timings.lease) / 2

  const settle = (one: Held, settlement: Settlement) => {
    one.phase = "ended"
    due.push({ held: one, settlement })
    settleable.notify()
  }

  const release = (one: Held, ending: Ending) => {
    if (!held.delete(one)) return
    one.phase = "ended"
    if (one.job.suspect) suspectsHeld--
    one.onReleased?.(ending)
    if (one.job.suspect) roomy.notify()
    // Last: whoever waits for it goes on at once
    if (closed && held.size === 0) quiet.notify()
  }

  const freeSlot = (pool: Pool) => {
    pool.running--
    start(pool)
    pool.roomy.notify()
    if (pool.mayHaveMore) roomy.notify()
  }

  const onExit = (one: Held, exit: Exit.Exit<string, unknown>) => {
    // Held until it is settled: what it ran in need not be
    one.fiber = undefined
    one.ran = monotonic(clock) - one.startedAt
    one.pool.ran(one.ran)
    // Lost, or settled without it because it would not stop: only the slot is left to free
    if (one.phase === "running") {
      if (exit._tag === "Success") settle(one, succeeded(one, exit.value))
      else settleFailure(one, exit.cause)
    }
    freeSlot(one.pool)
  }

  const settleFailure = (one: Held, cause: Cause.Cause<unknown>) => {
    one.phase = "ended"
    background(Attempt.settlementOf(one, cause, defaults)).addObserver((exit) => {
      settle(one, exit._tag === "Success" ? exit.value : { ...leaseOf(one), _tag: "Released" })
    })
  }

  const context = (one: Held): Context.Context<never> => {
    const { job } = one
    const annotations = { job: job.type, jobId: job.id, attempt: job.attempt }
    return Context.add(
      Context.add(one.handler.context, CurrentJob, new RunningJob(one, progress, clock)),
      References.CurrentLogAnnotations,
      annotations
    ) as Context.Context<never>
  }

  /** A handler that ends at once frees its slot while the loop is here: the loop goes on, nothing nests. */
  const start = (pool: Pool) => {
    if (starting.has(pool)) return
    starting.add(pool)
    while (!closed && !draining && !resting && pool.running < pool.slots) {
      const one = pool.shift()
      if (one === undefined) break
      // Its lease ended while it waited, or before its claim was answered: given back, if it is ours still
      const now = monotonic(clock)
      if (one.provenUntil <= now) {
        interrupt(one, "shutdown")
        continue
      }
      one.phase = "running"
      one.startedAt = now
      pool.running++
      if (metrics.enabled) {
        const waited = Math.max(0, clock.currentTimeMillisUnsafe() - one.job.runAt)
        metrics.record({ _tag: "Started", queue: one.job.queue, type: one.job.type, waited })
      }
      if (one.job.timeout !== undefined && one.job.timeoutThen !== "ignore") {
        deadlines.add(one.startedAt + one.job.timeout, () => interrupt(one, "timedOut"))
      }
      const fiber = Effect.runForkWith(context(one))(Attempt.run(one, defaults.maxResultBytes))
      one.fiber = fiber
      fiber.addObserver((exit) => onExit(one, exit))
    }
    starting.delete(pool)
  }

  const interrupt = (one: Held, reason: Interruption) => {
    if (one.phase === "ended" || one.interruption !== undefined) return
    one.interruption = reason
    if (one.phase === "buffered") {
      if (reason === "leaseLost") release(one, "lost")
      else settle(one, { ...leaseOf(one), _tag: reason === "cancelled" ? "Cancelled" : "Released" })
      return
    }
    if (reason === "leaseLost") release(one, "lost")
    one.fiber?.interruptUnsafe()
    deadlines.add(monotonic(clock) + timings.interruptGrace, () => abandonFiber(one))
  }

  /** It was asked to stop and did not: its job goes on without it, its slot stays taken. */
  const abandonFiber = (one: Held) => {
    if (one.fiber === undefined) return
    background(
      Effect.logWarning(
        `job ${one.job.id} (${one.job.type}) does not stop ${timings.interruptGrace} ms after it was interrupted (${one.interruption}): unresponsive, its slot stays taken`
      )
    )
    one.ran = monotonic(clock) - one.startedAt
    if (one.phase === "running") settleFailure(one, Cause.interrupt())
  }

  const giveBack = (pool: Pool) => {
    for (const one of pool.takeAll()) interrupt(one, "shutdown")
  }

  /** Jobs are not as quick as they were: what was claimed ahead is for others to run, and its timeout does not wait. */
  const giveBackOlder = (pool: Pool, sentAt: number) => {
    const waiting = pool.takeOlder(sentAt)
    if (waiting.length === 0) return
    pool.slowDown()
    for (const one of waiting) interrupt(one, "shutdown")
  }

  const shut = (pool: Pool) => {
    pool.isOpen = false
    giveBack(pool)
  }

  const isTurnOf = (asker: object): boolean => {
    if (!suspectAsked && (turns.length === 0 || turns[0] === asker)) {
      turns.shift()
      return true
    }
    if (!turns.includes(asker)) turns.push(asker)
    return false
  }

  const open = () => {
    if (closed || draining || resting) return
    for (const pool of pools) {
      pool.isOpen = true
      pool.roomy.notify()
    }
    roomy.notify()
  }

  return {
    pools,
    held,
    roomy,
    settleable,
    quiet,
    room: (pools) =>
      closed || draining || resting
        ? []
        : pools.flatMap((pool) => {
            const limit = pool.wanted
            return limit > 0 ? [{ pool, ranges: pool.ranges, limit }] : []
          }),
    withSuspects: (asker, claim, named) => {
      let asks = false
      return Effect.ensuring(
        Effect.suspend(() => {
          asks =
            suspectsHeld === 0 &&
            pools.every((pool) => pool.slots === 0 || (pool.free > 0 && pool.buffered === 0)) &&
            isTurnOf(asker)
          suspectAsked ||= asks
          return claim(asks ? 1 : 0)
        }),
        Effect.sync(() => {
          if (!asks) return
          suspectAsked = false
          if (named !== undefined && suspectsHeld === 0) turns = [asker, ...turns.filter((other) => other !== asker)]
        })
      )
    },
    accept: (jobs, sentAt, released) => {
      let handler: ReturnType<typeof worker.handlers.get>
      let pool: Pool | undefined
      for (const job of jobs) {
        // Jobs of one claim are mostly alike
        if (handler?.job._tag !== job.type) handler = worker.handlers.get(job.type)
        if (pool?.queues.includes(job.queue) !== true) pool = pools.find(({ queues }) => queues.includes(job.queue))
        // The store only answers with ranges it was asked for
        if (handler === undefined || pool === undefined) continue
        const one: Held = {
          job,
          definition: handler.job.definition,
          handler: handler.handler,
          pool,
          phase: "buffered",
          fiber: undefined,
          interruption: undefined,
          provenUntil: sentAt + timings.lease,
          startedAt: sentAt,
          ran: 0,
          onReleased: released?.(job)
        }
        held.add(one)
        if (job.suspect) suspectsHeld++
        // Never into the store of a pool that starts nothing: there it would stand in the way of later claims
        if (closed || draining || resting || pool.slots === 0) interrupt(one, "shutdown")
        else if (job.suspect) pool.pushFirst(one)
        else pool.push(one)
      }
      if (jobs.length > 0) accepted()
      for (const pool of pools) {
        if (jobs.length < many) start(pool)
        else
          background(
            Effect.andThen(
              Effect.yieldNow,
              Effect.sync(() => {
                start(pool)
                // Until now they stood in the way of the next claim, which may be waiting for room
                if (pool.wanted === 0) return
                pool.roomy.notify()
                if (pool.mayHaveMore) roomy.notify()
              })
            )
          )
        if (pool.buffered > 0) deadlines.add(sentAt + patience, () => giveBackOlder(pool, sentAt))
      }
    },
    onAccept: (listener) => {
      accepted = listener
    },
    takeDue: (max) => {
      const taken = due.length <= max ? due : due.slice(0, max)
      due = due.length <= max ? [] : due.slice(max)
      return taken
    },
    hasDue: () => due.length > 0,
    putBack: (back) => {
      if (back.length === 0) return
      due = [...back, ...due]
      settleable.notify()
    },
    release,
    interrupt,
    isOpen: () => !closed && !draining,
    drain: () => {
      draining = true
      for (const pool of pools) shut(pool)
    },
    reopen: () => {
      draining = false
      open()
    },
    rest: () => {
      resting = true
      for (const pool of pools) shut(pool)
    },
    wake: () => {
      resting = false
      open()
    },
    resize: (pool, slots) => {
      const fewer = slots < pool.slots
      pool.slots = slots
      // Whoever has no slots does not ask any more
      turns = []
      // The next claim brings as many as there is room for
      if (fewer) giveBack(pool)
      else start(pool)
      pool.roomy.notify()
      roomy.notify()
    },
    close: () => {
      closed = true
      for (const pool of pools) shut(pool)
    },
    runningCount: () => pools.reduce((n, pool) => n + pool.running, 0)
  }
})

const succeeded = (one: Held, result: string): Settlement => ({
  ...leaseOf(one),
  _tag: "Succeeded",
  result: result === "null" ? undefined : result
})
