/** What many runs did, added up: how often each fault struck, what became of the jobs, how long recovery took. */
import { isEnd } from "./History.ts"
import { HintServer } from "./HintServer.ts"
import { points, type Point } from "./Chaos.ts"
import type { Simulation } from "./Simulation.ts"

export interface Tally {
  runs: number
  /** Runs with a violation. */
  violated: number
  jobs: number
  /** Jobs of the smallest and the largest run. */
  jobsPerRun: [least: number, most: number]
  /** Places of workers, and processes that were started in them. */
  places: number
  placesPerRun: [least: number, most: number]
  processes: number
  acked: number
  ended: number
  executions: number
  /** Handlers that succeeded in an attempt that did not count: each is explained by a fault, or a violation. */
  duplicates: number
  /** Attempts by outcome. */
  outcomes: Record<string, number>
  staleRefused: number
  leasesLost: number
  loopsRestarted: number
  hints: number
  steps: number
  simulatedMs: number
  /** From a worker's death to the end of each attempt it held, in ms. */
  recoveries: Array<number>
  faults: Record<string, number>
  /** Visits of each point, and how often a process was struck there. */
  points: Record<string, { reached: number; struck: number }>
}

export const make = (): Tally => ({
  runs: 0,
  violated: 0,
  jobs: 0,
  jobsPerRun: [Infinity, 0],
  places: 0,
  placesPerRun: [Infinity, 0],
  processes: 0,
  acked: 0,
  ended: 0,
  executions: 0,
  duplicates: 0,
  outcomes: {},
  staleRefused: 0,
  leasesLost: 0,
  loopsRestarted: 0,
  hints: 0,
  steps: 0,
  simulatedMs: 0,
  recoveries: [],
  faults: {},
  points: Object.fromEntries(
    points.map((point): [Point, { reached: number; struck: number }] => [point, { reached: 0, struck: 0 }])
  )
})

const widen = (range: [number, number], value: number): [number, number] => [
  Math.min(range[0], value),
  Math.max(range[1], value)
]

/** Adds a run that is over. */
export const add = (tally: Tally, { broker, chaos, fleet, history, metrics, places, world }: Simulation): void => {
  tally.runs++
  if (history.violations.length > 0) tally.violated++
  tally.jobs += history.jobs.size
  tally.jobsPerRun = widen(tally.jobsPerRun, history.jobs.size)
  tally.places += places
  tally.placesPerRun = widen(tally.placesPerRun, places)
  tally.processes += fleet.started
  for (const { attempts, isAcked, status } of history.jobs.values()) {
    if (isAcked) tally.acked++
    if (isEnd(status)) tally.ended++
    for (const { exit, outcome, startedAt } of attempts) {
      if (startedAt !== undefined) tally.executions++
      if (exit === "success" && outcome !== "succeeded") tally.duplicates++
      if (outcome !== undefined) tally.outcomes[outcome] = (tally.outcomes[outcome] ?? 0) + 1
    }
  }
  tally.staleRefused += history.staleRefused
  tally.leasesLost += metrics.leasesLost
  tally.loopsRestarted += metrics.loopsRestarted
  if (broker instanceof HintServer) tally.hints += broker.published
  tally.steps += world.steps
  tally.simulatedMs += world.elapsed
  tally.recoveries.push(...history.recoveries)
  for (const [fault, count] of chaos.injected) tally.faults[fault] = (tally.faults[fault] ?? 0) + count
  for (const point of points) {
    tally.points[point]!.reached += chaos.reached.get(point) ?? 0
    tally.points[point]!.struck += chaos.struck.get(point) ?? 0
  }
}

/** Adds another tally to the first. */
export const merge = (tally: Tally, other: Tally): void => {
  tally.runs += other.runs
  tally.violated += other.violated
  tally.jobs += other.jobs
  tally.jobsPerRun = span(tally.jobsPerRun, other.jobsPerRun)
  tally.places += other.places
  tally.placesPerRun = span(tally.placesPerRun, other.placesPerRun)
  tally.processes += other.processes
  tally.acked += other.acked
  tally.ended += other.ended
  tally.executions += other.executions
  tally.duplicates += other.duplicates
  sum(tally.outcomes, other.outcomes)
  tally.staleRefused += other.staleRefused
  tally.leasesLost += other.leasesLost
  tally.loopsRestarted += other.loopsRestarted
  tally.hints += other.hints
  tally.steps += other.steps
  tally.simulatedMs += other.simulatedMs
  tally.recoveries.push(...other.recoveries)
  sum(tally.faults, other.faults)
  for (const [point, { reached, struck }] of Object.entries(other.points)) {
    const all = (tally.points[point] ??= { reached: 0, struck: 0 })
    all.reached += reached
    all.struck += struck
  }
}

const span = (a: [number, number], b: [number, number]): [number, number] => [
  Math.min(a[0], b[0]),
  Math.max(a[1], b[1])
]

const sum = (counts: Record<string, number>, more: Record<string, number>): void => {
  for (const [name, count] of Object.entries(more)) counts[name] = (counts[name] ?? 0) + count
}
