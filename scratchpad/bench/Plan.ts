/** What is measured, in which order: the systems of one scenario alternate, so that they share the machine's moods. */
import { kinds } from "./Crowd.ts"
import type { Request } from "./Measurement.ts"

/** One scenario, and the systems it is measured on. */
export interface Scenario {
  readonly title: string
  /** Scenario of the system's module. */
  readonly name: string
  readonly systems: ReadonlyArray<string>
  /** What else is in the table: the scenario is measured beside each of them in turn, and compared with the first. */
  readonly crowds?: ReadonlyArray<string>
  /** Filled with jobs before, by a process of its own. */
  readonly isFilled?: boolean
  /** What differs from the common request. */
  readonly options?: Partial<Request>
  /** How often; default the number of rounds. */
  readonly rounds?: number
}

/** How much: all of it, or what fits into 50 seconds; and an hour for one more. */
export interface Amounts {
  readonly isQuick: boolean
  readonly withHour: boolean
  readonly withPeers: boolean
  readonly hasRedis: boolean
  readonly hasRedisAlways: boolean
  readonly hasPgbench: boolean
}

/** How many of a crowd there are. */
export const crowdSize = (crowd: string): number =>
  crowd === "expired" ? 50_000 : crowd === "finished" ? 2_000_000 : 1_000_000

/** The system that ratios are of. */
export const ours = "polyqueue"

/** BullMQ on a Redis that answers when what it was told is on the disk, as Postgres does. */
export const bullmqAlways = "BullMQ, appendfsync always"

/** The scenarios in order. */
export const scenarios = ({
  hasPgbench,
  hasRedis,
  hasRedisAlways,
  isQuick,
  withHour,
  withPeers
}: Amounts): ReadonlyArray<Scenario> => {
  const peers = withPeers ? ["graphile-worker", "pg-boss", ...(hasRedis ? ["BullMQ"] : [])] : []
  const durable = withPeers && hasRedisAlways ? [...peers, bullmqAlways] : peers
  const seconds = isQuick ? 1 : 4
  const jobs = isQuick ? 15_000 : 30_000
  const enqueue = [1, 20, 200].map((callers): Scenario => ({
    title: `enqueue, ${callers} caller${callers === 1 ? "" : "s"}`,
    name: "enqueue",
    systems: [ours, ...(callers === 1 && isQuick ? [] : durable)],
    options: { callers, seconds }
  }))
  const always: ReadonlyArray<Scenario> = [
    ...enqueue,
    { title: "enqueueAll, batches of 1,000", name: "enqueueAll", systems: [ours, ...durable], options: { jobs } },
    {
      title: `drain of ${jobs.toLocaleString("en")} no-op jobs`,
      name: "drain",
      systems: [ours, ...(hasPgbench ? ["pgbench"] : []), ...durable],
      isFilled: true,
      options: { jobs }
    },
    {
      title: "pick-up latency, p50",
      name: "pickUp",
      systems: [ours, "polyqueue, doorbell", ...peers],
      options: { samples: isQuick ? 200 : 2_000 }
    }
  ]
  const more: ReadonlyArray<Scenario> = [
    { title: "cost of a drain", name: "drainCosts", systems: [ours], isFilled: true, options: { jobs }, rounds: 1 },
    {
      title: "drain of 5 ms jobs",
      name: "drain",
      systems: [ours, ...peers],
      isFilled: true,
      options: { jobs: 15_000, work: 5 }
    },
    {
      title: "pick-up latency beside 2,000 jobs/s, p50",
      name: "pickUp",
      systems: [ours, ...peers],
      options: { samples: 2_000, load: 2_000 },
      rounds: 1
    },
    { title: "drain by two workers", name: "drainByTwo", systems: [ours], isFilled: true, options: { jobs } },
    { title: "jobs that fail once, at once retried", name: "retries", systems: [ours], options: { jobs } },
    {
      title: "drain, other brokers and stores",
      name: "drain",
      systems: [...(hasRedis ? ["polyqueue on Redis"] : []), "polyqueue on PGMQ", "polyqueue on PGlite"],
      isFilled: true,
      options: { jobs: 15_000 }
    },
    {
      title: "drain beside others",
      name: "drainBeside",
      systems: [ours],
      crowds: ["nothing else", ...kinds],
      options: { jobs },
      rounds: 3
    },
    { title: "worker at rest", name: "rest", systems: [ours], options: { seconds: 30 }, rounds: 1 }
  ]
  const hour: Scenario = {
    title: "memory of a worker in an hour of 200 jobs/s",
    name: "memory",
    systems: [ours],
    options: { seconds: 3_600, load: 200 },
    rounds: 1
  }
  return [...always, ...(isQuick ? [] : more), ...(withHour ? [hour] : [])]
}
