/** Who acts, and why: written to the audit log with every action. */
import * as Flag from "effect/cli/Flag"
import * as Option from "effect/Option"
import { hostname, userInfo } from "node:os"
import type { By } from "../store/JobStoreDriver.ts"

const login = (): string => {
  try {
    return userInfo().username
  } catch {
    // A user id without an account, as in containers
    return "unknown"
  }
}

/** `--as` and `--reason`, to be spread into a command's configuration. */
export const flags = {
  as: Flag.String("as").pipe(
    Flag.withMetavar("WHO"),
    Flag.withDescription("Who does it, for the audit log; you and this host if left out"),
    Flag.optional
  ),
  reason: Flag.String("reason").pipe(Flag.withAlias("m"), Flag.withDescription("Why, for the audit log"), Flag.optional)
}

/** What the flags say. */
export const toBy = (parsed: { readonly as: Option.Option<string>; readonly reason: Option.Option<string> }): By => ({
  who: Option.getOrElse(parsed.as, () => `${login()}@${hostname()}`),
  reason: Option.getOrUndefined(parsed.reason)
})
