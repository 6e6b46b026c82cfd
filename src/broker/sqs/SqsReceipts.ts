/**
 * Receipts of deliveries that came through SQS, and batches of them: an item can be of any of a consumer's SQS queues, is
 * settled with the others of its queue, and answered in its place. A receipt that is none of ours is `LeaseLost`.
 */
import * as Effect from "effect/Effect"
import type { Delivery, ItemOutcome } from "../BrokerDriver.ts"

/** What a receipt says. */
export interface Held {
  /** Which of the consumer's SQS queues. */
  readonly source: number
  /** When it was received, in milliseconds: SQS's limit on holding counts from there. */
  readonly since: number
  /** SQS's own handle. */
  readonly handle: string
}

/** As text, for `Delivery.receipt`. */
export const format = ({ handle, since, source }: Held): string => `${source}:${since}:${handle}`

const parse = (receipt: string): Held | undefined => {
  const [, source, since, handle] = /^(\d{1,4}):(\d{1,16}):(.+)$/s.exec(receipt) ?? []
  return source === undefined || since === undefined || handle === undefined
    ? undefined
    : { source: Number(source), since: Number(since), handle }
}

const leaseLost: ItemOutcome = { _tag: "LeaseLost" }

/** Sends an entry for each delivery to its queue. No entry, nothing sent: `LeaseLost`. */
export const settle = Effect.fnUntraced(function* <Entry>(
  urls: ReadonlyArray<string>,
  deliveries: ReadonlyArray<Delivery>,
  entryOf: (held: Held) => Entry | undefined,
  send: (url: string, entries: ReadonlyArray<Entry>) => Effect.Effect<ReadonlyArray<ItemOutcome>>
): Effect.fn.Return<ReadonlyArray<ItemOutcome>> {
  const outcomes: Array<ItemOutcome> = deliveries.map(() => leaseLost)
  const groups = new Map<string, Array<{ readonly at: number; readonly entry: Entry }>>()
  for (const [at, { receipt }] of deliveries.entries()) {
    const held = parse(receipt)
    const url = held === undefined ? undefined : urls[held.source]
    const entry = held === undefined ? undefined : entryOf(held)
    if (url === undefined || entry === undefined) continue
    const group = groups.get(url)
    if (group === undefined) groups.set(url, [{ at, entry }])
    else group.push({ at, entry })
  }
  yield* Effect.forEach(
    groups,
    ([url, group]) =>
      Effect.map(
        send(
          url,
          group.map(({ entry }) => entry)
        ),
        (answers) => {
          for (const [index, answer] of answers.entries()) outcomes[group[index]!.at] = answer
        }
      ),
    { concurrency: "unbounded", discard: true }
  )
  return outcomes
})
