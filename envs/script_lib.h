/*
 * envs/script_lib.h - the library that scripts see, and the state its functions share (private
 * to envs/)
 */
#ifndef ENVS_SCRIPT_LIB_H
#define ENVS_SCRIPT_LIB_H

#include <jansson.h>
#include <lauxlib.h>
#include <lua.h>

#include "base/rng.h"
#include "envs/arena.h"
#include "envs/script.h"

struct script {
    struct arena *arena; /* owned; holds all of L */
    lua_State *L;
    uint64_t counted; /* in this call */
    bool is_out_of_count;
    struct rng rng; /* math.random's */
    json_t *json;   /* owned; the value being turned into Lua's, freed after the call */
    size_t *line;   /* owned; where each row of the data begins, and the end */
    size_t n_rows;
    uint64_t n_tasks, n_heldout;
    bool has[SCRIPT_SCORE + 1];
    bool is_default_load;            /* problems are the rows of data */
    struct buf text;                 /* what a call returned */
    const struct script_source *src; /* borrowed from the caller of script_open */
    const struct script_call *call;
    struct script_result *out;
};

struct script *script_of(lua_State *L);
/* Counts n units of work done in C as n instructions. Raises at the limit. */
void script_charge(lua_State *L, uint64_t n);
/* Raises what a call that is over its limits must see, if it is. */
void script_raise_if_over(lua_State *L);

/* Defines the globals. */
void script_lib_open(lua_State *L);
/* The replacements of table.sort, pairs, next and ipairs (script_order.c). */
int script_sort(lua_State *L);
int script_pairs(lua_State *L);
int script_next(lua_State *L);
int script_ipairs(lua_State *L);
/* Pushes row i (from 0) of the dataset. */
void script_push_row(lua_State *L, size_t i);
/* Pushes the dataset: `#dataset`, `dataset[i]`. */
void script_push_dataset(lua_State *L);

#endif
