/**
 * Keeps dispositions of different outcomes out of one write. The AMQP library under the SDK (rhea 3) merges the first two
 * dispositions of a write into one whatever their outcomes: an ack and a release of neighbouring deliveries in the same
 * turn of the event loop would both become what the first one was.
 */
export class Turns {
  #outcome: string | undefined

  /** Resolves in a turn of the event loop in which only this outcome is written. Write before anything else is awaited. */
  async take(outcome: string): Promise<void> {
    while (this.#outcome !== undefined && this.#outcome !== outcome) {
      await new Promise<void>((resolve) => void setImmediate(resolve))
    }
    if (this.#outcome !== undefined) return
    this.#outcome = outcome
    setImmediate(() => (this.#outcome = undefined))
  }
}
