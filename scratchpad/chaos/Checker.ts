/**
 * The checker: what clients asked for, what handlers did and what the tables say, held against each other. A pure function
 * of a history, so that it can be fed broken ones. Every duplicate execution and every abandoned attempt must be explained
 * by a fault that was injected (or seen), by job, process and time.
 */
import type { Fault } from "./Report.ts"

/** Instants are ms of the monotonic clock. */
export interface History {
  /** Enqueues: the last word that the client heard, and what must become of the job. */
  readonly client: ReadonlyArray<{ readonly job: string; readonly ok: boolean; readonly expected: Expected }>
  readonly jobs: ReadonlyArray<{
    readonly job: string
    readonly status: string
    readonly code: string | null
    readonly attempt: number
    readonly failures: number
    readonly crashes: number
    readonly interruptions: number
    readonly snoozes: number
  }>
  readonly attempts: ReadonlyArray<{
    readonly job: string
    readonly attempt: number
    readonly claim: string
    readonly outcome: string
    readonly by: string
    readonly pid: number | undefined
    readonly claimedAt: number
    readonly endedAt: number
  }>
  /** Changes of status, attempt or claim of rows, in order. */
  readonly transitions: ReadonlyArray<{
    readonly job: string
    readonly from: string | null
    readonly to: string
    readonly claimBefore: string | null
    readonly claim: string | null
    readonly attempt: number
  }>
  /** Written in the transaction that completed the job. */
  readonly txEffects: ReadonlyArray<{ readonly job: string; readonly attempt: number }>
  readonly runs: ReadonlyArray<{
    readonly job: string
    readonly attempt: number
    readonly pid: number
    readonly startedAt: number
    readonly endedAt: number | undefined
    readonly how: "end" | "fail" | "interrupted" | undefined
  }>
  /** What workers were told of their settles. */
  readonly settles: ReadonlyArray<{
    readonly job: string
    readonly attempt: number
    readonly claim: string
    readonly outcome: string
  }>
  readonly faults: ReadonlyArray<Fault>
  /** Jobs that an admin put back: their terminal state may change. */
  readonly requeued: ReadonlySet<string>
}

/** `any`: the client cannot know (it raced with somebody); terminal all the same. */
export type Expected = "succeeded" | "failed" | "cancelled" | "poison" | "timedOut" | "any"

export interface Verdict {
  readonly lost: number
  readonly unexpected: number
  readonly recovered: number
  readonly exec: number
  readonly dup_exec: number
  readonly dup_tx_effects: number
  readonly stale_settle_rejected: number
  readonly stale_settle_accepted: number
  readonly abandoned: number
  readonly poison: number
  /** Runs of one job that overlapped. */
  readonly overlaps: number
  readonly unexplained: number
  /** From the fault that took a worker to the next claim of each of its jobs that crashed nobody before. */
  readonly recoveries: ReadonlyArray<number>
  /** From that fault to the end of its attempts: when its jobs could be claimed again. */
  readonly reaps: ReadonlyArray<number>
  /** Sentences. */
  readonly violations: ReadonlyArray<string>
}

const terminal = new Set(["succeeded", "failed", "cancelled"])
/** Between clocks and between an event and its telling. */
const slack = 500

const byJob = <A extends { readonly job: string }>(rows: ReadonlyArray<A>): Map<string, Array<A>> => {
  const groups = new Map<string, Array<A>>()
  for (const row of rows) {
    const group = groups.get(row.job)
    if (group === undefined) groups.set(row.job, [row])
    else group.push(row)
  }
  return groups
}

/** Faults that end a process or its hold on its jobs: recovery is counted from them. */
const takesWorker = /^(kill|exit|stop|SIGKILL|SIGSTOP)/

