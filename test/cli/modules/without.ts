/** No worker at all. */
export const nothing = 1
export const more = "text"
