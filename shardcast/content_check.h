/*
 * shardcast/content_check.h - is this the shard that the trainer signed?
 */
#ifndef SHARDCAST_CONTENT_CHECK_H
#define SHARDCAST_CONTENT_CHECK_H

#include "shardcast/content_store.h"

/* By the segment in the store, whose signature was checked before it was kept. False also where
 * that is missing. Any thread. */
bool content_check_by_segment(struct content_store *s, const struct content *c, uint32_t index,
                              struct bytes data);

#endif
