/**
 * Where ids come from: `SecureRandom` of the context if somebody provided one (a simulation seeds it), else the
 * platform's.
 */
import { make as makeRandom, SecureRandom } from "effect/crypto/SecureRandom"
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"

/** Bytes from the platform, fetched in blocks: one call to the system for hundreds of ids. */
const blockOfBytes = () => {
  let block = new Uint8Array(0)
  let used = 0
  return (size: number): Uint8Array => {
    if (used + size > block.length) {
      block = globalThis.crypto.getRandomValues(new Uint8Array(4_096))
      used = 0
    }
    return block.slice(used, (used += size))
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
