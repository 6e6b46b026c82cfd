/**
 * A simulated operating-system process: fibers that run with its scheduler, its clocks, its randomness. It can be killed
 * between any two steps of any of its fibers, as `kill -9` would: nothing of it ever runs again, no finaliser, no last
 * message. It can be paused, as SIGSTOP or a blocked event loop would: its tasks and timers wait, the world does not.
 */
import * as Clock from "effect/Clock"
import * as Context from "effect/Context"
import { make as makeSecureRandom, SecureRandom } from "effect/crypto/SecureRandom"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import type * as Exit from "effect/Exit"
import type * as Fiber from "effect/Fiber"
import * as Logger from "effect/Logger"
import * as Random from "effect/Random"
import * as References from "effect/References"
import * as Scheduler from "effect/Scheduler"
import { type Defaults, JobDefaults } from "../../JobPolicy.ts"
import { WorkerHealth } from "../../health/WorkerHealth.ts"
import { ProcessHealth } from "../../worker/ProcessHealth.ts"
import type { Rng } from "./Rng.ts"
import type { World } from "./World.ts"

/** The process that a fiber runs in: what simulated handlers reach to crash or block it. */
export class CurrentProcess extends Context.Service<CurrentProcess, Process>()("polyqueue/testing/CurrentProcess") {}

/** Something that was done to a process on purpose. It explains what became of the attempts it held. */
export interface Injury {
  /** `killed`, `paused`, `stopped`, or the operation of a port that failed or was slow: `renew`, `settle`, … */
  readonly kind: string
  readonly from: number
  until: number
}

export interface ProcessOptions {
  readonly rng: Rng
  /** Chance that a fiber gives way to another at any one of its steps. */
  readonly yields: number
  readonly skew?: number
  readonly isVulnerable?: boolean
  readonly defaults?: Defaults
  /** What its monotonic clock says, in ms, when so many have gone by. */
  readonly monotonic?: (elapsed: number) => number
}

export class Process {
  readonly name: string
  readonly injuries: Array<Injury> = []
  /** What its fibers run with. */
  readonly context: Context.Context<never>
  isAlive = true
  /** Whether points may strike it. */
  readonly isVulnerable: boolean
  /** Milliseconds its wall clock is ahead of the world's. Its monotonic clock is never wrong. */
  skew: number
  /** Tasks run so far. */
  steps = 0
  /** It is killed before this many tasks have run. */
  killAtStep = Infinity
  /** Called once it is no more. */
  onGone: () => void = () => {}
  readonly #world: World
  readonly #rng: Rng
  #tasks: Array<() => void> = []
  #isListed = false
  #pausedUntil = -Infinity

  constructor(world: World, name: string, options: ProcessOptions) {
    this.#world = world
    this.#rng = options.rng
    this.name = name
    this.skew = options.skew ?? 0
    this.isVulnerable = options.isVulnerable ?? true
    const context = contextOf(this, world, options)
    this.context =
      options.defaults === undefined
        ? context
        : (Context.add(context, JobDefaults, options.defaults) as Context.Context<never>)
  }

  get isPaused(): boolean {
    return this.#pausedUntil > this.#world.now
  }

  /** A task of one of its fibers. Dropped when it is dead. */
  schedule(task: () => void): void {
    if (!this.isAlive) return
    this.#tasks.push(task)
    this.#list()
  }

