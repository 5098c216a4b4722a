/*
 * ledger/map.h - 16-byte keys to numbers
 *
 * Open addressing; grows with what is put. For identifiers that are hashes or counters.
 */
#ifndef LEDGER_MAP_H
#define LEDGER_MAP_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "proto/types.h"

struct map_key {
    uint8_t b[16];
};
struct map_row {
    struct map_key key;
    uint64_t value;
    bool is_used;
};
struct map {
    struct map_row *v; /* owned */
    size_t n, cap;     /* cap is 0 or a power of two */
};

void map_init(struct map *m);
void map_clear(struct map *m);
bool map_find(const struct map *m, const struct map_key *key, uint64_t *value);
void map_put(struct map *m, const struct map_key *key, uint64_t value);

struct map_key map_key_u64(uint64_t n);
struct map_key map_key_of(const void *data, size_t n); /* half of a BLAKE2b-256 */

#endif
