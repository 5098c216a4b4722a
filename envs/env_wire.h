/*
 * envs/env_wire.h - what the host and its worker say to each other (private to envs/)
 *
 * Over one stream: frames of a u32 length and so many bytes, little-endian as in base/bytes.h.
 * The host sends SETUP once and gets HELLO; then CALLs, each answered by one RESULT. The worker
 * runs code that nobody trusts, so the host decodes its frames as hostile bytes.
 */
#ifndef ENVS_ENV_WIRE_H
#define ENVS_ENV_WIRE_H

#include "envs/script.h"

#define ENV_FRAME_MAX_BYTES (BUNDLE_MAX_BYTES + (4u << 20)) /* SETUP */
#define ENV_CALL_MAX_BYTES  (ENV_MESSAGES_MAX * (ENV_TEXT_MAX_BYTES + 16u) + 4096u)
#define ENV_REPLY_MAX_BYTES (ENV_TEXT_MAX_BYTES + 4096u) /* from the worker */

struct env_setup {
    struct script_source src; /* decode: lua and data are lent, see env_setup_clear */
    bool allow_unsandboxed;
    uint64_t wall_ms;
};

struct env_hello {
    enum status st;    /* of loading; the rest means something only if OK */
    struct bytes text; /* the error, or what the sandbox lacks */
    bool is_sandboxed;
    uint64_t n_tasks;
    bool has_demo, has_step;
};

void env_setup_encode(struct buf *out, const struct env_setup *s);
/* src.param is allocated: env_setup_clear. */
MUST_USE enum status env_setup_decode(struct env_setup *s, struct bytes in, struct err *e);
void env_setup_clear(struct env_setup *s);

void env_hello_encode(struct buf *out, const struct env_hello *h);
MUST_USE enum status env_hello_decode(struct env_hello *h, struct bytes in, struct err *e);

void env_call_encode(struct buf *out, const struct script_call *c);
/* c->message points into `room`. */
MUST_USE enum status env_call_decode(struct script_call *c,
                                     struct env_message room[ENV_MESSAGES_MAX], struct bytes in,
                                     struct err *e);

void env_result_encode(struct buf *out, const struct script_result *r);
/* Strings are NUL-terminated and printable, metrics finite and sorted, or it does not decode;
 * text is lent. The reward may be any number, NaN included. */
MUST_USE enum status env_result_decode(struct script_result *r, struct bytes in, struct err *e);

#endif