  /** Runs one task. False when there is none, or it may not. */
  runOne(): boolean {
    if (!this.isAlive || this.isPaused || this.#tasks.length === 0) {
      this.#isListed = false
      return false
    }
    const tasks = this.#tasks
    if (++this.steps > this.killAtStep) {
      this.kill("between two steps")
      return true
    }
    if (this.#world.inOrder) tasks.shift()!()
    else {
      const at = this.#rng.int(0, tasks.length - 1)
      const task = tasks[at]!
      tasks[at] = tasks.at(-1)!
      tasks.pop()
      task()
    }
    return true
  }

  /** Ends it without a word. */
  kill(why: string): void {
    if (!this.isAlive) return
    this.injure("killed", Infinity)
    this.#world.tell(this.name, `killed ${why}`)
    this.#end()
  }

  /** Nothing of it runs for `duration` milliseconds; then everything that came due meanwhile. */
  pause(duration: number, why: string): void {
    if (!this.isAlive) return
    this.injure("paused", duration)
    this.#world.tell(this.name, `paused for ${duration} ms ${why}`)
    this.#pausedUntil = Math.max(this.#pausedUntil, this.#world.now + duration)
    this.#world.after(this.#pausedUntil - this.#world.now, () => this.#list())
  }

  injure(kind: string, duration: number): Injury {
    const injury = { kind, from: this.#world.now, until: this.#world.now + duration }
    this.injuries.push(injury)
    return injury
  }

  /** Runs a program as its main fiber; the process is gone when that ends. Answers what asks it to stop (SIGTERM). */
  run<A, E>(program: Effect.Effect<A, E>, onExit: (exit: Exit.Exit<A, E>) => void = () => {}): () => void {
    let fiber: Fiber.Fiber<A, E> | undefined
    this.schedule(() => {
      fiber = Effect.runForkWith(this.context)(program)
      fiber.addObserver((exit) => {
        if (!this.isAlive) return
        onExit(exit)
        this.#end()
      })
    })
    return () => this.schedule(() => fiber?.interruptUnsafe())
  }

  #end(): void {
    this.isAlive = false
    this.#tasks = []
    this.onGone()
  }

  #list(): void {
    if (this.#isListed || this.#tasks.length === 0 || this.isPaused) return
    this.#isListed = true
    this.#world.runnable(this)
  }
}

const contextOf = (
  process: Process,
  world: World,
  { monotonic = (elapsed) => elapsed, rng, yields }: ProcessOptions
): Context.Context<never> => {
  const dispatcher: Scheduler.SchedulerDispatcher = {
    scheduleTask: (task) => process.schedule(task),
    flush: () => {}
  }
  const scheduler: Scheduler.Scheduler = {
    executionMode: "async",
    // A fiber of a process that died or stopped in the middle of a step gets no further. Any other takes a step first: coming
    // back from a yield counts as the first two
    shouldYield: ({ currentOpCount }) =>
      !process.isAlive || process.isPaused || (currentOpCount > 2 && rng.chance(yields)),
    makeDispatcher: () => dispatcher
  }
  const clock: Clock.Clock = {
    currentTimeMillisUnsafe: () => world.now + process.skew,
    currentTimeMillis: Effect.sync(() => world.now + process.skew),
    currentTimeNanosUnsafe: () => BigInt(world.now + process.skew) * 1_000_000n,
    currentTimeNanos: Effect.sync(() => BigInt(world.now + process.skew) * 1_000_000n),
    monotonicTimeNanosUnsafe: () => BigInt(Math.round(monotonic(world.elapsed) * 1_000_000)),
    monotonicTimeNanos: Effect.sync(() => BigInt(Math.round(monotonic(world.elapsed) * 1_000_000))),
    sleep: (duration) => {
      const milliseconds = Duration.toMillis(duration)
      if (milliseconds <= 0) return Effect.yieldNow
      if (!Number.isFinite(milliseconds)) return Effect.never
      return Effect.callback((resume) => {
        const timer = world.after(Math.ceil(milliseconds), () => process.schedule(() => resume(Effect.void)))
        return Effect.sync(() => {
          timer.cancelled = true
        })
      })
    }
  }
  const random = {
    nextIntUnsafe: () => rng.int(Number.MIN_SAFE_INTEGER / 2, Number.MAX_SAFE_INTEGER / 2),
    nextDoubleUnsafe: rng.next
  }
  const logger = Logger.make<unknown, void>(({ logLevel, message }) => {
    if (world.tells) world.note(process.name, `${logLevel}: ${[message].flat().map(String).join(" ")}`)
  })
  return Context.make(CurrentProcess, process).pipe(
    Context.add(Scheduler.Scheduler, scheduler),
    Context.add(Clock.Clock, clock),
    Context.add(Random.Random, random),
    Context.add(
      SecureRandom,
      makeSecureRandom((size) => Uint8Array.from({ length: size }, () => rng.int(0, 255)))
    ),
    // Of this process, not of the one that simulates it: nobody takes a killed worker out of it
    Context.add(WorkerHealth, WorkerHealth.defaultValue()),
    Context.add(
      ProcessHealth,
      Effect.succeed(() => ({ memory: 0, eventLoopDelay: 0 }))
    ),
    Context.add(References.MinimumLogLevel, "Info"),
    Context.add(Logger.CurrentLoggers, new Set([logger]))
  ) as Context.Context<never>
}
