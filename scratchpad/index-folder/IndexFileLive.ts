/**
 * The handler: reads the file in pieces of 64 KiB, whatever its size, and answers with its size, lines and SHA-256, or says
 * in a typed way why not.
 */
import { Clock, Effect } from "effect"
import { createHash } from "node:crypto"
import { constants } from "node:fs"
import { open } from "node:fs/promises"
import { join } from "node:path"
import { CurrentJob, TerminalError } from "../../src/index.ts"
import { Busy, IndexFile, staged, Unreadable } from "./IndexFile.ts"

export const IndexFileLive = IndexFile.toLayer(
  Effect.fnUntraced(function* ({ path, rawPath, root }) {
    const { attempt } = yield* CurrentJob
    if (attempt <= staged(path)) return yield* new Busy({ message: `staged failure of attempt ${attempt}` })
    const started = yield* Clock.currentTimeMillis
    const measured = yield* measure(
      rawPath === undefined ? join(root, path) : Buffer.concat([Buffer.from(`${root}/`), rawPath])
    )
    if (measured === "binary") return yield* Effect.fail(new TerminalError({ message: "binary: it has no lines" }))
    return { ...measured, millis: (yield* Clock.currentTimeMillis) - started }
  })
)

const chunkSize = 65_536
/** A NUL byte this early makes a file binary, as for git. */
const binaryPrefix = 8_000

const measure = (path: string | Buffer) =>
  Effect.tryPromise({
    // Interrupted (cancel, timeout, shutdown): stops at the next piece
    try: async (signal) => {
      // Never waits for the other end of a pipe
      const file = await open(path, constants.O_RDONLY | constants.O_NONBLOCK)
      try {
        if (!(await file.stat()).isFile()) throw new NotAFile()
        const hash = createHash("sha256")
        const chunk = Buffer.allocUnsafe(chunkSize)
        let bytes = 0
        let lines = 0
        let last = 0x0a
        while (!signal.aborted) {
          const { bytesRead } = await file.read(chunk, 0, chunkSize)
          if (bytesRead === 0) break
          const piece = chunk.subarray(0, bytesRead)
          if (bytes < binaryPrefix && piece.subarray(0, binaryPrefix - bytes).includes(0)) return "binary" as const
          hash.update(piece)
          for (let at = piece.indexOf(0x0a); at !== -1; at = piece.indexOf(0x0a, at + 1)) lines++
          bytes += bytesRead
          last = piece[bytesRead - 1]!
        }
        return { bytes, lines: last === 0x0a ? lines : lines + 1, sha256: hash.digest("hex") }
      } finally {
        await file.close()
      }
    },
    catch: (cause) => {
      const code = cause instanceof NotAFile ? "EISDIR" : codeOf(cause)
      return transient.has(code)
        ? new Busy({ message: code })
        : new Unreadable({ message: reasons[code] ?? `cannot be read: ${code}` })
    }
  })

class NotAFile extends Error {}

const transient = new Set(["EAGAIN", "EBUSY", "EMFILE", "ENFILE", "EINTR"])
const reasons: Readonly<Record<string, string>> = {
  EACCES: "permission denied",
  EPERM: "permission denied",
  ENOENT: "no such file (a link to nowhere, or deleted meanwhile)",
  ELOOP: "a link in a circle",
  EISDIR: "not a file"
}

const codeOf = (cause: unknown): string =>
  cause instanceof Error && "code" in cause && typeof cause.code === "string" ? cause.code : String(cause)
