/**
 * The files below a folder, a batch at a time, whatever their number: nothing but the open folders is kept in memory.
 *
 * Links to folders are not followed, so circles cannot hang it; pipes, sockets and devices are left out. What cannot be
 * looked into (a folder without permission, a link to nowhere) is handed out like a file: its job says why.
 */
import type { Dirent } from "node:fs"
import { opendir, stat } from "node:fs/promises"
import { join } from "node:path"

export interface FileRef {
  readonly path: string
  /** The path in bytes, where it is not UTF-8. */
  readonly rawPath?: Uint8Array
}

/** `leaveOut`: absolute paths of folders that are not looked into, besides every `node_modules` and `.git`. */
export async function* walk(
  root: string,
  batchSize: number,
  leaveOut: ReadonlySet<string>
): AsyncGenerator<ReadonlyArray<FileRef>> {
  let batch: Array<FileRef> = []
  for await (const path of files(root, leaveOut)) {
    batch.push(refOf(path))
    if (batch.length < batchSize) continue
    yield batch
    batch = []
  }
  if (batch.length > 0) yield batch
}

/** Paths as bytes: a name need not be UTF-8. */
async function* files(root: string, leaveOut: ReadonlySet<string>): AsyncGenerator<Buffer> {
  const folders: Array<Buffer> = [Buffer.alloc(0)]
  for (let folder = folders.pop(); folder !== undefined; folder = folders.pop()) {
    const open = opendir(absolute(root, folder) as unknown as string, bytes)
    const entries = await open.catch(() => undefined)
    if (entries === undefined) {
      yield folder
      continue
    }
    for await (const entry of entries as unknown as AsyncIterable<Dirent<Buffer>>) {
      const path = folder.length === 0 ? entry.name : Buffer.concat([folder, slash, entry.name])
      if (entry.isDirectory()) {
        const name = entry.name.toString()
        if (name !== "node_modules" && name !== ".git" && !leaveOut.has(join(root, path.toString()))) folders.push(path)
      } else if (entry.isFile() || (entry.isSymbolicLink() && (await leadsToFile(absolute(root, path))))) {
        yield path
      }
    }
  }
}

/** True for links to files, and for those that lead nowhere: reading them says why. */
const leadsToFile = (path: Buffer): Promise<boolean> =>
  stat(path).then(
    (target) => target.isFile(),
    () => true
  )

const slash = Buffer.from("/")
// Node takes and gives names as bytes here; its types do not know it
const bytes = { encoding: "buffer" } as unknown as { encoding: "utf8" }
const absolute = (root: string, path: Buffer): Buffer => Buffer.concat([Buffer.from(`${root}/`), path])

const refOf = (raw: Buffer): FileRef => {
  const path = raw.toString()
  return Buffer.from(path).equals(raw) ? { path } : { path, rawPath: new Uint8Array(raw) }
}
