/**
 * What happened to every job, as the store decided it, and an own idea of what may happen: each answer of the store is held
 * against it at once. It knows nothing of how the store works; it knows who owns what, until when, and what each rule of the
 * queue allows next. What it finds wrong is a violation, with the time and a sentence.
 */
import type { AttemptOutcome, Lease, NewJob, Pause, PauseTarget, Status } from "../../store/JobStoreDriver.ts"
import type { Process } from "./Process.ts"
import type { World } from "./World.ts"

/** A broken promise. `rule` names the promise, `message` says what happened to whom. */
export interface Violation {
  readonly rule: string
  readonly message: string
  /** Milliseconds since the start of the simulation. */
  readonly at: number
}

/** One attempt of a job. Times are epoch ms of the world. */
export interface Attempt {
  readonly attempt: number
  readonly claim: string
  readonly process: Process
  readonly claimedAt: number
  readonly suspect: boolean
  /** Its process got the answer to its claim. */
  isHeard: boolean
  /** When its process heard that it has lost it, or that it is to be cancelled. */
  toldToStopAt: number | undefined
  /** Steps its process had taken when it was claimed, and when it ended. */
  readonly claimedAtStep: number
  endedAtStep: number | undefined
  readonly lease: number
  leaseUntil: number
  endedAt: number | undefined
  outcome: AttemptOutcome | undefined
  by: "worker" | "reaper" | "admin" | undefined
  startedAt: number | undefined
  ranUntil: number | undefined
  /** How its handler ended. */
  exit: "success" | "failure" | "interrupted" | undefined
}

/** One job, as it should be. */
export interface JobHistory {
  readonly job: NewJob
  /** Some caller was told that it is enqueued. */
  isAcked: boolean
  status: Status
  owner: Attempt | undefined
  readonly attempts: Array<Attempt>
  /** It may not be claimed before. */
  notBefore: number
  /** Since the last requeue. */
  crashes: number
  wasRequeued: boolean
  /** Somebody ended it as failed. */
  wasFailed: boolean
  cancelRequested: boolean
  fence: number
  /** Rows of this id before this one, which were deleted, and the attempts of those. */
  readonly earlierRows: number
  readonly earlier: number
  /** Its row was deleted. */
  isGone: boolean
}

export class History {
  readonly jobs = new Map<string, JobHistory>()
  readonly violations: Array<Violation> = []
  /** Settlements of owners that were none any more, refused as they should be. */
  staleRefused = 0
  /** Ms from the death of a worker to the end of each attempt it held. */
  readonly recoveries: Array<number> = []
  readonly #pauses: Array<PauseTarget & { readonly until: number }> = []
  readonly #world: World

  constructor(world: World) {
    this.#world = world
  }

