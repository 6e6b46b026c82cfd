/**
 * The ports of one simulated process: store, broker and registry behind the network, with a named point before and after
 * every step that matters. Production code has no hooks: all that strikes it strikes here.
 */
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import { Broker } from "../../Broker.ts"
import type { BrokerDriver, Consumer, Hint, ItemOutcome } from "../../broker/BrokerDriver.ts"
import { BrokerError, StoreError } from "../../JobError.ts"
import * as JobStore from "../../JobStore.ts"
import { Metrics } from "../../Metrics.ts"
import type { Ports } from "../../Polyqueue.ts"
import type { JobStoreDriver, Lease } from "../../store/JobStoreDriver.ts"
import { WorkerRegistry } from "../../WorkerRegistry.ts"
import type { WorkerRegistryDriver } from "../../registry/WorkerRegistryDriver.ts"
import type { BellServer } from "./BellServer.ts"
import type { Chaos, Point } from "./Chaos.ts"
import { HintServer } from "./HintServer.ts"
import * as Network from "./Network.ts"
import type { Process } from "./Process.ts"

/** What every process talks to. */
export interface Servers {
  /** Runs what arrives; never dies. */
  readonly process: Process
  /** The store as a process sees it. */
  readonly storeFor: (process: Process) => JobStoreDriver
  readonly broker: HintServer | BellServer
  readonly registry: WorkerRegistryDriver
  readonly metrics: Metrics["Service"]
  /** A process got the answer to a claim. */
  readonly heard: (lease: Lease) => void
  /** A process heard that it has lost an attempt, or that it is to be cancelled. */
  readonly toldToStop: (lease: Lease) => void
  /** Who beats under which id. */
  readonly workers: Map<string, Process>
}

/** How long a process waits for the store: as long as the sessions on Postgres do. */
const deadline = 15_000
/** Renewals do not wait as long. */
const renewalDeadline = 5_000
/** A bounded step of maintenance is cut down to so many rows, now and then: the rest is for the next sweep. */
const smallBatch = 2

export const layer = (servers: Servers, chaos: Chaos, process: Process): Layer.Layer<Ports> =>
  Layer.effectContext(
    Effect.map(JobStore.make(storeOf(servers, chaos, process)), (store) =>
      Context.make(JobStore.JobStore, store).pipe(
        Context.add(Broker, brokerOf(servers, chaos, process)),
        Context.add(WorkerRegistry, registryOf(servers, chaos, process)),
        Context.add(Metrics, servers.metrics)
      )
    )
  )

const storeError = (operation: string) => (why: string) =>
  new StoreError({ reason: "Unavailable", operation, message: `${operation}: ${why} (simulated)` })

const storeOf = (servers: Servers, chaos: Chaos, process: Process): JobStoreDriver => {
  const driver = servers.storeFor(process)
  const call = <A>(
    operation: string,
    effect: Effect.Effect<A, StoreError>,
    before?: Point,
    after?: (answer: A) => Point | undefined
  ) =>
    Network.call(
      chaos,
      servers.process,
      process,
      {
        operation,
        before,
        after,
        deadline: operation === "renew" ? renewalDeadline : deadline,
        error: storeError(operation)
      },
      effect
    )
  /** A sweep that is cut short, now and then, or always by a process whose sweeps kill it. */
  const limited = (limit: number) => {
    const dies = chaos.isBroken(process, "mid-batch")
    return dies ? 1 : !chaos.isHealed && chaos.world.rng.chance(0.3) ? Math.min(limit, smallBatch) : limit
  }
  const swept =
    <A>(limit: number, point: Point) =>
    (rows: ReadonlyArray<A>): Point | undefined => {
      if (rows.length === 0) return undefined
      if (chaos.isBroken(process, "mid-batch")) process.kill("mid-batch, as always")
      return rows.length === limit ? "mid-batch" : point
    }

  return {
    ...driver,
    enqueue: (jobs) =>
      call("enqueue", driver.enqueue(jobs), "before-enqueue", () => "after-enqueue-commit/before-publish"),
    claim: (request) =>
      Effect.tap(
        call("claim", driver.claim(request), "before-claim", (jobs) =>
          jobs.length > 0 ? "after-claim-commit" : undefined
        ),
        (jobs) => Effect.sync(() => jobs.forEach(servers.heard))
      ),
    claimHinted: (request) =>
      Effect.tap(
        call("claim", driver.claimHinted(request), "after-receive/before-claim", ({ claimed }) =>
          claimed.length > 0 ? "after-claim-commit" : undefined
        ),
        ({ claimed }) => Effect.sync(() => claimed.forEach(servers.heard))
      ),
    nextDue: (ranges) => call("nextDue", driver.nextDue(ranges)),
    settle: (worker, settlements) =>
      call(
        "settle",
        driver.settle(worker, settlements),
        "after-handler/before-settle",
        () => "after-settle/before-ack"
      ),
    renew: (leases, lease) =>
      Effect.tap(
        call("renew", driver.renew(leases, lease), "before-renewal", () => "after-renewal-send"),
        ({ cancelled, lost }) => Effect.sync(() => [...lost, ...cancelled].forEach(servers.toldToStop))
      ),
    progress: (reports) => call("progress", driver.progress(reports)),
    abandon: (worker, claims) => call("abandon", driver.abandon(worker, claims), undefined, () => "after-abandon"),
    get: (ids) => call("get", driver.get(ids)),
    ended: (ids) => call("ended", driver.ended(ids)),
    attempts: (id) => call("attempts", driver.attempts(id)),
    list: (filter) => call("list", driver.list(filter)),
    stats: call("stats", driver.stats),
    cancel: (ids) => call("cancel", driver.cancel(ids)),
    requeue: (id) => call("requeue", driver.requeue(id)),
    // What people on call do
    find: (request) => call("control", driver.find(request)),
    act: (request) => call("control", driver.act(request)),
    pause: (request) => call("control", driver.pause(request)),
    resume: (request) => call("control", driver.resume(request)),
    reap: (options) =>
      Effect.suspend(() => {
        const limit = limited(options.limit)
        return call("reap", driver.reap({ ...options, limit }), "before-reap", swept(limit, "after-reap"))
      }),
    reapTimeouts: (options) =>
      Effect.suspend(() => {
        const limit = limited(options.limit)
        return call("reap", driver.reapTimeouts({ ...options, limit }), "before-reap", swept(limit, "after-reap"))
      }),
    takeHints: (options) =>
      Effect.suspend(() => {
        const limit = limited(options.limit)
        return call("takeHints", driver.takeHints({ ...options, limit }), undefined, (hints) =>
          hints.length > 0 ? "after-take-hints/before-publish" : undefined
        )
      }),
    prune: (retention, limit) => call("prune", driver.prune(retention, limit))
  }
}

