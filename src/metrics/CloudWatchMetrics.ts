/**
 * CloudWatch through its embedded metric format: JSON lines on stdout, which the CloudWatch agent, Lambda and ECS turn into
 * metrics. No SDK, no credentials, no calls. Events are added up in memory and flushed as one line per combination of
 * dimensions (queue and type, queue, broker, or none), within the format's limits; the rest is flushed when the layer closes.
 *
 * Counts are exact. Of durations each line carries at most 100: with more in one interval a random sample of them, so
 * percentiles stay right while SampleCount does not (take the counters for that).
 */
import * as Clock from "effect/Clock"
import * as Console from "effect/Console"
import type * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Random from "effect/Random"
import type * as Scope from "effect/Scope"
import type { FleetStats } from "../store/JobStoreDriver.ts"
import { type Instrument, instruments } from "./Instruments.ts"
import type { Sink } from "./Merge.ts"
import type { MetricEvent } from "./MetricEvent.ts"

/** How metrics are published. */
export interface Options {
  /** The CloudWatch namespace, 1 to 255 characters. Default `Polyqueue`. */
  readonly namespace?: string | undefined
  /** Further dimensions of every metric, such as `{ service: "mailer" }`. At most 7: each combination costs money. */
  readonly dimensions?: Readonly<Record<string, string>> | undefined
  /** Time between two flushes. Default 60 seconds, the resolution of CloudWatch metrics. */
  readonly flushEvery?: Duration.Input | undefined
}

const units: Readonly<Record<string, string>> = { s: "Seconds", By: "Bytes", "1": "None" }
const maxValues = 100
/** Of 9 that the format allows, less ours. */
const maxDimensions = 7
const maxDimensionLength = 1_024

/** One metric of one combination of dimensions, since the last flush. */
interface Cell {
  readonly instrument: Instrument
  /** Sum of a counter, last value of a gauge. */
  value: number
  /** Of a histogram: a sample of what was seen. */
  readonly values: Array<number>
  seen: number
}

interface Group {
  readonly dimensions: Readonly<Record<string, string>>
  readonly cells: Map<string, Cell>
}

/** What the format does not allow, which is a mistake in the code that composes the layer. */
const problemOf = (namespace: string, dimensions: Readonly<Record<string, string>>): string | undefined => {
  if (namespace.length < 1 || namespace.length > 255) return "the namespace must have 1 to 255 characters"
  const names = Object.keys(dimensions)
  if (names.length > maxDimensions) return `there may be ${maxDimensions} dimensions besides ours, not ${names.length}`
  return names.some((name) => name === "" || name.length > 250)
    ? "a dimension must be named, in 250 characters"
    : undefined
}

/** Makes the sink; it flushes until the scope closes, and then once more. Dies of options that the format does not allow. */
export const make = Effect.fnUntraced(function* (options: Options = {}): Effect.fn.Return<Sink, never, Scope.Scope> {
  const namespace = options.namespace ?? "Polyqueue"
  const fixed = options.dimensions ?? {}
  const problem = problemOf(namespace, fixed)
  if (problem !== undefined) return yield* Effect.die(new Error(`Metrics.layerCloudWatch: ${problem}`))
  const random = yield* Random.Random
  let groups = new Map<string, Group>()

  const put = (instrument: Instrument, dimensions: Readonly<Record<string, string>>, value: number): void => {
    const key = `${Object.keys(dimensions).join()}\u0000${Object.values(dimensions).join("\u0000")}`
    let group = groups.get(key)
    if (group === undefined) groups.set(key, (group = { dimensions, cells: new Map() }))
    let cell = group.cells.get(instrument.name)
    if (cell === undefined) {
      cell = { instrument, value: 0, values: [], seen: 0 }
      group.cells.set(instrument.name, cell)
    }
    if (instrument.kind === "counter") cell.value += value
    else if (instrument.kind === "gauge") cell.value = value
    else {
      cell.seen += 1
      const at = cell.seen <= maxValues ? cell.seen - 1 : Math.floor(random.nextDoubleUnsafe() * cell.seen)
      if (at < maxValues) cell.values[at] = value
    }
  }

  const line = ({ cells, dimensions }: Group, now: number): string => {
    const all = { ...fixed, ...dimensions }
    const metrics = Array.from(cells.values(), ({ instrument: { kind, name, unit }, value, values }) => ({
      definition: { Name: name, Unit: units[unit] ?? "Count" },
      value: kind === "histogram" ? values : value
    }))
    return JSON.stringify({
      _aws: {
        Timestamp: Math.round(now),
        CloudWatchMetrics: [
          {
            Namespace: namespace,
            Dimensions: [Object.keys(all)],
            Metrics: metrics.map(({ definition }) => definition)
          }
        ]
      },
      ...Object.fromEntries(Object.entries(all).map(([name, text]) => [name, dimensionOf(text)])),
      ...Object.fromEntries(metrics.map(({ definition, value }) => [definition.Name, value]))
    })
  }

  const flush = Effect.gen(function* () {
    const now = yield* Clock.currentTimeMillis
    const flushed = groups
    groups = new Map()
    yield* Effect.forEach(flushed.values(), (group) => Console.log(line(group, now)), { discard: true })
  })
  yield* Effect.addFinalizer(() => flush)
  yield* Effect.forkScoped(Effect.forever(Effect.andThen(Effect.sleep(options.flushEvery ?? "60 seconds"), flush)))
  return { enabled: true, record: (event) => recordWith(put, event) }
})