  violate(rule: string, message: string): void {
    this.violations.push({ rule, message, at: this.#world.elapsed })
    this.#world.tell("checker", `VIOLATION ${rule}: ${message}`)
  }

  inserted(job: NewJob): void {
    const now = this.#world.now
    const before = this.jobs.get(job.id)
    if (before?.isGone === false) this.violate("enqueue is idempotent", `${name(job)} was inserted twice`)
    const holder = this.holder(job)
    if (holder !== undefined) {
      this.violate("one job per key", `${name(job)} was inserted while ${name(holder.job)} holds its key ${job.key}`)
    }
    this.jobs.set(job.id, {
      job,
      isAcked: before?.isAcked ?? false,
      status: "queued",
      owner: undefined,
      // An attempt of a job never comes again, whatever became of its row
      attempts: before?.attempts ?? [],
      notBefore: job.runAt ?? now + job.delay,
      crashes: 0,
      wasRequeued: false,
      wasFailed: false,
      cancelRequested: false,
      fence: before?.fence ?? 0,
      earlierRows: before === undefined ? 0 : before.earlierRows + 1,
      earlier: before?.attempts.length ?? 0,
      isGone: false
    })
    this.#world.tell("store", `inserts ${name(job)}`)
  }

  duplicate(job: NewJob, id: string): void {
    const known = this.jobs.get(id)
    if (
      known === undefined ||
      known.isGone ||
      (id !== job.id && (known.job.key !== job.key || known.job.type !== job.type))
    ) {
      this.violate("a duplicate is of something", `${name(job)} is said to be a duplicate of ${id}, which it is not`)
    }
  }

  /** The other job that holds the unique key of this one. */
  holder(job: NewJob): JobHistory | undefined {
    if (job.key === undefined) return undefined
    for (const other of this.jobs.values()) {
      const holds = !other.isGone && (other.job.keyScope === "retained" || !isEnd(other.status))
      if (holds && other.job.id !== job.id && other.job.type === job.type && other.job.key === job.key) return other
    }
    return undefined
  }

  acked(id: string): void {
    const job = this.jobs.get(id)
    if (job === undefined) this.violate("nothing is lost", `a caller was told that ${id} is enqueued, and it is not`)
    else job.isAcked = true
  }

  claimed(process: Process, request: { readonly lease: number }, lease: Lease & { readonly fence: number }): void {
    const now = this.#world.now
    const job = this.jobs.get(lease.id)
    if (job === undefined) return this.violate("nothing unexpected", `${lease.id} was claimed, and nobody enqueued it`)
    const who = `attempt ${lease.attempt} of ${name(job.job)}, claimed by ${process.name},`
    if (job.isGone) this.violate("nothing unexpected", `${who} is deleted`)
    if (this.#isPaused(job.job)) this.violate("a pause holds", `${who} is paused`)
    if (isEnd(job.status)) this.violate("an end is final", `${who} had ${job.status} already`)
    if (job.owner !== undefined) {
      this.violate("one owner", `${who} is owned by attempt ${job.owner.attempt} of ${job.owner.process.name}`)
    }
    if (lease.attempt !== job.attempts.length + 1) {
      this.violate("attempts count up", `${who} follows ${job.attempts.length} attempts`)
    }
    if (now < job.notBefore) this.violate("never early", `${who} may not run for another ${job.notBefore - now} ms`)
    if (lease.fence <= job.fence) this.violate("the fence grows", `${who} has fence ${lease.fence} after ${job.fence}`)
    const attempt: Attempt = {
      attempt: lease.attempt,
      claim: lease.claim,
      process,
      claimedAt: now,
      suspect: job.crashes > 0,
      isHeard: false,
      toldToStopAt: undefined,
      claimedAtStep: process.steps,
      endedAtStep: undefined,
      lease: request.lease,
      leaseUntil: now + request.lease,
      endedAt: undefined,
      outcome: undefined,
      by: undefined,
      startedAt: undefined,
      ranUntil: undefined,
      exit: undefined
    }
    if (attempt.suspect) this.#checkSuspects(process, who)
    job.attempts.push(attempt)
    job.owner = attempt
    job.status = "processing"
    job.fence = lease.fence
    this.#world.tell("store", `gives ${name(job.job)} attempt ${lease.attempt} to ${process.name}`)
  }

  /** The answer to its claim has arrived. */
  heard({ attempt, claim, id }: Lease): void {
    const one = this.jobs.get(id)?.attempts.find((other) => other.attempt === attempt && other.claim === claim)
    if (one !== undefined) one.isHeard = true
  }

  /** A renewal answered that the attempt is lost, or to be cancelled, and the answer has arrived. */
  toldToStop({ attempt, claim, id }: Lease): void {
    const one = this.jobs.get(id)?.attempts.find((other) => other.attempt === attempt && other.claim === claim)
    if (one !== undefined) one.toldToStopAt ??= this.#world.now
  }

  /** A worker has stopped as it was asked to: what it holds nobody will settle. */
  stopped(process: Process): void {
    const now = this.#world.now
    const excuses = ["settle", "renew", "claim", "abandon", "slow", "paused"]
    if (process.injuries.some(({ kind, until }) => excuses.includes(kind) && until + aftermath >= now)) return
    for (const { job, owner } of this.jobs.values()) {
      if (owner?.process !== process) continue
      this.violate("who stops gives back", `${process.name} stopped, and has attempt ${owner.attempt} of ${name(job)}`)
    }
  }

  /** A settlement was written. `outcome` and `status`: what the attempt and the job became; `retryAt`: not before. */
  settled(lease: Lease, outcome: AttemptOutcome, status: Status, retryAt: number): void {
    const job = this.jobs.get(lease.id)
    const owner = job?.owner
    if (job === undefined || owner === undefined || owner.claim !== lease.claim || owner.attempt !== lease.attempt) {
      this.violate(
        "no stale write",
        `${outcome} of attempt ${lease.attempt} of ${lease.id} was written; its owner is ${owner === undefined ? "nobody" : `attempt ${owner.attempt} of ${owner.process.name}`}`
      )
      return
    }
    const expected = outcome === "succeeded" ? "succeeded" : job.cancelRequested ? "cancelled" : status
    if (status !== expected) {
      this.violate(
        "cancel is decisive",
        `${name(job.job)} became ${status} after ${outcome}, and should be ${expected}`
      )
    }
    if (["succeeded", "failed", "snoozed"].includes(outcome) && owner.exit === undefined) {
      this.violate(
        "settled after its end",
        `attempt ${owner.attempt} of ${name(job.job)} ${outcome} while it was running`
      )
    }
    this.#end(job, owner, outcome, "worker", status, retryAt)
  }

  /** A settlement was refused as stale. `outcome`: what it says. */
  refused(lease: Lease, outcome: AttemptOutcome): void {
    this.staleRefused++
    const ended = this.jobs.get(lease.id)?.attempts.find(({ attempt }) => attempt === lease.attempt)
    if (ended?.claim === lease.claim && ended.by === "worker" && ended.outcome === outcome) {
      this.violate(
        "a settle is recognised",
        `attempt ${lease.attempt} of ${lease.id} has settled as ${outcome}, and was told that it lost its lease`
      )
    }
    const owner = this.jobs.get(lease.id)?.owner
    if (owner !== undefined && owner.claim === lease.claim && owner.attempt === lease.attempt) {
      this.violate(
        "an owner may write",
        `attempt ${lease.attempt} of ${lease.id} owns it and was told that it does not`
      )
    }
  }

  /** An earlier try of this settlement is said to have been written. */
  repeated(lease: Lease): void {
    const ended = this.jobs.get(lease.id)?.attempts.find(({ attempt }) => attempt === lease.attempt)
    if (ended?.claim !== lease.claim || ended.by !== "worker") {
      this.violate("no stale write", `attempt ${lease.attempt} of ${lease.id} was told that it has settled; it has not`)
    }
  }

  renewed(lease: Lease, duration: number, isLost: boolean): void {
    const owner = this.jobs.get(lease.id)?.owner
    const isOwner = owner !== undefined && owner.claim === lease.claim && owner.attempt === lease.attempt
    if (isOwner && isLost) this.violate("an owner may write", `${lease.id} was not renewed for its owner`)
    if (!isOwner && !isLost) this.violate("no stale write", `${lease.id} was renewed for somebody who does not own it`)
    if (isOwner && !isLost) owner.leaseUntil = this.#world.now + duration
  }

  /** Maintenance ended an attempt. */
  reaped(id: string, attempt: number, outcome: "crashed" | "timedOut", status: Status, retryAt: number): void {
    const job = this.jobs.get(id)
    const owner = job?.owner
    if (job === undefined || owner?.attempt !== attempt) {
      return this.violate("only owned attempts are reaped", `attempt ${attempt} of ${id} was ended by a sweep`)
    }
    if (outcome === "crashed") {
      job.crashes++
      if (owner.leaseUntil > this.#world.now) {
        this.violate(
          "a live lease is safe",
          `${name(job.job)} was reaped ${owner.leaseUntil - this.#world.now} ms early`
        )
      }
      const death = owner.process.injuries.find(({ kind }) => kind === "killed")
      if (death !== undefined) this.recoveries.push(this.#world.now - Math.max(death.from, owner.claimedAt))
    }
    this.#end(job, owner, outcome, "reaper", status, retryAt)
  }

  /** Claims whose outcome nobody knew were given back. */
  abandoned(id: string, status: Status, retryAt: number): void {
    const job = this.jobs.get(id)
    if (job?.owner !== undefined) this.#end(job, job.owner, "released", "worker", status, retryAt)
  }

  cancelled(id: string, outcome: "cancelled" | "requested"): void {
    const job = this.jobs.get(id)
    if (job === undefined) return
    job.cancelRequested = true
    if (outcome === "cancelled") job.status = "cancelled"
    this.#world.tell("store", `${outcome === "cancelled" ? "cancels" : "is asked to cancel"} ${name(job.job)}`)
  }

  requeued(id: string): void {
    const job = this.jobs.get(id)
    if (job === undefined) return
    Object.assign(job, {
      status: "queued",
      notBefore: this.#world.now,
      crashes: 0,
      wasRequeued: true,
      cancelRequested: false
    })
    this.#world.tell("store", `queues ${name(job.job)} again`)
  }

  /** Somebody ended it as failed, whatever it was. */
  failed(id: string, status: Status): void {
    const job = this.jobs.get(id)
    if (job === undefined) return
    job.wasFailed = true
    if (job.owner !== undefined) this.#end(job, job.owner, "failed", "admin", status, this.#world.now)
    job.status = status
    this.#world.tell("store", `is told to fail ${name(job.job)}, now ${status}`)
  }

  /** Somebody made it due. */
  hurried(id: string): void {
    const job = this.jobs.get(id)
    if (job === undefined) return
    job.notBefore = Math.min(job.notBefore, this.#world.now)
    this.#world.tell("store", `makes ${name(job.job)} due`)
  }

  /** Its row was deleted: by retention, or because somebody wanted it. */
  deleted(id: string): void {
    const job = this.jobs.get(id)
    if (job === undefined) return
    if (!isEnd(job.status)) this.violate("only what has ended is deleted", `${name(job.job)} was ${job.status}`)
    job.isGone = true
    this.#world.tell("store", `deletes ${name(job.job)}`)
  }

  /** No job of this target may be claimed until then. */
  paused(pause: Pause): void {
    this.#unpause(pause)
    this.#pauses.push({ queue: pause.queue, type: pause.type, until: pause.until ?? Infinity })
    this.#world.tell("store", `pauses ${pause.queue ?? "all queues"}, ${pause.type ?? "all types"}`)
  }

  resumed(target: PauseTarget): void {
    this.#unpause(target)
    this.#world.tell("store", `resumes ${target.queue ?? "all queues"}, ${target.type ?? "all types"}`)
  }

  #unpause({ queue, type }: PauseTarget): void {
    const at = this.#pauses.findIndex((pause) => pause.queue === queue && pause.type === type)
    if (at >= 0) this.#pauses.splice(at, 1)
  }

  #isPaused(job: NewJob): boolean {
    return this.#pauses.some(
      ({ queue, type, until }) =>
        until > this.#world.now && (queue ?? job.queue) === job.queue && (type ?? job.type) === job.type
    )
  }

  /** A handler began. */
  started(process: Process, id: string, attempt: number): void {
    const run = this.#attempt(process, id, attempt)
    if (run === undefined) return this.violate("nothing unexpected", `${id} ran in ${process.name} without a claim`)
    if (run.startedAt !== undefined) this.violate("one run per attempt", `attempt ${attempt} of ${id} ran twice`)
    run.startedAt = this.#world.now
    this.#world.tell(process.name, `runs ${this.#name(id)} attempt ${attempt}`)
  }

  /** A handler ended. `wasAsked`: its worker had asked it to stop. */
  ran(process: Process, id: string, attempt: number, exit: NonNullable<Attempt["exit"]>, wasAsked: boolean): void {
    const run = this.#attempt(process, id, attempt)
    if (run === undefined) return
    const now = this.#world.now
    run.ranUntil = now
    run.exit = exit
    const leaseEnd = noticed(run, run.leaseUntil)
    if (!wasAsked && now > leaseEnd + tolerance) {
      this.violate(
        "nobody runs past a lease",
        `attempt ${attempt} of ${this.#name(id)} ran for ${now - leaseEnd} ms after its lease`
      )
    }
    const told = noticed(run, run.toldToStopAt ?? Infinity)
    if (!wasAsked && now > told + tolerance) {
      this.violate(
        "who is told to stop stops",
        `attempt ${attempt} of ${this.#name(id)} ran for ${now - told} ms after its worker had heard`
      )
    }
    this.#world.tell(process.name, `ends ${this.#name(id)} attempt ${attempt}: ${exit}`)
  }

  #attempt(process: Process, id: string, attempt: number): Attempt | undefined {
    return this.jobs.get(id)?.attempts.find((run) => run.attempt === attempt && run.process === process)
  }

  #name(id: string): string {
    const job = this.jobs.get(id)
    return job === undefined ? id : name(job.job)
  }

