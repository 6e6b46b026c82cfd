/** The checker of the chaos runs, fed histories in which one thing is wrong. A checker that never failed is no evidence. */
import { assert, describe, it } from "@effect/vitest"
import { check, type History } from "../../scratchpad/chaos/Checker.ts"

type Writable = { -readonly [Key in keyof History]: History[Key] }

const job = {
  job: "a",
  status: "succeeded",
  code: null,
  attempt: 2,
  failures: 0,
  crashes: 1,
  interruptions: 0,
  snoozes: 0
}
const first = {
  job: "a",
  attempt: 1,
  claim: "c1",
  outcome: "crashed",
  by: "reaper",
  pid: 1,
  claimedAt: 1_000,
  endedAt: 4_000
}
const second = {
  job: "a",
  attempt: 2,
  claim: "c2",
  outcome: "succeeded",
  by: "worker",
  pid: 2,
  claimedAt: 4_100,
  endedAt: 4_300
}
const step = (from: string | null, to: string, claimBefore: string | null, claim: string | null, attempt: number) => ({
  job: "a",
  from,
  to,
  claimBefore,
  claim,
  attempt
})
const firstRun = { job: "a", attempt: 1, pid: 1, startedAt: 1_010, endedAt: 1_900, how: "end" } as const
const kill = { kind: "SIGKILL", at: 2_000, pid: 1 }

/** A job whose first owner was killed after its handler had ended, and whose second owner completed it. */
const good: History = {
  client: [{ job: "a", ok: true, expected: "succeeded" }],
  jobs: [job],
  attempts: [first, second],
  transitions: [
    step(null, "queued", null, null, 0),
    step("queued", "processing", null, "c1", 1),
    step("processing", "queued", "c1", null, 1),
    step("queued", "processing", null, "c2", 2),
    step("processing", "succeeded", "c2", null, 2)
  ],
  txEffects: [{ job: "a", attempt: 2 }],
  runs: [firstRun, { job: "a", attempt: 2, pid: 2, startedAt: 4_110, endedAt: 4_290, how: "end" }],
  settles: [{ job: "a", attempt: 2, claim: "c2", outcome: "Settled" }],
  faults: [kill],
  requeued: new Set()
}

const broken = (change: (history: Writable) => void) => {
  const history: Writable = { ...good }
  change(history)
  return check(history)
}

/** Each in its own words: what is wrong, how, and what the verdict must say. */
const wrongs: ReadonlyArray<readonly [string, (history: Writable) => void, RegExp]> = [
  ["a job that is gone", (h) => (h.jobs = []), /lost: enqueued, and it is nowhere/],
  [
    "a job that never ended",
    (h) => (h.jobs = [{ ...job, status: "queued", attempt: 2 }]),
    /lost: enqueued, and it is queued/
  ],
  [
    "a job nobody enqueued",
    (h) => (h.client = [{ job: "b", ok: false, expected: "succeeded" }]),
    /a: nobody enqueued it/
  ],
  [
    "a run of a job nobody enqueued",
    (h) => (h.runs = [...good.runs, { ...firstRun, job: "z" }]),
    /z: nobody enqueued it/
  ],
  [
    "another outcome than a perfect system has",
    (h) => (h.client = [{ job: "a", ok: true, expected: "failed" }]),
    /became succeeded \(null\), not failed/
  ],
  ["an attempt that is not in the log", (h) => (h.attempts = [second]), /attempt 2 is number 1 in the log/],
  ["an exit that raised no counter", (h) => (h.jobs = [{ ...job, crashes: 0 }]), /its counters say 0/],
  ["the wrong counter", (h) => (h.jobs = [{ ...job, crashes: 0, interruptions: 1 }]), /counters and log differ/],
  [
    "two owners at once",
    (h) => (h.attempts = [first, { ...second, claimedAt: 3_900 }]),
    /attempt 2 was claimed before attempt 1 ended/
  ],
  [
    "a status that is not that of the last attempt",
    (h) => (h.attempts = [first, { ...second, outcome: "failed" }]),
    /it is succeeded, and its last attempt failed/
  ],
  [
    "a terminal state that changed",
    (h) => (h.transitions = [...good.transitions, step("succeeded", "queued", null, null, 2)]),
    /it was succeeded and became queued/
  ],
  [
    "a job that changed hands while it was owned",
    (h) => (h.transitions = [...good.transitions, step("processing", "processing", "c1", "c2", 2)]),
    /changed hands while it was owned/
  ],
  ["two completions", (h) => (h.txEffects = [...good.txEffects, { job: "a", attempt: 1 }]), /completed 2 times/],
  [
    "a stale settle that was accepted",
    (h) => (h.settles = [...good.settles, { job: "a", attempt: 1, claim: "c1", outcome: "Settled" }]),
    /a settle of attempt 1 was accepted that was not the owner's/
  ],
  [
    "one settle accepted twice",
    (h) => (h.settles = [...good.settles, ...good.settles]),
    /a settle of attempt 2 was accepted that was not the owner's/
  ],
  ["a success that no handler made", (h) => (h.runs = [firstRun]), /no handler says that it ended/],
  ["an abandoned attempt without a fault", (h) => (h.faults = []), /attempt 1 was abandoned .* no fault explains it/],
  ["a run in vain without a fault", (h) => (h.faults = []), /ran to its end in vain .* no fault explains it/],
  [
    "a fault of another process",
    (h) => (h.faults = [{ ...kill, pid: 2 }]),
    /attempt 1 was abandoned .* no fault explains it/
  ],
  [
    "a fault at another time",
    (h) => (h.faults = [{ ...kill, at: 9_000 }]),
    /attempt 1 was abandoned .* no fault explains it/
  ],
  [
    "a fault that hit another job",
    (h) => (h.faults = [{ ...kill, jobs: ["b"] }]),
    /attempt 1 was abandoned .* no fault explains it/
  ],
  [
    "two runs at once without a fault",
    (h) => {
      h.runs = [{ ...firstRun, endedAt: 4_200 }, good.runs[1]!]
      h.faults = []
    },
    /attempts 1 and 2 overlapped .* no fault explains it/
  ]
]

describe("the checker of the chaos runs", () => {
  it("accepts a job whose first owner was killed, and counts what it saw", () => {
    const verdict = check(good)
    assert.deepStrictEqual(verdict.violations, [])
    assert.deepStrictEqual(
      [verdict.exec, verdict.dup_exec, verdict.abandoned, verdict.lost, verdict.dup_tx_effects, verdict.unexplained],
      [2, 1, 1, 0, 0, 0]
    )
    assert.deepStrictEqual(verdict.recoveries, [2_100])
  })

  it("counts a settle that was refused, and an errored enqueue that took effect", () => {
    const verdict = broken((history) => {
      history.settles = [...good.settles, { job: "a", attempt: 1, claim: "c1", outcome: "LeaseLost" }]
      history.client = [{ job: "a", ok: false, expected: "succeeded" }]
    })
    assert.deepStrictEqual([verdict.stale_settle_rejected, verdict.recovered, verdict.violations], [1, 1, []])
  })

  it("lets a job run again that a person put back", () => {
    const verdict = broken((history) => {
      history.transitions = [...good.transitions, step("succeeded", "queued", null, null, 2)]
      history.requeued = new Set(["a"])
    })
    assert.deepStrictEqual(verdict.violations, [])
  })

  for (const [what, change, says] of wrongs) {
    it(`finds ${what}`, () => {
      const { violations } = broken(change)
      assert.isTrue(
        violations.some((violation) => says.test(violation)),
        `nothing like ${says} in ${JSON.stringify(violations)}`
      )
    })
  }
})
