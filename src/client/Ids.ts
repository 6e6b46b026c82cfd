/**
 * Where ids come from: `SecureRandom` of the context if somebody provided one (a simulation seeds it), else the
 * platform's.
 */
import { make as makeRandom, SecureRandom } from "effect/crypto/SecureRandom"
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"

/**
 * The sixteen bytes of an id from the platform, fetched in blocks: one call to the system for hundreds of ids. They are
 * overwritten by the next: an id is text by then.
 */
const blockOfBytes = () => {
  const block = new Uint8Array(4_096)
  const given = new Uint8Array(16)
  let used = block.length
  return (): Uint8Array => {
    if (used === block.length) {
      globalThis.crypto.getRandomValues(block)
      used = 0
    }
    for (let i = 0; i < 16; i++) given[i] = block[used++]!
    return given
  }
}

/** An effect that makes a UUIDv7; every one sorts after the one before. */
export const make: Effect.Effect<Effect.Effect<string>> = Effect.map(
  Effect.serviceOption(SecureRandom),
  Option.match({
    onNone: () => makeRandom(blockOfBytes()).uuidV7(),
    onSome: (random) => random.uuidV7()
  })
)

/** So many of them. */
export const many = <Id>(makeId: Effect.Effect<Id>, count: number): Effect.Effect<ReadonlyArray<Id>> =>
  Effect.suspend(() => {
    const ids: Array<Id> = []
    return Effect.as(
      Effect.whileLoop({ while: () => ids.length < count, body: () => makeId, step: (id) => void ids.push(id) }),
      ids
    )
  })
