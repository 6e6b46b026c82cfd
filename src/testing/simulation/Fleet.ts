/**
 * The workers of a run: so many places, each with a process that runs the real `Worker.layer`, and another one soon after
 * it is gone, as a supervisor would. Handlers are watched: when they begin and how they end goes into the history.
 */
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Layer from "effect/Layer"
import * as Option from "effect/Option"
import { CurrentJob } from "../../CurrentJob.ts"
import type { Any, HandlerService } from "../../Job.ts"
import type { Defaults } from "../../JobPolicy.ts"
import { Polyqueue } from "../../Polyqueue.ts"
import * as Worker from "../../Worker.ts"
import type { Chaos } from "./Chaos.ts"
import type { History } from "./History.ts"
import * as Ports from "./Ports.ts"
import { Process } from "./Process.ts"
import type { Rng } from "./Rng.ts"
import type { Setup } from "./Setup.ts"

/** A worker that was asked to stop is killed after this long, as every supervisor does. */
const patience = 40_000
/** Until when a handler may be struck by `mid-handler`, at the latest. */
const midHandler = 500

export interface FleetOptions {
  readonly jobs: ReadonlyArray<Any>
  readonly handlers: Layer.Layer<never>
  readonly servers: Ports.Servers
  readonly setup: Setup
  readonly defaults: Defaults
  /** Put between the worker and every handler: for controls that break a promise on purpose. */
  readonly aroundHandler: (run: HandlerService["run"]) => HandlerService["run"]
  /** Of every worker: as `ProcessOptions.monotonic`. */
  readonly monotonic: (elapsed: number) => number
}

interface Member {
  readonly process: Process
  readonly stop: () => void
}

export class Fleet {
  /** Processes started so far. */
  started = 0
  readonly #chaos: Chaos
  readonly #history: History
  readonly #options: FleetOptions
  readonly #members: Array<Member | undefined>
  readonly #generation: Array<number>

  constructor(chaos: Chaos, history: History, options: FleetOptions) {
    this.#chaos = chaos
    this.#history = history
    this.#options = options
    this.#members = options.setup.places.map(() => undefined)
    this.#generation = options.setup.places.map(() => 0)
    options.setup.places.forEach((_, place) => this.#start(place))
  }

  alive(): ReadonlyArray<Process> {
    return this.#members.flatMap((member) => (member?.process.isAlive === true ? [member.process] : []))
  }

  /** Asks one worker to stop, as a deploy does. */
  stopOne(rng: Rng): boolean {
    const alive = this.#members.filter((member) => member?.process.isAlive === true)
    if (alive.length === 0) return false
    const { process, stop } = rng.pick(alive)!
    const { world } = this.#chaos
    process.injure("stopped", patience)
    world.tell(process.name, "is asked to stop")
    stop()
    world.after(patience, () => process.kill("because it does not stop"))
    return true
  }

  #start(place: number): void {
    const { defaults, monotonic, servers, setup } = this.#options
    const { broken, knows, options } = setup.places[place]!
    const jobs = this.#options.jobs.slice(0, Math.max(1, Math.ceil(knows * this.#options.jobs.length)))
    const { faults, world } = this.#chaos
    const generation = ++this.#generation[place]!
    const process = new Process(world, `worker-${place + 1}.${generation}`, {
      rng: world.rng.fork(),
      yields: setup.yields,
      defaults,
      monotonic,
      skew: faults.clockSkew === 0 ? 0 : world.rng.int(-faults.clockSkew, faults.clockSkew)
    })
    if (this.started++ === 0) process.killAtStep = setup.killFirstAtStep
    if (broken.size > 0) {
      this.#chaos.broken.set(process.name, broken)
      // What keeps failing explains what becomes of its attempts
      for (const kind of broken) {
        process.injure(kind === "store" ? "renew" : kind, Infinity)
        this.#chaos.count(`${kind} always fails`)
      }
    }
    if (jobs.length < this.#options.jobs.length) this.#chaos.count("old version")
    const layer = Worker.layer(jobs, { name: process.name, ...options }).pipe(
      Layer.provide(this.#handlers(process)),
      // Told to stop for good: its process ends, and is followed by another
      Layer.provide(
        Layer.succeed(
          Worker.OnStopped,
          Effect.sync(() => stop())
        )
      ),
      Layer.provide(Polyqueue.layer.pipe(Layer.provideMerge(Ports.layer(servers, this.#chaos, process))))
    ) as Layer.Layer<never, unknown>
    world.tell(process.name, "starts")
    const stop = process.run(Effect.scoped(Effect.andThen(Layer.build(layer), Effect.never)), (exit) => {
      world.tell(process.name, Exit.hasInterrupts(exit) ? "has stopped" : "could not start")
      this.#history.stopped(process)
    })
    process.onGone = () => {
      world.after(world.rng.int(1, setup.restartWithin), () => this.#start(place))
    }
    this.#members[place] = { process, stop }
  }

  /** The handlers, built anew in this process, each watched. */
  #handlers(process: Process): Layer.Layer<never> {
    return Layer.effectContext(
      Effect.map(Layer.build(this.#options.handlers), (context) => {
        let watched: Context.Context<never> = context
        for (const { definition } of this.#options.jobs) {
          const handler = Context.getUnsafe(context, definition.handler) as HandlerService
          const run = this.#options.aroundHandler(this.#watch(process, handler.run))
          watched = Context.add(watched, definition.handler, { ...handler, run }) as Context.Context<never>
        }
        return watched
      })
    )
  }

  #watch(process: Process, run: HandlerService["run"]): HandlerService["run"] {
    const chaos = this.#chaos
    const history = this.#history
    return (payload) =>
      Effect.flatMap(Effect.serviceOption(CurrentJob), (current) => {
        if (Option.isNone(current)) return run(payload)
        const { attempt, id, interruption } = current.value
        history.started(process, id, attempt)
        if (!chaos.visit("mid-handler", process)) return Effect.never
        const timer = chaos.world.after(chaos.world.rng.int(1, midHandler), () => chaos.visit("mid-handler", process))
        return Effect.onExit(run(payload), (exit) =>
          Effect.map(interruption, (reason) => {
            timer.cancelled = true
            if (!process.isAlive) return
            const how = Exit.isSuccess(exit) ? "success" : Exit.hasInterrupts(exit) ? "interrupted" : "failure"
            history.ran(process, id, attempt, how, Option.isSome(reason))
          })
        )
      })
  }
}
