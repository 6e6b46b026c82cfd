/**
 * Calls from a simulated process to the store and the broker, as over a network: each takes its time both ways, and can fail
 * before its effect, after it, or take effect only when the caller has given up. A process that dies hears no answer; what
 * it has sent arrives all the same.
 */
import * as Effect from "effect/Effect"
import type * as Exit from "effect/Exit"
import type { Chaos, Point } from "./Chaos.ts"
import type { Process } from "./Process.ts"

/** What kind of call it is, for faults and points. */
export interface Call<A, E> {
  /** `claim`, `settle`, …; of the broker: `broker.receive`, … */
  readonly operation: string
  readonly before?: Point | undefined
  /** The point after it took effect, if this answer is worth one. */
  readonly after?: ((answer: A) => Point | undefined) | undefined
  /** How long the caller waits for an answer, in ms. */
  readonly deadline: number
  readonly error: (why: string) => E
}

/** Longest time after which a statement whose caller has given up still takes effect: the session's `statement_timeout`. */
const latest = 10_000

/** Runs `effect` on `server`, on behalf of `process`. */
export const call = <A, E>(
  chaos: Chaos,
  server: Process,
  process: Process,
  { after, before, deadline, error, operation }: Call<A, E>,
  effect: Effect.Effect<A, E>
): Effect.Effect<A, E> =>
  Effect.callback<A, E>((resume) => {
    const { faults, world } = chaos
    const isBroker = operation.startsWith("broker.")
    let waits = true
    const reply = (delay: number, answer: Effect.Effect<A, E>) => {
      world.after(delay, () => {
        if (!waits) return
        waits = false
        process.schedule(() => resume(answer))
      })
    }
    const fail = (delay: number, why: string, lasts = delay) => {
      process.injure(operation, lasts)
      reply(delay, Effect.fail(error(why)))
    }
    const run = (onExit: (exit: Exit.Exit<A, E>) => void) => {
      const fiber = Effect.runForkWith(server.context)(effect)
      fiber.addObserver(onExit)
      return () => fiber.interruptUnsafe()
    }

    if (before !== undefined && !chaos.visit(before, process)) return Effect.void
    const isDown =
      chaos.isBroken(process, operation) ||
      (isBroker ? chaos.brokerDownUntil : Math.max(chaos.storeDownUntil, chaos.cutOffUntil.get(process.name) ?? 0)) >
        world.now
    if (isDown) {
      fail(chaos.latency() + 1, "down")
      return Effect.sync(() => {
        waits = false
      })
    }
    const isLost = chaos.strikes(`${operation} lost`, isBroker ? faults.brokerLost : faults.storeLost)
    const isLate = !isLost && !isBroker && chaos.strikes(`${operation} late`, faults.storeLate)
    const isSlow = !isLost && !isLate && !isBroker && chaos.strikes(`${operation} slow`, faults.storeSlow)
    const isReplyLost =
      !isLost &&
      !isLate &&
      chaos.strikes(`${operation} reply lost`, isBroker ? faults.brokerReplyLost : faults.storeReplyLost)
    const there = isSlow ? world.rng.int(0, faults.slowFor) : chaos.latency()
    const back = isSlow ? world.rng.int(0, faults.slowFor) : chaos.latency()
    if (isSlow) process.injure("slow", there + back)

    let stop = () => {}
    if (isLost) fail(there + back + 1, "lost")
    else if (isLate) {
      const isHung = world.rng.chance(0.3)
      const patience = isHung ? deadline : world.rng.int(1, 1_000)
      const arrives = world.rng.int(0, latest)
      // Until it gives up, the caller cannot know that something is wrong
      if (isHung) process.injure("slow", patience)
      fail(patience, "no answer yet", Math.max(patience, arrives))
      world.after(arrives, () => run(() => {}))
    } else {
      if (!isBroker && there + back > deadline) fail(deadline, "no answer in time")
      if (isReplyLost) process.injure(operation, there + back)
      const arrive = () => {
        stop = run((exit) => {
          stop = () => {}
          const point = exit._tag === "Success" ? after?.(exit.value) : undefined
          if (point !== undefined && !chaos.visit(point, process)) return
          if (isReplyLost) fail(back + 1, "the answer was lost")
          else reply(back, exit)
        })
      }
      if (there === 0) arrive()
      else
        world.after(there, () => {
          // Whoever stops waiting early enough has sent nothing
          if (waits || !process.isAlive || world.rng.chance(0.5)) arrive()
        })
    }
    return Effect.sync(() => {
      waits = false
      stop()
    })
  })
