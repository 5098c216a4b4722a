/*
 * shardcast/cast_rules.h - the numbers by which the machine of cast_state.h goes
 *
 * docs/shardcast.md has the rules.
 */
#ifndef SHARDCAST_CAST_RULES_H
#define SHARDCAST_CAST_RULES_H

#include <stdint.h>

#include "proto/msg.h"

#define CAST_PEERS_MAX  512u /* neighbours, and those that were: bans are remembered */
#define NEVER_MS        INT64_MAX
#define NOWHERE         UINT32_MAX
#define POLL_MS         2000  /* between questions for a newer HEAD */
#define HEAD_EVERY_MS   5000  /* between the origin's HEADs */
#define SKEW_MS         60000 /* a HEAD counts this long after its end: clocks differ */
#define GREET_MIN_MS    50   /* a link that was never heard is greeted again after this, then */
#define GREET_MAX_MS    2000 /* twice as long each time, up to this */
#define GREET_IDLE_MS   10000 /* a silent link, so that the other side does not forget it */
#define STALL_MS        1000 /* without a new shard, all are asked what they have; then twice as */
#define STALL_MAX_MS    10000 /* long each time, up to this */
#define PUSH_MS         50    /* news of shards gained wait for this long after those before, */
#define PUSH_COUNT      MSG_MAX_INDICES /* or until there are so many */
#define GAP_MIN_MS      100 /* before what is missing of the signed is asked for, then twice as */
#define GAP_MAX_MS      5000 /* long each time, up to this */
#define HINT_MIN_MS     50
#define SEGMENTS_ASKED  16u /* at a time */
#define WINDOW_MIN      2u
#define WINDOW_MAX      32u
#define WINDOW_SLACK_MS 50
#define RTT_MAX_MS      2000
#define LIES_MAX        3u
#define DEADLINE_MIN_MS 1000
#define DEADLINE_MAX_MS 120000
#define RATE_GUESS      250u /* bytes per ms, before anything was measured */
#define TAKE_FROM       3u /* so many may lie in the sender's socket: cancelling is of no use */
#define ENDGAME         16u /* so few missing may be asked of two */
#define TWICE_WORTH     2   /* times as long would it take where it may be on its way already */
#define RANDOM_FIRST    4u  /* so many shards are drawn before the rarest count */
#define COPIES_TOP      16u /* shards with more copies than that are equally common */
#define SLOTS_MIN       16u /* links served at a time, one of them by lot */
#define SERVE_AHEAD     1u  /* shards on their way out on one link, */
#define DEPRIVED_PART   256u /* so much of a content, */
#define DEPRIVED_MIN    4u   /* and some shards, behind another: deprived */
#define DEPRIVED_LEAD   64u
#define SERVE_TOTAL     8u    /* and on all */
#define CHOKE_MS        1000  /* between choices of whom to serve */
#define LOT_ROUNDS      5u    /* choices that the one drawn by lot stays */
#define CHOKED_MS       10000 /* a choked peer asks again after this */
#define LEND_MAX        32u /* shards that the origin shows one neighbour at a time, unserved */
#define LEND_KEPT       8u /* a neighbour that passes nothing on is lent no more than so many */
#define LEND_IDLE_MS    1000 /* and the wait below: nobody fetches anything, it is lent anew */
#define LEND_WAIT_MIN_MS                                                                       \
    250 /* and the time of so many shards: what was given and not seen since is lent again */
#define LEND_WAIT_SHARDS 64
#define LEND_PATIENCE    3  /* times as long with whom has it and may be passing it on */
#define LEND_RECALL_MS   50 /* between two looks for such */
#define LEND_ANEW_MAX    3u
#define GIVEN_SPAN_MS    10000 /* half of what was received counts for this long */

#endif
