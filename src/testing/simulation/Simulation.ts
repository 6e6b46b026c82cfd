/**
 * One run: a world from a seed, servers that never fail by themselves, a fleet of real workers, clients that enqueue, and
 * the nemesis. Everything is synchronous but for handlers that wait for promises: `drive` gives way whenever time is about
 * to move, so that those can settle.
 */
import * as Cause from "effect/Cause"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import type { Any, HandlerService } from "../../Job.ts"
import type { Defaults } from "../../JobPolicy.ts"
import { Admin } from "../../Admin.ts"
import { Polyqueue } from "../../Polyqueue.ts"
import * as MemoryWorkerRegistry from "../../registry/MemoryWorkerRegistry.ts"
import * as MemoryJobStore from "../../store/MemoryJobStore.ts"
import type { JobRecord, JobStoreDriver } from "../../store/JobStoreDriver.ts"
import { BellServer } from "./BellServer.ts"
import { Chaos } from "./Chaos.ts"
import * as Checker from "./Checker.ts"
import { Fleet } from "./Fleet.ts"
import { History, isEnd } from "./History.ts"
import { HintServer } from "./HintServer.ts"
import * as Nemesis from "./Nemesis.ts"
import * as Ports from "./Ports.ts"
import { Process } from "./Process.ts"
import * as Recorder from "./Recorder.ts"
import * as Rng from "./Rng.ts"
import type { Mode, Setup } from "./Setup.ts"
import { World } from "./World.ts"

export interface Options {
  readonly seed: number
  readonly mode: Mode
  readonly setup: Setup
  readonly jobs: ReadonlyArray<Any>
  readonly handlers: Layer.Layer<never>
  /** What clients do, each in a process of its own. `isVulnerable`: points may kill it. */
  readonly clients: ReadonlyArray<{
    readonly program: Effect.Effect<unknown, unknown, Polyqueue | Admin>
    readonly isVulnerable: boolean
  }>
  readonly defaults: Defaults
  /** Keeps the story. */
  readonly tells: boolean
  /** Controls that break a promise on purpose, to see that it is noticed. */
  readonly sabotage?: {
    readonly store?: (driver: JobStoreDriver) => JobStoreDriver
    readonly handler?: (run: HandlerService["run"]) => HandlerService["run"]
    /** What the monotonic clocks of workers say, in ms, when so many have gone by. */
    readonly monotonic?: (elapsed: number) => number
  }
}

/** Steps at one instant after which nobody believes that it comes to rest. */
const maxSteps = 300_000
/** Once faults have ceased, everything ends within this many simulated ms. */
const liveness = 300_000
/** What may still arrive when everything has ended. */
const tail = 3_000

export class Simulation {
  readonly world: World
  readonly chaos: Chaos
  readonly history: History
  readonly fleet: Fleet
  /** Places of workers. */
  readonly places: number
  readonly metrics = { loopsRestarted: 0, leasesLost: 0 }
  /** Why clients ended without having done what they wanted. */
  readonly clientFailures: Array<string> = []
  readonly broker: HintServer | BellServer
  readonly #driver: JobStoreDriver
  readonly #server: Process
  readonly #options: Options
  readonly #clients: ReadonlyArray<Process>

