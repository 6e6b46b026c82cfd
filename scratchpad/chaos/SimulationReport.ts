/** What a campaign of the simulation did, for people and as JSON lines. */
import type { Violation } from "../../src/testing/simulation/History.ts"
import type { Mode } from "../../src/testing/simulation/Setup.ts"
import * as Tally from "../../src/testing/simulation/Tally.ts"

/** All seeds of one mode. */
export interface Campaign {
  readonly mode: Mode
  /** The first seed. */
  readonly from: number
  /** Seconds it took. */
  readonly wall: number
  readonly threads: number
  readonly tally: Tally.Tally
  /** Seeds that were run twice, and did the same again or not. */
  readonly replays: { readonly same: number; readonly different: number }
}

/** The least number of times that everything has to strike in a full run. */
const enough = 50

/** The command that tells the story of a seed. */
export const replay = (mode: Mode, seed: number): string => `npm run chaos -- --simulate --mode ${mode} --seed ${seed}`

export const sentence = ({ at, message, rule }: Violation): string =>
  `${(at / 1_000).toFixed(3)} s  ${rule}: ${message}`

const percentile = (sorted: ReadonlyArray<number>, share: number): number =>
  sorted[Math.min(sorted.length - 1, Math.floor(sorted.length * share))] ?? 0

const number = (value: number): string => value.toLocaleString("en")

type Line = (text?: string) => void

/** One mode: what was run, and what became of it. */
export const summary = ({ from, mode, replays, tally, threads, wall }: Campaign, line: Line): void => {
  const last = from + tally.runs - 1
  const per = (count: number) => (count / Math.max(1, tally.runs)).toFixed(1)
  const recoveries = tally.recoveries.toSorted((a, b) => a - b)
  const p50 = percentile(recoveries, 0.5)
  const p99 = percentile(recoveries, 0.99)
  const row = (name: string, value: string) => line(`  ${name.padEnd(32)} ${value}`)
  line()
  line(`${mode}: seeds ${from} to ${last}, ${tally.violated} with a violation`)
  row("schedules per second", `${(tally.runs / wall).toFixed(1)} on ${threads} threads, ${wall.toFixed(0)} s in all`)
  row("run twice", `${replays.same} did the same again, ${replays.different} did not`)
  row("simulated time", `${number(Math.round(tally.simulatedMs / 3_600_000))} hours, ${number(tally.steps)} steps`)
  row("jobs per seed", `${per(tally.jobs)} (${tally.jobsPerRun.join(" to ")})`)
  row(
    "workers per seed",
    `${per(tally.places)} (${tally.placesPerRun.join(" to ")}), ${per(tally.processes)} processes`
  )
  row("jobs", `${number(tally.jobs)}: ${number(tally.acked)} told to be enqueued, ${number(tally.ended)} ended`)
  row("attempts", `${number(tally.executions)} run, ${number(tally.duplicates)} in vain`)
  for (const [outcome, count] of Object.entries(tally.outcomes).sort()) row(`  ${outcome}`, number(count))
  row("stale settlements refused", number(tally.staleRefused))
  row("leases lost, loops restarted", `${number(tally.leasesLost)}, ${number(tally.loopsRestarted)}`)
  row("from death to recovery", `p50 ${p50} ms, p99 ${p99} ms, while other faults go on`)
  line(
    JSON.stringify({
      cell: "simulate",
      mode,
      seeds: [from, last],
      violated: tally.violated,
      replayed: replays.same,
      replayed_differently: replays.different,
      enq_ok: tally.acked,
      jobs: tally.jobs,
      ended: tally.ended,
      exec: tally.executions,
      dup_exec: tally.duplicates,
      stale_settle_rejected: tally.staleRefused,
      outcomes: tally.outcomes,
      recovery_ms_p50: p50,
      recovery_ms_p99: p99,
      broker_msgs: tally.hints,
      loops_restarted: tally.loopsRestarted,
      leases_lost: tally.leasesLost,
      processes: tally.processes,
      steps: tally.steps,
      simulated_h: Math.round(tally.simulatedMs / 36_000) / 100,
      points: tally.points,
      faults: tally.faults,
      wall_s: Math.round(wall * 10) / 10
    })
  )
}

/** How often everything struck, mode by mode. */
export const faults = (campaigns: ReadonlyArray<Campaign>, line: Line): void => {
  const all = Tally.make()
  for (const { tally } of campaigns) Tally.merge(all, tally)
  const struck = ({ faults, points }: Tally.Tally): ReadonlyMap<string, number> =>
    new Map([
      ...Object.entries(points).map(([point, { struck }]) => [point, struck] as const),
      ...Object.entries(faults)
    ])
  const total = struck(all)
  const columns = [...campaigns.map(({ mode, tally }) => [mode, struck(tally)] as const), ["all", total] as const]
  const row = (name: string, values: ReadonlyArray<string>) =>
    line(`  ${name.padEnd(38)}${values.map((value) => value.padStart(10)).join("")}`)
  const table = (title: string, names: ReadonlyArray<string>) => {
    line()
    line(title)
    row(
      "",
      columns.map(([name]) => name)
    )
    for (const name of names)
      row(
        name,
        columns.map(([, counts]) => number(counts.get(name) ?? 0))
      )
  }
  table("chaos points: how often a process was killed or paused there", Object.keys(all.points))
  table("faults: how often each struck", Object.keys(all.faults).sort())
  const rare = [...total].flatMap(([name, count]) => (count < enough ? [`${name} (${count})`] : []))
  line()
  line(rare.length === 0 ? `each at least ${enough} times` : `fewer than ${enough} times: ${rare.join(", ")}`)
}
