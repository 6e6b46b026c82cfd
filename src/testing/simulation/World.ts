/**
 * Simulated time and the order of everything: one loop that runs every task of every simulated process. Which task goes
 * next is drawn from the seed, and time moves only when nothing is left to run, to the next timer. Nothing waits for the
 * machine, so that a minute of a fleet takes milliseconds, and the same seed does the same again.
 */
import type { Process } from "./Process.ts"
import type { Rng } from "./Rng.ts"

/** A callback at an instant. */
export interface Timer {
  readonly at: number
  /** Timers of one instant fire in the order they were set. */
  readonly order: number
  readonly fire: () => void
  cancelled: boolean
}

/** The instant every simulation starts at, in epoch ms. */
const start = 1_700_000_000_000

export class World {
  /** Epoch milliseconds. */
  now = start
  readonly rng: Rng
  /** Tasks of one process run in the order they came, as in Node; or in any order, which code may not rely on. */
  readonly inOrder: boolean
  /** Lines of what happened, while `tells`. */
  readonly story: Array<string> = []
  readonly tells: boolean
  /** Tasks run so far, of all processes. */
  steps = 0
  #digest = 0x811c9dc5
  #runnable: Array<Process> = []
  #timers: Array<Timer> = []
  #order = 0

  constructor(rng: Rng, options: { readonly inOrder: boolean; readonly tells: boolean }) {
    this.rng = rng
    this.inOrder = options.inOrder
    this.tells = options.tells
  }

  /** Milliseconds since the start. */
  get elapsed(): number {
    return this.now - start
  }

  /** Says what happened. */
  tell(who: string, line: string): void {
    // FNV-1a: two runs are the same when they told the same
    for (const text of [who, line]) {
      for (let i = 0; i < text.length; i++) this.#digest = Math.imul(this.#digest ^ text.charCodeAt(i), 0x01000193)
    }
    this.#digest = Math.imul(this.#digest ^ (this.elapsed & 0xff_ffff), 0x01000193)
    this.note(who, line)
  }

  /** Adds a line to the story that is not compared: what somebody logged. */
  note(who: string, line: string): void {
    if (this.tells) this.story.push(`${(this.elapsed / 1_000).toFixed(3).padStart(9)}  ${who.padEnd(12)} ${line}`)
  }

  /** A fingerprint of everything told so far. */
  get digest(): string {
    return (this.#digest >>> 0).toString(16).padStart(8, "0")
  }

  /** Says that this process has something to run. */
  runnable(process: Process): void {
    this.#runnable.push(process)
  }

  /** Calls back after `delay` milliseconds, once nothing that is due earlier is left. */
  after(delay: number, fire: () => void): Timer {
    const timer: Timer = { at: this.now + Math.max(0, delay), order: this.#order++, fire, cancelled: false }
    const heap = this.#timers
    let place = heap.push(timer) - 1
    while (place > 0) {
      const above = (place - 1) >> 1
      if (!isBefore(timer, heap[above]!)) break
      heap[place] = heap[above]!
      place = above
    }
    heap[place] = timer
    return timer
  }

  /** Runs one task. False when there is none. */
  runOne(): boolean {
    while (this.#runnable.length > 0) {
      const at = this.#runnable.length === 1 ? 0 : this.rng.int(0, this.#runnable.length - 1)
      const process = this.#runnable[at]!
      if (process.runOne()) {
        this.steps++
        return true
      }
      this.#runnable[at] = this.#runnable.at(-1)!
      this.#runnable.pop()
    }
    return false
  }

  /** Moves time to the next timer and fires it. False when there is none. */
  advance(): boolean {
    let timer = this.#next()
    while (timer?.cancelled === true) timer = this.#next()
    if (timer === undefined) return false
    this.now = Math.max(this.now, timer.at)
    timer.fire()
    return true
  }

  #next(): Timer | undefined {
    const heap = this.#timers
    const first = heap[0]
    const last = heap.pop()
    if (first === undefined || last === undefined || heap.length === 0) return first
    let place = 0
    for (;;) {
      let below = 2 * place + 1
      if (below >= heap.length) break
      if (below + 1 < heap.length && isBefore(heap[below + 1]!, heap[below]!)) below++
      if (!isBefore(heap[below]!, last)) break
      heap[place] = heap[below]!
      place = below
    }
    heap[place] = last
    return first
  }
}

const isBefore = (a: Timer, b: Timer): boolean => a.at < b.at || (a.at === b.at && a.order < b.order)