  /** Two suspects in one worker could take each other down. A claim that it never heard of does not count. */
  #checkSuspects(process: Process, who: string): void {
    for (const { job, owner } of this.jobs.values()) {
      if (owner?.process !== process || !owner.suspect) continue
      if (process.injuries.some(({ until }) => until >= owner.claimedAt)) continue
      this.violate("suspects run alone", `${who} is a suspect, and so is ${name(job)}, which it holds`)
    }
  }

  #end(
    job: JobHistory,
    owner: Attempt,
    outcome: AttemptOutcome,
    by: "worker" | "reaper" | "admin",
    status: Status,
    retryAt: number
  ): void {
    owner.endedAt = this.#world.now
    owner.endedAtStep = owner.process.steps
    owner.outcome = outcome
    owner.by = by
    job.owner = undefined
    job.status = status
    job.notBefore = retryAt
    this.#world.tell("store", `ends ${name(job.job)} attempt ${owner.attempt}: ${outcome} by ${by}, now ${status}`)
  }
}

/** Steps between the end of a lease and the worker's own clock noticing it. */
const tolerance = 5
/** Longest time after a fault in which its loop may still be pausing. */
const aftermath = 5_000

/**
 * Until when the process of an attempt notices what happens at an instant. One that is paused does when it goes on; a timer
 * that was about to be set when it was paused begins only then, and no timer of leases is longer than a lease.
 */
const noticed = ({ lease, process }: Attempt, at: number): number => {
  let noticed = at
  for (const { from, kind, until } of process.injuries) {
    if (kind === "paused" && from <= noticed) noticed = Math.max(noticed, until + lease)
  }
  return noticed
}

export const isEnd = (status: Status): boolean => status !== "queued" && status !== "processing"

/** A job in a sentence. */
export const name = (job: NewJob): string => `${job.type} ${job.id.slice(-6)}`