export const check = (history: History): Verdict => {
  const violations: Array<string> = []
  const wrong = (job: string, text: string) => violations.push(`${job}: ${text}`)
  const jobs = new Map(history.jobs.map((row) => [row.job, row]))
  const client = new Map(history.client.map((row) => [row.job, row]))
  const attemptsOf = byJob(history.attempts)
  const runsOf = byJob(history.runs)
  const count = { lost: 0, unexpected: 0, recovered: 0, dup: 0, dupTx: 0, rejected: 0, accepted: 0, overlaps: 0 }

  const explains = (job: string, pid: number | undefined, from: number, to: number) => (fault: Fault) =>
    (fault.pid === undefined || fault.pid === pid) &&
    (fault.jobs === undefined || fault.jobs.includes(job)) &&
    fault.at <= to + slack &&
    (fault.until ?? fault.at) >= from - slack
  let unexplained = 0
  const mustBeExplained = (job: string, what: string, pid: number | undefined, from: number, to: number) => {
    if (history.faults.some(explains(job, pid, from, to))) return
    unexplained++
    wrong(job, `${what} (pid ${pid}), and no fault explains it`)
  }

  for (const { expected, job, ok } of history.client) {
    const row = jobs.get(job)
    if (row === undefined || !terminal.has(row.status)) {
      if (ok) {
        count.lost++
        wrong(job, `lost: enqueued, and it is ${row?.status ?? "nowhere"}`)
      } else if (row !== undefined) wrong(job, `never ended: it is ${row.status}`)
      continue
    }
    if (!ok) count.recovered++
    const became = row.status === "failed" && (row.code === "poison" || row.code === "timedOut") ? row.code : row.status
    if (expected !== "any" && became !== expected) wrong(job, `became ${became} (${row.code}), not ${expected}`)
  }

  const strangers = new Set([...jobs.keys(), ...attemptsOf.keys(), ...runsOf.keys()].filter((job) => !client.has(job)))
  count.unexpected = strangers.size
  for (const job of strangers) wrong(job, "nobody enqueued it")

  for (const row of history.jobs) {
    const log = (attemptsOf.get(row.job) ?? []).toSorted((a, b) => a.attempt - b.attempt)
    const outcomes = (...names: ReadonlyArray<string>) => log.filter(({ outcome }) => names.includes(outcome)).length
    const running = row.status === "processing" ? 1 : 0
    const counted = row.failures + row.crashes + row.interruptions + row.snoozes
    if (row.attempt !== log.length + running) wrong(row.job, `${row.attempt} attempts, ${log.length} in the log`)
    if (row.attempt !== counted + outcomes("succeeded", "cancelled") + running)
      wrong(row.job, `${row.attempt} attempts, and its counters say ${counted}`)
    if (
      row.failures !== outcomes("failed", "timedOut") ||
      row.crashes !== outcomes("crashed") ||
      row.interruptions !== outcomes("released")
    )
      wrong(row.job, "counters and log differ")
    log.forEach(({ attempt, claimedAt, outcome }, i) => {
      if (attempt !== i + 1) wrong(row.job, `attempt ${attempt} is number ${i + 1} in the log`)
      const before = log[i - 1]
      if (before !== undefined && claimedAt < before.endedAt - 0.5)
        wrong(row.job, `attempt ${attempt} was claimed before attempt ${before.attempt} ended`)
      if (outcome === "succeeded" && i < log.length - 1 && !history.requeued.has(row.job))
        wrong(row.job, `it ran again after attempt ${attempt} succeeded`)
    })
    const last = log.at(-1)
    if ((row.status === "succeeded") !== (last?.outcome === "succeeded") && !history.requeued.has(row.job))
      wrong(row.job, `it is ${row.status}, and its last attempt ${last?.outcome ?? "never was"}`)
  }

  for (const { attempt, claim, claimBefore, from, job, to } of history.transitions) {
    if (from !== null && terminal.has(from) && !history.requeued.has(job))
      wrong(job, `it was ${from} and became ${to} (attempt ${attempt})`)
    if (from === "processing" && to === "processing" && claim !== claimBefore)
      wrong(job, `it changed hands while it was owned (attempt ${attempt})`)
  }

  const completed = new Map<string, number>()
  for (const { job } of history.txEffects) completed.set(job, (completed.get(job) ?? 0) + 1)
  for (const [job, times] of completed) {
    if (times === 1 || history.requeued.has(job)) continue
    count.dupTx += times - 1
    wrong(job, `completed ${times} times`)
  }

  const written = new Set(
    history.attempts.flatMap((row) => (row.by === "worker" ? [`${row.job} ${row.attempt} ${row.claim}`] : []))
  )
  const accepted = new Set<string>()
  for (const { attempt, claim, job, outcome } of history.settles) {
    const key = `${job} ${attempt} ${claim}`
    if (outcome === "LeaseLost") count.rejected++
    if (outcome !== "Settled" && outcome !== "AlreadyMine") continue
    if (!written.has(key) || (outcome === "Settled" && accepted.has(key))) {
      count.accepted++
      wrong(job, `a settle of attempt ${attempt} was accepted that was not the owner's`)
    }
    if (outcome === "Settled") accepted.add(key)
  }

  const recoveries: Array<number> = []
  const reaps: Array<number> = []
  let abandoned = 0
  for (const { attempt, claimedAt, endedAt, job, outcome, pid } of history.attempts) {
    if (outcome !== "crashed") continue
    abandoned++
    mustBeExplained(job, `attempt ${attempt} was abandoned`, pid, claimedAt, endedAt)
    const next = attemptsOf.get(job)?.find((other) => other.attempt === attempt + 1)
    const fault = history.faults.find(
      (one) => takesWorker.test(one.kind) && one.pid === pid && one.at >= claimedAt - slack && one.at <= endedAt
    )
    if (fault !== undefined) reaps.push(endedAt - fault.at)
    // A second crash of one job has a back-off, which is not a time of recovery
    const isFirst = !attemptsOf.get(job)?.some((other) => other.outcome === "crashed" && other.attempt < attempt)
    if (next !== undefined && fault !== undefined && isFirst) recoveries.push(Math.max(0, next.claimedAt - fault.at))
  }

  for (const [job, runs] of runsOf) {
    const log = attemptsOf.get(job) ?? []
    const outcomeOf = (attempt: number) => log.find((row) => row.attempt === attempt)
    const done = runs.filter(({ how }) => how === "end")
    count.dup += Math.max(0, done.length - 1)
    for (const { attempt, endedAt, pid, startedAt } of done) {
      const row = outcomeOf(attempt)
      if (row?.outcome === "succeeded") continue
      mustBeExplained(
        job,
        `attempt ${attempt} ran to its end in vain`,
        pid,
        startedAt,
        Math.max(endedAt ?? 0, row?.endedAt ?? Infinity)
      )
    }
    const ordered = runs.toSorted((a, b) => a.startedAt - b.startedAt)
    ordered.forEach((run, i) => {
      const next = ordered[i + 1]
      if (next === undefined || run.endedAt === undefined || run.endedAt <= next.startedAt) return
      count.overlaps++
      mustBeExplained(
        job,
        `attempts ${run.attempt} and ${next.attempt} overlapped`,
        run.pid,
        run.startedAt,
        run.endedAt
      )
    })
    for (const { attempt, outcome } of log) {
      if (outcome === "succeeded" && !done.some((run) => run.attempt === attempt))
        wrong(job, `attempt ${attempt} succeeded, and no handler says that it ended`)
    }
  }

  return {
    lost: count.lost,
    unexpected: count.unexpected,
    recovered: count.recovered,
    exec: history.runs.length,
    dup_exec: count.dup,
    dup_tx_effects: count.dupTx,
    stale_settle_rejected: count.rejected,
    stale_settle_accepted: count.accepted,
    abandoned,
    poison: history.jobs.filter(({ code, status }) => status === "failed" && code === "poison").length,
    overlaps: count.overlaps,
    unexplained,
    recoveries,
    reaps,
    violations
  }
}