  constructor(options: Options) {
    const rng = Rng.make(options.seed)
    const { broker, brokerOnlyLoses, faults, inOrder } = options.setup
    this.#options = options
    this.places = options.setup.places.length
    this.world = new World(rng, { inOrder, tells: options.tells })
    this.chaos = new Chaos(this.world, faults, brokerOnlyLoses)
    this.history = new History(this.world)
    this.#server = new Process(this.world, "server", { rng: rng.fork(), yields: 0, isVulnerable: false })
    const driver = this.ask(MemoryJobStore.make)
    this.#driver = options.sabotage?.store?.(driver) ?? driver
    this.broker =
      broker === "bell"
        ? new BellServer(this.chaos)
        : new HintServer(this.chaos, broker, () => [...this.history.jobs.keys()])
    const servers: Ports.Servers = {
      process: this.#server,
      storeFor: (process) => Recorder.make(this.#driver, this.history, this.world, process),
      broker: this.broker,
      registry: this.ask(MemoryWorkerRegistry.make),
      heard: (lease) => this.history.heard(lease),
      toldToStop: (lease) => this.history.toldToStop(lease),
      workers: new Map(),
      metrics: {
        enabled: true,
        record: (event) => {
          if (event._tag === "LoopFailed") this.metrics.loopsRestarted++
          else if (event._tag === "LeaseLost") this.metrics.leasesLost++
        }
      }
    }
    this.fleet = new Fleet(this.chaos, this.history, {
      jobs: options.jobs,
      handlers: options.handlers,
      servers,
      setup: options.setup,
      defaults: options.defaults,
      aroundHandler: options.sabotage?.handler ?? ((run) => run),
      monotonic: options.sabotage?.monotonic ?? ((elapsed) => elapsed)
    })
    this.#clients = options.clients.map(({ isVulnerable, program }, i) =>
      this.#client(servers, i, isVulnerable, program)
    )
    Nemesis.start(
      this.chaos,
      this.fleet,
      () => {
        if (this.broker instanceof HintServer) this.broker.flush()
      },
      () => {
        const { keptFor } = faults
        const retention = { succeeded: keptFor, failed: keptFor, cancelled: keptFor, attempts: undefined }
        this.ask(servers.storeFor(this.#server).prune(retention, 100))
      }
    )
    if (options.mode === "liveness") this.world.after(options.setup.faultsFor, () => this.chaos.heal())
  }

  /** Runs to the end. Yields before time moves. */
  *drive(): Generator<void, void> {
    const { mode, setup } = this.#options
    const limit = mode === "safety" ? setup.faultsFor : setup.faultsFor + liveness
    let overAt = Infinity
    for (;;) {
      const before = this.world.steps
      while (this.world.runOne()) {
        if (this.world.steps - before > maxSteps) {
          this.history.violate("it comes to rest", `${maxSteps} steps at one instant`)
          return
        }
      }
      if (overAt === Infinity && this.#isOver()) overAt = this.world.elapsed + tail
      // What arrived late may have begun something anew
      if (overAt < Infinity && !this.#isOver()) overAt = Infinity
      if (this.world.elapsed >= Math.min(limit, overAt)) break
      yield
      if (!this.world.advance()) break
    }
    Checker.check(
      this.history,
      {
        row: (id) => this.row(id),
        log: (id) => this.ask(this.#driver.attempts(id))
      },
      mode === "liveness"
    )
  }

  /** Asks a server directly: no network, no time. */
  ask<A, E>(effect: Effect.Effect<A, E>): A {
    return Effect.runSyncWith(this.#server.context)(effect)
  }

  /** A job as it stands in the store. */
  row(id: string): JobRecord | undefined {
    return this.ask(this.#driver.get([id]))[0]
  }

  #isOver(): boolean {
    if (this.#clients.some(({ isAlive }) => isAlive)) return false
    for (const { status } of this.history.jobs.values()) if (!isEnd(status)) return false
    return true
  }

  #client(
    servers: Ports.Servers,
    index: number,
    isVulnerable: boolean,
    program: Effect.Effect<unknown, unknown, Polyqueue | Admin>
  ): Process {
    const { setup } = this.#options
    const process = new Process(this.world, `client-${index + 1}`, {
      rng: this.world.rng.fork(),
      yields: setup.yields,
      isVulnerable,
      defaults: this.#options.defaults
    })
    const history = this.history
    const ports = Ports.layer(servers, this.chaos, process)
    const watched = Layer.effect(
      Polyqueue,
      Effect.map(Polyqueue, (queue) => ({
        ...queue,
        enqueue: (draft) => Effect.tap(queue.enqueue(draft), ({ id }) => Effect.sync(() => history.acked(id))),
        enqueueAll: (drafts) =>
          Effect.tap(queue.enqueueAll(drafts), (made) => Effect.sync(() => made.forEach(({ id }) => history.acked(id))))
      }))
    ).pipe(Layer.provide(Polyqueue.layer))
    const services = Layer.merge(watched, Admin.layer).pipe(Layer.provide(ports))
    process.run(Effect.provide(program, services), (exit) => {
      if (exit._tag !== "Failure") return
      this.clientFailures.push(Cause.pretty(exit.cause))
      this.world.tell(process.name, `fails: ${String(exit.cause)}`)
    })
    return process
  }
}
