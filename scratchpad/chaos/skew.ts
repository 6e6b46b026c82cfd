/**
 * Loaded before a program (`--import`): its wall clock is wrong by `CHAOS_SKEW` ms, and with `CHAOS_SKEW_JUMP` jumps by as much
 * again every second, there and back. The monotonic clock is right, as it is on a machine whose time is set.
 */
const skew = Number(process.env["CHAOS_SKEW"] ?? 0)
const jump = Number(process.env["CHAOS_SKEW_JUMP"] ?? 0)
const RealDate = Date
const realNow = Date.now
const wrong = (): number => realNow() + skew + (Math.floor(performance.now() / 1_000) % 2) * jump

class SkewedDate extends RealDate {
  constructor(...args: ReadonlyArray<unknown>) {
    if (args.length === 0) super(wrong())
    else super(...(args as [number]))
  }
  static override now(): number {
    return wrong()
  }
}
globalThis.Date = SkewedDate as DateConstructor
