/**
 * Job ids are made by the client before the first try, so that an enqueue whose outcome is unknown can be repeated.
 */
import * as Schema from "effect/Schema"

/** A UUID. The ones made here are version 7: they sort by time. */
export const JobId = Schema.String.check(Schema.isUUID()).pipe(Schema.brand("polyqueue/JobId"))
export type JobId = typeof JobId.Type
