/*
 * sim/verified.h - signatures checked once for each message, not once for each node
 *
 * The answer is remembered with the whole envelope, so it is that of the check itself.
 */
#ifndef SIM_VERIFIED_H
#define SIM_VERIFIED_H

#include <stdbool.h>

#include "proto/msg.h"

struct verified;

void verified_new(struct verified **out);
void verified_free(struct verified **v);
bool verified_check(struct verified *v, const struct msg_envelope *env);

#endif