const brokerOf = (servers: Servers, chaos: Chaos, process: Process): BrokerDriver => {
  const { broker } = servers
  const call = <A>(operation: string, effect: Effect.Effect<A>, wait = 0, after?: Point) =>
    Network.call(
      chaos,
      servers.process,
      process,
      {
        operation: `broker.${operation}`,
        after: after === undefined ? undefined : () => after,
        deadline: deadline + wait,
        error: (why) =>
          new BrokerError({ reason: "Unavailable", operation, message: `${operation}: ${why} (simulated)` })
      },
      effect
    )
  const all = (hints: ReadonlyArray<unknown>, outcome: ItemOutcome) => hints.map(() => outcome)

  /** One half, then the other: a publisher can die in between. */
  const publish = (hints: ReadonlyArray<Hint>): ReadonlyArray<ItemOutcome> => {
    if (!(broker instanceof HintServer)) {
      broker.ring(hints)
      return all(hints, { _tag: "Ok" })
    }
    const half = hints.length >> 1
    if (half === 0) return broker.publish(hints)
    const first = broker.publish(hints.slice(0, half))
    return chaos.visit("mid-batch", process) ? [...first, ...broker.publish(hints.slice(half))] : first
  }

  const consumer = (queues: ReadonlyArray<string>, lease: number): Effect.Effect<Consumer> =>
    broker instanceof HintServer
      ? Effect.succeed({
          receive: ({ max, wait }) => call("receive", broker.receive(queues, lease, max, wait), wait),
          ack: (deliveries) =>
            call(
              "ack",
              Effect.sync(() => broker.ack(deliveries)),
              0,
              "after-ack"
            ),
          extend: (deliveries, extension) =>
            call(
              "extend",
              Effect.sync(() => broker.extend(deliveries, extension))
            ),
          release: (deliveries, delay) =>
            call(
              "release",
              Effect.sync(() => broker.release(deliveries, delay))
            )
        })
      : Effect.map(broker.subscribe(queues), (bell) => ({
          receive: ({ wait }) => call("receive", Effect.as(bell.wait(wait), []), wait),
          ack: (deliveries) => Effect.succeed(all(deliveries, { _tag: "LeaseLost" })),
          extend: (deliveries) => Effect.succeed(all(deliveries, { _tag: "LeaseLost" })),
          release: (deliveries) => Effect.succeed(all(deliveries, { _tag: "LeaseLost" }))
        }))

  return {
    capabilities: broker.capabilities,
    publish: (hints) =>
      call(
        "publish",
        Effect.sync(() => publish(hints)),
        0,
        "after-publish"
      ),
    consumer: ({ lease, queues }) => consumer(queues, lease),
    depth: (queue) => Effect.sync(() => (broker instanceof HintServer ? broker.depth(queue) : undefined)),
    purge: (queue) => Effect.sync(() => (broker instanceof HintServer ? broker.flush(queue) : undefined)),
    health: Effect.succeed({ ok: true, problems: [] })
  }
}

const registryOf = (servers: Servers, chaos: Chaos, process: Process): WorkerRegistryDriver => {
  const { registry } = servers
  const call = <A>(effect: Effect.Effect<A, StoreError>, after?: Point) =>
    Network.call(
      chaos,
      servers.process,
      process,
      {
        operation: "registry",
        after: after === undefined ? undefined : () => after,
        deadline,
        error: storeError("registry")
      },
      effect
    )
  return {
    ...registry,
    heartbeat: (info) =>
      Effect.suspend(() => {
        servers.workers.set(info.id, process)
        return call(registry.heartbeat(info), "after-heartbeat")
      }),
    tell: (request) =>
      call(
        Effect.tap(registry.tell(request), () =>
          Effect.sync(() => {
            chaos.count(`told to ${request.order ?? "go on"}`)
            // It gives back what it runs, once it has heard of it
            if (request.order === "stop") servers.workers.get(request.id)?.injure("stopped", Infinity)
          })
        )
      ),
    setConcurrency: (request) => call(registry.setConcurrency(request)),
    stop: (id) => call(registry.stop(id)),
    reapStale: (threshold) => call(registry.reapStale(threshold)),
    prune: (age) => call(registry.prune(age)),
    list: call(registry.list)
  }
}