/** CloudWatch takes no empty values, and no longer ones. */
const dimensionOf = (text: string): string => (text === "" ? "-" : text.slice(0, maxDimensionLength))

type Put = (instrument: Instrument, dimensions: Readonly<Record<string, string>>, value: number) => void

const recordFleet = (put: Put, { queues, relayLag }: FleetStats): void => {
  for (const one of queues) {
    const at = { queue: one.queue }
    for (const state of ["due", "waiting", "processing", "succeeded", "failed", "cancelled"] as const) {
      put({ ...instruments.queueJobs, name: `${instruments.queueJobs.name}.${state}` }, at, one[state])
    }
    put(instruments.claimable, at, one.claimable)
    put(instruments.stale, at, one.stale)
    put(instruments.oldestAge, at, one.oldestAge / 1_000)
  }
  put(instruments.relayLag, {}, relayLag / 1_000)
}

const outcomeOf = (instrument: Instrument, outcome: string): Instrument => ({
  ...instrument,
  name: `${instrument.name}.${outcome}`
})

const recordWith = (put: Put, event: MetricEvent): void => {
  switch (event._tag) {
    case "Enqueued": {
      const at = { queue: event.queue, type: event.type }
      if (event.count > 0) put(instruments.sent, at, event.count)
      if (event.duplicates > 0) put(instruments.deduplicated, at, event.duplicates)
      return
    }
    case "Started": {
      const at = { queue: event.queue, type: event.type }
      put(instruments.consumed, at, 1)
      return put(instruments.wait, at, event.waited / 1_000)
    }
    case "Ended": {
      const at = { queue: event.queue, type: event.type }
      put(outcomeOf(instruments.attempts, event.outcome), at, 1)
      put(instruments.processed, at, event.ran / 1_000)
      if (event.final) {
        put(outcomeOf(instruments.ended, event.outcome), at, 1)
        put(instruments.attemptsPerJob, at, event.attempt)
      } else if (event.outcome === "failed" || event.outcome === "timedOut") put(instruments.retried, at, 1)
      return
    }
    case "LeaseLost":
      return put(instruments.leasesLost, { queue: event.queue, type: event.type }, 1)
    case "Reaped": {
      const at = { queue: event.queue, type: event.type }
      put(outcomeOf(instruments.attempts, event.outcome), at, 1)
      put(instruments.reaped, at, 1)
      return put(event.final ? outcomeOf(instruments.ended, event.outcome) : instruments.retried, at, 1)
    }
    case "HintsPublished":
      if (event.count > 0) put(instruments.hints, { broker: event.broker }, event.count)
      if (event.failed > 0) put(instruments.hintsFailed, { broker: event.broker }, event.failed)
      return
    case "Fleet":
      return recordFleet(put, event.stats)
    case "WorkerState": {
      // Without the worker's name, which would be a new metric with every start: the sum is the fleet's
      put(instruments.slots, {}, event.slots)
      put(instruments.running, {}, event.running)
      put(instruments.draining, {}, event.draining ? 1 : 0)
      put(instruments.eventLoopDelay, {}, event.eventLoopDelay / 1_000)
      return put(instruments.memory, {}, event.memory)
    }
    case "Worker":
      return put(outcomeOf(instruments.workerEvents, event.event), {}, 1)
    case "LoopFailed":
      return put(instruments.loopFailures, { loop: event.loop }, 1)
  }
}
