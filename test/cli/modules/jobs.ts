/** Jobs of the modules that the tests run as workers. */
import { Job } from "../../../src/index.ts"
import { Schema } from "effect"

export class Add extends Job.make("Add", { payload: { a: Schema.Int, b: Schema.Int }, success: Schema.Int }) {}
export class Slow extends Job.make("Slow") {}
