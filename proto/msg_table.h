/*
 * proto/msg_table.h - inside proto/: the table of each message
 */
#ifndef PROTO_MSG_TABLE_H
#define PROTO_MSG_TABLE_H

#include "proto/msg.h"
#include "proto/msg_codec.h"

/* The envelope as it is written: msg_envelope with its protocol version, kind as a number. */
struct msg_wire {
    uint32_t protocol;
    uint32_t kind;
    struct digest run;
    struct public_key signer;
    struct idem idem;
    struct bytes body;
    struct signature sig;
};

extern const struct msg_table msg_table_wire;
#define MSG_TABLE_DECLARE(name, type) extern const struct msg_table msg_table_##name;
MSG_CODEC_MAP(MSG_TABLE_DECLARE)
#undef MSG_TABLE_DECLARE

#endif
