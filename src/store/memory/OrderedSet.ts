/**
 * A set kept in order: the least member is one look away, and any member can be taken out. Adding and removing cost
 * O(log n), so that a claim never walks the jobs it does not take. A binary heap that knows where each member sits.
 */

/** Less than zero when `a` goes before `b`. Must tell any two members apart, and must not change while they are in. */
export type Order<A> = (a: A, b: A) => number

/** A mutable set ordered by `order`. */
export class OrderedSet<A> {
  readonly #order: Order<A>
  readonly #heap: Array<A> = []
  readonly #places = new Map<A, number>()

  constructor(order: Order<A>) {
    this.#order = order
  }

  /** How many members there are. */
  get size(): number {
    return this.#heap.length
  }

  /** The member that goes first, or `undefined` when there is none. */
  get first(): A | undefined {
    return this.#heap[0]
  }

  /** Adds a member; one that is in already stays where it is. */
  add(member: A): void {
    if (this.#places.has(member)) return
    this.#heap.push(member)
    this.#rise(member, this.#heap.length - 1)
  }

  /** Takes a member out; a stranger is ignored. */
  delete(member: A): void {
    const place = this.#places.get(member)
    if (place === undefined) return
    this.#places.delete(member)
    const last = this.#heap.pop()
    if (last === undefined || place === this.#heap.length) return
    this.#sink(last, place)
    const settled = this.#places.get(last)
    if (settled === place) this.#rise(last, place)
  }

  #rise(member: A, from: number): void {
    let place = from
    while (place > 0) {
      const above = (place - 1) >> 1
      const parent = this.#heap[above]!
      if (this.#order(member, parent) >= 0) break
      this.#put(parent, place)
      place = above
    }
    this.#put(member, place)
  }

  #sink(member: A, from: number): void {
    const size = this.#heap.length
    let place = from
    for (;;) {
      let below = 2 * place + 1
      if (below >= size) break
      if (below + 1 < size && this.#order(this.#heap[below + 1]!, this.#heap[below]!) < 0) below += 1
      const child = this.#heap[below]!
      if (this.#order(member, child) <= 0) break
      this.#put(child, place)
      place = below
    }
    this.#put(member, place)
  }

  #put(member: A, place: number): void {
    this.#heap[place] = member
    this.#places.set(member, place)
  }
}
