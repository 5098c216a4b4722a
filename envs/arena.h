/*
 * envs/arena.h - all memory of a Lua state in one block
 *
 * Three things follow from keeping a state in one block that begins at a multiple of 4 GiB:
 *
 *   - its limit is a fact about the program run, not about the machine: the same calls reach it
 *     or do not, everywhere;
 *   - the low 32 bits of every object's address, which are all that Lua's hash tables look at,
 *     are the same in every process;
 *   - a copy of the block is a copy of the state: arena_save once, arena_restore before each
 *     call, and no call can leave anything behind.
 *
 * Sizes are rounded to classes (16 bytes up to 1 KiB, then powers of two); a freed block serves
 * later requests of its class. Nothing is given back to the system before arena_close.
 *
 * Threads: one.
 */
#ifndef ENVS_ARENA_H
#define ENVS_ARENA_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/status.h"

#define ARENA_MAX_BYTES ((size_t)2 << 30)

struct arena; /* lives at the start of its own block */

/* ERR_NO_MEMORY if the address space cannot be had. limit_bytes <= ARENA_MAX_BYTES. */
MUST_USE enum status arena_open(struct arena **out, size_t limit_bytes, struct err *e);
void arena_close(struct arena **a);

/* realloc's manner, with the old size given; n == 0 frees. NULL when the limit is reached: from
 * then on arena_is_over() and every request for more fails, until arena_restore. */
void *arena_realloc(struct arena *a, void *p, size_t old_n, size_t n);
bool arena_is_over(const struct arena *a);
/* Bytes ever taken from the block: what the limit applies to. Never falls, except by restore. */
size_t arena_taken(const struct arena *a);

/* Remembers the state of the whole block; at most once. */
MUST_USE enum status arena_save(struct arena *a, struct err *e);
/* Back to what was saved: every pointer into the block is as it was then. */
void arena_restore(struct arena *a);

#endif
