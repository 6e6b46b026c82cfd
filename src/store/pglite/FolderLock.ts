/**
 * One process per folder: PGlite has no lock of its own, and two of them on one folder destroy it. A file names the
 * process that has the folder; a process that is gone (killed, or of a container that was restarted under the same
 * process id) is succeeded.
 *
 * Files are numbered, and the highest number has the folder. Succeeding number n is making n + 1, which only one can do;
 * the highest is never deleted, so no slow successor of n can come back after n + 1 was there.
 */
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import * as Schema from "effect/Schema"
import type * as Scope from "effect/Scope"
import { link, mkdir, readdir, readFile, rm, writeFile } from "node:fs/promises"
import { join } from "node:path"
import { StoreError } from "../../JobError.ts"

/** Who has the folder. `startedAt` tells apart two processes that had one id, where the system can say. */
const Owner = Schema.Struct({ token: Schema.String, pid: Schema.Int, startedAt: Schema.String })
type Owner = typeof Owner.Type

const decodeOwner = Schema.decodeUnknownOption(Schema.fromJsonString(Owner))

/** Takes the folder (made if it is not there) until the scope closes, or fails with who has it. */
export const acquire = (folder: string): Effect.Effect<void, StoreError, Scope.Scope> =>
  Effect.asVoid(
    Effect.acquireRelease(
      attempt(folder, () => take(folder)).pipe(
        Effect.filterOrElse(isOwner, ({ pid }) => Effect.fail(inUse(folder, pid)))
      ),
      (owner) =>
        Effect.ignore(
          attempt(folder, () => release(folder, owner)),
          { log: true }
        )
    )
  )

const isOwner = (answer: Owner | { readonly pid: number }): answer is Owner => "token" in answer

/** Our own entry when the folder is ours now, or the process that has it. */
const take = async (folder: string): Promise<Owner | { readonly pid: number }> => {
  // Payloads are in it: like PostgreSQL's own data folder, it is nobody else's to read
  await mkdir(folder, { recursive: true, mode: 0o700 })
  const mine: Owner = {
    token: globalThis.crypto.randomUUID(),
    pid: process.pid,
    startedAt: await startOf(process.pid)
  }
  // Written first and linked whole, so that nobody ever reads half of it
  const draft = join(folder, `polyqueue-${mine.token}.draft`)
  await writeFile(draft, JSON.stringify(mine))
  try {
    while (true) {
      const [highest = 0] = await numbers(folder)
      const other = await read(lockFile(folder, highest))
      if (other !== undefined && (await isRunning(other))) return { pid: other.pid }
      if (!(await linked(draft, lockFile(folder, highest + 1)))) continue
      const [mineIs, ...older] = await numbers(folder)
      if (mineIs === highest + 1) {
        for (const number of older) await rm(lockFile(folder, number), { force: true })
        return mine
      }
      await rm(lockFile(folder, highest + 1), { force: true })
    }
  } finally {
    await rm(draft, { force: true })
  }
}

/** Empties our file instead of deleting it: the highest number stays. */
const release = async (folder: string, owner: Owner): Promise<void> => {
  const [highest = 0] = await numbers(folder)
  const file = lockFile(folder, highest)
  if ((await read(file))?.token === owner.token) await writeFile(file, "")
}

/** The numbers of the lock files in a folder, highest first. */
const numbers = async (folder: string): Promise<ReadonlyArray<number>> => {
  const names = await readdir(folder)
  return names.flatMap((name) => /^polyqueue-(\d+)\.lock$/.exec(name)?.slice(1).map(Number) ?? []).sort((a, b) => b - a)
}

const linked = async (from: string, to: string): Promise<boolean> => {
  try {
    await link(from, to)
    return true
  } catch (error) {
    if (codeOf(error) === "EEXIST") return false
    throw error
  }
}

const read = async (file: string): Promise<Owner | undefined> => {
  try {
    return Option.getOrUndefined(decodeOwner(await readFile(file, "utf8")))
  } catch (error) {
    if (codeOf(error) === "ENOENT") return undefined
    throw error
  }
}

const isRunning = async (owner: Owner): Promise<boolean> => {
  try {
    process.kill(owner.pid, 0)
  } catch (error) {
    // EPERM: it runs, as somebody else
    if (codeOf(error) === "ESRCH") return false
  }
  return (await startOf(owner.pid)) === owner.startedAt
}

/** When a process started, in the system's own words (Linux), or nothing where it cannot be read. */
const startOf = async (pid: number): Promise<string> => {
  try {
    const stat = await readFile(`/proc/${pid}/stat`, "utf8")
    // The second field is the command in brackets, and may contain anything
    return stat.slice(stat.lastIndexOf(")") + 2).split(" ")[19] ?? ""
  } catch {
    return ""
  }
}

const lockFile = (folder: string, number: number): string => join(folder, `polyqueue-${number}.lock`)

const codeOf = (error: unknown): unknown =>
  typeof error === "object" && error !== null && "code" in error ? error.code : undefined

const attempt = <A>(folder: string, run: () => Promise<A>): Effect.Effect<A, StoreError> =>
  Effect.tryPromise({
    try: run,
    catch: (cause) =>
      new StoreError({
        reason: "Denied",
        operation: "openFolder",
        message: `cannot lock the folder ${folder} of the embedded database: make it writable, or name another one`,
        cause
      })
  })

const inUse = (folder: string, pid: number) =>
  new StoreError({
    reason: "Unavailable",
    operation: "openFolder",
    message:
      `the folder ${folder} of the embedded database is in use by process ${pid}: only one process may have it. ` +
      `Stop that process, name another folder, or use a Postgres server. If that is no Polyqueue process, delete ${join(folder, "polyqueue-*.lock")}`
  })
