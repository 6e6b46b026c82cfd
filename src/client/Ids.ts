/**
 * Where ids come from: `SecureRandom` of the context if somebody provided one (a simulation seeds it), else the
 * platform's.
 */
import { make as makeRandom, SecureRandom } from "effect/crypto/SecureRandom"
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"

/** An effect that makes a UUIDv7; every one sorts after the one before. */
export const make: Effect.Effect<Effect.Effect<string>> = Effect.map(
  Effect.serviceOption(SecureRandom),
  Option.match({
    onNone: () => makeRandom((size) => globalThis.crypto.getRandomValues(new Uint8Array(size))).uuidV7(),
    onSome: (random) => random.uuidV7()
  })
)
