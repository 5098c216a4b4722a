/*
 * cli/json_view.h - looking at the JSON that an orchestrator answers with
 */
#ifndef CLI_JSON_VIEW_H
#define CLI_JSON_VIEW_H

#include <jansson.h>
#include <stdint.h>

#include "base/status.h"
#include "cli/client.h"

const char *json_view_text(const json_t *o, const char *key); /* "" if it is not there */
long long json_view_int(const json_t *o, const char *key);    /* 0 likewise */
void json_view_print(const json_t *o);                        /* one line on stdout */
/* Adds up the counts of {"REASON": n, ...}: submissions that were wrong, and those that were
 * right perhaps, but too late or out of place. */
void json_view_refused(json_t *refused, int64_t *wrong, int64_t *late);
/* A file that a process of ours writes: *out is the caller's, for json_decref, and NULL where there
 * is none (ERR_NOT_FOUND) or it holds something else (ERR_CORRUPT). */
MUST_USE enum status json_view_load(json_t **out, const char *path, struct err *e);
/* STATUS_ASK, decoded: *out is the caller's, for json_decref. */
MUST_USE enum status json_view_fetch(json_t **out, struct client *c, enum status_view what,
                                     uint64_t number, int64_t wait_ms, struct err *e);

#endif
