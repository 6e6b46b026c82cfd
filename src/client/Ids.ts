/**
 * Where ids come from: `SecureRandom` of the context if somebody provided one (a simulation seeds it), else the
 * platform's. Ids of the platform's are put together here: a batch asks for a thousand, and what is the same in all of a
 * millisecond is written once.
 */
import { SecureRandom } from "effect/crypto/SecureRandom"
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"

/** UUIDv7s; every one sorts after the one before. */
export interface Ids {
  readonly one: Effect.Effect<string>
  readonly many: (count: number) => Effect.Effect<ReadonlyArray<string>>
}

const hex = Array.from({ length: 256 }, (_, byte) => byte.toString(16).padStart(2, "0"))
const digits = (value: number, length: number): string => value.toString(16).padStart(length, "0")

/** Bytes from the platform, fetched in blocks: one call to the system for hundreds of ids. */
const blockOfBytes = () => {
  const block = new Uint8Array(4_096)
  let used = block.length
  return (): number => {
    if (used === block.length) {
      globalThis.crypto.getRandomValues(block)
      used = 0
    }
    return block[used++]!
  }
}

const maxMillis = 2 ** 48 - 1
const maxHigh = 2 ** 26 - 1
const maxLow = 2 ** 16 - 1

/**
 * The layout of `SecureRandom.uuidV7`: a counter of 42 bits, of which each millisecond seeds 41 at random, and 32 random
 * bits. A clock that stands or goes back keeps the last millisecond; a counter that is used up goes on with the next one.
 */
const generator = () => {
  const byte = blockOfBytes()
  let last = -1
  let high = 0
  let low = 0
  /** All but the last twelve digits: the same until the lower part of the counter is used up. */
  let prefix = ""

  const write = () => {
    const time = digits(last, 12)
    const [upper, lower] = [digits(high >>> 14, 3), digits(0x8000 | (high & 0x3fff), 4)]
    prefix = `${time.slice(0, 8)}-${time.slice(8)}-7${upper}-${lower}-`
  }
  const seed = (millis: number) => {
    last = millis
    high = ((byte() << 24) | (byte() << 16) | (byte() << 8) | byte()) & (maxHigh >>> 1)
    low = (byte() << 8) | byte()
    write()
  }
  return (clock: number): string => {
    const millis = Math.min(Math.max(0, Math.trunc(clock)), maxMillis)
    if (millis > last) seed(millis)
    else if (low < maxLow) low++
    else if (high < maxHigh) {
      low = 0
      high++
      write()
    } else seed(last + 1)
    const tail = hex[low >>> 8]! + hex[low & 0xff]! + hex[byte()]! + hex[byte()]! + hex[byte()]! + hex[byte()]!
    return prefix + tail
  }
}

const ofPlatform = (): Ids => {
  const next = generator()
  return {
    one: Effect.clockWith((clock) => Effect.succeed(next(clock.currentTimeMillisUnsafe()))),
    many: (count) =>
      Effect.clockWith((clock) => {
        const millis = clock.currentTimeMillisUnsafe()
        return Effect.succeed(Array.from({ length: count }, () => next(millis)))
      })
  }
}

const ofRandom = (random: SecureRandom["Service"]): Ids => ({
  one: random.uuidV7(),
  many: (count) => Effect.all(Array.from({ length: count }, () => random.uuidV7()))
})

/** An effect that makes ids, as many as are asked for. */
export const source: Effect.Effect<Ids> = Effect.map(
  Effect.serviceOption(SecureRandom),
  Option.match({ onNone: ofPlatform, onSome: ofRandom })
)

/** An effect that makes a UUIDv7; every one sorts after the one before. */
export const make: Effect.Effect<Effect.Effect<string>> = Effect.map(source, ({ one }) => one)
